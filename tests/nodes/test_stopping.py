"""Nodes that stop with work in hand: told to, they finish it or give it back; killed, their leases lapse."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pliers_workflow.client.http import ConnectionLost
from tests.nodes.conftest import until
from tests.nodes.processes import Cluster, Node
from tests.nodes.test_processes import acquainted
from tests.outbound.server import OutsideServer, Request, outside, reply

pytestmark = pytest.mark.slow

#: seconds for which nobody looks by chance
FAR = 600
#: a lease that lapses in the lifetime of no test
LONG = {"STEPS__LEASE": FAR, "STEPS__POLL": FAR, "OUTBOUND__ALLOW_PRIVATE_NETWORKS": True}


class SlowServer:
    """A web service that answers when it is told to, and knows when it was asked."""

    def __init__(self, server: OutsideServer) -> None:
        self.server = server
        self.go = asyncio.Event()
        #: idempotency keys of the requests that came, and when
        self.asked: list[tuple[str, float]] = []
        server.answer = self._answer

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.asked.append((request.headers["idempotency-key"], time.monotonic()))
        await self.go.wait()
        await reply(200, b'{"ok": true}', Content_Type="application/json")(request, writer)

    async def is_asked(self, times: int) -> None:
        """Wait until so many requests have come."""
        await until(lambda: len(self.asked) >= times, seconds=30)


@pytest.fixture
async def slow() -> AsyncIterator[SlowServer]:
    async with outside() as server:
        slow = SlowServer(server)
        yield slow
        slow.go.set()


def doing(step: dict[str, Any]) -> dict[str, Any]:
    """A document whose instances do one step and are done."""
    return {
        "name": "errand", "version": "1.0.0", "title": "Errand",
        "stateMachine": {
            "initialState": "busy",
            "states": {"busy": {"properties": {"steps": [step]}}, "done": {"type": "final"}},
            "transitions": [{"from": "busy", "to": "done"}],
        },
    }  # fmt: skip


def call(slow: SlowServer) -> dict[str, Any]:
    """A document that calls the slow server, and again where that was lost."""
    retry = {"maxAttempts": 2, "initialDelaySeconds": 0, "jitter": 0}
    return doing(
        {"type": "http", "id": "call", "method": "POST", "url": f"{slow.server.url}/work", "retryPolicy": retry}
    )


PRINTING = doing({"type": "external", "id": "print", "topic": "printing"})


async def begin(cluster: Cluster, node: Node) -> str:
    """The id of a new errand."""
    started = await node.api("POST", "/workflows/errand/instances", cluster.admin, {"data": {}})
    return str(started["id"])


async def completed(cluster: Cluster, instance_id: str) -> None:
    async def so() -> bool:
        (row,) = await cluster.fetch("SELECT status::text FROM workflow_instances WHERE id = $1", instance_id)
        return bool(row["status"] == "completed")

    await until(so)


async def actions(cluster: Cluster, instance_id: str) -> list[str]:
    return [row["action"] for row in await cluster.history(instance_id)]


def fetching(**body: Any) -> dict[str, Any]:
    return {"topics": ["printing"], "workerId": "printer", "leaseSeconds": FAR, **body}


async def waits(node: Node, token: str) -> None:
    """Wait until a fetch waits on this node."""

    async def so() -> bool:
        told = await node.api("GET", "/workflows/health", token)
        return bool(told["details"]["steps"]["thisNode"]["fetchesWaiting"])

    await until(so)


async def test_a_step_that_ends_in_time_is_finished(cluster: Cluster, slow: SlowServer) -> None:
    """SIGTERM: the call goes on, its result is committed by the node that leaves, and nothing is done twice."""
    api, worker = await asyncio.gather(cluster.node("api"), cluster.node("worker", STEPS__DRAIN_GRACE=30, **LONG))
    await cluster.publish(api, call(slow))
    instance = await begin(cluster, api)
    await slow.is_asked(1)
    await cluster.node("worker", **LONG)
    worker.server.ask_to_stop()

    async def draining() -> bool:
        try:
            return (await worker("GET", "/health/ready")).status == 503
        except ConnectionLost:
            return True  # its port is closed, which comes a moment after the 503 where `drain_delay` is 0

    await until(draining)
    slow.go.set()
    assert await worker.server.ended() == 0
    await completed(cluster, instance)
    assert await actions(cluster, instance) == ["start", "complete_step"]
    assert len(slow.asked) == 1


async def test_a_step_that_takes_longer_is_given_back(cluster: Cluster, slow: SlowServer) -> None:
    """SIGTERM: another node takes it at once and not after the lease, as the same attempt under the same key."""
    api, worker = await asyncio.gather(cluster.node("api"), cluster.node("worker", STEPS__DRAIN_GRACE=0.3, **LONG))
    await cluster.publish(api, call(slow))
    instance = await begin(cluster, api)
    await slow.is_asked(1)
    await cluster.node("worker", **LONG)
    await acquainted(cluster, 3)
    worker.server.ask_to_stop()
    told_at = time.monotonic()
    assert await worker.server.ended() == 0
    await slow.is_asked(2)
    (first, _), (second, again_at) = slow.asked
    assert first == second == f"{instance}:step/1:1"
    assert again_at - told_at < 10, "about half a second on an idle machine"
    (job,) = await cluster.fetch("SELECT lease_owner, attempt FROM workflow_jobs WHERE tenant_id = 'default'")
    assert job["attempt"] == 1, "a claim that was given back does not count"
    slow.go.set()
    await completed(cluster, instance)
    assert await actions(cluster, instance) == ["start", "complete_step"]


async def test_a_step_of_a_killed_node_waits_for_its_lease(cluster: Cluster, slow: SlowServer) -> None:
    """SIGKILL: nobody knows whether it ran, so it is lost when its lease lapses, and the retry policy decides."""
    settings = {"STEPS__LEASE": 3, "STEPS__RESCUE_EVERY": 0.2, "OUTBOUND__ALLOW_PRIVATE_NETWORKS": True}
    api, worker = await asyncio.gather(cluster.node("api"), cluster.node("worker", **settings))
    await cluster.publish(api, call(slow))
    instance = await begin(cluster, api)
    await slow.is_asked(1)
    await cluster.node("worker", **settings)
    await worker.server.kill()
    (job,) = await cluster.fetch("SELECT lease_until FROM workflow_jobs WHERE tenant_id = 'default'")
    assert job["lease_until"] is not None
    await slow.is_asked(2)
    assert [key for key, _ in slow.asked] == [f"{instance}:step/1:1", f"{instance}:step/1:2"]
    rows = await cluster.history(instance)
    assert [row["action"] for row in rows] == ["start", "fail_step"]
    assert "LEASE_LAPSED" in rows[1]["record"]
    assert rows[1]["executed_at"] >= job["lease_until"]
    slow.go.set()
    await completed(cluster, instance)


async def test_a_fetch_that_waits_ends_when_its_node_stops(cluster: Cluster) -> None:
    """It is answered at once, with nothing and a goodbye; what comes then, the caller gets from another node."""
    leaving, staying = await asyncio.gather(cluster.node(**LONG), cluster.node("api", **LONG))
    await cluster.publish(staying, PRINTING)
    path = "/api/v1/external-tasks/fetch"
    fetch = asyncio.create_task(leaving("POST", path, cluster.admin, fetching(waitSeconds=30)))
    await waits(leaving, cluster.admin)
    told_at = time.monotonic()
    leaving.server.ask_to_stop()
    answer = await fetch
    assert (answer.status, json.loads(answer.body)) == (200, {"tasks": []})
    assert answer.headers["connection"] == "close"
    assert time.monotonic() - told_at < 25
    assert await leaving.server.ended() == 0
    instance = await begin(cluster, staying)
    (task,) = (await staying.api("POST", "/external-tasks/fetch", cluster.admin, fetching(waitSeconds=10)))["tasks"]
    assert task["workflowInstanceId"] == instance


async def test_a_caller_who_hangs_up_takes_no_task_along(cluster: Cluster) -> None:
    """The connection of a fetch that waits breaks off: a task that comes then is the next caller's at once."""
    node = await cluster.node(**LONG)
    await cluster.publish(node, PRINTING)
    body = json.dumps(fetching(waitSeconds=30)).encode()
    lines = [
        "POST /api/v1/external-tasks/fetch HTTP/1.1", "Host: node", f"Authorization: Bearer {cluster.admin}",
        "Content-Type: application/json", f"Content-Length: {len(body)}",
    ]  # fmt: skip
    for abort in (True, False):
        _, writer = await asyncio.open_connection("127.0.0.1", node.server.port)
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        await waits(node, cluster.admin)
        if abort:
            writer.transport.abort()
        else:
            writer.close()
        instance = await begin(cluster, node)
        (task,) = (await node.api("POST", "/external-tasks/fetch", cluster.admin, fetching(waitSeconds=10)))["tasks"]
        assert task["workflowInstanceId"] == instance
        path = f"/api/v1/external-tasks/{task['id']}/complete"
        await node("POST", path, cluster.admin, {"leaseToken": task["leaseToken"]}, status=204)
