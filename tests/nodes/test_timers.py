"""Timers fire on time, whichever node they were scheduled on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.answers import Accepted
from pliers_workflow.runtime.engine import Engine
from pliers_workflow.runtime.rows import DefinitionRow
from tests.nodes.conftest import MakeNode, cut, until

#: so long that nothing fires in time because of it
NEVER = {"execution": {"timer_poll": 600}}


def reminder(seconds: float) -> dict[str, Any]:
    """A document whose only state times out."""
    return {
        "name": "reminder", "version": "1.0.0", "title": "Reminder",
        "stateMachine": {
            "initialState": "waiting",
            "states": {"waiting": {"timeouts": [{"afterMinutes": seconds / 60}]}, "done": {"type": "final"}},
            "transitions": [{"from": "waiting", "to": "done", "trigger": "timeout"}],
        },
    }  # fmt: skip


class Starter:
    """Starts instances of a reminder on a node."""

    def __init__(self, node: Engine, principal: Principal, definition: DefinitionRow) -> None:
        self.node = node
        self.principal = principal
        self.definition = definition

    async def __call__(self) -> str:
        answer = await self.node.start_instance(self.principal, self.definition, data={})
        assert isinstance(answer, Accepted), answer
        return answer.instance.id

    async def lateness(self, instance_id: str) -> float:
        """Wait until the timer has fired; seconds between the moment it was due and its row of the history."""

        async def fired() -> bool:
            return bool(
                await self.node.pool.fetchval(
                    "SELECT EXISTS (SELECT FROM workflow_execution_history WHERE tenant_id = 'default' "
                    "AND workflow_instance_id = $1 AND action_type = 'fire_timer')", instance_id,
                )
            )  # fmt: skip

        await until(fired)
        times = await self.node.pool.fetch(
            "SELECT executed_at FROM workflow_execution_history WHERE tenant_id = 'default' AND workflow_instance_id = $1 "
            "ORDER BY seq", instance_id,
        )  # fmt: skip
        assert len(times) == 2, "it fires once"
        return (times[1][0] - times[0][0]).total_seconds() - self.due_after

    due_after = 0.0


async def starter(node: Engine, seconds: float) -> Starter:
    await node.tokens.bootstrap("default")
    row = await node.directory.user_by_name("default", "admin")
    assert row is not None
    admin = Principal("default", row.id, "admin", frozenset({"admin"}))
    created = await node.catalog.create(admin, reminder(seconds))
    assert isinstance(created, DefinitionRow), created
    published = await node.catalog.publish(admin, created.id)
    assert isinstance(published, DefinitionRow), published
    made = Starter(node, admin, published)
    made.due_after = seconds
    return made


@pytest.mark.parametrize("role", ["all", "api"])
async def test_a_timer_fires_on_time_without_polling(make_node: MakeNode, role: str) -> None:
    """A node that sleeps for ten minutes is woken by what is due in half a second: its own, or that of an API node."""
    node = await make_node(role, **NEVER)
    if role == "api":
        worker = await make_node("worker", **NEVER)
        await until(lambda: node.wakeups.carry and node.messenger.listening and worker.messenger.listening)
    start = await starter(node, 0.5)
    instances = await asyncio.gather(*(start() for _ in range(5)))
    late = [await start.lateness(instance_id) for instance_id in instances]
    assert min(late) >= -0.005, "never before it is due"
    # About 10 ms on an idle machine; what matters is that nobody had to look by chance, after ten minutes.
    assert max(late) < 15


async def test_a_wake_up_that_was_lost_costs_time_only(make_node: MakeNode, database: str) -> None:
    """With its LISTEN connection cut, a worker fires what it was not told of, once it listens again."""
    api, worker = await make_node("api", **NEVER), await make_node("worker", **NEVER)
    start = await starter(api, 0.2)
    await until(lambda: api.wakeups.carry and worker.messenger.listening)
    await cut(database, "pliers listen")
    instance_id = await start()
    assert await start.lateness(instance_id) < 15


async def test_polling_is_the_safety_net(make_node: MakeNode) -> None:
    """Where no wake-up comes at all, timers fire by the worker's own looking."""
    api, _ = await make_node("api"), await make_node("worker", execution={"timer_poll": 0.2})
    start = await starter(api, 0.1)
    api.messenger.alone()
    api.wakeups.carry = None
    assert await start.lateness(await start()) < 15


async def test_what_is_claimed_is_fired_or_given_back(make_node: MakeNode) -> None:
    """A worker that stops leaves no timer behind under a lease: it fires it first, or frees it for the others."""
    node = await make_node(start=False)
    await node.start(services=False)
    start = await starter(node, 0.001)
    instances = [await start() for _ in range(3)]
    await asyncio.sleep(0.01)
    held = asyncio.Event()

    async def never(*_: Any) -> Any:
        held.set()
        await asyncio.sleep(600)

    execute, node.timers._execute = node.timers._execute, never
    await node.timers.start()
    await held.wait()
    leased = "SELECT count(*) FROM workflow_jobs WHERE tenant_id = 'default' AND lease_owner IS NOT NULL"
    assert await node.pool.fetchval(leased) == 3
    await node.timers.close(grace=0.1)
    assert await node.pool.fetchval(leased) == 0
    node.timers._execute = execute
    assert await node.timers.sweep() == 3
    for instance_id in instances:
        await start.lateness(instance_id)
