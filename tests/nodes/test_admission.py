"""How many instances are under way at once, and who is next."""

from __future__ import annotations

import asyncio

import pytest

from pliers_workflow.interpreter.commands import Actor, CancelInstance, Command
from pliers_workflow.runtime.answers import Accepted
from pliers_workflow.runtime.engine import Engine
from tests.nodes.conftest import MakeNode, until
from tests.nodes.test_timers import starter


async def statuses(node: Engine, instances: list[str]) -> list[str]:
    """In the order of the list."""
    rows = await node.pool.fetch(
        "SELECT id::text, status::text AS status FROM workflow_instances WHERE tenant_id = 'default'"
    )
    found = {row["id"]: row["status"] for row in rows}
    return [found[each] for each in instances]


async def cancel(node: Engine, instance_id: str) -> None:
    answer = await node.execute("default", instance_id, Command(f"cancel {instance_id}", Actor(), CancelInstance()))
    assert isinstance(answer, Accepted), answer


async def settles(node: Engine, instances: list[str], wanted: list[str]) -> None:
    """Wait for these statuses."""

    async def so() -> bool:
        return await statuses(node, instances) == wanted

    await until(so)


@pytest.mark.parametrize("nodes", [1, 2])
async def test_so_many_and_no_more(make_node: MakeNode, nodes: int) -> None:
    """Beyond the limit instances wait, and begin in the order of their starts as others end, whoever started them where."""
    limit = {"execution": {"max_concurrent_instances": 3}}
    made = [await make_node("all" if n else "worker" if nodes > 1 else "all", **limit) for n in range(nodes)]
    node = made[-1]
    start = await starter(node, 3600)
    instances = [await start() for _ in range(8)]
    await settles(node, instances, ["waiting"] * 3 + ["pending"] * 5)
    await cancel(node, instances[1])
    await settles(node, instances, ["waiting", "cancelled", "waiting", "waiting"] + ["pending"] * 4)
    await cancel(node, instances[5])  # one that waits takes nobody's place, and leaves none
    await cancel(node, instances[0])
    await settles(
        node, instances, ["cancelled", "cancelled", "waiting", "waiting", "waiting", "cancelled", "pending", "pending"]
    )
    begun = await node.pool.fetch(
        "SELECT id::text FROM workflow_instances WHERE tenant_id = 'default' AND started_at IS NOT NULL ORDER BY id"
    )
    assert [row["id"] for row in begun] == instances[:5], "the others have not started yet"
    report = await node.health.report()
    assert report.details["admission"]["limit"] == 3
    assert report.details["admission"]["waiting"] == 2


async def test_the_limit_holds_under_a_rush(make_node: MakeNode) -> None:
    """Many start and end at once, on two nodes; never are more under way than may be, and everyone has their turn."""
    limit = {"execution": {"max_concurrent_instances": 5}}
    first, second = await make_node(**limit), await make_node(**limit)
    start = await starter(first, 0.05)
    begun: list[str] = []

    async def many(node: Engine) -> None:
        for _ in range(30):
            start.node = node
            begun.append(await start())

    done = asyncio.Event()
    seen: list[int] = []

    async def watch() -> None:
        while not done.is_set():
            seen.append(
                await first.readers.fetchval(
                    "SELECT count(*) FROM workflow_instances WHERE tenant_id = 'default' AND status = 'waiting'"
                )
            )

    watching = asyncio.create_task(watch())
    await asyncio.gather(many(first), many(second))
    await settles(first, begun, ["completed"] * 60)
    done.set()
    await watching
    assert 0 < max(seen) <= 5


async def test_without_a_limit_nobody_waits(make_node: MakeNode) -> None:
    """A start begins at once; what waited under a limit that is gone begins, too."""
    limited = await make_node("api", execution={"max_concurrent_instances": 1})
    start = await starter(limited, 3600)
    waiting = [await start() for _ in range(3)]
    assert await statuses(limited, waiting) == ["pending"] * 3, "there is no worker"
    free = await make_node()
    await settles(free, waiting, ["waiting"] * 3)
    start.node = free
    answer = await free.start_instance(start.principal, start.definition, data={})
    assert isinstance(answer, Accepted)
    assert answer.instance.status == "waiting"
