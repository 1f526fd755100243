"""Lanes at work: this node's share of all readers' lanes, each read in order by a task of its own.

Lanes are claimed under a lease that is renewed well before it lapses; a node that cannot renew stops acting before
another
one may begin. What is free anybody takes; a node with less than its share asks those with more than theirs, which give
it back, so one that comes later gets its part.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
import structlog

from ..nodes.services import stop
from ..nodes.wakeups import Slumber
from .cursors import Claimed, LaneKey, LaneLost, Move
from .held import HeldLane
from .reader import Reader, Stuck
from .relay import LOST

if TYPE_CHECKING:
    from .cursors import Cursors
    from .envelope import Envelope
    from .log import Log

_log = structlog.get_logger(__name__)

ReaderSource: TypeAlias = Callable[[], Awaitable[Sequence[Reader]]]
"""Gives the readers that there are just now; a reader that has not changed is the same object."""

#: seconds between two times that the cursor of a lane with nothing to handle is written down
_IDLE_EVERY: Final = 5.0


class Lane(HeldLane):
    """One lane of one reader of the log, held by this node."""

    def __init__(self, reader: Reader, claimed: Claimed, log: Log, cursors: Cursors) -> None:
        super().__init__(reader, claimed)
        self._lanes = claimed.lanes
        self._log = log
        self._cursors = cursors
        #: where it reads on, and up to where that is written down
        self.position = claimed.position
        self._kept = claimed.position
        self._kept_at = time.monotonic()
        self._failures = claimed.failures
        self._retry_in = claimed.retry_in
        self.begin()

    def idle_move(self) -> Move | None:
        """What to write down of a lane that has passed over rows that were not for it."""
        if self._failures or self.position == self._kept or time.monotonic() - self._kept_at < _IDLE_EVERY:
            return None
        return Move(self.key, self.token, self.position, False, self.position >= self._log.high)

    def kept(self, move: Move) -> None:
        """That was written down."""
        self._kept, self._kept_at = max(self._kept, move.position), time.monotonic()

    async def _run(self) -> None:
        try:
            if self._retry_in > 0:
                await asyncio.sleep(self._retry_in)
            while True:
                await self._step()
        except LaneLost:
            return
        except Exception:
            _log.exception("reader_failed", reader=self.reader.name, lane=self.key[1])

    async def _step(self) -> None:
        """Read on, and have it handled."""
        try:
            await self._log.beyond(self.position)
            part = await self._log.read(
                self.position, tenant_id=self.reader.tenant_id, lane=self.key[1], lanes=self._lanes
            )
            wanted = [each for row in part.rows for each in row.envelopes if self.reader.wants(each)]
        except LOST as error:
            _log.warning("reader_waits_for_database", reader=self.reader.name, error=repr(error))
            await asyncio.sleep(1.0)
            return
        except msgspec.DecodeError as error:
            # A newer release has written it. Later rows wait, and the lane is free for a node that can read it.
            await self._fail(error, waits=False)
            raise LaneLost from error
        except Exception as error:  # a defect of the reader; later rows wait all the same
            await self._fail(error)
            return
        size = self.reader.batch_size_max
        for begin in range(0, len(wanted), size):
            batch = wanted[begin : begin + size]
            await self._handle(batch)
            if begin + size < len(wanted):
                # The rows before the one that comes next are done with.
                await self._advance(wanted[begin + size].row.position - 1, handled=True)
        if wanted:
            await self._advance(part.upto, handled=True)
        else:
            self.position = part.upto

    async def _handle(self, batch: Sequence[Envelope]) -> None:
        """Have a batch handled, as often as it takes."""
        while batch:
            try:
                await self.reader.handle(batch)
            except Exception as error:
                done = min(error.done, len(batch)) if isinstance(error, Stuck) else 0
                batch = batch[done:]
                if batch:
                    if done:
                        self.position = max(self.position, batch[0].row.position - 1)
                        self._failures = 0
                    await self._fail(error, fresh=done > 0)
            else:
                self._failures = 0
                return

    async def _fail(self, error: Exception, *, fresh: bool = False, waits: bool = True) -> None:
        """Say that an attempt failed, and wait; `fresh`: it is the first since something went well."""
        self._failures += 1
        reader = self.reader
        delay = min(reader.retry_delay_max, reader.retry_delay_min * 2 ** min(self._failures - 1, 30))
        delay *= random.uniform(0.5, 1.0)
        if isinstance(error, Stuck) and error.retry_after is not None:
            # Never sooner than without it: who asks for no pause, by 0 or by a date that is past, gets no storm of calls.
            delay = max(delay, error.retry_after)
        _log.info("reader_stuck", reader=reader.name, lane=self.key[1], failures=self._failures, error=repr(error))
        try:
            if fresh:
                await self._cursors.advance(Move(self.key, self.token, self.position, True, False))
            failures, failing = await self._cursors.note_failure(self.key, self.token, delay, self.position)
            await reader.failed(error, failures=failures, failing=failing)
        except LOST as lost:
            _log.warning("reader_waits_for_database", reader=reader.name, error=repr(lost))
        if waits:
            await asyncio.sleep(delay)

    async def _advance(self, position: int, *, handled: bool) -> None:
        self.position = position
        move = Move(self.key, self.token, position, handled, position >= self._log.high)
        while True:
            try:
                await self._cursors.advance(move)
            except LOST as error:
                _log.warning("reader_waits_for_database", reader=self.reader.name, error=repr(error))
                await asyncio.sleep(1.0)
            else:
                self.kept(move)
                return


class Lanes:
    """See the module. One for each node."""

    def __init__(self, log: Log, cursors: Cursors, *, lease_seconds: float, poll: float) -> None:
        self._log = log
        self._cursors = cursors
        self._lease = lease_seconds
        self._poll = poll
        self._registered: list[Reader] = []
        self._sources: list[ReaderSource] = []
        self._readers: dict[str, Reader] = {}
        self._lanes: dict[LaneKey, HeldLane] = {}
        self._slumber = Slumber()
        self._task: asyncio.Task[None] | None = None
        self._renewed_at = float("-inf")
        self._era = ""
        self._follows = False
        #: readers that are letting go of their connections
        self._closing: set[asyncio.Task[None]] = set()

    def register(self, reader: Reader) -> None:
        """Have a reader read, from the next look on."""
        assert reader.name not in {each.name for each in self._registered}, f"two readers are called {reader.name}"
        self._registered.append(reader)

    def add_source(self, source: ReaderSource) -> None:
        """Have readers read that come and go."""
        self._sources.append(source)

    @property
    def held(self) -> list[LaneKey]:
        """The lanes that this node reads in now."""
        return sorted(self._lanes)

    async def start(self) -> None:
        """Begin to claim lanes."""
        self._task = asyncio.create_task(self._run(), name="lanes")

    async def close(self) -> None:
        """Stop reading, write down how far every lane is, and give the lanes back."""
        task, self._task = self._task, None
        if task is None:
            return
        await stop(task)
        lanes = list(self._lanes.values())
        await asyncio.gather(*(lane.stop() for lane in lanes))
        self._lanes.clear()
        with contextlib.suppress(*LOST):
            await self._cursors.release((lane.key, lane.token) for lane in lanes)
        self._close_readers(self._readers.values())
        self._readers.clear()
        self._follow()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def wake(self, delay: float = 0.0) -> None:
        """Look at once which readers there are: one came, went, or was set to another position."""
        self._slumber.wake(delay)

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(max(1.0, self._lease / 5)):
                    await self.tick()
            except LOST as error:
                _log.warning("lanes_wait_for_database", error=repr(error))
                await self._stop_lapsed()
            except Exception:
                _log.exception("lanes_failed")
                await self._stop_lapsed()
            await self._slumber.sleep(self._poll)

    async def tick(self) -> None:
        """One look: renew what is held, stop what is lost or not wanted any more, take what is free."""
        await self._log.known()
        if self._era != self._log.era:
            # Another log: cursors that this node remembers may lie beyond what is there.
            await self._give_back(list(self._lanes.values()))
            self._era = self._log.era
        asked_at = time.monotonic()
        if asked_at - self._renewed_at >= self._lease / 3:
            held = await self._cursors.renew(self._lease)
            self._renewed_at = asked_at
        else:
            held = await self._cursors.held()
        await self._drop(
            [lane for key, lane in self._lanes.items() if key not in held or held[key].token != lane.token]
        )
        ended = [
            (key, has.token) for key, has in held.items() if key not in self._lanes or self._lanes[key].task.done()
        ]
        await self._drop([self._lanes[key] for key, _ in ended if key in self._lanes])
        await self._cursors.release(ended)
        await self._give_back([lane for key, lane in self._lanes.items() if held[key].asked])
        await self._meet_readers()
        await self._keep_idle_cursors()
        await self._take_share()
        self._follow()

    async def _meet_readers(self) -> None:
        """Know who reads; stop those who are gone or have changed."""
        present = {reader.name: reader for reader in self._registered}
        for source in self._sources:
            present.update({reader.name: reader for reader in await source()})
        gone = [reader for name, reader in self._readers.items() if present.get(name) is not reader]
        if gone:
            await self._give_back([lane for lane in self._lanes.values() if lane.reader in gone])
            self._close_readers(gone)
        new = [name for name, reader in present.items() if self._readers.get(name) is not reader]
        if new:
            known = await self._cursors.known(new)
            for name in new:
                if name not in known and present[name].begins is not None:
                    await self._cursors.add(present[name])
        self._readers = present

    async def _take_share(self) -> None:
        names = list(self._readers)
        if not names:
            return
        claimed = await self._cursors.claim(names, self._lease)
        if claimed:
            self._follow(True)
        for each in claimed:
            reader = self._readers[each.reader]
            lane = reader.lane(each, self._cursors)
            self._lanes[each.key] = lane if lane is not None else Lane(reader, each, self._log, self._cursors)
        if not claimed:
            await self._cursors.ask(names)

    def _follow(self, wanted: bool | None = None) -> None:
        """Have the log's newest rows kept while anything is read here."""
        wanted = bool(self._lanes) if wanted is None else wanted
        if wanted and not self._follows:
            self._log.follow()
        elif self._follows and not wanted:
            self._log.unfollow()
        self._follows = wanted

    def _close_readers(self, readers: Iterable[Reader]) -> None:
        """Have readers let go of their connections; nobody waits for that."""
        for reader in readers:
            task = asyncio.create_task(reader.close(), name=f"close-{reader.name}")
            self._closing.add(task)
            task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("reader_not_closed", task=task.get_name(), error=repr(error))

    async def _keep_idle_cursors(self) -> None:
        """Write down how far lanes are that had nothing to handle, so that whoever comes next need not read all that."""
        moves = {lane.key: move for lane in self._lanes.values() if (move := lane.idle_move()) is not None}
        answers = await asyncio.gather(*map(self._cursors.advance, moves.values()), return_exceptions=True)
        for move, answer in zip(moves.values(), answers, strict=True):
            if answer is None and move.key in self._lanes:
                self._lanes[move.key].kept(move)

    async def _give_back(self, lanes: Sequence[HeldLane]) -> None:
        if lanes:
            await self._drop(lanes)
            await self._cursors.release((lane.key, lane.token) for lane in lanes)

    async def _drop(self, lanes: Sequence[HeldLane]) -> None:
        for lane in lanes:
            self._lanes.pop(lane.key, None)
        await asyncio.gather(*(lane.stop() for lane in lanes))

    async def _stop_lapsed(self) -> None:
        """Act no more under leases that another node may take over by now."""
        if time.monotonic() - self._renewed_at > self._lease * 0.6:
            await self._drop(list(self._lanes.values()))
