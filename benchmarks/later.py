"""What happens later: steps through the job table, and many timers that are due at the same moment.

Steps are held against the raw statements: the same claim and the same delete, on as many rows, with nothing in between. The
timers are those of instances that wait in a state with a timeout; while they fire, a hundred transitions a second go on being
asked for in the same process, and their latency is held against that before anything was due.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pliers_workflow.plugins import plugin
from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.answers import Accepted
from pliers_workflow.runtime.commit.collector import settle_collector
from pliers_workflow.runtime.commit.queue import ABOUT
from pliers_workflow.runtime.engine import Engine, open_engine
from pliers_workflow.runtime.plugins.discovery import Found, Installed
from pliers_workflow.runtime.rows import DefinitionRow
from pliers_workflow.settings import Settings
from pliers_workflow.storage import queries
from pliers_workflow.storage.database import after_bulk_load

from .in_process import clone_rows
from .workload import Cast, one_workflow, prepare

_steps: Final = queries.load("steps")

#: The steps of an instance; instances for each second of the measurement; how many are begun at the same time.
STEPS_EACH: Final = 10
_INSTANCES_PER_SECOND: Final = 750
_AT_ONCE: Final = 64
#: Rows of the raw statements, and of one claim.
_RAW_ROWS: Final = 20_000
_RAW_BATCH: Final = 64
#: Transitions a second beside the timers.
_PACE: Final = 100
#: Seconds of pace before the timers are due.
_BEFORE: Final = 6.0


@plugin("bench.nothing", title="Nothing", version="1.0.0")
async def nothing() -> None:
    """Does nothing, so that only its way there and back is measured."""


def _document(name: str, states: dict[str, Any], transitions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1.0.0",
        "title": name,
        "stateMachine": {
            "initialState": "busy",
            "states": {**states, "done": {"type": "final"}},
            "transitions": transitions,
        },
    }


async def open_node(dsn: str) -> Engine:
    """A node at work, with a plugin that does nothing."""
    settings = Settings()
    settings.database.url = dsn
    engine = await open_engine(settings, Installed(ready={nothing.id: Found(nothing, "", "")}))
    await engine.start()
    settle_collector()  # as `pliers serve` does
    return engine


async def _publish(engine: Engine, document: dict[str, Any]) -> tuple[Principal, DefinitionRow]:
    row = await engine.directory.user_by_name("default", "admin")
    assert row is not None
    admin = Principal("default", row.id, "admin", frozenset({"admin"}))
    created = await engine.catalog.create(admin, document)
    assert isinstance(created, DefinitionRow), created
    published = await engine.catalog.publish(admin, created.id)
    assert isinstance(published, DefinitionRow), published
    return admin, published


# -- steps -------------------------------------------------------------------------------------------------------------


@dataclass
class Steps:
    """Steps a second: through the engine, and as raw claims and deletes."""

    engine: float
    raw: float

    @property
    def over_raw(self) -> float:
        return self.engine / self.raw


async def publish_steps(engine: Engine) -> tuple[Principal, DefinitionRow]:
    """A workflow of steps one after another that do nothing; an administrator, who may start it, and its version."""
    step = {"type": "plugin", "pluginId": nothing.id}
    return await _publish(
        engine,
        _document(
            "bench_steps",
            {"busy": {"properties": {"steps": [{**step, "id": f"s{n}"} for n in range(STEPS_EACH)]}}},
            [{"from": "busy", "to": "done"}],
        ),
    )


async def steps(dsn: str, *, seconds: float) -> Steps:
    """Instances with steps one after another, each done by a worker of this process that has nothing else to do."""
    engine = await open_node(dsn)
    try:
        await prepare(engine)
        admin, definition = await publish_steps(engine)
        # More than are done in the time, begun before it: nobody asks for anything meanwhile.
        starting = asyncio.Semaphore(_AT_ONCE)

        async def begin() -> None:
            async with starting:
                answer = await engine.start_instance(admin, definition, data={})
                assert isinstance(answer, Accepted), answer

        await asyncio.gather(*(begin() for _ in range(int(seconds * _INSTANCES_PER_SECOND))))
        await after_bulk_load(engine.pool)
        await asyncio.sleep(ABOUT)
        began, before = time.perf_counter(), engine.step_worker.completed
        await asyncio.sleep(seconds)
        rate = (engine.step_worker.completed - before) / (time.perf_counter() - began)
        if not await engine.readers.fetchval(_LEFT, "step"):
            raise SystemExit("the steps were all done before the time was up")
    finally:
        await engine.close()
    return Steps(rate, await _raw(dsn))


async def _raw(dsn: str) -> float:
    """Rows a second that one connection claims in batches and deletes, with the engine's own statements."""
    engine = await open_node(dsn)
    await engine.step_worker.close()  # nobody else takes them
    try:
        async with engine.pool.acquire() as connection:
            await connection.execute(
                "INSERT INTO workflow_jobs (tenant_id, id, workflow_instance_id, kind, name, due_at, queue, definition_name,"
                " payload) SELECT 'default', gen_random_uuid(), gen_random_uuid(), 'step', 'step/1', now(), 'bench:raw',"
                " 'bench_raw', '{}' FROM generate_series(1, $1::int)",
                _RAW_ROWS,
            )
            await after_bulk_load(engine.pool)
            low, low_id = datetime(1970, 1, 1, tzinfo=UTC), "00000000-0000-0000-0000-000000000000"
            done, began = 0, time.perf_counter()
            while True:
                rows = await connection.fetch(
                    _steps.claim, "default", ["bench:raw"], ["bench_raw"], [0], [low], [low_id], [_RAW_BATCH], "bench",
                    timedelta(seconds=30),
                )  # fmt: skip
                if not rows:
                    return done / (time.perf_counter() - began)
                await connection.execute(
                    _steps.drop_claimed, "default", [row["id"] for row in rows], [row["token"] for row in rows]
                )
                done += len(rows)
                last = max(rows, key=lambda row: (row["due_at"], row["id"]))
                low, low_id = last["due_at"], last["id"]
    finally:
        await engine.close()


