"""The command `pliers replay`, on a small log made here, through a real server that is killed meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pliers_workflow import examples
from pliers_workflow.client.http import ConnectionLost, HttpClient
from pliers_workflow.replay.cases import (
    Expectation,
    LogError,
    Refusal,
    Step,
    Verdict,
    disagreements,
    read_cases,
    read_expected,
    walk,
)
from pliers_workflow.replay.travel import Row

TABLE = examples.load("travel_declaration")["metadata"]["table"]
ROWS = [Row(*row) for row in TABLE]


def made_up(folder: Path, count: int, *, seed: int = 7) -> tuple[Path, Path]:
    """A log of made-up cases that mostly follow the table, and what must be expected of it."""
    chance = random.Random(seed)
    outcomes: dict[str, Verdict] = {}
    log = folder / "claims.jsonl.gz"
    with gzip.open(log, "wt") as file:
        for number in range(count):
            state, steps = "new", []
            for _ in range(chance.randrange(1, 9)):
                rows = [row for row in ROWS if row.state == state]
                if not rows:
                    break
                row = chance.choice(rows if chance.random() < 0.93 else ROWS)
                steps.append(Step(row.act, row.by))
                state = row.to
            outcomes[f"claim {number}"] = walk(ROWS, "new", steps)
            events = [
                {"t": "2026-01-01T00:00:00Z", "a": f"Claim {step.act} by {step.by}", "act": step.act, "by": step.by}
                if step.by else {"t": "2026-01-01T00:00:00Z", "a": step.act}
                for step in steps
            ]  # fmt: skip
            file.write(
                json.dumps({"case": f"claim {number}", "attrs": {"amount": number + 0.5}, "events": events}) + "\n"
            )
    finals = Counter(outcome.states[-1] for outcome in outcomes.values() if outcome.refused is None)
    refused = {
        case: [one.refused.state, one.refused.index] for case, one in outcomes.items() if one.refused is not None
    }
    expected = folder / "expected.json"
    logs = {"claims": {"cases": count, "replayed": count - len(refused), "final_states": finals, "refused": refused}}
    expected.write_text(json.dumps({"start": "new", "table": TABLE, "logs": logs}))
    return log, expected


def run(*arguments: object) -> tuple[int, dict[str, Any], str]:
    ran = subprocess.run(
        [sys.executable, "-m", "pliers_workflow", "replay", *map(str, arguments)],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    lines = ran.stdout.splitlines()
    return ran.returncode, json.loads(lines[-1]) if lines else {}, ran.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_log_is_replayed_through_a_server_that_is_killed(tmp_path: Path, database: str) -> None:
    """kill -9 every 0.7 seconds: every outcome is as expected, no decision is lost, none counts twice."""
    log, expected = made_up(tmp_path, 400)
    status, summary, told = run(log, "--expected", expected, "--kill-every", "0.7", "--database-url", database)
    assert (status, summary["differences"]) == (0, 0), told
    assert summary["cases"] == summary["histories_verified"] == 400
    assert summary["kills"] > 0
    assert summary["refused"] > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_replay_that_is_stopped_leaves_no_server_behind(tmp_path: Path, database: str, number: int) -> None:
    """Status 130 and a sentence; the server it started has ended, and its folder is gone."""
    log, expected = made_up(tmp_path, 4000)
    command = [
        sys.executable,
        "-m",
        "pliers_workflow",
        "replay",
        log,
        "--expected",
        expected,
        "--database-url",
        database,
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert process.stderr is not None
    assert "claims: 0/" in process.stderr.readline()
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped before the end" in told
    assert "Traceback" not in told
    assert not list(tmp_path.glob("pliers-replay-*"))
    assert asyncio.run(connections(database)) == 0


async def connections(dsn: str) -> int:
    """How many others are connected to that database."""
    connection = await asyncpg.connect(dsn)
    try:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_difference_is_found(tmp_path: Path, database: str) -> None:
    """An expectation that is wrong in one case makes the status 1 and names the case."""
    log, expected = made_up(tmp_path, 20)
    content = json.loads(expected.read_text())
    case = next(iter(content["logs"]["claims"]["refused"]))
    content["logs"]["claims"]["refused"][case][1] += 1
    expected.write_text(json.dumps(content))
    status, summary, told = run(log, "--expected", expected, "--database-url", database)
    assert status == 1
    assert summary["differences"] == 1
    assert case in told


def test_a_log_nobody_expects_anything_of_is_explained(tmp_path: Path) -> None:
    """The name of the log is looked up in the expectations; what is known there is named."""
    log, expected = made_up(tmp_path, 1)
    other = log.rename(tmp_path / "other.jsonl.gz")
    status, _, told = run(other, "--expected", expected)
    assert status == 2
    assert "claims" in told


def test_one_documents_events_are_picked_out(tmp_path: Path) -> None:
    """`LOG#DOCUMENT` means only that document's events; cases without any are left out."""
    log = tmp_path / "trips.jsonl"
    events = [{"a": "Permit FILED by X", "doc": "Permit", "act": "FILED", "by": "X"}, {"a": "Start trip"}]
    log.write_text(json.dumps({"case": "1", "events": events}) + "\n" + json.dumps({"case": "2", "events": events[1:]}))
    assert [case.steps for case in read_cases(log, "Permit")] == [(Step("FILED", "X"),)]
    assert [len(case.steps) for case in read_cases(log)] == [2, 1]


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    """Whoever reads the message finds the line."""
    log = tmp_path / "broken.jsonl"
    log.write_text('{"case": "1", "events": []}\n{"case"\n')
    with pytest.raises(LogError, match="line 2"):
        read_cases(log)


def test_expectations_of_a_log_and_its_documents(tmp_path: Path) -> None:
    """All keys of the log are replayed: its own name, and each `name#Document`."""
    entry = {"cases": 1, "replayed": 1, "final_states": {}, "refused": {}}
    file = tmp_path / "expected.json"
    file.write_text(json.dumps({"start": "new", "table": TABLE, "logs": {"a": entry, "a#Permit": entry, "b": entry}}))
    assert [one.document for one in read_expected(file, "a").expectations] == [None, "Permit"]


def test_totals_that_do_not_add_up_are_told() -> None:
    """Counts, final states and refusals are each compared."""
    expectation = Expectation("a", None, 2, 1, {"paid": 1}, {"y": Refusal("new", 0)})
    right = {"x": Verdict(("paid",), None), "y": Verdict((), Refusal("new", 0))}
    assert disagreements(expectation, right) == []
    wrong = {"x": Verdict(("saved",), None), "y": Verdict((), Refusal("new", 1))}
    assert len(disagreements(expectation, wrong)) == 2


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:99999", "http://x:y", "http://[::1"])
def test_what_is_no_address_is_a_question_not_understood(tmp_path: Path, url: str) -> None:
    """Status 2 and a sentence: it is no fault of ours."""
    log, expected = made_up(tmp_path, 1)
    status, _, told = run(log, "--expected", expected, "--url", url, "--token", "x")
    assert status == 2
    assert "--url: " in told


async def test_what_speaks_no_http_is_not_spoken_with() -> None:
    """Another kind of server at the address: its words are not taken for an answer, nor for a fault of ours."""

    async def mutter(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-pliers\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(mutter, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with HttpClient(f"http://127.0.0.1:{port}") as http:
            with pytest.raises(ConnectionLost, match="does not speak HTTP"):
                await http.request("GET", "/")
