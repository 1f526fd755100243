"""Timers fire: due jobs are claimed in batches and become commands like any other.

A claim is a lease with a fencing token. The command that fires the timer drops its job in the same commit; a node that
dies between the two lets the lease lapse, and another one fires it. Whether the timer still stands is decided by the
instance alone, under its revision, so a timer claimed twice still fires once.

A claim begins at a watermark that stays behind the last claim by longer than a writing statement may take, so that no
late commit is missed; once a minute it begins at the beginning, for lapsed leases and back-dated jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import asyncpg
import structlog
from msgspec import Struct

from pliers_workflow.interpreter.commands import Actor, Command, FireTimer
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.storage import queries

from .answers import Accepted, Answer, EngineError, NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pliers_workflow.settings import Settings

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("jobs")

#: Attempts after which a timer that cannot be fired is left dead, for an operator.
_ATTEMPTS_MAX: Final = 12
_FULL_SWEEP_EVERY: Final = 60.0
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
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
        self._swept_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        #: counted since the start
        self.fired = 0

    async def start(self) -> None:
        """Begin to look for due timers."""
        self._task = asyncio.create_task(self._run(), name="timer-dispatcher")

    async def close(self) -> None:
        """Stop claiming; what is claimed and not fired lapses and is fired elsewhere."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def wake(self) -> None:
        """Look now: a clock was moved, or something due soon was scheduled."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            pause = self._settings.timer_poll
            try:
                while await self.fire_due():
                    pass
                pause = min(pause, max(0.005, await self._next_due()))
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                _log.warning("timers_wait_for_database", error=repr(error))
            except Exception:
                _log.exception("timers_failed")
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)

    async def fire_due(self) -> int:
        """Fire what is due now, one claim for each tenant in turn; how many were claimed."""
        began_at = datetime.now(UTC)
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
                    claimed.append((tenant_id, [_Claimed(*row) for row in rows]))
        full = any(len(timers) >= self._settings.timer_batch_size for _, timers in claimed)
        if not full:
            self._low = min(began_at, datetime.now(UTC)) - self._margin
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
            seconds = await connection.fetchval(_sql.next_due)
        return self._settings.timer_poll if seconds is None else float(seconds)