# -- timers ------------------------------------------------------------------------------------------------------------


@dataclass
class Timers:
    """Timers that were due at once. Seconds and milliseconds."""

    count: int
    seconds: float
    #: seconds after they were due, of half of them and of 99 in a hundred
    late_p50: float
    late_p99: float
    #: milliseconds of a transition, before anything was due and meanwhile
    before: list[float] = field(default_factory=list)
    meanwhile: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.count / self.seconds


async def timers(dsn: str, *, count: int) -> Timers:
    """`count` instances whose timers are due at one moment, fired by one node that answers people meanwhile."""
    engine = await open_node(dsn)
    try:
        cast = await prepare(engine)
        # Cloning takes a minute for a hundred thousand; they must all be there when the moment comes.
        minutes = 1 + count / 75_000
        admin, definition = await _publish(
            engine,
            _document(
                "bench_timers",
                {"busy": {"timeouts": [{"id": "over", "afterMinutes": minutes, "trigger": "over"}]}},
                [{"from": "busy", "to": "done", "trigger": "over"}],
            ),
        )
        answer = await engine.start_instance(admin, definition, data={})
        assert isinstance(answer, Accepted), answer
        source, due_at = answer.instance.id, answer.instance.last_activity_at + timedelta(minutes=minutes)
        async with engine.pool.acquire() as connection:
            copies = await clone_rows(connection, source, count - 1, jobs=True)
        await after_bulk_load(engine.pool)
        left = (due_at - datetime.now(UTC)).total_seconds() - _BEFORE
        if left < 0:
            raise SystemExit(f"{count:,} instances could not be made before their timers were due; use fewer")
        await asyncio.sleep(left)
        before, meanwhile = await _beside(engine, cast, due_at)
        ids = [source, *copies]
        seconds, p50, p99 = await _lateness(engine, ids, due_at)
    finally:
        await engine.close()
    return Timers(count, seconds, p50, p99, before, meanwhile)


async def _beside(engine: Engine, cast: Cast, due_at: datetime) -> tuple[list[float], list[float]]:
    """Ask for transitions at a steady pace until no timer is left; their times before and from `due_at` on."""
    before: list[float] = []
    meanwhile: list[float] = []
    tasks: set[asyncio.Task[None]] = set()
    tick, number, began = 4 / _PACE, 0, time.perf_counter()
    while True:
        now_due = datetime.now(UTC) >= due_at
        task = asyncio.create_task(one_workflow(engine, cast, meanwhile if now_due else before, time.perf_counter))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
        if now_due and number % 25 == 0 and not await engine.readers.fetchval(_LEFT, "timer"):
            break
        await asyncio.sleep(max(0.0, began + number * tick - time.perf_counter()))
    await asyncio.gather(*tasks)
    return before, meanwhile


_LEFT: Final = "SELECT EXISTS (SELECT FROM workflow_jobs WHERE tenant_id = 'default' AND kind = $1)"


async def _lateness(engine: Engine, ids: Sequence[str], due_at: datetime) -> tuple[float, float, float]:
    rows = await engine.readers.fetch(
        "SELECT extract(epoch FROM h.executed_at - $2)::float8 FROM workflow_execution_history h"
        " WHERE h.tenant_id = 'default' AND h.workflow_instance_id = ANY ($1::text[]::uuid[]) AND h.seq = 2",
        ids,
        due_at,
        timeout=120,
    )
    late = sorted(row[0] for row in rows)
    if len(late) != len(ids):
        raise SystemExit(f"{len(ids) - len(late):,} timers of {len(ids):,} have not fired")
    return late[-1], late[len(late) // 2], late[int(len(late) * 0.99)]


def quantile(latencies: Sequence[float], share: float) -> float:
    """In milliseconds; of none 0."""
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0
