"""Several real server processes on one PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest

from pliers_workflow.client.http import ConnectionLost
from tests.nodes.conftest import cut, until
from tests.nodes.processes import NEVER, Cluster, Node
from tests.nodes.test_timers import reminder
from tests.pipeline.test_commit import vote_chart

pytestmark = pytest.mark.slow


async def test_two_nodes_decide_the_same_instances(cluster: Cluster) -> None:
    """Voters of the same instances on two nodes: everybody is answered, every vote counts once, nobody sees the other's."""
    first, second = await asyncio.gather(cluster.node(), cluster.node())
    voters = [await cluster.token(f"voter{n}") for n in range(6)]
    await first.api("PUT", "/roles/board", cluster.admin)
    for n in range(6):
        await first.api("PATCH", f"/users/voter{n}", cluster.admin, {"roles": ["board"]})
    await cluster.publish(first, vote_chart())
    instances = [
        (await first.api("POST", "/workflows/ballot/instances", cluster.admin, {"data": {}}))["id"] for _ in range(12)
    ]

    async def vote(node: Node, instance_id: str, token: str) -> None:
        await node.api("POST", f"/workflow-instances/{instance_id}/approve", token, {})

    await asyncio.gather(
        *(
            vote((first, second)[(n + k) % 2], instance_id, token)
            for k, instance_id in enumerate(instances)
            for n, token in enumerate(voters)
        )
    )
    for instance_id in instances:
        assert [row["action"] for row in await cluster.history(instance_id)] == ["start", *["decide"] * 6]
        for node in (first, second):
            shown = await node.api("GET", f"/workflow-instances/{instance_id}", cluster.admin)
            assert (shown["status"], shown["currentState"]) == ("completed", "carried")


async def test_a_timer_of_an_api_node_fires_on_a_worker(cluster: Cluster) -> None:
    """No node looks by itself for ten minutes: the worker is woken for what was scheduled elsewhere, and is on time."""
    api, worker = await asyncio.gather(cluster.node("api", **NEVER), cluster.node("worker", **NEVER))
    await cluster.publish(api, reminder(0.4))
    assert (await worker("GET", "/api/v1/workflows/reminder", cluster.admin)).status == 404, "a worker has no API"
    assert (await worker("GET", "/health/live")).status == 200
    await acquainted(cluster, 2)
    late = [await lateness(cluster, api, 0.4) for _ in range(3)]
    assert min(late) >= -0.005, "never early"
    assert max(late) < 15, "about 10 ms on an idle machine; by chance it would be ten minutes"
    assert await cut(cluster.dsn, "pliers listen") >= 2
    late = [await lateness(cluster, api, 0.4) for _ in range(2)]
    assert max(late) < 15, "a cut connection costs some time and no work"


async def lateness(cluster: Cluster, api: Node, seconds: float) -> float:
    """Start a reminder and wait until it has fired: how many seconds after it was due."""
    started = await api.api("POST", "/workflows/reminder/instances", cluster.admin, {"data": {}})

    async def fired() -> bool:
        return len(await cluster.history(started["id"])) == 2

    await until(fired, seconds=30)
    first, second = await cluster.history(started["id"])
    return float((second["executed_at"] - first["executed_at"]).total_seconds()) - seconds


async def acquainted(cluster: Cluster, count: int) -> None:
    """Wait until all nodes listen, and have had the time to hear of each other."""

    async def listening() -> bool:
        rows = await cluster.fetch(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pliers listen'"
        )
        return len(rows) == count

    await until(listening)
    await asyncio.sleep(0.3)


