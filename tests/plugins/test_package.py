"""The example package as its readers use it: built, installed, found by real nodes, and run over PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.nodes.conftest import until
from tests.nodes.processes import Cluster, Node
from tests.outbound.server import Request, outside, reply

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "examples" / "plugins" / "pliers-plugin-iban"
GOOD, BAD = "AT61 1904 3002 3457 3201", "AT61 1904 3002 3457 3210"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

#: A package that hangs, beside the example, with nothing but what makes it a package.
HANGS = """
import os, subprocess, sys, time
from pathlib import Path
from pliers_workflow.plugins import plugin

@plugin("trouble.hang", title="Hang", version="1.0.0", isolation="process", timeout=2)
def hang(input: dict) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(input["file"]).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)

@plugin("trouble.long", title="Hang for long", version="1.0.0", isolation="process", timeout=600)
def long(input: dict) -> None:
    hang(input)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the example is installed, as pip does it, without a network."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / EXAMPLE.name
    shutil.copytree(EXAMPLE, source)  # building leaves nothing in the tree
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
            "--target", str(folder), str(source),
        ],
        check=True, timeout=200,
    )  # fmt: skip
    (folder / "trouble.py").write_text(HANGS)
    metadata = folder / "trouble-1.0.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: trouble\nVersion: 1.0.0\n")
    (metadata / "entry_points.txt").write_text(
        "[pliers.plugins]\ntrouble.hang = trouble:hang\ntrouble.long = trouble:long\ntrouble.gone = nowhere:gone\n"
    )
    return folder


async def node(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, site: Path | None, role: str = "all", **settings: object
) -> Node:
    """A node with the packages on its path, or without."""
    with monkeypatch.context() as patch:
        if site is not None:
            patch.setenv("PYTHONPATH", str(site))
        return await cluster.node(role, STEPS__POLL=0.5, **settings)


def document(*steps: dict[str, Any], name: str = "accounts", **more: Any) -> dict[str, Any]:
    return {
        "name": name, "version": "1.0.0", "title": "Accounts",
        "stateMachine": {
            "initialState": "busy",
            "states": {"busy": {"properties": {"steps": list(steps)}}, "done": {"type": "final"}},
            "transitions": [{"from": "busy", "to": "done"}],
        },
        **more,
    }  # fmt: skip


CHECK = {
    "type": "plugin", "id": "account", "pluginId": "iban.check", "configuration": {"countries": ["AT", "DE"]},
    "inputMapping": {"iban": "data.iban"}, "outputMapping": {"account": "output.iban", "country": "output.country"},
}  # fmt: skip


async def begin(cluster: Cluster, node: Node, workflow: str, **data: Any) -> str:
    made = await node.api("POST", f"/workflows/{workflow}/instances", cluster.admin, {"data": data})
    return str(made["id"])


async def look(cluster: Cluster, node: Node, instance_id: str) -> dict[str, Any]:
    return dict(await node.api("GET", f"/workflow-instances/{instance_id}", cluster.admin))


async def settled(cluster: Cluster, node: Node, instance_id: str) -> dict[str, Any]:
    """The instance once nothing more happens by itself."""

    async def is_settled() -> bool:
        return (await look(cluster, node, instance_id))["status"] in ("completed", "failed")

    await until(is_settled, seconds=60)
    return await look(cluster, node, instance_id)


async def incident(cluster: Cluster, node: Node, instance_id: str) -> dict[str, Any]:
    items = (await node.api("GET", "/incidents", cluster.admin))["items"]
    (found,) = [each for each in items if each["workflowInstanceId"] == instance_id]
    return dict(found)


async def test_the_example_runs_end_to_end(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, site: Path, tmp_path: Path
) -> None:
    """
    Found and listed, a broken one beside it; success, retry, a failure for good, a process killed in time; and what is wrong
    is refused when it is published.
    """
    node_ = await node(cluster, monkeypatch, site)
    items = {each["id"]: each for each in (await node_.api("GET", "/plugins", cluster.admin))["items"]}
    assert {id: each["state"] for id, each in items.items()} == {
        "iban.check": "ready", "iban.bank": "ready", "iban.scan": "ready", "trouble.hang": "ready", "trouble.long": "ready",
        "trouble.gone": "broken",
    }  # fmt: skip
    assert "nowhere" in items["trouble.gone"]["nodes"][0]["reason"]

    refused = await node_(
        "POST", "/api/v1/workflows", cluster.admin, document({**CHECK, "configuration": {"country": 1}})
    )
    assert refused.status == 422
    assert [each["code"] for each in json.loads(refused.body)["findings"]] == ["plugin_configuration"]

    # Success, in a thread and in a process.
    scan = {
        "type": "plugin", "id": "scan", "pluginId": "iban.scan", "inputMapping": {"text": "data.text"},
        "outputMapping": {"found": "output"},
    }  # fmt: skip
    await cluster.publish(node_, document(CHECK, scan))
    text = f"Pay to {GOOD} and not to {BAD}, thank you. DE89 3704 0044 0532 0130 00"
    good = await settled(cluster, node_, await begin(cluster, node_, "accounts", iban=GOOD, text=text))
    assert good["status"] == "completed"
    assert good["instanceData"]["account"] == "AT611904300234573201"
    assert good["instanceData"]["found"] == ["AT611904300234573201", "DE89370400440532013000"]

    # A failure for good is an incident; set right by an operator, the step goes on.
    bad = await begin(cluster, node_, "accounts", iban=BAD, text="")
    await settled(cluster, node_, bad)
    found = await incident(cluster, node_, bad)
    assert (found["code"], "check digits" in found["message"]) == ("IBAN_INVALID", True)
    await node_.api(
        "POST", f"/workflow-instances/{bad}/incidents/{found['id'].rpartition('/')[2]}/resolve", cluster.admin,
        {"action": "retry", "reason": "asked again", "patch": {"iban": GOOD}},
    )  # fmt: skip
    assert (await settled(cluster, node_, bad))["status"] == "completed"

    # A process that hangs is killed with what it has started.
    hang = {
        "type": "plugin", "id": "hang", "pluginId": "trouble.hang", "inputMapping": {"file": "data.file"},
        "retryPolicy": {"maxAttempts": 1},
    }  # fmt: skip
    await cluster.publish(node_, document(hang, name="hanging"))
    file = tmp_path / "pids"
    hung = await begin(cluster, node_, "hanging", file=str(file))
    await settled(cluster, node_, hung)
    assert (await incident(cluster, node_, hung))["code"] == "TIMEOUT"
    await until(lambda: all(_gone(int(pid)) for pid in file.read_text().split()))


