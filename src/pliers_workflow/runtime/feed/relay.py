"""The relay moves the log's horizon: up to it the log is complete, and nothing will ever appear there any more.

A position is taken from a sequence before its row is committed, so a row with a smaller position may become visible after
one with a greater. Readers that simply went on from the greatest position they saw would skip it. But every writing
statement first announces its transaction by a shared advisory lock, and takes positions after that. So the relay reads
the sequence, then looks who holds the lock, and waits until those transactions are over: whoever took a position at or
below that number is among them or has ended before. That number is the new horizon. Writers that come later have greater
positions and are not waited for; nobody waits for the relay.

Being overtaken is harmless: whatever two relays find is true, and the horizon never goes back. One at a time does it, under
a lease, because one is enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from pliers_workflow.storage import leases, queries

from ..failures import DATABASE_AWAY
from ..nodes.services import stop
from ..nodes.wakeups import Slumber

if TYPE_CHECKING:
    from collections.abc import Callable

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("feed")
LOST: Final = DATABASE_AWAY

_LEASE: Final = "relay"
_LEASE_SECONDS: Final = 10.0
_RENEW_EVERY: Final = 3.0
#: how often `moved_at` is brought up to date where the log does not grow: its age is what health watches
_TOUCH_EVERY: Final = 5.0
#: seconds between two moves, however busy the log. A move is four statements and a commit of its own: made after every
#: batch, it cost as much of PostgreSQL as a transition does, and took a quarter off the rate of 16 callers over HTTP.
_REST: Final = 0.05
#: seconds between two looks at the writers that are waited for; a batch takes some milliseconds
_LOOK_MIN: Final = 0.001
_LOOK_MAX: Final = 0.05


class Relay:
    """See the module. Every node has one; the one that holds the lease works."""

    def __init__(
        self, pool: asyncpg.Pool[Any], *, owner: str, poll: float, moved: Callable[[], None] = lambda: None
    ) -> None:
        self._pool = pool
        self._owner = owner
        self._poll = poll
        #: called when the horizon has moved
        self._moved = moved
        self._slumber = Slumber()
        self._task: asyncio.Task[None] | None = None
        self._renewed_at = float("-inf")
        self._touched_at = float("-inf")
        self._horizon = -1

    @property
    def leads(self) -> bool:
        """Whether this node moves the horizon now."""
        return time.monotonic() - self._renewed_at < _LEASE_SECONDS

    async def start(self) -> None:
        """Begin; moves the horizon as soon as the lease is had."""
        self._task = asyncio.create_task(self._run(), name="relay")

    async def close(self) -> None:
        """Stop, and give the lease back."""
        if self._task is None:
            return
        await stop(self._task)
        self._task = None
        with contextlib.suppress(*LOST):
            async with self._pool.acquire() as connection:
                await leases.release(connection, _LEASE, self._owner)
        self._renewed_at = float("-inf")

    def wake(self, delay: float = 0.0) -> None:
        """The log has grown."""
        self._slumber.wake(delay)

    async def _run(self) -> None:
        while True:
            try:
                await self.tick()
            except LOST as error:
                _log.warning("relay_waits_for_database", error=repr(error))
            except Exception:
                _log.exception("relay_failed")
            await asyncio.sleep(_REST)
            await self._slumber.sleep(self._poll)

    async def tick(self) -> bool:
        """Move the horizon, if the lease is ours; whether it was."""
        async with self._pool.acquire() as connection:
            if time.monotonic() - self._renewed_at >= _RENEW_EVERY:
                led = self.leads
                asked_at = time.monotonic()
                if await leases.acquire(connection, _LEASE, self._owner, seconds=_LEASE_SECONDS) is None:
                    self._renewed_at = float("-inf")
                    return False
                self._renewed_at = asked_at
                if not led:
                    await self._recognize_server(connection)
            await self.advance(connection)
        return True

    async def advance(self, connection: Any) -> int:
        """Move the horizon to what the sequence says now, once those who may have taken positions are gone; the horizon."""
        read_at = time.monotonic()
        position: int = await connection.fetchval(_sql.sequence)
        if position == self._horizon and read_at - self._touched_at < _TOUCH_EVERY:
            return position
        writers = [row[0] for row in await connection.fetch(_sql.writers, None)]
        pause = _LOOK_MIN
        while writers:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LOOK_MAX)
            writers = [row[0] for row in await connection.fetch(_sql.writers, writers)]
        await connection.execute(_sql.move_horizon, position, time.monotonic() - read_at)
        self._touched_at = time.monotonic()
        if position != self._horizon:
            self._horizon = position
            self._moved()
        return position

    async def _recognize_server(self, connection: Any) -> None:
        """Begin a new era when this is not the server on which the log was written before."""
        try:
            server = await connection.fetchval(_sql.server)
        except asyncpg.InsufficientPrivilegeError:
            return  # some managed servers do not tell; an operator begins a new era there after a restore
        era = await connection.fetchval(_sql.recognize_server, server)
        if era is not None:
            _log.info("log_on_this_server", server=server, era=era)
