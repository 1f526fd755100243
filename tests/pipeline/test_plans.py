"""The batch's statements among many rows: planned on empty tables, they must not stay planned for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.in_process import clone_rows
from pliers_workflow.interpreter.commands import FireTrigger, RecordDecision
from pliers_workflow.runtime.answers import Accepted

from .conftest import EXPENSE, World, example, people_of_expenses

HOT = ("workflow_instances", "workflow_approvals", "workflow_jobs", "idempotency_records")


async def _reads(world: World) -> dict[str, tuple[int, int]]:
    """By hot table: sequential scans so far, and index entries read so far."""
    await world.engine.pool.execute("SELECT pg_stat_force_next_flush()")
    rows = await world.engine.pool.fetch(
        "SELECT t.relname, t.seq_scan, coalesce(sum(i.idx_tup_read), 0)::bigint FROM pg_stat_user_tables t "
        "LEFT JOIN pg_stat_user_indexes i ON i.relid = t.relid WHERE t.relname = ANY ($1) GROUP BY 1, 2",
        list(HOT),
    )
    return {name: (scans, entries) for name, scans, entries in rows}


async def _approve(world: World, instances: list[str]) -> None:
    async def one(instance_id: str) -> None:
        for name, order in (
            ("ada", FireTrigger("submit")),
            ("grace", RecordDecision("approve")),
            ("edsger", RecordDecision("approve")),
        ):
            answer = await world.do(instance_id, name, order)
            assert isinstance(answer, Accepted), answer

    await asyncio.gather(*(one(instance_id) for instance_id in instances))


async def test_batches_stay_on_their_indexes_when_the_tables_grow(make_world: Callable[..., Awaitable[World]]) -> None:
    """
    Statements prepared on empty tables, then 20,000 waiting instances loaded without ANALYZE: once the rule about growth
    has had its moment in the same connections, a batch reads its own rows by index and no hot table from end to end.
    """
    world = await make_world()
    await people_of_expenses(world)
    definition = await world.publish(example("expense_report"))

    async def start(count: int) -> list[str]:
        return [(await world.start(definition, data=EXPENSE)).instance.id for _ in range(count)]

    await _approve(world, await start(10))
    source = (await start(1))[0]
    assert isinstance(await world.do(source, "ada", FireTrigger("submit")), Accepted)
    async with world.engine.pool.acquire() as connection:
        await clone_rows(connection, source, 20_000)
    instances = await start(40)
    await asyncio.sleep(1.1)  # the tables are looked at once a second while they are young; there is no signal for it
    await _approve(world, instances[:8])
    before = await _reads(world)
    await _approve(world, instances[8:])
    after: dict[str, Any] = await _reads(world)
    for table in HOT:
        assert after[table][0] == before[table][0], f"{table} was read from end to end"
        entries = after[table][1] - before[table][1]
        assert entries < 32 * 3 * 60, f"{entries} index entries of {table} were read for 96 transitions"
