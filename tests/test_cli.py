"""The command line: what it prints, how it ends, and that nothing ends in a traceback."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from pliers_workflow import __version__, examples

EXAMPLES = Path(examples.__file__).parent
EXPENSE = str(EXAMPLES / "expense_report.json")
START = '{"amount": 1800, "currency": "EUR", "purpose": "train to Vienna"}'


def pliers(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pliers_workflow", *arguments],
        input=stdin, capture_output=True, text=True, timeout=120, check=False, env=env,
    )  # fmt: skip


def simulate(events: list[dict[str, Any]], *options: str, definition: str = EXPENSE) -> list[dict[str, Any]]:
    ran = pliers("simulate", definition, "-", *options, stdin=json.dumps(events))
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def one_sentence(ran: subprocess.CompletedProcess[str], status: int) -> str:
    """It ended with this status and said why, without a traceback."""
    assert ran.returncode == status, (ran.returncode, ran.stdout, ran.stderr)
    assert "Traceback" not in ran.stderr
    assert ran.stderr.strip()
    return ran.stderr


# -- the command itself ------------------------------------------------------------------------------------------------


def test_version_is_the_packages() -> None:
    """`pliers version` and `pliers --version` print the version and nothing else."""
    assert pliers("version").stdout.strip() == __version__
    assert pliers("--version").stdout.strip() == __version__


def test_help_does_not_import_the_server() -> None:
    """`pliers --help` stays quick because commands import what they run when they run."""
    code = (
        "import sys\ntry:\n import pliers_workflow.cli as c; c.app(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('fastapi','asyncpg','uvicorn','lark','jsonschema_rs','pydantic') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_an_unknown_command_is_explained() -> None:
    """A misspelled command ends with status 2 and a sentence."""
    assert "No such command" in one_sentence(pliers("simulte"), 2)


# -- validate ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", examples.NAMES)
def test_examples_are_valid_without_warnings(name: str) -> None:
    """What ships with the package has no finding at all."""
    ran = pliers("validate", str(EXAMPLES / f"{name}.json"), "--json")
    assert ran.returncode == 0
    assert json.loads(ran.stdout) == {"valid": True, "findings": []}


def test_all_findings_come_at_once(tmp_path: Path) -> None:
    """Every finding is printed, each with its pointer and code, and the status is 1."""
    document = examples.load("expense_report")
    document["version"] = "one"
    document["stateMachine"]["transitions"][0]["to"] = "reveiw"
    file = tmp_path / "broken.json"
    file.write_text(json.dumps(document, default=float))
    ran = pliers("validate", str(file), "--json")
    assert ran.returncode == 1
    found = json.loads(ran.stdout)
    assert not found["valid"]
    assert "/version" in {finding["pointer"] for finding in found["findings"]}
    for_people = pliers("validate", str(file))
    assert for_people.returncode == 1
    assert "[bad_format]" in for_people.stdout
    assert "not valid" in for_people.stdout


def test_a_finding_has_a_hint_for_people(tmp_path: Path) -> None:
    """A misspelled state is answered with the one that was probably meant."""
    document = examples.load("expense_report")
    document["stateMachine"]["transitions"][0]["to"] = "reveiw"
    ran = pliers("validate", "-", stdin=json.dumps(document, default=float))
    assert ran.returncode == 1
    assert "/stateMachine/transitions/0/to" in ran.stdout
    assert "review" in ran.stdout


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"name": "x",', "line 1"),
        ("", "line 1"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": NaN}', "NaN"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5_000 + "}", "5,000 digits"),
    ],
)
def test_what_is_no_json_is_explained(text: str, says: str) -> None:
    """Broken JSON ends with status 2 and names the place."""
    assert says in one_sentence(pliers("validate", "-", stdin=text), 2)


def test_a_missing_file_is_explained() -> None:
    """A file that is not there ends with status 2 and its name."""
    assert "no_such.json" in one_sentence(pliers("validate", "no_such.json"), 2)


@pytest.mark.parametrize("text", ["[]", "1", "null", '"text"'])
def test_json_that_is_no_definition_has_a_finding(text: str) -> None:
    """Any JSON value can be asked about; what is no object gets a finding, not an error."""
    ran = pliers("validate", "-", "--json", stdin=text)
    assert ran.returncode == 1
    assert json.loads(ran.stdout)["findings"]


def steps_of(*steps: dict[str, Any]) -> str:
    """A definition with these steps in its one state."""
    return json.dumps({
        "name": "note", "version": "1.0.0", "title": "Note",
        "stateMachine": {
            "initialState": "busy",
            "states": {"busy": {"properties": {"steps": steps}}, "done": {"type": "final"}},
            "transitions": [{"from": "busy", "to": "done"}],
        },
    })  # fmt: skip


STEPS = "/stateMachine/states/busy/properties/steps"


def test_a_channel_that_no_node_has_is_a_finding() -> None:
    """As on a server: what can be simulated and would never be sent is refused."""
    step = {"type": "notification", "id": "tell", "template": "Done.", "recipients": ["requester"]}
    assert pliers("validate", "-", stdin=steps_of({**step, "channels": ["webhook"]})).returncode == 0
    ran = pliers("validate", "-", "--json", stdin=steps_of({**step, "channels": ["email"]}))
    (finding,) = json.loads(ran.stdout)["findings"]
    assert (ran.returncode, finding["pointer"], finding["code"]) == (1, f"{STEPS}/0/channels/0", "not_supported_yet")


PLUGINS = """
from pliers_workflow.plugins import Configuration, plugin

