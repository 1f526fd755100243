"""Several nodes under one command, `pliers serve --processes 2`: one address, and a life in common."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from pliers_workflow.cli.node import Order
from pliers_workflow.client.http import ConnectionLost, HttpClient
from pliers_workflow.client.server import LocalServer, ServerFailed
from pliers_workflow.settings import Settings
from tests.nodes.conftest import until
from tests.nodes.processes import Cluster, Node
from tests.nodes.test_timers import reminder

pytestmark = pytest.mark.slow

#: nobody is forgotten because of silence: a row that is gone was taken away by its node
FOR_EVER = {"NODE__SILENT_AFTER": 600}


@pytest.fixture
async def cluster(cluster: Cluster) -> AsyncIterator[Cluster]:
    """The nodes of a killed command, too, are gone in the end."""
    yield cluster
    await cluster.close()
    # Killed, the command leaves its nodes to end by themselves, and the database is about to be dropped.
    for pid in (await pids(cluster)).values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def together(cluster: Cluster, count: int = 2, role: str = "all", **settings: object) -> Node:
    """The address of several nodes, all of which answer."""
    node = await cluster.node(role, SERVER__PROCESSES=count, **settings)

    async def all_there() -> bool:
        return len(await pids(cluster)) == count

    await until(all_there, seconds=60)
    return node


async def pids(cluster: Cluster) -> dict[str, int]:
    """The process ids of all nodes, by their names."""
    return {row["name"]: int(row["name"].split(":")[1]) for row in await cluster.fetch("SELECT name FROM nodes")}


def lives(pid: int) -> bool:
    """Whether that process runs; one that has ended and was collected by nobody does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def logged(node: Node, event: str) -> list[dict[str, Any]]:
    """The records of this event in the log that the command and its nodes share."""
    lines = node.server.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and f'"event": "{event}"' in line]


class Caller:
    """Starts one instance after the other over one connection; repeats, with its key, what broke off."""

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self._headers = {"authorization": f"Bearer {cluster.admin}"}
        self._http = HttpClient(node.server.url, connections=1)
        self.acknowledged: list[str] = []
        self.lost = 0
        #: the node at the other end of its first connection
        self.served_by = ""

    async def look(self) -> Caller:
        """Connect, and see to whom."""
        answer = await self._http.request("GET", "/api/v1/workflows/health", headers=self._headers)
        self.served_by = json.loads(answer.body)["details"]["thisNode"]["name"]
        return self

    async def call(self, done: asyncio.Event) -> None:
        """Go on until `done`."""
        while not done.is_set():
            headers = {**self._headers, "idempotency-key": uuid4().hex}
            while (made := await self._start(headers)) is None:
                if done.is_set():
                    return
            self.acknowledged.append(made)

    async def _start(self, headers: dict[str, str]) -> str | None:
        try:
            answer = await self._http.request(
                "POST", "/api/v1/workflows/reminder/instances", body=b'{"data": {}}', headers=headers
            )
        except ConnectionLost:
            self.lost += 1
            return None
        assert answer.status in (201, 503), answer.body
        return str(json.loads(answer.body)["id"]) if answer.status == 201 else None


async def instances(cluster: Cluster) -> set[str]:
    rows = await cluster.fetch("SELECT id::text FROM workflow_instances WHERE tenant_id = 'default'")
    return {row["id"] for row in rows}


