"""Upkeep that one node does for all: partitions made ahead, what is old swept, interrupted starts and events finished.

The node that holds the lease `housekeeping` does it; when it dies, the lease lapses and another takes over. Every piece of
work is safe to be done twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from pliers_workflow.storage import leases, partitions, queries

from ..failures import DATABASE_AWAY, set_apart

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..event_sources import Rejects
    from ..inbound.inbox import Inbox
    from ..plugins.registry import PluginRegistry
    from ..submissions import Submissions

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("upkeep")

_LEASE: Final = "housekeeping"
_LEASE_SECONDS: Final = 30.0
_TICK: Final = 5.0
_HOURLY: Final = 3600.0
#: Seconds until partitions are tried again that could not be made, as where a long transaction was in the way.
_AFTER_FAILURE: Final = 300.0
#: Expired keys forgotten by one statement, and statements in a round: far more than requests can bring in that time.
_SWEEP_SIZE: Final = 5_000
_SWEEPS_MAX: Final = 20


class Housekeeping:
    """Does the upkeep while it holds the lease."""

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        submissions: Submissions,
        inbox: Inbox,
        plugins: PluginRegistry,
        rejects: Rejects,
        *,
        owner: str,
    ) -> None:
        self._pool = pool
        self._submissions = submissions
        self._inbox = inbox
        self._plugins = plugins
        self._rejects = rejects
        self._owner = owner
        self._task: asyncio.Task[None] | None = None
        self._hourly_at = float("-inf")

    async def start(self) -> None:
        """Begin; the first round comes at once, so that this month's partition is there."""
        self._task = asyncio.create_task(self._run(), name="housekeeping")

    async def close(self) -> None:
        """Stop, and give the lease back."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        with contextlib.suppress(*DATABASE_AWAY):
            async with self._pool.acquire() as connection:
                await leases.release(connection, _LEASE, self._owner)

    async def _run(self) -> None:
        while True:
            try:
                await self.tick()
            except DATABASE_AWAY as error:
                _log.warning("housekeeping_waits_for_database", error=repr(error))
            except Exception:
                _log.exception("housekeeping_failed")
            await asyncio.sleep(_TICK)

    async def tick(self) -> bool:
        """One round, if the lease is ours; whether it was. What fails of it keeps nothing else from being done."""
        async with self._pool.acquire() as connection:
            if await leases.acquire(connection, _LEASE, self._owner, seconds=_LEASE_SECONDS) is None:
                return False
        sweeps: tuple[Callable[[], Awaitable[object]], ...] = (
            self._forget_keys, self._submissions.run_pending_starts, self._inbox.sweep, self._rejects.sweep,
        )  # fmt: skip
        if time.monotonic() >= self._hourly_at:
            self._hourly_at = time.monotonic() + _HOURLY
            sweeps = (self._keep_partitions, self._plugins.keep, *sweeps)
        for sweep in sweeps:
            with set_apart(sweep.__qualname__):
                await sweep()
        return True

    async def _keep_partitions(self) -> None:
        """
        Make partitions ahead; where that cannot be done, again in some minutes.

        A backup in the way may take hours: whoever waits for its lock makes all writers wait, so that is not done often,
        and nothing else that is to be done here waits for it.
        """
        try:
            async with self._pool.acquire() as connection:
                await partitions.keep_partitions(connection, datetime.now(UTC))
        except BaseException as error:
            self._hourly_at = time.monotonic() + _AFTER_FAILURE
            if not isinstance(error, asyncpg.LockNotAvailableError):
                raise
            _log.warning("partitions_wait_for_lock", again_in=_AFTER_FAILURE)

    async def _forget_keys(self) -> None:
        for _ in range(_SWEEPS_MAX):
            if await self._pool.execute(_sql.sweep_idempotency, _SWEEP_SIZE) != f"DELETE {_SWEEP_SIZE}":
                break