class Rate(Configuration):
    rate: int

@plugin("acme.price", title="Price", version="1.2.0")
def price(input: dict, configuration: Rate) -> int:
    return configuration.rate
"""


def test_plugins_are_checked_where_they_are_installed(tmp_path: Path) -> None:
    """By what is on this machine; of others it is said that they were not checked, which is no error: a node may have them."""
    (tmp_path / "acme.py").write_text(PLUGINS)
    metadata = tmp_path / "acme-1.2.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.2.0\n")
    (metadata / "entry_points.txt").write_text(
        "[pliers.plugins]\nacme.price = acme:price\nacme.broken = nowhere:at_all\nevil = acme:price\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PLIERS_PLUGINS__DENIED": '["evil"]'}
    names = ("acme.price", "acme.prize", "acme.broken", "evil", "other")
    steps = [
        {"type": "plugin", "id": f"step_{number}", "pluginId": name, "configuration": {"rate": "high"}}
        for number, name in enumerate(names)
    ]
    ran = pliers("validate", "-", "--json", stdin=steps_of(*steps), env=environment)
    found = {finding["pointer"]: finding for finding in json.loads(ran.stdout)["findings"]}
    assert ran.returncode == 1
    assert found[f"{STEPS}/0/configuration/rate"]["code"] == "plugin_configuration"
    assert [found[f"{STEPS}/{number}/pluginId"]["code"] for number in range(1, 5)] == ["plugin_not_checked"] * 4
    assert found[f"{STEPS}/1/pluginId"]["hint"] == "Did you mean `acme.price`?"
    assert "is broken on this machine: It cannot be imported" in found[f"{STEPS}/2/pluginId"]["message"]
    assert "do not allow" in found[f"{STEPS}/3/pluginId"]["message"]
    ran = pliers("validate", "-", stdin=steps_of(*steps[1:]), env=environment)
    assert (ran.returncode, ran.stdout.count("Not checked: ")) == (0, 4)


# -- simulate ----------------------------------------------------------------------------------------------------------


def test_a_line_after_the_start_and_after_each_event() -> None:
    """One line of JSON each, with active leaf states, status, data and what happened since the line before."""
    lines = simulate([{"trigger": "submit", "user": "ada"}], "--data", START)
    assert [line["configuration"] for line in lines] == [["draft"], ["review"]]
    assert lines[0]["data"] == {"amount": 1800, "currency": "EUR", "purpose": "train to Vienna"}
    assert lines[0]["status"] == "waiting"
    assert lines[0]["events"][0]["type"] == "workflow.started"
    assert {event["type"] for event in lines[1]["events"]} >= {"workflow.state.entered", "workflow.approval.requested"}


def test_decisions_are_triggers_by_name() -> None:
    """While a stage is open, approve is a decision; a refused one says why and changes nothing."""
    lines = simulate(
        [
            {"trigger": "submit", "user": "ada"},
            {"trigger": "approve", "user": "ada"},
            {"trigger": "approve", "user": "bruno"},
            {"trigger": "approve", "user": "fatima"},
        ],
        "--data", START,
    )  # fmt: skip
    assert lines[2]["rejected"]["reason"] == "self_approval_forbidden"
    assert lines[2]["configuration"] == lines[1]["configuration"]
    assert lines[2]["events"] == []
    assert lines[-1]["configuration"] == ["paid"]
    assert lines[-1]["status"] == "completed"


def test_a_decision_without_a_user_is_made_by_somebody_asked() -> None:
    """Where an event names nobody, the first of those asked decides."""
    lines = simulate([{"trigger": "submit"}, {"trigger": "approve"}, {"trigger": "approve"}], "--data", START)
    assert lines[-1]["configuration"] == ["paid"]


def test_time_passes_on_a_hand_moved_clock() -> None:
    """`after` moves the clock; timers on the way fire, and an empty trigger does nothing else."""
    fortnight = 14 * 24 * 3600 * 1000
    lines = simulate(
        [{"trigger": "submit", "user": "ada"}, {"after": fortnight - 1, "trigger": ""}, {"after": 1, "trigger": ""}],
        "--data", START,
    )  # fmt: skip
    assert [line["configuration"] for line in lines[1:]] == [["review"], ["review"], ["expired"]]
    assert "workflow.timeout.occurred" in {event["type"] for event in lines[-1]["events"]}


def test_a_trigger_of_the_chart_wins_over_a_decision(tmp_path: Path) -> None:
    """Where a transition takes `approve` by name, it is a trigger like any other."""
    document = examples.load("expense_report")
    document["stateMachine"]["transitions"].append({"from": "review", "to": "paid", "trigger": "approve"})
    file = tmp_path / "own_approve.json"
    file.write_text(json.dumps(document, default=float))
    lines = simulate(
        [{"trigger": "submit", "user": "ada"}, {"trigger": "approve", "user": "ada"}],
        "--data",
        START,
        definition=str(file),
    )
    assert lines[-1]["configuration"] == ["paid"]


def test_numbers_stay_exact() -> None:
    """A decimal comes out as it went in."""
    ran = pliers("simulate", EXPENSE, "-", "--data", START.replace("1800", "1800.10"), stdin="[]")
    assert '"amount":1800.10' in ran.stdout


def test_what_scxml_allows_is_simulated_with_a_warning(tmp_path: Path) -> None:
    """A state nobody can leave, a transition always preceded: they run, standard error says so, `validate` refuses."""
    document = {
        "name": "t", "version": "1.0.0", "title": "T", "access": {"advance": ["anyone"]},
        "stateMachine": {
            "states": {"a": {}, "b": {}, "z": {"type": "final"}},
            "transitions": [{"from": "a", "to": to, "trigger": "go"} for to in ("b", "z")],
            "initialState": "a",
        },
    }  # fmt: skip
    file = tmp_path / "stuck.json"
    file.write_text(json.dumps(document))
    ran = pliers("simulate", str(file), "-", stdin='[{"trigger": "go"}, {"trigger": "go"}]')
    assert ran.returncode == 0, ran.stderr
    assert [json.loads(line)["configuration"] for line in ran.stdout.splitlines()] == [["a"], ["b"], ["b"]]
    assert "warning /stateMachine/states/b  [dead_end]" in ran.stderr
    assert "warning /stateMachine/transitions/1  [never_taken]" in ran.stderr
    assert pliers("validate", str(file)).returncode == 1


def test_a_bad_definition_is_not_simulated() -> None:
    """Findings go to standard error, the status is 2, and nothing is printed on standard output."""
    ran = pliers("simulate", "-", EXPENSE, stdin='{"name": "x"}')
    assert "[missing]" in one_sentence(ran, 2)
    assert ran.stdout == ""


@pytest.mark.parametrize(
    "events", ["{}", "[1]", '[{"data": {}}]', '[{"trigger": "a", "when": 1}]', '[{"trigger": "a", "after": -1}]', "[{"]
)
def test_bad_events_are_explained(events: str) -> None:
    """A list that is none, or an event that is none, ends with status 2 before anything has run."""
    ran = pliers("simulate", EXPENSE, "-", "--data", START, stdin=events)
    one_sentence(ran, 2)
    assert ran.stdout == ""


def test_data_that_the_schema_refuses_cannot_start() -> None:
    """A start that is refused is a line like any other, and the status is 1."""
    ran = pliers("simulate", EXPENSE, "-", "--data", '{"amount": -1}', stdin="[]")
    assert ran.returncode == 1
    assert json.loads(ran.stdout)["rejected"]["reason"] == "data_invalid"


def test_people_may_be_given() -> None:
    """With a directory, roles have exactly the members named there."""
    directory = {"users": [{"username": "ada", "manager": "bruno"}, "bruno"], "roles": {"finance": ["fatima"]}}
    lines = simulate(
        [
            {"trigger": "submit", "user": "ada"},
            {"trigger": "approve", "user": "fatima"},
            {"trigger": "approve", "user": "bruno"},
            {"trigger": "approve", "user": "fatima"},
        ],
        "--data", START, "--directory", json.dumps(directory),
    )  # fmt: skip
    assert lines[2]["rejected"]["reason"] == "not_an_approver"
    assert lines[-1]["configuration"] == ["paid"]


# -- diagram -----------------------------------------------------------------------------------------------------------


def test_a_diagram_names_every_state() -> None:
    """Mermaid's text has all states of the definition."""
    ran = pliers("diagram", EXPENSE)
    assert ran.stdout.startswith("stateDiagram-v2")
    for state in ("draft", "review", "changes", "paid", "rejected", "withdrawn", "expired"):
        assert state in ran.stdout


