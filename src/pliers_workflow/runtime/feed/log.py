"""The log as one node reads it: its newest rows in memory, once for all readers, and older ones from the database.

Readers that keep up, which is nearly all of them nearly always, share the window: a row is fetched, decoded and encoded
once a node, however many read it. Whoever falls behind the window (it is bounded by rows and by size) reads pages of its
own until it is back. Nobody is ever given a row beyond the horizon, so what was read in order stays in order.

What is made of a row is kept with it while it is among the newest: decoded and encoded it takes ten times the room. The
window is filled only while somebody reads here.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final

import structlog
from msgspec import Struct

from pliers_workflow.storage import queries
from pliers_workflow.storage.paging import BadCursor, decode_cursor, encode_cursor

from ..nodes.services import stop
from ..nodes.wakeups import Slumber
from .envelope import LoggedRow
from .relay import LOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("feed")

#: rows fetched at once
PAGE: Final = 500
#: positions that one page of a reader that is catching up may span: rows of others in between are passed over
_SPAN: Final = 20_000
#: newest rows that keep what was made of them
FRESH: Final = 1_000
#: pages that are read at the same time for those who are catching up; there may be a thousand of them
_CATCHING_UP_MAX: Final = 4


class Slice(Struct, frozen=True):
    """What came after a position."""

    rows: Sequence[LoggedRow]
    #: everything up to here has been looked at
    upto: int


class Log:
    """See the module."""

    def __init__(self, pool: asyncpg.Pool[Any], *, poll: float, rows_max: int, size_max: int) -> None:
        self._pool = pool
        self._poll = poll
        self._rows_max = rows_max
        self._size_max = size_max
        self._rows: list[LoggedRow] = []
        self._positions: list[int] = []
        self._size = 0
        #: rows before this one have forgotten what was made of them
        self._stale = 0
        #: the window holds every row beyond `low`, up to `high`
        self.low = 0
        self.high = 0
        #: empty: not known yet
        self.era = ""
        #: seconds since the horizon was true when it was last read, and when that was
        self._age = 0.0
        self._read_at = float("-inf")
        self._followers = 0
        self._catching_up = asyncio.Semaphore(_CATCHING_UP_MAX)
        self._slumber = Slumber()
        self._moved = asyncio.Event()
        self._known = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def horizon_age(self) -> float | None:
        """Seconds by which the horizon lags behind now; None: it has never been read."""
        return self._age + time.monotonic() - self._read_at if self._known.is_set() else None

    async def start(self) -> None:
        """Begin to follow the horizon."""
        self._task = asyncio.create_task(self._run(), name="log")

    async def close(self) -> None:
        """Stop. Whoever waits for rows waits for ever."""
        if self._task is not None:
            await stop(self._task)
            self._task = None

    def wake(self, delay: float = 0.0) -> None:
        """The horizon has moved."""
        self._slumber.wake(delay)

    def follow(self) -> None:
        """Somebody reads here: keep the window from now on."""
        if self._followers == 0:
            self._forget(self.high)
        self._followers += 1

    def unfollow(self) -> None:
        """They read no more."""
        self._followers -= 1
        if self._followers == 0:
            self._forget(self.high)

    async def known(self) -> int:
        """Say where the horizon is, as far as this node knows."""
        if not self._known.is_set():
            await self.refresh()
        return self.high

    async def beyond(self, position: int) -> None:
        """Wait until there may be rows beyond a position."""
        while self.high <= position:
            await self._moved.wait()

    # -- cursors -------------------------------------------------------------------------------------------------------

    def cursor(self, position: int) -> str:
        """A position as callers get it: opaque, and of this era of the log only."""
        return encode_cursor(self.era, position)

    async def position_of(self, cursor: str) -> int:
        """Read a cursor. Raises `BadCursor`, also for one of another era: the log is another one since."""
        horizon = await self.known()
        era, position = decode_cursor(cursor, str, int)
        if era != self.era:
            raise BadCursor("the cursor is of an earlier era: a backup was restored since, or a standby took over")
        if not 0 <= position <= horizon:
            raise BadCursor("the cursor is none of ours; it lies beyond the end of the log")
        return int(position)

    # -- reading -------------------------------------------------------------------------------------------------------

    async def read(
        self, after: int, limit: int = PAGE, *, tenant_id: str | None = None, lane: int = 0, lanes: int = 1
    ) -> Slice:
        """
        Give up to `limit` rows beyond a position, in order: of one tenant (or all), and of one lane.

        An empty slice has an `upto` all the same: go on from there. Raises asyncpg's errors.
        """
        if after >= self.low:
            return self._from_window(after, limit, tenant_id, lane, lanes)
        return await self._from_database(after, limit, tenant_id, lane, lanes)

    def _from_window(self, after: int, limit: int, tenant_id: str | None, lane: int, lanes: int) -> Slice:
        found: list[LoggedRow] = []
        for index in range(bisect_right(self._positions, after), len(self._rows)):
            row = self._rows[index]
            if row.byte % lanes == lane and (tenant_id is None or row.tenant_id == tenant_id):
                found.append(row)
                if len(found) == limit:
                    return Slice(found, row.position)
        return Slice(found, max(after, self.high))

    async def _from_database(self, after: int, limit: int, tenant_id: str | None, lane: int, lanes: int) -> Slice:
        upto = min(self.high, after + _SPAN)
        async with self._catching_up:
            if tenant_id is None:
                rows = await self._pool.fetch(_sql.lane_of_all, after, upto, limit, lanes, lane)
            else:
                rows = await self._pool.fetch(_sql.lane_of_tenant, after, upto, limit, lanes, lane, tenant_id)
        found = [LoggedRow(*row) for row in rows]
        return Slice(found, found[-1].position if len(found) == limit else upto)

    # -- the window ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                await self.refresh()
            except LOST as error:
                _log.warning("log_waits_for_database", error=repr(error))
            except Exception:
                _log.exception("log_failed")
            await self._slumber.sleep(self._poll)

    async def refresh(self) -> None:
        """Read the horizon, and the rows up to it."""
        row = await self._pool.fetchrow(_sql.horizon)
        assert row is not None, "the migration makes the horizon's row"
        era, horizon = row["era"], row["horizon"]
        self._age, self._read_at = row["age"], time.monotonic()
        if era != self.era or not self._known.is_set():
            self.era = era
            self._forget(horizon)
        elif not self._followers or horizon - self.high > 2 * self._rows_max:
            self._forget(max(horizon, self.high))
        while self.high < horizon:
            self._keep(
                [LoggedRow(*row) for row in await self._pool.fetch(_sql.tail, self.high, horizon, PAGE)], horizon
            )
        self._known.set()

    def _keep(self, rows: list[LoggedRow], horizon: int) -> None:
        self._rows += rows
        self._positions += [row.position for row in rows]
        self._size += sum(row.size for row in rows)
        self.high = rows[-1].position if len(rows) == PAGE else horizon
        drop, size = 0, self._size
        while len(self._rows) - drop > self._rows_max or (size > self._size_max and drop < len(self._rows)):
            size -= self._rows[drop].size
            drop += 1
        # Dropping costs a copy of the whole, so it is done for a tenth of the window at once.
        if drop > self._rows_max // 10 or (drop and size < self._size - self._size_max // 10):
            self.low = self._positions[drop - 1]
            del self._rows[:drop], self._positions[:drop]
            self._size = size
            self._stale = max(0, self._stale - drop)
        while len(self._rows) - self._stale > FRESH:
            self._rows[self._stale].forget()
            self._stale += 1
        self._tell()

    def _forget(self, position: int) -> None:
        """Begin an empty window at a position."""
        moved = position != self.high
        self._rows, self._positions, self._size, self._stale = [], [], 0, 0
        self.low = self.high = position
        if moved:
            self._tell()

    def _tell(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
