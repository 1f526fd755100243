"""Leases and cursors of lanes, as a node keeps them in the database.

Every statement carries the fencing token under which a lane was claimed, so a node that lost a lane without noticing
changes nothing of it. Cursors that move at the same time go in one statement: while one is being written the next gathers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec import Struct

from pliers_workflow.storage import queries

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import asyncpg

    from .reader import Reader

_sql: Final = queries.load("feed")

LaneKey: TypeAlias = tuple[str, int]
"""Reader's name and lane."""


class LaneLost(Exception):
    """The lane is somebody else's by now, or was set to another position: stop reading in it."""


class Claimed(Struct, frozen=True):
    """A lane as it was when it was claimed."""

    reader: str
    lane: int
    lanes: int
    position: int
    token: int
    #: in a row
    failures: int
    #: seconds since the first of them
    failing: float
    #: seconds until the next attempt
    retry_in: float

    @property
    def key(self) -> LaneKey:
        return self.reader, self.lane


class Held(Struct, frozen=True):
    """A lane that this node holds."""

    token: int
    #: another node, which has less than its share, asks for it
    asked: bool


class Move(Struct, frozen=True):
    """A cursor that has moved."""

    key: LaneKey
    token: int
    position: int
    #: something was handled on the way
    handled: bool
    #: nothing is left to be handled
    caught_up: bool


class Cursors:
    """See the module. One for each node."""

    def __init__(self, pool: asyncpg.Pool[Any], *, owner: str) -> None:
        self._pool = pool
        self._owner = owner
        self._waiting: dict[LaneKey, tuple[Move, list[asyncio.Future[None]]]] = {}
        self._writer: asyncio.Task[None] | None = None

    async def add(self, reader: Reader) -> None:
        """Make a reader's lanes, unless they are there."""
        position = None if reader.begins == "now" else 0
        await self._pool.execute(_sql.add_lanes, reader.name, reader.lanes, position)

    async def known(self, readers: Collection[str]) -> set[str]:
        """Which of these readers have lanes."""
        return {row[0] for row in await self._pool.fetch(_sql.known_readers, list(readers))}

    async def held(self) -> dict[LaneKey, Held]:
        """What this node holds."""
        rows = await self._pool.fetch(_sql.held_lanes, self._owner)
        return {(row[0], row[1]): Held(row[2], row[3] is not None) for row in rows}

    async def renew(self, seconds: float) -> dict[LaneKey, Held]:
        """Prolong what this node holds, for `seconds`; what it holds."""
        rows = await self._pool.fetch(_sql.renew_lanes, self._owner, seconds)
        return {(row[0], row[1]): Held(row[2], row[3] is not None) for row in rows}

    async def claim(self, readers: Collection[str], seconds: float) -> list[Claimed]:
        """Take what is free of these readers' lanes."""
        rows = await self._pool.fetch(_sql.claim_lanes, list(readers), self._owner, seconds)
        return [Claimed(*row) for row in rows]

    async def ask(self, readers: Collection[str]) -> int:
        """Ask other nodes for what this one lacks of its share; how many lanes were asked for."""
        return len(await self._pool.fetch(_sql.ask_for_lanes, list(readers), self._owner))

    async def release(self, lanes: Iterable[tuple[LaneKey, int]]) -> None:
        """Give lanes back."""
        columns = [(key[0], key[1], token) for key, token in lanes]
        if columns:
            await self._pool.execute(_sql.release_lanes, *map(list, zip(*columns, strict=True)), self._owner)

    async def note_failure(self, key: LaneKey, token: int, retry_in: float, position: int) -> tuple[int, float]:
        """A lane waits after a failure: failures in a row, and seconds since the first. Raises LaneLost."""
        row = await self._pool.fetchrow(_sql.note_failure, *key, token, retry_in, position)
        if row is None:
            raise LaneLost
        return row[0], row[1]

    async def advance(self, move: Move) -> None:
        """Move a cursor, with whichever others move now. Raises LaneLost, or asyncpg's errors where nothing was moved."""
        done = asyncio.get_running_loop().create_future()
        known, others = self._waiting.get(move.key, (move, []))
        further = move if (move.token, move.position) >= (known.token, known.position) else known
        self._waiting[move.key] = (further, [*others, done])
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="cursors")
        await done

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                error: BaseException | None = None
                moved: set[LaneKey] = set()
                try:
                    moved = await self._move([move for move, _ in batch.values()])
                except BaseException as raised:
                    error = raised
                for key, (_, waiting) in batch.items():
                    _answer(waiting, error if error is not None or key in moved else LaneLost())
                if error is not None and not isinstance(error, Exception):
                    raise error
        finally:
            self._writer = None

    async def _move(self, moves: Sequence[Move]) -> set[LaneKey]:
        moves = sorted(moves, key=lambda move: move.key)
        rows = await self._pool.fetch(
            _sql.advance_lanes,
            [move.key[0] for move in moves],
            [move.key[1] for move in moves],
            [move.token for move in moves],
            [move.position for move in moves],
            [move.handled for move in moves],
            [move.caught_up for move in moves],
        )
        return {(row[0], row[1]) for row in rows}


def _answer(waiting: Iterable[asyncio.Future[None]], error: BaseException | None) -> None:
    for done in waiting:
        if done.done():
            continue  # its lane was stopped meanwhile
        if error is None:
            done.set_result(None)
        elif isinstance(error, Exception):
            done.set_exception(error)
        else:
            done.cancel()
