"""One connection of the HTTP server: it keeps no more of a request's head than a head may have, and waits for none for ever.

uvicorn's parser collects names, values and the address until the head is whole, however much that is, and before anybody
has asked for a token. So a caller whose head never ends would fill the memory of the node and, since the parser copies a
value anew with every part of it that arrives, take its time as well. What comes between two parts of a body (the lengths
of chunks, trailers) is bounded in the same way; bodies are bounded where they are read, and here where nobody reads them.

A caller who sends a byte a minute, or takes a byte a minute of its answer, would hold a connection for as long as it
likes. So a whole head has to come within `server.receive_timeout` seconds of its first byte (of the connection's
beginning, where nothing has come yet). A body has to come, and an answer to be taken, at `RATE_MIN` bytes a second,
counted over as many seconds: shorter pauses are nobody's fault. What is silent because it is us who owe something (an
answer, reading, `100 Continue`) has all the time it needs, and connections between two requests have uvicorn's. That is
looked at once in `server.receive_timeout` seconds, and not set up anew with every request.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
from typing import Any, Final, NoReturn

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

#: bytes of a request line and all headers together, as they come over the wire
HEAD_SIZE_MAX: Final = 65_536
#: bytes a second in which bodies come and answers are taken at the slowest (Apache's `mod_reqtimeout` asks for as many)
RATE_MIN: Final = 500
#: requests of one connection that wait for the answers before theirs; each takes some ten times the memory of what was sent
WAITING_MAX: Final = 100
#: bytes of a body that come after its answer: who sends everything before reading has to be heard out to be answered
UNREAD_SIZE_MAX: Final = 1_048_576

#: bytes of an answer that the system takes before they can leave
_UNSENT_SIZE_MAX: Final = 16_384
_TOO_LARGE: Final = f"The request line and the headers of a request may have {HEAD_SIZE_MAX:,} bytes together; send shorter or fewer ones.\n"
#: seconds by which a look may be late before we take it that the node was busy, and what came has not been read yet
_LATE: Final = 1.0


class Owed(enum.Enum):
    """What the caller has to send next."""

    NOTHING = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


class Counted:
    """A transport that knows how many bytes it has been given to write."""

    def __init__(self, transport: Any) -> None:
        self.written = 0
        self._transport = transport
        self._write = transport.write
        self.is_closing = transport.is_closing
        self.get_write_buffer_size = transport.get_write_buffer_size

    def write(self, data: bytes) -> None:
        """As the transport's own; where nobody is there any more nothing is written, and nothing fails."""
        if not self.is_closing():
            self.written += len(data)
            self._write(data)

    @property
    def taken(self) -> int:
        """Bytes that lie with us no more; the system's buffers count as the caller's."""
        return self.written - int(self.get_write_buffer_size())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class HttpProtocol(HttpToolsProtocol):
    """
    uvicorn's connection, which refuses a head without end with 431, a request that does not come with 408, and hangs up.

    It breaks the connection where answers are not taken, and speaks HTTP/1.1 and nothing else.
    """

    #: seconds for a head, and over which the rate of a body or answer is counted; set by `receiving_within`
    receive_timeout = 30.0
    transport: Any
    #: bytes read since a head, or a part of a body, was whole
    _unfinished = 0
    #: bytes of the address and the headers that the parser has handed over
    _collected = 0
    _advanced = False
    #: what is said where the parser stops
    _objection = (400, "This is no HTTP/1.1 request.\n")
    _refused = False
    _owed = Owed.HEAD
    #: since when, on the loop's clock; of a body, since when it is counted
    _owed_since = 0.0
    #: whether the connection lives on after the request at hand, where that waits for `100 Continue`
    _keeps_alive = True
    #: bytes of the body, and how many they were at `_owed_since`
    _body_size = 0
    _body_size_before = 0
    #: since when an answer lies here, as far as has been looked, and how much of all answers had been taken then
    _untaken_since: float | None = None
    _taken_before = 0
    #: whether the connection has ever said anything
    _spoken = False
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Somebody has called."""
        # Else the system takes megabytes of an answer before any of it has left, and we could not see how it goes on.
        with contextlib.suppress(OSError):  # who has gone again already
            transport.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_SIZE_MAX
            )
        super().connection_made(Counted(transport))  # type: ignore[arg-type]
        self._owed_since = self.loop.time()
        self._look_at(self._owed_since + self.receive_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """They are gone."""
        self._look_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        if self._refused:
            return
        self._advanced = False
        if self._owed is Owed.NOTHING or not self._spoken:
            self._spoken = True
            self._owe(Owed.HEAD)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except HttpParserError:
            self._refuse(*self._objection)
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
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._object(400, "There is nothing to connect to; this is a server of its own.\n")
            return  # it comes again, without the offer
        self._check_host()
        self._advanced = True
        self._body_size = 0
        self._owe(Owed.BODY)
        super().on_headers_complete()
        if self.expect_100_continue:
            # Refused before its body is asked for, a caller may send it or not: nobody could tell what comes next.
            self._keeps_alive, self.cycle.keep_alive = self.cycle.keep_alive, False
        if len(self.pipeline) > WAITING_MAX:
            self._object(400, "Too many requests wait on this connection; read their answers first.\n")

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._advanced = True
        self._body_size += len(body)
        if self._body_size > UNREAD_SIZE_MAX and self.cycle is not None and self.cycle.response_complete:
            self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is whole."""
        if self.parser.should_upgrade():
            return
        self._advanced = True
        self._owed = Owed.NOTHING
        if self.expect_100_continue:
            self.cycle.keep_alive = self._keeps_alive
        super().on_message_complete()

    def _parse(self, data: bytes) -> None:
        """
        Parse, and decline every offer to change the protocol (`Upgrade: h2c`, which Java's client makes with its first request).

        The parser takes such a request for one without a body, and what follows it for the other protocol; left at that, its
        body would be lost, or even be read as the next request. So it is parsed anew without the offer.
        """
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
                return
            except HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
            line = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
            headers = [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
            self.parser.feed_data(b"\r\n".join([line, *headers, b"\r\n"]))

    def _check_host(self) -> None:
        """HTTP/1.1 wants exactly one (RFC 9112 section 3.2): where there are two, a proxy may have heeded the other."""
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            self._object(400, "A request has one `Host` header; send it once.\n")

    def _collect(self, size: int) -> None:
        self._collected += size
        if self._collected > HEAD_SIZE_MAX:
            self._object(431, _TOO_LARGE)

    def _object(self, status: int, sentence: str) -> NoReturn:
        self._objection = (status, sentence)
        raise ValueError  # makes the parser stop

    def _owe(self, what: Owed) -> None:
        self._owed = what
        self._owed_since = self.loop.time()
        self._body_size_before = self._body_size

    def _look_at(self, due: float) -> None:
        self._look = self.loop.call_at(due, self._look_whether_it_goes_on, due)

    def _look_no_more(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _look_whether_it_goes_on(self, planned: float) -> None:
        """Hang up where the caller has owed us something, or left an answer here, for too long; else look again in time."""
        now = self.loop.time()
        if now > planned + _LATE:
            self._look_at(now + _LATE)
            return
        self._look_whether_it_is_taken(now)
        since = now if self._untaken_since is None else self._untaken_since
        if not self.transport.is_closing():
            self._look_whether_it_came(now)
            since = min(since, self._owed_since)
        # What has been closed is still ours until its answer is taken.
        self._look_at(since + self.receive_timeout)

    def _look_whether_it_is_taken(self, now: float) -> None:
        taken = self.transport.taken
        if taken == self.transport.written:
            self._untaken_since = None
        elif self._untaken_since is None:
            self._untaken_since, self._taken_before = now, taken
        elif now >= self._untaken_since + self.receive_timeout:
            if taken < self._taken_before + self._least:
                self.transport.abort()
            self._untaken_since, self._taken_before = now, taken

    def _look_whether_it_came(self, now: float) -> None:
        if self._is_our_turn():
            self._owe(self._owed)
        elif now < self._owed_since + self.receive_timeout:
            return
        elif not self._spoken:
            # Nothing was asked: a pool that opens connections in advance would take an answer for the next request's.
            self.transport.close()
        elif self._owed is Owed.HEAD:
            self._refuse(
                408,
                f"The request line and the headers of a request must come within {self.receive_timeout:g} s; "
                "send it again, without pauses.\n",
            )
        elif self._body_size < self._body_size_before + self._least:
            self._refuse(
                408,
                f"A request's body must come at {RATE_MIN} bytes a second or faster, counted over {self.receive_timeout:g} s; "
                "send it again, without pauses.\n",
            )
        else:
            self._owe(Owed.BODY)

    @property
    def _least(self) -> float:
        """Bytes that have to come, or to be taken, from one look to the next."""
        return RATE_MIN * self.receive_timeout

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
