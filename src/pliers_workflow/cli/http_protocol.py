"""One connection of the HTTP server, which keeps no more of a request's head than a head may have.

uvicorn's parser collects names, values and the address until the head is whole, however much that is, and before anybody
has asked for a token. So a caller whose head never ends would fill the memory of the node and, since the parser copies a
value anew with every part of it that arrives, take its time as well. What comes between two parts of a body (the lengths
of chunks, trailers) is bounded in the same way; bodies are bounded where they are read.
"""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

#: bytes of a request line and all headers together, as they come over the wire
HEAD_SIZE_MAX: Final = 65_536

_TOO_LARGE: Final = (
    f"The request line and the headers of a request may have {HEAD_SIZE_MAX:,} bytes together; send shorter or fewer ones.\n"
).encode()


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's connection, which refuses a head without end with 431 and hangs up."""

    #: bytes read since a head, or a part of a body, was whole
    _unfinished = 0
    #: bytes of the address and the headers that the parser has handed over
    _collected = 0
    _advanced = False
    _refused = False

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        if self._refused:
            return
        self._advanced = False
        super().data_received(data)
        self._unfinished = 0 if self._advanced else self._unfinished + len(data)
        if self._unfinished > HEAD_SIZE_MAX:
            self._refuse()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._collected = 0
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
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._advanced = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._advanced = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What could not be parsed; where it was us who stopped the parser, we say why."""
        if self._collected > HEAD_SIZE_MAX:
            self._refuse()
        elif not self._refused:
            super().send_400_response(msg)

    def _collect(self, size: int) -> None:
        self._collected += size
        if self._collected > HEAD_SIZE_MAX:
            raise ValueError("the head is too large")  # makes the parser stop

    def _refuse(self) -> None:
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        # Where an answer is under way, another one would be taken for a part of it.
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(
                STATUS_LINE[431] + b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%s" % (len(_TOO_LARGE), _TOO_LARGE)
            )
        self.transport.close()
