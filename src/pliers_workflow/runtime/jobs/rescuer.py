"""Give back the work of workers that fell silent.

A step worker holds a lease and renews it. When a lease lapses we cannot know whether the step ran, so the rescuer never
completes anything: it records that the attempt was lost and lets the step's retry policy decide. A connector that must
not run twice therefore needs an idempotency key; ours is the attempt id. Two rescuers may run: each lapsed attempt is
failed once, because the second finds the step at another attempt.

Leases are in no index, or every claim and heartbeat would write one. But claims go in the order of a lane, so what has a
lease stands at its beginning, and the rescuer reads lanes from there until it finds a page that nobody has claimed from.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from msgspec import Struct

from pliers_workflow.interpreter.commands import FailStep, Trace
from pliers_workflow.storage import leases, queries

from .. import tracing
from ..answers import EngineError
from ..failures import DATABASE_AWAY
from .lanes import LaneKey
from .service import BEGINNING, LOWEST_ID
from .settling import Execute, Settled, settle

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.settings import Settings

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("steps")
_limits_sql: Final = queries.load("limits")

_LEASE: Final = "rescuer"
#: The lease lasts for so many rounds.
_ROUNDS: Final = 6
_PAGE: Final = 500
#: Attempts that are failed at once.
_TOGETHER: Final = 64

#: The code of an attempt that was lost with its worker.
LEASE_LAPSED: Final = "LEASE_LAPSED"


class _Lapsed(Struct, frozen=True):
    tenant_id: str
    id: str
    instance_id: str
    name: str
    token: int
    attempt: int
    trace: Any = None


class LeaseRescuer:
    """See the module. Every worker node has one; the one that holds the service lease works."""

    def __init__(self, pool: asyncpg.Pool[Any], execute: Execute, settings: Settings, *, owner: str) -> None:
        self._pool = pool
        self._execute = execute
        self._every = settings.steps.rescue_every
        self._owner = owner
        self._task: asyncio.Task[None] | None = None
        #: counted since the start
        self.rescued = 0

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="lease-rescuer")

    async def close(self) -> None:
        """Stop, and give the lease back."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(*DATABASE_AWAY):
            async with self._pool.acquire(timeout=5) as connection:
                await leases.release(connection, _LEASE, self._owner)

    async def _run(self) -> None:
        while True:
            try:
                async with self._pool.acquire() as connection:
                    token = await leases.acquire(connection, _LEASE, self._owner, seconds=self._every * _ROUNDS)
                if token is not None:
                    await self.rescue()
            except DATABASE_AWAY as error:
                _log.warning("rescuer_waits_for_database", error=repr(error))
            except Exception:
                _log.exception("rescuer_failed")
            await asyncio.sleep(self._every)

    async def rescue(self) -> int:
        """Fail every attempt whose lease has lapsed; how many those were. Safe to be run by several at once."""
        waiting: set[asyncio.Task[bool]] = set()
        rescued = 0
        async for lapsed in self._lapsed():
            waiting.add(asyncio.create_task(self._fail(lapsed)))
            if len(waiting) >= _TOGETHER:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                rescued += sum(task.result() for task in done)
        if waiting:
            rescued += sum(await asyncio.gather(*waiting))
        await self._pool.execute(_limits_sql.sweep)
        self.rescued += rescued
        return rescued

    async def _lapsed(self) -> AsyncIterator[_Lapsed]:
        for row in await self._pool.fetch(_sql.all_lanes):
            lane = LaneKey(*row)
            due_at, job_id = BEGINNING, LOWEST_ID
            while True:
                page = await self._pool.fetchrow(
                    _sql.leased, lane.tenant_id, lane.queue, lane.definition, lane.priority, due_at, job_id, _PAGE
                )
                assert page is not None, "an aggregate has a row"
                for found in page["lapsed"] or ():
                    yield _Lapsed(lane.tenant_id, **found)
                if page["leased"] == 0 or page["seen"] < _PAGE:
                    break
                due_at, job_id = page["last_due_at"], page["last_id"]

    async def _fail(self, lapsed: _Lapsed) -> bool:
        failure = FailStep(
            lapsed.name, lapsed.attempt, LEASE_LAPSED,
            "The worker fell silent before it said what came of the step; whether it ran is not known.",
        )  # fmt: skip
        try:
            tracing.adopt(None if lapsed.trace is None else msgspec.convert(lapsed.trace, Trace))
            settled = await settle(self._execute, lapsed.tenant_id, lapsed.instance_id, failure)
        except (EngineError, *DATABASE_AWAY) as error:
            _log.warning("rescue_left_for_later", step=lapsed.name, instance=lapsed.instance_id, error=repr(error))
            return False  # the next round finds it again
        except Exception:  # a defect of ours, or a row that cannot be read: in the way of no other
            _log.exception("rescue_failed", step=lapsed.name, instance=lapsed.instance_id)
            return False
        if settled is Settled.GONE:
            # Nobody waits for it; unless it was begun anew meanwhile, under another token.
            await self._pool.execute(_sql.drop_claimed, lapsed.tenant_id, [lapsed.id], [lapsed.token])
            return False
        _log.info("step_rescued", step=lapsed.name, instance=lapsed.instance_id, attempt=lapsed.attempt)
        return True
