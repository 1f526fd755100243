"""Trees of workflows on two real nodes, one of which is killed in the middle."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.jobs.families import calls, sets, workflow
from tests.nodes.conftest import until
from tests.nodes.processes import Cluster

pytestmark = pytest.mark.slow

ROOTS = 12


def three(step: dict[str, Any]) -> dict[str, Any]:
    """A step that does another for 1, 2 and 3, and adds up what comes of it."""
    return {
        "type": "for_each", "id": "three", "items": "[1, 2, 3]", "itemName": "n", "steps": [step],
        "outputMapping": {"sum": "output[0].data.sum + output[1].data.sum + output[2].data.sum"},
    }  # fmt: skip


DOCUMENTS = (
    workflow("leaf", {"type": "wait", "durationMinutes": 0.005}, sets(sum="data.n")),
    workflow("branch", three(calls("leaf", "leaf", inputMapping={"n": "n * data.n"}))),
    workflow("root", three(calls("branch", "branch", inputMapping={"n": "n * data.n"}))),
)


async def test_a_node_that_is_killed_among_many_trees(cluster: Cluster) -> None:
    """Every tree is whole in the end: each child was started once and told its parent once, whoever did it."""
    settings = {"EXECUTION__TIMER_LEASE": 1.5}
    first, second = await asyncio.gather(cluster.node(**settings), cluster.node(**settings))
    for document in DOCUMENTS:
        await cluster.publish(first, document)
    started = await asyncio.gather(*(
        node.api("POST", "/workflows/root/instances", cluster.admin, {"data": {"n": n}})
        for n, node in zip(range(ROOTS), (first, second) * ROOTS, strict=False)
    ))  # fmt: skip

    async def counted(*conditions: str) -> Counter[str]:
        where = "".join(f" AND {condition}" for condition in conditions)
        rows = await cluster.fetch(
            "SELECT workflow_name, count(*) AS n FROM workflow_instances WHERE tenant_id = 'default'" + where
            + " GROUP BY 1"
        )  # fmt: skip
        return Counter({row["workflow_name"]: row["n"] for row in rows})

    async def in_the_middle() -> bool:
        return (await counted())["leaf"] >= 2 * ROOTS

    await until(in_the_middle, seconds=60)
    await first.server.kill()
    assert (await counted("status = 'completed'"))["root"] < ROOTS, "it was killed in the middle"

    async def all_done() -> bool:
        return (await counted("status = 'completed'"))["root"] == ROOTS

    await until(all_done, seconds=90)
    assert (
        await counted("status = 'completed'")
        == await counted()
        == Counter(root=ROOTS, branch=3 * ROOTS, leaf=9 * ROOTS)
    )
    for n, instance in enumerate(started):
        shown = await second.api("GET", f"/workflow-instances/{instance['id']}", cluster.admin)
        assert shown["instanceData"] == {"n": n, "sum": 36 * n}
    parents = await cluster.fetch(
        "SELECT id::text FROM workflow_instances WHERE tenant_id = 'default' AND workflow_name <> 'leaf'"
    )
    for row in parents:
        history = await cluster.history(row["id"])
        assert [each["action"] for each in history] == ["start", *["complete_step"] * 3]

    async def nothing_owed() -> bool:
        return not await cluster.fetch("SELECT name FROM workflow_jobs WHERE tenant_id = 'default'")

    await until(nothing_owed)
