"""One connection of the HTTP server: it keeps no more of a request's head than a head may have, and waits for none for ever.

uvicorn's parser collects names, values and the address until the head is whole, however much that is, and before anybody
has asked for a token. So a caller whose head never ends would fill the memory of the node and, since the parser copies a
value anew with every part of it that arrives, take its time as well. What comes between two parts of a body (the lengths
of chunks, trailers) is bounded in the same way; bodies are bounded where they are read.

A caller who sends a byte a minute would hold a connection for as long as it likes. So a whole head has to come within
`server.receive_timeout` seconds of its first byte (of the connection's beginning, where nothing has come yet), and each
part of a body within as many of the one before. What is silent because it is us who owe something (an answer, reading,
`100 Continue`) has all the time it needs, and connections between two requests have uvicorn's. That is looked at once in
`server.receive_timeout` seconds, and not set up anew with every request.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

#: bytes of a request line and all headers together, as they come over the wire
HEAD_SIZE_MAX: Final = 65_536

_TOO_LARGE: Final = f"The request line and the headers of a request may have {HEAD_SIZE_MAX:,} bytes together; send shorter or fewer ones.\n"
#: seconds by which a look may be late before we take it that the node was busy, and what came has not been read yet
_LATE: Final = 1.0


class Owed(enum.Enum):
    """What the caller has to send next."""

    NOTHING = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's connection, which refuses a head without end with 431, one that does not come with 408, and hangs up."""

    #: seconds for a head, and between two parts of a body; set by `receiving_within`
    receive_timeout = 30.0
    #: bytes read since a head, or a part of a body, was whole
    _unfinished = 0
    #: bytes of the address and the headers that the parser has handed over
    _collected = 0
    _advanced = False
    _refused = False
    _owed = Owed.HEAD
    #: since when, on the loop's clock
    _owed_since = 0.0
    #: whether the connection has ever said anything
    _spoken = False
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Somebody has called."""
        super().connection_made(transport)
        self._owed_since = self.loop.time()
        self._look_at(self._owed_since + self.receive_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """They are gone."""
        self._look_no_more()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """The connection is another protocol's from here on."""
        self._look_no_more()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        if self._refused:
            return
        self._advanced = False
        if self._owed is Owed.NOTHING or not self._spoken:
            self._spoken = True
            self._owe(Owed.HEAD)
        super().data_received(data)
        self._unfinished = 0 if self._advanced else self._unfinished + len(data)
        if self._unfinished > HEAD_SIZE_MAX:
            self._refuse(431, _TOO_LARGE)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._collected = 0
        if self._owed is not Owed.HEAD:  # of several requests that came together, one after the first
            self._owe(Owed.HEAD)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the address."""
        self._collect(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer: they count together."""
        self._collect(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._advanced = True
        self._owe(Owed.BODY)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._advanced = True
        self._owe(Owed.BODY)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._advanced = True
        self._owed = Owed.NOTHING
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What could not be parsed; where it was us who stopped the parser, we say why."""
        if self._collected > HEAD_SIZE_MAX:
            self._refuse(431, _TOO_LARGE)
        elif not self._refused:
            super().send_400_response(msg)

    def _collect(self, size: int) -> None:
        self._collected += size
        if self._collected > HEAD_SIZE_MAX:
            raise ValueError("the head is too large")  # makes the parser stop

    def _owe(self, what: Owed) -> None:
        self._owed = what
        self._owed_since = self.loop.time()

    def _look_at(self, due: float) -> None:
        self._look = self.loop.call_at(due, self._look_whether_it_came, due)

    def _look_no_more(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _look_whether_it_came(self, planned: float) -> None:
        """Hang up where the caller has owed us something for too long; else look again when that could be."""
        if self.transport.is_closing():
            return
        now = self.loop.time()
        if self._is_our_turn():
            self._owed_since = now
        due = self._owed_since + self.receive_timeout
        if due > now:
            self._look_at(due)
        elif now > planned + _LATE:
            self._look_at(now + _LATE)
        elif not self._spoken:
            # Nothing was asked: a pool that opens connections in advance would take an answer for the next request's.
            self.transport.close()
        else:
            what = (
                "The request line and the headers of a request"
                if self._owed is Owed.HEAD
                else "The next part of a request's body"
            )
            self._refuse(408, f"{what} must come within {self.receive_timeout:g} s; send it again, without pauses.\n")

    def _is_our_turn(self) -> bool:
        """Whether nothing can be expected of the caller: an answer is owed first, or we do not read."""
        if self._owed is Owed.NOTHING or self.flow.read_paused or self.pipeline:
            return True
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        # An answer is under way; a caller who sends the next head meanwhile waits for it, and so does one whose body nobody
        # has asked for yet.
        return self._owed is Owed.HEAD or cycle.response_started or cycle.waiting_for_100_continue

    def _refuse(self, status: int, sentence: str) -> None:
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        # Where an answer is under way, another one would be taken for a part of it.
        cycle = self.cycle
        unanswered = self._owed is Owed.BODY and not self.pipeline and cycle is not None and not cycle.response_started
        if unanswered or (self._owed is not Owed.BODY and (cycle is None or cycle.response_complete)):
            content = sentence.encode()
            self.transport.write(
                STATUS_LINE[status] + b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%s" % (len(content), content)
            )
        self.transport.close()


def receiving_within(seconds: float) -> type[HttpProtocol]:
    """The connections of a server that waits so many seconds for what its callers owe it."""
    return type("HttpProtocol", (HttpProtocol,), {"receive_timeout": seconds})
