"""A broker read on this node: batch after batch into the inbox, each acknowledged when it is committed.

The commit holds the lane's token, so a node that lost the lane without noticing writes nothing. While the database is away
a batch is kept and tried again, and nothing more is read; while the broker is away it is tried again, longer each time. A
batch is carried out before the next is read, which bounds what is under way and keeps the order.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog
from msgspec import Struct, field

from pliers_workflow.storage import canonical, queries

from ..answers import EngineError
from ..brokers.secrets import MASK
from ..failures import DATABASE_AWAY
from ..feed.cursors import LaneLost, Move
from ..feed.held import HeldLane
from . import rejects
from .plain import BadMessage, CompiledMapping
from .readers.port import BrokerError, BrokerMessage, BrokerReader, Place
from .reading import read
from .rejects import Rejected

if TYPE_CHECKING:
    from pliers_workflow.settings import EventSourceSettings

    from ..feed.cursors import Claimed, Cursors
    from ..feed.reader import Reader
    from ..inbound.cloudevents import Incoming
    from ..inbound.inbox import Inbox
    from ..inbound.rows import Stored

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("event_sources")

#: seconds that a read waits for messages
_WAIT: Final = 1.0
#: seconds between two times that the counts of a source are written down
_NOTE_EVERY: Final = 1.0
#: events of one write
_EVENTS_MAX: Final = 500
#: messages that are read as events before others get a turn
_TURN: Final = 20
#: seconds between two attempts while the database is away
_PAUSE_MIN: Final = 0.1
_PAUSE_MAX: Final = 5.0

#: what the database, or its driver, says of a value that it cannot hold (the driver's is a ValueError, and looks like a
#: broken connection as well, so these are asked for first)
_UNFIT: Final = (asyncpg.DataError, asyncpg.ProgramLimitExceededError, asyncpg.StatementTooComplexError, ValueError)


class SourceWork(Struct, frozen=True, eq=False):
    """What is read, by what, and where it goes: the same for all lanes of one revision of a source."""

    tenant_id: str
    source_id: str
    revision: int
    mapping: CompiledMapping | None
    #: what is read, of which it has a place (JSON)
    what: str
    #: secrets of the broker, which no message of an error may show
    hidden: tuple[str, ...]
    #: a reader of the broker, not connected yet
    open: Callable[[], BrokerReader]
    pool: asyncpg.Pool[Any]
    inbox: Inbox
    settings: EventSourceSettings
    #: connections that are being closed
    closing: set[asyncio.Task[None]] = field(default_factory=set)


class _Taken(Struct, frozen=True):
    """A message and its events."""

    message: BrokerMessage
    events: tuple[Incoming, ...]


class SourceLane(HeldLane):
    """See the module."""

    def __init__(self, reader: Reader, claimed: Claimed, cursors: Cursors, work: SourceWork) -> None:
        super().__init__(reader, claimed)
        self._cursors = cursors
        self._work = work
        self._retry_in = claimed.retry_in
        self._failures = claimed.failures
        #: counted and not written down yet
        self._received = 0
        self._rejected = 0
        #: how far it has been read; None: not looked up yet
        self._place: Place | None = None
        self._noted_place: Any = None
        self._noted_at = time.monotonic()
        self.begin()

    async def _run(self) -> None:
        try:
            if self._retry_in > 0:
                await asyncio.sleep(self._retry_in)
            while True:
                broker = self._work.open()
                try:
                    broker.place = await self._kept_place()
                    await self._finish()
                    await self._read_on(broker)
                except LaneLost:
                    raise
                except (BrokerError, EngineError, *DATABASE_AWAY) as error:
                    await self._fail(error)
                except Exception as error:
                    # Without what variables hold, because a client's hold secrets.
                    where = "".join(traceback.format_tb(error.__traceback__))
                    _log.error("event_source_failed", source=self._work.source_id, error=repr(error), where=where)
                    await self._fail(error)
                finally:
                    # By a task of its own, because whoever stops a lane is impatient.
                    await asyncio.shield(self._close(broker))
        except LaneLost:
            return
        finally:
            with contextlib.suppress(*DATABASE_AWAY):
                await self._note()

    def _close(self, broker: BrokerReader) -> asyncio.Task[None]:
        task = asyncio.create_task(broker.close(), name=f"close {self.reader.name}")
        self._work.closing.add(task)
        task.add_done_callback(self._work.closing.discard)
        return task

    async def _kept_place(self) -> Place:
        """Where whoever read before has come to; from then on this lane knows it best."""
        if self._place is None:
            work = self._work
            self._noted_place = await work.pool.fetchval(_sql.get_place, work.tenant_id, work.source_id)
            self._place = Place(self._noted_place)
        return self._place

    async def _finish(self) -> None:
        """Carry out what whoever read before has committed and not carried out: it came first."""
        work = self._work
        await work.inbox.carry_out_all(work.tenant_id, await work.inbox.owed_by_source(work.tenant_id, work.source_id))

    async def _read_on(self, broker: BrokerReader) -> None:
        delay = await broker.open()
        await self._note()  # where it begins, before it has read anything
        if delay > 0:
            await asyncio.sleep(delay)
        while True:
            messages = await broker.read(_WAIT)
            if self._failures:
                await self._recover()
            await self._take(broker, messages)
            if time.monotonic() - self._noted_at >= _NOTE_EVERY:
                await self._note()

    async def _take(self, broker: BrokerReader, messages: Sequence[BrokerMessage]) -> None:
        """Make messages into events, a part at a time where they are many."""
        part: list[_Taken] = []
        bad: list[Rejected] = []
        done: list[BrokerMessage] = []
        size = 0
        for number, message in enumerate(messages, start=1):
            try:
                events = read(message, self._work.mapping)
            except BadMessage as error:
                bad.append(Rejected(message, str(error)))
            else:
                part.append(_Taken(message, events))
                size += len(events)
            done.append(message)
            if size >= _EVENTS_MAX:
                await self._commit(broker, done, part, bad)
                part, bad, done, size = [], [], [], 0
            if number % _TURN == 0:
                await asyncio.sleep(0)
        if done:
            await self._commit(broker, done, part, bad)

    async def _commit(
        self, broker: BrokerReader, messages: Sequence[BrokerMessage], part: Sequence[_Taken], bad: Sequence[Rejected]
    ) -> None:
        """Into the inbox, then acknowledged, then carried out."""
        stored = await self._write(part, bad)
        trouble: BrokerError | None = None
        try:
            await broker.acknowledge(messages)
        except BrokerError as error:
            trouble = error  # they come again, and are known
        await self._work.inbox.carry_out_all(self._work.tenant_id, stored)
        if trouble is not None:
            raise trouble

    async def _write(self, part: Sequence[_Taken], bad: Sequence[Rejected]) -> list[Stored]:
        """Commit as often as it takes; what the database cannot hold after all is found by halves, and rejected."""
        pause = _PAUSE_MIN
        while True:
            try:
                return await self._write_once(part, bad)
            except _UNFIT as error:
                if not part:
                    raise
                if len(part) == 1:
                    reason = f"The database cannot hold it: {error}"
                    return await self._write((), [*bad, Rejected(part[0].message, reason)])
                half = len(part) // 2
                return [*await self._write(part[:half], bad), *await self._write(part[half:], ())]
            except (EngineError, *DATABASE_AWAY) as error:
                _log.warning("event_source_waits_for_database", source=self._work.source_id, error=repr(error))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, _PAUSE_MAX)

    async def _write_once(self, part: Sequence[_Taken], bad: Sequence[Rejected]) -> list[Stored]:
        work, events = self._work, [event for each in part for event in each.events]
        async with work.pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(_sql.fence, self.reader.name, self.token):
                raise LaneLost
            stored = []
            if events:
                stored = await work.inbox.keep(connection, work.tenant_id, events, event_source=work.source_id)
            if bad:
                await rejects.keep(
                    connection, work.tenant_id, work.source_id, bad, rejects_max=work.settings.rejects_max
                )
        self._received += len(part)
        self._rejected += len(bad)
        return stored

    # -- how it goes ---------------------------------------------------------------------------------------------------

    async def _fail(self, error: Exception) -> None:
        """Say what went wrong, and wait."""
        self._failures += 1
        work, settings = self._work, self._work.settings
        delay = min(settings.retry_delay_max, settings.retry_delay_min * 2 ** min(self._failures - 1, 30))
        delay *= random.uniform(0.5, 1.0)
        message = str(error) if isinstance(error, BrokerError) else f"The engine failed: {error!r}"
        for secret in work.hidden:
            message = message.replace(secret, MASK)
        _log.info("event_source_stuck", source=work.source_id, failures=self._failures, error=message[:500])
        try:
            await self._cursors.note_failure(self.key, self.token, delay, 0)
            told = message[:1000].replace("\0", " ")
            await work.pool.execute(_sql.note_failure, work.tenant_id, work.source_id, told, work.revision)
        except DATABASE_AWAY as lost:
            _log.warning("event_source_waits_for_database", source=work.source_id, error=repr(lost))
        await asyncio.sleep(delay)

    async def _recover(self) -> None:
        await self._cursors.advance(Move(self.key, self.token, 0, True, True))
        await self._work.pool.execute(_sql.note_recovery, self._work.tenant_id, self._work.source_id)
        self._failures = 0

    async def _note(self) -> None:
        """Write down how much has come, and how far it has been read: what is read again for want of it is known."""
        self._noted_at = time.monotonic()
        received, rejected = self._received, self._rejected
        place = None if self._place is None else self._place.after
        if received or rejected or place != self._noted_place:
            work = self._work
            await work.pool.execute(
                _sql.note_taken, work.tenant_id, work.source_id, received, rejected,
                canonical.encode_loose(place).decode(), work.what,
            )  # fmt: skip
            self._received -= received
            self._rejected -= rejected
            self._noted_place = place
