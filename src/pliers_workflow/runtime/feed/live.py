"""Live subscribers: whoever watches the log from inside this process, for as long as it watches.

They hold no lease and keep no cursor with us: every node reads for its own, and a client that comes back brings the
cursor it was given. They share the log's window, which is their bounded buffer, so a thousand of them cost a thousand
positions and not a thousand queues. A subscriber that is slower than the log falls out of the window; it is told so by a
`Missed`, and may then begin anew (read the present state, and subscribe from now on), or go on: nothing is lost, it is
read from the database page by page until the subscriber has caught up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from .envelope import Envelope
    from .log import Log


class Missed(Struct, frozen=True):
    """You were too slow; what comes next is old. To go on from where you were, use this cursor, or just go on."""

    cursor: str


class LiveSubscriber(AsyncIterator["Envelope | Missed"]):
    """See the module; `Feed.subscribe` makes one. Iterate over it, and close it."""

    def __init__(
        self, log: Log, *, position: int, tenant_id: str | None = None, wants: Callable[[Envelope], bool] | None = None
    ) -> None:
        self._log = log
        self._tenant_id = tenant_id
        self._wants = wants
        #: rows up to here have been given, all their events
        self._given = position
        #: rows up to here have been read
        self._read = position
        self._ready: deque[Envelope] = deque()
        #: in step with the window, so that falling out of it is news
        self._in_step = False
        self._closed = False
        log.follow()

    @property
    def cursor(self) -> str:
        """Where to resume. Within a command of several events it stands before the command: those come again then."""
        return self._log.cursor(self._given)

    async def __anext__(self) -> Envelope | Missed:
        """The next event, or that some were missed. Raises asyncpg's errors; it may be asked again."""
        while not self._ready:
            self._given = self._read
            if self._closed:
                raise StopAsyncIteration
            await self._log.beyond(self._read)
            behind = self._read < self._log.low
            if behind and self._in_step:
                self._in_step = False
                return Missed(self.cursor)
            part = await self._log.read(self._read, tenant_id=self._tenant_id)
            self._in_step = self._in_step or not behind
            self._read = part.upto
            self._ready.extend(
                each for row in part.rows for each in row.envelopes if self._wants is None or self._wants(each)
            )
        envelope = self._ready.popleft()
        # All rows before this one are done with, and with its last event the row itself.
        more = self._ready and self._ready[0].row is envelope.row
        self._given = envelope.row.position - 1 if more else envelope.row.position
        return envelope

    async def close(self) -> None:
        """Watch no more."""
        if not self._closed:
            self._closed = True
            self._log.unfollow()

    async def __aenter__(self) -> LiveSubscriber:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