async def test_a_node_that_is_told_to_stop_loses_nothing(cluster: Cluster) -> None:
    """
    SIGTERM under load: not ready at once, answers say goodbye, what was acknowledged is there once, nothing is left.

    Callers repeat on the other node what was refused or broke off, with the same key, as any client does.
    """
    leaving, staying = await asyncio.gather(cluster.node(NODE__DRAIN_DELAY=1.5), cluster.node())
    await cluster.publish(staying, reminder(3600))
    done = asyncio.Event()
    acknowledged: list[str] = []
    goodbyes = 0

    async def start(node: Node, key: str) -> str | None:
        nonlocal goodbyes
        try:
            response = await node("POST", "/api/v1/workflows/reminder/instances", cluster.admin, {"data": {}}, key=key)
        except ConnectionLost:
            return None
        goodbyes += response.headers.get("connection") == "close"
        assert response.status in (201, 503), response.body
        return str(json.loads(response.body)["id"]) if response.status == 201 else None

    async def caller() -> None:
        while not done.is_set():
            key = uuid4().hex
            made = await start(leaving, key) if leaving.server.pid else None
            while made is None:
                made = await start(staying, key)
            acknowledged.append(made)

    callers = [asyncio.create_task(caller()) for _ in range(8)]
    await until(lambda: len(acknowledged) > 50)
    assert (await leaving("GET", "/health/ready")).status == 200
    leaving.server.ask_to_stop()

    async def not_ready() -> bool:
        response = await leaving("GET", "/health/ready")
        return response.status == 503 and json.loads(response.body) == {"status": "draining"}

    await until(not_ready, seconds=1.5)
    assert (await leaving("GET", "/health/live")).status == 200
    names = await cluster.fetch("SELECT name, draining FROM nodes")
    assert [row["draining"] for row in names].count(True) == 1
    (name,) = [row["name"] for row in names if row["draining"]]
    assert await leaving.server.ended() == 0
    count = len(acknowledged)
    await until(lambda: len(acknowledged) > count + 20)
    done.set()
    await asyncio.gather(*callers)
    assert goodbyes > 0
    assert len(set(acknowledged)) == len(acknowledged)
    rows = await cluster.fetch("SELECT id::text FROM workflow_instances WHERE tenant_id = 'default'")
    assert {row["id"] for row in rows} == set(acknowledged), "every acknowledged start once, and none beside"
    for instance_id in acknowledged[::20]:
        assert len(await cluster.history(instance_id)) == 1
    assert name not in {row["name"] for row in await cluster.fetch("SELECT name FROM nodes")}
    held = await cluster.fetch("SELECT service FROM service_leases WHERE owner = $1 AND until > now()", name)
    assert held == []
    assert await cluster.fetch("SELECT FROM workflow_jobs WHERE tenant_id = 'default' AND lease_owner = $1", name) == []


async def test_a_second_signal_stops_at_once(cluster: Cluster) -> None:
    """Who asks twice does not want to wait; the others sweep what it left."""
    node, other = await asyncio.gather(cluster.node(NODE__DRAIN_DELAY=600), cluster.node())
    node.server.ask_to_stop()

    async def draining() -> bool:
        return (await node("GET", "/health/ready")).status == 503

    await until(draining)
    node.server.ask_to_stop()
    assert await node.server.ended(timeout=10) == 128 + 15

    async def swept() -> bool:
        return len(await cluster.fetch("SELECT FROM nodes")) == 1

    await until(swept)
    assert (await other("GET", "/health/ready")).status == 200


async def test_a_killed_node_is_forgotten_and_its_timers_fire_elsewhere(cluster: Cluster) -> None:
    """`kill -9` of a node whose timers are coming due: another one fires them, once; what was claimed lapses first."""
    first, second = await asyncio.gather(
        cluster.node(EXECUTION__TIMER_LEASE=1.5), cluster.node("worker", EXECUTION__TIMER_LEASE=1.5)
    )
    await cluster.publish(first, reminder(1.5))
    started: list[dict[str, Any]] = await asyncio.gather(
        *(first.api("POST", "/workflows/reminder/instances", cluster.admin, {"data": {}}) for _ in range(20))
    )
    await first.server.kill()

    async def all_fired() -> bool:
        (row,) = await cluster.fetch(
            "SELECT count(*) AS count FROM workflow_execution_history WHERE tenant_id = 'default' "
            "AND action_type = 'fire_timer'"
        )
        return bool(row["count"] == 20)

    await until(all_fired, seconds=40)
    for instance in started:
        assert len(await cluster.history(instance["id"])) == 2
    assert (await second("GET", "/health/ready")).status == 200
