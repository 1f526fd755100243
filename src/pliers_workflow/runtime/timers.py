"""Timers fire: due jobs are claimed in batches and become commands like any other.

A claim is a lease with a fencing token. The command that fires the timer drops its job in the same commit; a node that
dies between the two lets the lease lapse, and another one fires it. Whether the timer still stands is decided by the
instance alone, under its revision, so a timer claimed twice still fires once.

The dispatcher sleeps until the next timer is due, and is woken when one is scheduled that is due before (`wakeups`).

A claim begins at a watermark that stays behind the last claim by longer than a writing statement may take, so that no
late commit is missed; once a minute it begins at the beginning, for lapsed leases and back-dated jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import asyncpg
import structlog
from msgspec import Struct

from pliers_workflow.interpreter.commands import Actor, Command, FireTimer
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.storage import queries

from .answers import Accepted, Answer, EngineError, InstanceTooNew, NotFound, ShuttingDown
from .failures import DATABASE_AWAY
from .wakeups import Slumber

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pliers_workflow.settings import Settings

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("jobs")

#: Attempts after which a timer that cannot be fired is left dead, for an operator.
_ATTEMPTS_MAX: Final = 12
_FULL_SWEEP_EVERY: Final = 60.0
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Seconds between two looks, however often it is woken: timers that are due one after another are claimed together.
_PAUSE: Final = 0.005
#: Seconds that the firing of what is claimed may take when the node stops.
_DRAIN_TIMEOUT: Final = 5.0
_ENGINE: Final = Actor()
#: Refusals that mean that there is nothing to fire any more.
_GONE: Final = frozenset({Reason.TIMER_GONE, Reason.INSTANCE_ENDED})


class _Claimed(Struct, frozen=True):
    id: str
    instance_id: str
    name: str
    due_at: datetime
    token: int
    attempt: int


class TimerDispatcher:
    """Claims due timers and fires them. Every node runs one; they share the work by `SKIP LOCKED`."""

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        execute: Callable[[str, str, Command], Awaitable[Answer]],
        settings: Settings,
        *,
        owner: str,
    ) -> None:
        self._pool = pool
        self._execute = execute
        self._settings = settings.execution
        self._margin = timedelta(seconds=settings.database.query_timeout + 5)
        self._owner = owner
        self._low = _BEGINNING
        #: the database's clock when it was last asked; a node's own may be wrong
        self._looked_at = _BEGINNING
        self._swept_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._slumber = Slumber()
        self._closing = False
        #: claimed and not settled yet: (tenant, job) -> fencing token
        self._held: dict[tuple[str, str], int] = {}
        #: counted since the start
        self.fired = 0

    async def start(self) -> None:
        """Begin to look for due timers."""
        self._task = asyncio.create_task(self._run(), name="timer-dispatcher")

    async def close(self, *, grace: float = _DRAIN_TIMEOUT) -> None:
        """Claim nothing more; fire what is claimed, and give back what cannot be fired within `grace` seconds."""
        task, self._task = self._task, None
        if task is None:
            return
        self._closing = True
        self._slumber.wake()
        await asyncio.wait({task}, timeout=grace)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        held: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        for (tenant_id, job_id), token in self._held.items():
            held[tenant_id].append((job_id, token))
        with contextlib.suppress(*DATABASE_AWAY):
            for tenant_id, jobs in held.items():
                await self._pool.execute(
                    _sql.give_back, tenant_id, [job for job, _ in jobs], [token for _, token in jobs], timeout=5
                )

    def wake(self, delay: float = 0.0) -> None:
        """In `delay` seconds something is due: a timer was scheduled, or a clock was moved."""
        self._slumber.wake(delay)

    async def _run(self) -> None:
        while not self._closing:
            pause = self._settings.timer_poll
            try:
                while not self._closing and await self.fire_due():
                    pass
                pause = min(pause, await self._next_due())
            except DATABASE_AWAY as error:
                _log.warning("timers_wait_for_database", error=repr(error))
            except Exception:
                _log.exception("timers_failed")
            if not self._closing:
                await asyncio.sleep(_PAUSE)
                await self._slumber.sleep(max(0.0, pause - _PAUSE))

    async def fire_due(self) -> int:
        """Fire what is due now, one claim for each tenant in turn; how many were claimed."""
        looked_at = self._looked_at
        if time.monotonic() - self._swept_at >= _FULL_SWEEP_EVERY:
            low, self._swept_at = _BEGINNING, time.monotonic()
        else:
            low = self._low
        claimed: list[tuple[str, list[_Claimed]]] = []
        async with self._pool.acquire() as connection:
            for (tenant_id,) in await connection.fetch(_sql.tenants_with_due, low):
                rows = await connection.fetch(
                    _sql.claim_due_timers, tenant_id, low, self._settings.timer_batch_size, self._owner,
                    timedelta(seconds=self._settings.timer_lease),
                )  # fmt: skip
                if rows:
                    timers = [_Claimed(*row) for row in rows]
                    claimed.append((tenant_id, timers))
                    self._held.update({(tenant_id, timer.id): timer.token for timer in timers})
        full = any(len(timers) >= self._settings.timer_batch_size for _, timers in claimed)
        if not full:
            self._low = looked_at - self._margin
        await asyncio.gather(*(self._fire(tenant_id, timers) for tenant_id, timers in claimed))
        return sum(len(timers) for _, timers in claimed)

    async def sweep(self) -> int:
        """Fire what is due, looking from the beginning."""
        self._swept_at = float("-inf")
        return await self.fire_due()

    async def _fire(self, tenant_id: str, timers: list[_Claimed]) -> None:
        commands = [Command(id=f"timer:{timer.id}:{timer.token}:{uuid4().hex[:8]}", actor=_ENGINE, order=FireTimer(timer.name))
                    for timer in timers]  # fmt: skip
        answers = await asyncio.gather(
            *(
                self._execute(tenant_id, timer.instance_id, command)
                for timer, command in zip(timers, commands, strict=True)
            ),
            return_exceptions=True,
        )
        gone: list[_Claimed] = []
        failed: list[tuple[_Claimed, str]] = []
        for timer, answer in zip(timers, answers, strict=True):
            if isinstance(answer, ShuttingDown | InstanceTooNew):
                continue  # another node will do it: the lease lapses, or is given back when the dispatcher closes
            self._held.pop((tenant_id, timer.id), None)
            if isinstance(answer, Accepted):
                self.fired += 1
            elif isinstance(answer, NotFound) or (isinstance(answer, Rejection) and answer.reason in _GONE):
                gone.append(timer)
            elif isinstance(answer, Rejection):
                if answer.reason is not Reason.SUSPENDED:  # suspending has paused the job already
                    failed.append((timer, answer.message))
            elif isinstance(answer, EngineError):
                failed.append((timer, str(answer)))
            elif isinstance(answer, BaseException):
                raise answer
        if not gone and not failed:
            return
        async with self._pool.acquire() as connection:
            if gone:
                await connection.execute(_sql.drop_claimed, tenant_id, [t.id for t in gone], [t.token for t in gone])
            if failed:
                await connection.execute(
                    _sql.put_back, tenant_id, [t.id for t, _ in failed], [t.token for t, _ in failed],
                    [error for _, error in failed], _ATTEMPTS_MAX,
                )  # fmt: skip

    async def _next_due(self) -> float:
        async with self._pool.acquire() as connection:
            row = await connection.fetchrow(_sql.next_due)
        assert row is not None, "an aggregate has a row"
        self._looked_at, seconds = row["now"], row["seconds"]
        return self._settings.timer_poll if seconds is None else float(seconds)