def test_a_node_is_given_the_settings_of_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they were when the command began, whatever the environment says when a node is started again."""
    monkeypatch.setenv("PLIERS_DATABASE__URL", "postgresql://ada:p%40ss@db/pliers")
    monkeypatch.setenv("PLIERS_EXECUTION__IDEMPOTENCY_TTL", "77")
    monkeypatch.setenv("PLIERS_OUTBOUND__ALLOWED_HOSTS", '["a.example.com", "10.0.0.0/8"]')
    settings = Settings()
    line = msgspec.json.encode(Order(settings.model_dump(mode="json"), "", False, []))
    monkeypatch.setenv("PLIERS_EXECUTION__IDEMPOTENCY_TTL", "5")
    assert Settings.model_validate(msgspec.json.decode(line, type=Order).settings) == settings


async def test_one_address_leads_to_every_node(cluster: Cluster) -> None:
    """Connections come to all of them; each is in health under a name of its own, and knows what the others did."""
    node = await together(cluster)
    await cluster.publish(node, reminder(3600))
    names: set[str] = set()

    async def all_met() -> bool:
        names.add((await Caller(cluster, node).look()).served_by)
        return len(names) == 2

    await until(all_met)
    told = await node.api("GET", "/workflows/health", cluster.admin)
    assert {each["name"] for each in told["details"]["nodes"]} == names == set(await pids(cluster))
    assert node.server.pid not in (await pids(cluster)).values(), "the command itself is no node"


async def test_a_killed_node_takes_its_own_connections_along(cluster: Cluster) -> None:
    """
    `kill -9` of one node under load: its callers lose their connections, the others none, and nothing acknowledged is lost.

    It is started again, and the log says so.
    """
    node = await together(cluster)
    await cluster.publish(node, reminder(3600))
    callers = [await Caller(cluster, node).look() for _ in range(16)]
    before = await pids(cluster)
    killed = callers[0].served_by
    done = asyncio.Event()
    calls = [asyncio.create_task(caller.call(done)) for caller in callers]
    await until(lambda: all(len(caller.acknowledged) > 3 for caller in callers))
    os.kill(before[killed], signal.SIGKILL)

    async def back() -> bool:
        return set((await pids(cluster)).values()) - set(before.values()) != set()

    await until(back, seconds=60)
    counts = [len(caller.acknowledged) for caller in callers]
    await until(lambda: all(len(c.acknowledged) > count for c, count in zip(callers, counts, strict=True)))
    done.set()
    await asyncio.gather(*calls)
    # Twice is who came back within the microseconds in which the kernel closes a dead process's connections, and then its port.
    assert all(caller.lost in (1, 2) for caller in callers if caller.served_by == killed)
    assert all(caller.lost == 0 for caller in callers if caller.served_by != killed)
    acknowledged = [each for caller in callers for each in caller.acknowledged]
    assert len(set(acknowledged)) == len(acknowledged)
    assert await instances(cluster) == set(acknowledged), "every acknowledged start once, and none beside"
    (ended,) = logged(node, "node_ended")
    assert (ended["pid"], ended["reason"]) == (before[killed], "killed by signal 9")


async def test_a_node_that_dies_again_and_again_is_given_longer_pauses(cluster: Cluster) -> None:
    """Each soon after its start: so one that cannot live costs ever less. The other one never notices."""
    node = await together(cluster)
    staying, dying = (await pids(cluster)).values()
    for starts in (1, 2, 3):
        os.kill(dying, signal.SIGKILL)
        await until(lambda starts=starts: len(logged(node, "node_started_again")) == starts, seconds=60)
        dying = logged(node, "node_started_again")[-1]["pid"]
    assert [each["started_again_in"] for each in logged(node, "node_ended")] == [0.1, 0.2, 0.4]
    assert lives(staying)


async def test_a_node_that_hangs_is_killed_and_started_again(cluster: Cluster) -> None:
    """It keeps its connections and answers none, so it is worse than one that died. The other goes on."""
    node = await together(cluster, SERVER__HUNG_AFTER=5)
    await cluster.publish(node, reminder(3600))
    callers = [await Caller(cluster, node).look() for _ in range(16)]
    before = await pids(cluster)
    hung = callers[0].served_by
    done = asyncio.Event()
    calls = [asyncio.create_task(caller.call(done)) for caller in callers]
    await until(lambda: all(len(caller.acknowledged) > 3 for caller in callers))
    os.kill(before[hung], signal.SIGSTOP)
    await until(lambda: len(logged(node, "node_started_again")) == 1, seconds=60)
    counts = [len(caller.acknowledged) for caller in callers]
    await until(lambda: all(len(c.acknowledged) > count for c, count in zip(callers, counts, strict=True)))
    done.set()
    await asyncio.gather(*calls)
    assert all(caller.lost == 0 for caller in callers if caller.served_by != hung)
    assert await instances(cluster) == {each for caller in callers for each in caller.acknowledged}
    (ended,) = logged(node, "node_ended")
    assert (ended["pid"], ended["reason"]) == (before[hung], "it had said nothing for 5 s, and was killed")


async def test_a_node_that_hangs_does_not_keep_the_command_from_stopping(cluster: Cluster) -> None:
    """The others drain; this one is killed when it has been silent for long enough."""
    node = await together(cluster, SERVER__HUNG_AFTER=5)
    hung, _ = (await pids(cluster)).values()
    os.kill(hung, signal.SIGSTOP)
    node.server.ask_to_stop()
    assert await node.server.ended(timeout=60) == 0
    assert not lives(hung)


async def tell_terminal(command: int, nodes: list[int]) -> None:
    """Ctrl-C reaches the process group."""
    os.killpg(command, signal.SIGINT)


async def tell_everybody(command: int, nodes: list[int]) -> None:
    """Service managers tell every process there is."""
    for pid in (command, *nodes):
        os.kill(pid, signal.SIGTERM)


async def tell_nodes_late(command: int, nodes: list[int]) -> None:
    """And do so in any order."""
    for pid in (*nodes, command):
        os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("tell", [tell_terminal, tell_everybody, tell_nodes_late])
async def test_all_nodes_finish_what_they_have_begun(cluster: Cluster, tell: Any) -> None:
    """Told to stop, however many processes hear of it: every node drains, nobody twice, and the command ends with 0."""
    node = await together(cluster, **FOR_EVER, NODE__DRAIN_DELAY=0.5)
    await cluster.publish(node, reminder(3600))
    callers = [await Caller(cluster, node).look() for _ in range(8)]
    done = asyncio.Event()
    calls = [asyncio.create_task(caller.call(done)) for caller in callers]
    await until(lambda: all(len(caller.acknowledged) > 3 for caller in callers))
    nodes = list((await pids(cluster)).values())
    command = node.server.pid
    assert command is not None
    await tell(command, nodes)
    assert await node.server.ended() == 0
    done.set()
    await asyncio.gather(*calls)
    assert await pids(cluster) == {}, "each has taken its row away"
    assert not any(lives(pid) for pid in nodes)
    assert "stopped at once" not in node.server.log.read_text()
    assert await instances(cluster) >= {each for caller in callers for each in caller.acknowledged}
    assert await cluster.fetch("SELECT FROM service_leases WHERE until > now()") == []


async def test_told_to_stop_while_its_nodes_begin_to_answer(cluster: Cluster) -> None:
    """Whenever it comes: nodes that are there drain, and the command ends with 0. It failed, as its address was closed."""
    for attempt in range(3):
        server = LocalServer(
            cluster.dsn,
            cluster.folder / f"early{attempt}.log",
            settings={"SERVER__PROCESSES": 2, "NODE__DRAIN_DELAY": 0},
        )
        starting = asyncio.create_task(server.start())

        async def one_there() -> bool:
            return bool(await pids(cluster))

        await until(one_there, seconds=60)
        server.ask_to_stop()
        assert await server.ended() == 0, server.log.read_text()
        await asyncio.gather(starting, return_exceptions=True)
        assert await pids(cluster) == {}


async def test_a_second_signal_stops_all_at_once(cluster: Cluster) -> None:
    """Who asks twice does not want to wait for any of them."""
    node = await together(cluster, NODE__DRAIN_DELAY=600)
    nodes = list((await pids(cluster)).values())
    node.server.ask_to_stop()

    async def draining() -> bool:
        return [row["draining"] for row in await cluster.fetch("SELECT draining FROM nodes")] == [True, True]

    await until(draining)
    node.server.ask_to_stop()
    assert await node.server.ended(timeout=10) == 128 + 15, node.server.log.read_text()
    await until(lambda: not any(lives(pid) for pid in nodes))


async def test_nodes_do_not_outlive_a_killed_command(cluster: Cluster) -> None:
    """`kill -9` of the command: its nodes finish what they have begun, and are gone."""
    node = await together(cluster, role="worker", **FOR_EVER)
    nodes = list((await pids(cluster)).values())
    await node.server.kill()
    await until(lambda: not any(lives(pid) for pid in nodes), seconds=60)
    assert await pids(cluster) == {}, "each has taken its row away"


async def test_nodes_that_cannot_start_end_the_command(cluster: Cluster) -> None:
    """Not for ever, and not in silence: after a few starts it says why, and ends with a status that says so, too."""
    await cluster.fetch(
        "INSERT INTO nodes (id, name, role, version, format, draining, started_at, plugins) "
        "VALUES (gen_random_uuid(), 'grandfather:99999999', 'all', '0.0.1', 0, false, now(), '[]')"
    )
    with pytest.raises(ServerFailed, match=r"status 3: .*pliers: a node was started 3 times and never came to answer"):
        await cluster.node(SERVER__PROCESSES=2, **FOR_EVER)
    (log,) = Path(cluster.folder).glob("*.log")
    assert "stop them first: grandfather:99999999" in log.read_text()
    assert len(await pids(cluster)) == 1