@pytest.mark.parametrize("command", ["diagram", "validate", "--help"])
def test_a_reader_who_has_had_enough_is_no_failure_of_ours(command: str) -> None:
    """141, as the shell says of others, and not a word; however little there was to print."""
    reading, writing = os.pipe()
    os.close(reading)
    arguments = [command] if command.startswith("-") else [command, EXPENSE]
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "pliers_workflow", *arguments],
            stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stderr) == (141, "")


# -- the database ------------------------------------------------------------------------------------------------------


def test_a_database_that_is_not_there_is_explained() -> None:
    """A DSN nobody answers ends with status 3 and a sentence."""
    ran = pliers("migrate", "--database-url", "postgresql://nobody@127.0.0.1:9/nothing")
    assert "database" in one_sentence(ran, 3)


def test_migrate_says_what_it_does(empty_database: str) -> None:
    """First what would be applied, then what was, then that nothing is left."""
    dry = pliers("migrate", "--database-url", empty_database, "--dry-run")
    assert "would apply 0001_foundation" in dry.stdout, dry.stderr
    done = pliers("migrate", "--database-url", empty_database)
    assert "applied 0001_foundation" in done.stdout, done.stderr
    assert "up to date" in pliers("migrate", "--database-url", empty_database).stdout


def test_who_may_not_make_tables_is_told_what_to_grant(empty_database: str) -> None:
    """The schema and the login by name; once it is granted, or somebody else has migrated, all goes on."""
    login, secret = f"app_{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    place = urlsplit(empty_database)
    host = place.netloc.rpartition("@")[2]
    theirs = urlunsplit(place._replace(netloc=f"{login}:{secret}@{host}"))
    granting = f"GRANT USAGE, CREATE ON SCHEMA public TO {login}"
    statement(empty_database, f"CREATE ROLE {login} LOGIN PASSWORD '{secret}'")
    try:
        said = one_sentence(pliers("migrate", "--database-url", theirs), 3)
        assert f"{login} may not make tables in the schema public" in said
        assert granting in said
        statement(empty_database, granting)
        assert pliers("migrate", "--database-url", theirs).returncode == 0
        statement(empty_database, f"REVOKE CREATE ON SCHEMA public FROM {login}")
        assert "up to date" in pliers("migrate", "--database-url", theirs).stdout
    finally:
        statement(empty_database, f"DROP OWNED BY {login}; DROP ROLE {login}")


