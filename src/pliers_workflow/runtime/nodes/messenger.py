"""The messenger carries wake-ups between nodes, by LISTEN and NOTIFY on one connection of its own.

NOTIFY belongs in no writing transaction: PostgreSQL lets those that notify commit one at a time (a third of the throughput
was left). So a node tells the others after its commits, in a transaction that writes nothing; what happens within some
milliseconds goes as one message, and with no other node there is nothing to tell. Whatever is lost (a connection cut, a
message between two connections) costs time and no work: whoever comes back wakes everybody, and services look by
themselves from time to time.

The connection must reach PostgreSQL itself. A pooler in transaction mode cannot LISTEN: name the server beside it with
`database.direct_url`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec
import structlog
from msgspec import Struct

from pliers_workflow.storage import queries
from pliers_workflow.storage.database import connect

from ..failures import DATABASE_AWAY
from .wakeups import NODES

if TYPE_CHECKING:
    from pliers_workflow.settings import Settings

    from .wakeups import Wakeups

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("nodes")

CHANNEL: Final = "pliers_wakeups"
#: Seconds between two messages; what comes meanwhile goes with the next.
PAUSE: Final = 0.02
#: Seconds between two questions whether the connection still stands: a cut cable is not told by anybody.
_PROBE_EVERY: Final = 10.0
_PROBE_TIMEOUT: Final = 5.0
_RECONNECT_DELAY_MIN: Final = 0.1
_RECONNECT_DELAY_MAX: Final = 10.0


class Message(Struct, frozen=True, rename={"sender": "from"}):
    """What is sent: who sends it, and for each topic in how many seconds there is something to do."""

    sender: str
    wake: dict[str, float]


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Message).decode


class Messenger:
    """See the module. One for each node."""

    def __init__(self, settings: Settings, wakeups: Wakeups, *, node_id: str) -> None:
        self._dsn = settings.database.direct_url or settings.database.url
        self._connect_timeout = settings.database.connection_timeout
        self._wakeups = wakeups
        self._node_id = node_id
        self._connection: asyncpg.Connection[Any] | None = None
        #: a connection does one thing at a time
        self._turn = asyncio.Lock()
        #: what to tell, and at which time of the loop there is something to do
        self._untold: dict[str, float] = {}
        self._told = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        #: counted since the start
        self.sent = 0
        self.received = 0
        self.connects = 0

    @property
    def listening(self) -> bool:
        """Whether other nodes reach this one now."""
        return self._connection is not None and not self._connection.is_closed()

    async def start(self) -> None:
        """Begin to listen. The database need not be there yet."""
        self._tasks = [
            asyncio.create_task(self._listen(), name="messenger-listens"),
            asyncio.create_task(self._send(), name="messenger-sends"),
        ]

    async def close(self) -> None:
        """Tell what is untold, and stop."""
        self.alone()
        with contextlib.suppress(*DATABASE_AWAY):
            await self._tell()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def accompanied(self) -> None:
        """There are other nodes: carry wake-ups to them."""
        self._wakeups.carry = self.carry

    def alone(self) -> None:
        """There are no other nodes: nobody is to be told."""
        self._wakeups.carry = None

    def carry(self, topic: str, delay: float) -> None:
        """Take a wake-up along with the next message. On the hot path."""
        due = asyncio.get_running_loop().time() + delay
        known = self._untold.get(topic)
        if known is None or due < known:
            self._untold[topic] = due
            self._told.set()

    # -- sending -------------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            try:
                await self._tell()
            except DATABASE_AWAY as error:
                _log.info("wake_up_not_sent", error=repr(error))
            await asyncio.sleep(PAUSE)

    async def _tell(self) -> None:
        untold, self._untold = self._untold, {}
        connection = self._connection
        if not untold or connection is None:
            return
        now = asyncio.get_running_loop().time()
        message = Message(self._node_id, {topic: max(0.0, round(due - now, 4)) for topic, due in untold.items()})
        async with self._turn:
            await connection.execute(_sql.notify, _encode(message).decode(), timeout=_PROBE_TIMEOUT)
        self.sent += 1

    # -- listening -----------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        delay = _RECONNECT_DELAY_MIN
        while True:
            try:
                await self._attend()
                delay = _RECONNECT_DELAY_MIN
            except DATABASE_AWAY as error:
                _log.warning("messenger_waits_for_database", error=repr(error))
            except Exception:
                _log.exception("messenger_failed")
            await asyncio.sleep(delay)
            delay = min(delay * 2, _RECONNECT_DELAY_MAX)

    async def _attend(self) -> None:
        """Listen on one connection for as long as it stands."""
        connection = await connect(self._dsn, purpose="listen", timeout=self._connect_timeout)
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, self._hear)
            self._connection = connection
            self.connects += 1
            self._wakeups.deliver_all()
            if self._wakeups.carry is not None:
                self.carry(NODES, 0.0)
            while not lost.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(lost.wait(), _PROBE_EVERY)
                    return
                async with self._turn:
                    await connection.execute("SELECT 1", timeout=_PROBE_TIMEOUT)
        finally:
            self._connection = None
            with contextlib.suppress(*DATABASE_AWAY):
                await connection.close(timeout=1)

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        """Another node tells something. Whatever else is sent on this channel wakes nobody."""
        try:
            message = _decode(str(payload))
        except msgspec.DecodeError:
            _log.info("wake_up_not_understood")
            return
        if message.sender == self._node_id:
            return
        self.received += 1
        for topic, delay in message.wake.items():
            self._wakeups.deliver(topic, max(0.0, delay))
