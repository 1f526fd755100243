"""Transitions per second with the engine in the callers' process, and what 100,000 waiting instances do to that."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from dataclasses import dataclass
from typing import Any

import asyncpg

from pliers_workflow.interpreter.commands import Actor, Command, FireTrigger
from pliers_workflow.runtime.answers import Accepted
from pliers_workflow.runtime.commit.collector import settle_collector
from pliers_workflow.runtime.engine import Engine, open_engine
from pliers_workflow.settings import Settings
from pliers_workflow.storage.database import after_bulk_load

from .workload import DATA, TRANSITIONS, Cast, one_workflow, prepare


@dataclass
class Load:
    """What one load came to. Rates in transitions per second, times in milliseconds."""

    callers: int
    transitions: int
    seconds: float
    latencies: list[float]
    cpu_seconds: float
    wal_bytes: int

    @property
    def rate(self) -> float:
        return self.transitions / self.seconds

    def quantile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0

    @property
    def cpu_us(self) -> float:
        """Python's CPU time for each transition, callers included, in microseconds."""
        return self.cpu_seconds / max(1, self.transitions) * 1e6

    @property
    def wal_kib(self) -> float:
        """WAL for each workflow, in KiB."""
        return self.wal_bytes / max(1, self.transitions / TRANSITIONS) / 1024


async def wal_position(dsn: str) -> int:
    """Bytes of WAL written so far."""
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"))
    finally:
        await connection.close()


async def checkpoint(dsn: str) -> None:
    """So that full-page images fall alike on everything that is measured."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def load(engine: Engine, cast: Cast, dsn: str, *, callers: int, seconds: float) -> Load:
    """Callers in a closed loop without think time, each running whole workflows."""
    latencies: list[float] = []
    clock = time.perf_counter

    async def caller(until: float) -> None:
        while clock() < until:
            await one_workflow(engine, cast, latencies, clock)

    # A database in use has statistics and plans made for its size; one that is a second old has neither.
    await asyncio.gather(*(caller(clock() + 0.5) for _ in range(callers)))
    await after_bulk_load(engine.pool)
    await asyncio.gather(*(caller(clock() + 0.3) for _ in range(callers)))
    latencies.clear()
    gc.collect()
    await checkpoint(dsn)
    wal = await wal_position(dsn)
    cpu, began = time.process_time(), clock()
    await asyncio.gather(*(caller(began + seconds) for _ in range(callers)))
    elapsed, cpu = clock() - began, time.process_time() - cpu
    return Load(callers, len(latencies), elapsed, list(latencies), cpu, await wal_position(dsn) - wal)


async def open_settled(dsn: str) -> Engine:
    """An engine on this database, at work, without services."""
    settings = Settings()
    settings.database.url = dsn
    engine = await open_engine(settings)
    await engine.start(services=False)
    settle_collector()  # as `pliers serve` does
    return engine


async def run(dsn: str, *, seconds: float, callers: tuple[int, ...] = (1, 16, 64)) -> dict[str, Load]:
    """The loads by name."""
    loads: dict[str, Load] = {}
    engine = await open_settled(dsn)
    try:
        cast = await prepare(engine)
        for count in callers:
            loads[f"in_process_{count}"] = await load(engine, cast, dsn, callers=count, seconds=seconds)
        with_clocks = await prepare(engine, clocks=True)
        loads["in_process_64_clocks"] = await load(engine, with_clocks, dsn, callers=64, seconds=seconds)
    finally:
        await engine.close()
    return loads


async def waiting(dsn: str, *, seconds: float, count: int) -> tuple[Load, Load, float, float]:
    """
    The load at 16 callers before and after `count` instances wait for a manager.

    Also: the process's memory that one waiting instance costs, in bytes, and the inbox of that manager, in milliseconds.
    """
    engine = await open_settled(dsn)
    try:
        cast = await prepare(engine)
        before = await load(engine, cast, dsn, callers=16, seconds=seconds)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        await _clone_waiting(engine, cast, count)
        after = await load(engine, cast, dsn, callers=16, seconds=seconds)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - memory
        inbox = await _inbox_ms(engine, cast)
    finally:
        await engine.close()
    return before, after, grown / count, inbox


async def _inbox_ms(engine: Engine, cast: Cast) -> float:
    from pliers_workflow.storage import read_model

    viewer = read_model.Viewer("default", cast.manager.user_id, roles=(), groups=(), sees_all=False)
    times = []
    for _ in range(50):
        began = time.perf_counter()
        page = await read_model.inbox(engine.readers, viewer, cast.manager.user_id, limit=20)
        times.append(time.perf_counter() - began)
        assert len(page.items) == 20
    return sorted(times)[len(times) // 2] * 1000


async def _clone_waiting(engine: Engine, cast: Cast, count: int) -> None:
    """One instance is brought to the manager by commands, and its rows are copied set-based."""
    answer = await engine.start_instance(cast.requester, cast.definition, data=DATA)
    assert isinstance(answer, Accepted)
    source = answer.instance.id
    submitted = await engine.execute(
        "default", source, Command("clone", Actor(cast.requester.user_id), FireTrigger("submit"))
    )
    assert isinstance(submitted, Accepted)
    async with engine.pool.acquire() as connection:
        await clone_rows(connection, source, count)
    await after_bulk_load(engine.pool)


async def clone_rows(connection: Any, source: str, count: int, *, jobs: bool = False) -> list[str]:
    """Copy an instance `count` times: its row, its history, its work items, and its jobs; the copies' ids."""
    await connection.execute("SET statement_timeout = 0")
    for table, key in (
        ("workflow_instances", "id"),
        ("workflow_execution_history", "workflow_instance_id"),
        ("workflow_approvals", "workflow_instance_id"),
        *([("workflow_jobs", "workflow_instance_id")] if jobs else []),
    ):
        await connection.execute(await _clone_sql(connection, table, key), source, count)
    await connection.execute("SET statement_timeout = 10000")
    return [f"{source[:24]}{number << 16:012x}" for number in range(1, count + 1)]


async def _clone_sql(connection: Any, table: str, key: str) -> str:
    rows = await connection.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_name = $1 AND is_generated = 'NEVER' "
        "ORDER BY ordinal_position",
        table,
    )
    names = [row["column_name"] for row in rows]
    # A copy's id is the source's with its last 48 bits counted up in steps of 65,536. The ids of an instance's rows are its
    # own with something mixed into these bits (`storage.identity`), which the copies' rows have, too.
    mixed = "(('x' || right(s.id::text, 12))::bit(48)::bigint # ('x' || right($1::uuid::text, 12))::bit(48)::bigint)"
    copy = "(left($1::uuid::text, 24) || lpad(to_hex(n::bigint << 16), 12, '0'))::uuid"
    row = f"(left(s.id::text, 24) || lpad(to_hex((n::bigint << 16) # {mixed}), 12, '0'))::uuid"
    values = ", ".join(
        copy
        if name == key
        else row
        if name == "id"
        else "nextval('workflow_history_position')"
        if name == "position"
        else f"s.{name}"
        for name in names
    )
    columns = ", ".join(names)
    return f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table} s, generate_series(1, $2::int) n WHERE s.{key} = $1::uuid"