def statement(dsn: str, text: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(text)
        await connection.close()

    asyncio.run(run())


@pytest.mark.parametrize("command", ["migrate", "demo"])
@pytest.mark.parametrize("below", ["", "/below"])
def test_a_file_where_a_folder_is_wanted_is_explained(tmp_path: Path, command: str, below: str) -> None:
    """It says so, and what to name instead."""
    (tmp_path / "file").touch()
    said = one_sentence(pliers(command, "--data", f"{tmp_path}/file{below}"), 2)
    assert "is a file" in said
    assert "folder" in said


def test_tokens_and_tenants_are_made(database: str) -> None:
    """A secret alone is on standard output; a taken tenant id is explained."""
    token = pliers("token", "create", "--user", "ada", "--permission", "author", "--database-url", database)
    assert token.returncode == 0, token.stderr
    assert token.stdout.startswith("pliers_")
    assert len(token.stdout.split()) == 1
    tenant = pliers("tenant", "create", "acme", "--database-url", database)
    assert tenant.returncode == 0, tenant.stderr
    assert tenant.stdout.startswith("pliers_")
    assert "acme" in one_sentence(pliers("tenant", "create", "acme", "--database-url", database), 1)
    one_sentence(pliers("token", "create", "--user", "ada", "--permission", "king", "--database-url", database), 2)
    ran = pliers("token", "create", "--user", "ada", "--tenant", "nobody_s", "--database-url", database)
    assert "There is no tenant nobody_s" in one_sentence(ran, 1)
    one_sentence(pliers("token", "create", "--user", "a b", "--database-url", database), 2)
    ran = pliers("token", "create", "--user", "ada", "--expires-days", "99999999999", "--database-url", database)
    assert "365,000" in one_sentence(ran, 2)


@pytest.mark.parametrize(
    ("dsn", "hint"),
    [
        ("postgresql://ada:secret#1@localhost/pliers", "%23"),
        ("postgresql://ada:secret/1@localhost/pliers", "%2F"),
        ("postgresql://localhost:port/pliers", "1 to 65535"),
        ("postgresql://localhost:99999/pliers", "1 to 65535"),
        ("postgresql://[::1/pliers", "in brackets"),
    ],
)
def test_a_dsn_that_cannot_be_read_is_explained(dsn: str, hint: str) -> None:
    """Given on the command line or as a setting: what to look for, and nothing of what may be a password."""
    said = one_sentence(pliers("migrate", "--database-url", dsn), 3)
    assert hint in said
    assert "secret" not in said
    assert hint in one_sentence(pliers("serve", "--port", "0", env={**os.environ, "PLIERS_DATABASE__URL": dsn}), 3)


def test_help_names_no_default_that_is_none() -> None:
    """A port of -1 is what we say to ourselves."""
    assert "-1" not in pliers("serve", "--help").stdout


def test_a_port_that_is_none_is_refused_before_the_demo_begins(tmp_path: Path) -> None:
    """Nothing is started and no folder is made."""
    ran = pliers("demo", "--port", "99999", "--exit", "--data", str(tmp_path / "demo"))
    assert ran.returncode == 2
    assert "65535" in ran.stderr
    assert not (tmp_path / "demo").exists()


def test_a_closed_standard_input_is_explained() -> None:
    """As `pliers validate - <&-` has it."""
    command = f"exec {shlex.quote(sys.executable)} -m pliers_workflow validate - <&-"
    ran = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert "standard input is closed" in one_sentence(ran, 2)


def test_an_address_nobody_can_listen_on_is_explained(empty_database: str) -> None:
    """A busy port, a foreign address and no address at all: a sentence, and the database is left alone."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = pliers("serve", "--port", port, "--database-url", empty_database)
        assert f"port {port}" in one_sentence(ran, 3)
        assert ran.stdout == ""
    ran = pliers("serve", "--port", "0", "--host", "192.0.2.1", "--database-url", empty_database)
    assert "192.0.2.1" in one_sentence(ran, 3)
    ran = pliers("serve", "--port", "99999", "--database-url", empty_database)
    assert ran.returncode == 2
    assert "65535" in ran.stderr


@pytest.mark.parametrize("count", ["0", "65"])
def test_a_number_of_nodes_that_makes_no_sense_is_explained(count: str) -> None:
    """On the command line and in the setting: between 1 and 64."""
    assert "Invalid value for '--processes'" in one_sentence(pliers("serve", "--processes", count), 2)
    said = one_sentence(pliers("serve", env={**os.environ, "PLIERS_SERVER__PROCESSES": count}), 2)
    assert "PLIERS_SERVER__PROCESSES: must be" in said


def test_nodes_for_which_there_are_no_connections_are_refused(empty_database: str) -> None:
    """Rather than one by one, under load; the database is left alone, and the sentence says what they would take."""
    env = {**os.environ, "PLIERS_DATABASE__MAX_CONNECTIONS": "50"}
    ran = pliers("serve", "--processes", "4", "--port", "0", "--database-url", empty_database, env=env)
    assert "4 nodes take up to 60 connections to PostgreSQL each, 240 in all" in one_sentence(ran, 3)
    assert "PLIERS_DATABASE__MAX_CONNECTIONS" in ran.stderr
    assert ran.stdout == ""


def test_an_address_for_several_nodes_is_checked_as_for_one(empty_database: str) -> None:
    """A port of somebody who would share it is taken all the same."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ran = pliers("serve", "--processes", "2", "--port", port, "--database-url", empty_database)
    assert f"port {port}" in one_sentence(ran, 3)
    assert ran.stdout == ""


def test_a_database_that_cannot_serve_is_explained(empty_database: str) -> None:
    """Without the schema, read-only, or on a host that is not there: what to do about it."""
    ran = pliers("serve", "--no-migrate", "--port", "0", "--database-url", empty_database)
    assert "pliers migrate" in one_sentence(ran, 3)
    read_only = f"{empty_database}{'&' if '?' in empty_database else '?'}default_transaction_read_only=on"
    assert "read-only" in one_sentence(pliers("migrate", "--database-url", read_only), 3)
    ran = pliers("migrate", "--database-url", "postgresql://somebody@no.such.host.invalid/nothing")
    assert "host" in one_sentence(ran, 3)


@pytest.mark.parametrize("options", [(), ("--no-migrate",)], ids=["migrating", "not_migrating"])
def test_a_server_does_not_begin_on_another_release_s_schema(database: str, options: tuple[str, ...]) -> None:
    """On a newer schema, and with --no-migrate on an older one too, it says which and what to do, and stops."""

    def change(text: str) -> None:
        statement(database, text)

    serve = ("serve", *options, "--port", "0", "--database-url", database)
    change("INSERT INTO schema_migrations VALUES ('9999_of_tomorrow', sha256('x'))")
    sentence = one_sentence(pliers(*serve), 3)
    assert "9999_of_tomorrow is not ours" in sentence
    assert "run that release or a newer one" in sentence
    if options:
        last = "(SELECT max(name) FROM schema_migrations)"
        change(
            f"DELETE FROM schema_migrations WHERE name = '9999_of_tomorrow'; DELETE FROM schema_migrations WHERE name = {last}"
        )
        sentence = one_sentence(pliers(*serve), 3)
        assert "misses 1 of this release's migrations" in sentence
        assert "pliers migrate" in sentence


def test_serve_answers_and_stops(database: str) -> None:
    """The server prints its one-time token and its address, answers, and ends with status 0 on SIGTERM."""
    import urllib.request

    process = subprocess.Popen(
        [sys.executable, "-m", "pliers_workflow", "serve", "--port", "0", "--database-url", database],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        lines = []
        deadline = time.monotonic() + 60
        while not any("serving on" in line for line in lines):
            assert time.monotonic() < deadline
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            lines.append(line)
        assert any("one-time admin token" in line and "pliers_" in line for line in lines)
        url = next(line for line in lines if "serving on" in line).split()[2].rstrip(",")
        with urllib.request.urlopen(f"{url}/api/v1/workflows/health", timeout=30) as answer:
            assert json.load(answer)["status"] == "up"
    finally:
        process.terminate()
        process.wait(30)
    assert process.returncode == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_what_libraries_log_is_json_too() -> None:
    """Whoever reads the server's log finds a record in each line, also of the driver's and the HTTP server's own words."""
    program = (
        "from pliers_workflow.cli.program import log_lines; log_lines(); import logging\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: logging.getLogger('asyncpg.pool').warning('no %s', 'floor', exc_info=True)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    (line,) = ran.stderr.splitlines()
    record = json.loads(line)
    assert (record["event"], record["level"], record["logger"]) == ("no floor", "warning", "asyncpg.pool")
    assert "ZeroDivisionError" in record["exception"]


# -- steps in a simulation ---------------------------------------------------------------------------------------------

WORKING = {
    "name": "working",
    "version": "1.0.0",
    "title": "Working",
    "access": {"advance": ["anyone"]},
    "stateMachine": {
        "initialState": "work",
        "states": {
            "work": {
                "properties": {
                    "steps": [
                        {
                            "type": "plugin",
                            "id": "fetch",
                            "pluginId": "crm",
                            "outputMapping": {"total": "output.total"},
                        },
                        {"type": "external", "id": "print", "topic": "printing", "inputMapping": {"n": "data.total"}},
                        {"type": "receive", "id": "paid", "eventType": "paid", "correlationKey": "data.total"},
                    ]
                }
            },
            "done": {"type": "final"},
        },
        "transitions": [{"from": "work", "to": "done"}],
    },
}


def working(tmp_path: Path, events: list[dict[str, Any]], steps: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of a simulation of `WORKING`."""
    file = tmp_path / "working.json"
    file.write_text(json.dumps(WORKING))
    return simulate(events, "--steps", json.dumps(steps), definition=str(file))


def test_steps_are_simulated(tmp_path: Path) -> None:
    """What workers give is made up; a retry is due a second later; the rest is said by events."""
    steps = {"fetch": [{"fail": "HTTP_503"}, {"output": {"total": 5}}], "print": "wait"}
    lines = working(
        tmp_path,
        [
            {"trigger": "", "after": 2000},
            {"trigger": "complete", "data": {"step": "print"}},
            {"trigger": "receive", "data": {"type": "paid"}},
        ],
        steps,
    )
    assert [line["status"] for line in lines] == ["running", "waiting", "waiting", "completed"]
    assert lines[1]["data"] == {"total": 5}


def test_incidents_are_resolved_in_a_simulation(tmp_path: Path) -> None:
    """By the events `retry`, `skip` and `give_up`."""
    lines = working(
        tmp_path,
        [{"trigger": "skip", "data": {"output": {"total": 1}}}, {"trigger": "fail", "data": {"retryable": False}}],
        {"fetch": {"fail": "NO", "retryable": False}, "print": "wait"},
    )
    assert [line["status"] for line in lines] == ["failed", "waiting", "failed"]


def test_bad_answers_of_steps_are_refused(tmp_path: Path) -> None:
    """With a sentence."""
    file = tmp_path / "working.json"
    file.write_text(json.dumps(WORKING))
    for given in ("[]", '{"fetch": 5}', '{"fetch": {"out": 1}}'):
        ran = pliers("simulate", str(file), "-", "--steps", given, stdin="[]")
        assert ran.returncode == 2, ran.stderr
        assert "--steps" in ran.stderr


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"CACHE__PROVIDER": "redis"}, "PLIERS_CACHE__PROVIDER: redis is not supported. What is cached are compiled charts"),
        ({"CACHE__PROVIDER": "disk"}, "PLIERS_CACHE__PROVIDER: must be 'memory'"),
        ({"EXECUTION__BATCH_SIZE_MAX": "many"}, "PLIERS_EXECUTION__BATCH_SIZE_MAX: must be a valid integer"),
        ({"SERVER__PORT": "99999", "STEPS__LEASE": "0"}, "PLIERS_STEPS__LEASE: must be greater than 1; PLIERS_SERVER__PORT: must be"),
        ({"NODE__SILENT_AFTER": "1"}, "PLIERS_NODE__…: silent_after must be longer than heartbeat"),
        ({"SERVER__HUNG_AFTER": "2"}, "PLIERS_SERVER__HUNG_AFTER: a node that is merely busy may say nothing for some seconds"),
        ({"OUTBOUND__ALLOWED_HOSTS": "hooks.example.com"}, 'PLIERS_OUTBOUND__ALLOWED_HOSTS: must be a list in JSON, such as ["a", "b"]'),
        ({"OUTBOUND__ALLOWED_HOSTS": "[7]"}, "PLIERS_OUTBOUND__ALLOWED_HOSTS: must be a valid string"),
        ({"NOTIFICATIONS": "s3cret"}, "PLIERS_NOTIFICATIONS__…: must be"),
    ],
)  # fmt: skip
def test_a_setting_that_is_not_usable_is_explained(settings: dict[str, str], says: str) -> None:
    """By its environment variable, with the reason, without a traceback, and without its value, which may be a secret."""
    env = {f"PLIERS_{name}": value for name, value in settings.items()}
    said = one_sentence(pliers("serve", env={**os.environ, **env}), 2)
    assert says in said
    assert not {"many", "hooks.example.com", "s3cret"} & set(re.split(r"[\s'\"=:;]+", said))


def test_every_command_explains_settings() -> None:
    """Whatever reads them."""
    said = one_sentence(
        pliers("token", "create", "--user", "ada", env={**os.environ, "PLIERS_CACHE__PROVIDER": "redis"}), 2
    )
    assert "PLIERS_CACHE__PROVIDER" in said