async def test_an_asynchronous_one_is_tried_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, site: Path
) -> None:
    """The registry is busy at first; the second attempt has a key of its own."""

    async def busy_once(request: Request, writer: asyncio.StreamWriter) -> None:
        first = len(registry.requests) == 1
        await reply(503 if first else 200, b'{"bank": "BKAUATWW"}', Content_Type="application/json")(request, writer)

    async with outside() as registry:
        registry.answer = busy_once
        node_ = await node(cluster, monkeypatch, site)
        step = {
            "type": "plugin", "id": "bank", "pluginId": "iban.bank", "configuration": {"url": registry.url + "/banks"},
            "inputMapping": {"iban": "data.iban"}, "outputMapping": {"bank": "output.bank"},
            "retryPolicy": {"maxAttempts": 3, "initialDelaySeconds": 0, "jitter": 0},
        }  # fmt: skip
        await cluster.publish(node_, document(step))
        instance_id = await begin(cluster, node_, "accounts", iban="AT611904300234573201")
        assert (await settled(cluster, node_, instance_id))["instanceData"]["bank"] == "BKAUATWW"
        assert [request.target for request in registry.requests] == ["/banks/AT611904300234573201"] * 2
        keys = [request.headers["idempotency-key"] for request in registry.requests]
        assert keys == [f"{instance_id}:step/1:1", f"{instance_id}:step/1:2"]


async def test_a_node_without_it_leaves_the_step(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, site: Path) -> None:
    """
    It publishes for another node's plugin and starts instances; their steps wait while no worker has it, which health tells,
    and are done as soon as one is there.
    """
    has = await node(cluster, monkeypatch, site)
    lacks = await node(cluster, monkeypatch, None)
    await cluster.publish(lacks, document(CHECK))
    await has.server.stop()
    instance_id = await begin(cluster, lacks, "accounts", iban=GOOD)

    async def told() -> bool:
        details = (await lacks.api("GET", "/workflows/health", cluster.admin))["details"]
        return [each["subject"] for each in details["alarms"] if each["alarm"] == "plugin_missing"] == ["iban.check"]

    await until(told)
    assert (await look(cluster, lacks, instance_id))["status"] == "running"
    assert [row["action"] for row in await cluster.history(instance_id)] == ["start"]
    await node(cluster, monkeypatch, site)
    assert (await settled(cluster, lacks, instance_id))["status"] == "completed"
    assert [row["action"] for row in await cluster.history(instance_id)] == ["start", "complete_step"]


async def test_what_a_killed_node_had_started_ends_with_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, site: Path, tmp_path: Path
) -> None:
    """The plugin's process sees that its node is gone, and ends itself with all that it has started."""
    node_ = await node(cluster, monkeypatch, site)
    step = {"type": "plugin", "id": "hang", "pluginId": "trouble.long", "inputMapping": {"file": "data.file"}}
    await cluster.publish(node_, document(step))
    file = tmp_path / "pids"
    await begin(cluster, node_, "accounts", file=str(file))
    await until(lambda: file.exists() and len(file.read_text().split()) == 2)
    pids = [int(pid) for pid in file.read_text().split()]
    assert not any(map(_gone, pids))
    await node_.server.kill()
    await until(lambda: all(map(_gone, pids)))


def test_the_command_lists_what_is_installed(site: Path) -> None:
    """As a table, as JSON, one alone; a broken one makes the exit status 1, and what is denied is not imported."""

    def pliers(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pliers_workflow", "plugins", *arguments],
            env={**os.environ, "PYTHONPATH": str(site), **environment}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    table = pliers()
    assert table.returncode == 1
    lines = table.stdout.splitlines()
    assert lines[0].split() == ["ID", "STATE", "VERSION", "ISOLATION", "TIMEOUT", "MEMORY"]
    assert [line.split()[:5] for line in lines if line.startswith("iban.scan")] == [
        ["iban.scan", "ready", "1.0.0", "process", "30"]
    ]
    assert "nowhere" in table.stdout
    listed = pliers("--json", PLIERS_PLUGINS__DENIED='["trouble.*"]')
    assert listed.returncode == 0
    states = {each["id"]: each["state"] for each in json.loads(listed.stdout)}
    assert states["trouble.gone"] == "denied"
    one = json.loads(pliers("iban.check", "--json").stdout)
    assert one["package"] == "pliers-plugin-iban 1.0.0"
    assert one["configurationSchema"]["additionalProperties"] is False
    missing = pliers("nobody")
    assert (missing.returncode, "no plugin nobody" in missing.stderr) == (1, True)


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
