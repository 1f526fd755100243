"""Nodes know of each other."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pliers_workflow.runtime.engine import Engine
from pliers_workflow.settings import NodeSettings
from tests.nodes.conftest import MakeNode, until


async def rows(node: Engine) -> list[dict[str, Any]]:
    found = await node.pool.fetch("SELECT * FROM nodes ORDER BY started_at")
    return [dict(row) for row in found]


async def test_nodes_register_and_leave(make_node: MakeNode) -> None:
    """Every node has a row while it runs; both know of the other at once, not with the next heartbeat."""
    first = await make_node("api", node={"heartbeat": 60, "silent_after": 120})
    second = await make_node("worker", node={"heartbeat": 60, "silent_after": 120})
    assert [(row["name"], row["role"]) for row in await rows(first)] == [(first.node, "api"), (second.node, "worker")]
    assert [node.name for node in second.registrar.others] == [first.node]
    await until(lambda: [node.name for node in first.registrar.others] == [second.node])
    await second.close()
    await until(lambda: first.registrar.others == ())
    assert [row["name"] for row in await rows(first)] == [first.node]


async def test_a_node_that_falls_silent_is_forgotten(make_node: MakeNode) -> None:
    """A killed node's row is swept by the others after a while; one that was only away is there again."""
    first, second = await make_node(), await make_node()
    await until(lambda: first.registrar.others)
    assert second.registrar._task is not None
    second.registrar._task.cancel()  # as if it were stopped in the middle
    await until(lambda: first.registrar.others == ())
    assert [row["name"] for row in await rows(first)] == [first.node]
    await second.registrar.beat()
    await until(lambda: first.registrar.others)


async def test_a_node_that_drains_says_so(make_node: MakeNode) -> None:
    """The others see that it will be gone soon."""
    first, second = await make_node(), await make_node()
    await second.registrar.drain()
    await until(lambda: [node.draining for node in first.registrar.others] == [True])


async def test_an_api_node_claims_nothing(make_node: MakeNode) -> None:
    """A node of the role `api` runs none of the services that find work for themselves; a worker runs them all."""
    api, worker = await make_node("api"), await make_node("worker")
    await until(lambda: holder(api))
    assert await holder(api) == worker.node
    assert api.timers._task is None
    assert worker.timers._task is not None


async def holder(node: Engine) -> str | None:
    name: str | None = await node.pool.fetchval("SELECT owner FROM service_leases WHERE service = 'housekeeping'")
    return name


def test_a_node_outlives_its_heartbeat() -> None:
    """Nodes that would take each other for dead between two heartbeats do not start."""
    with pytest.raises(ValidationError, match="silent_after must be longer"):
        NodeSettings(heartbeat=30, silent_after=30)
