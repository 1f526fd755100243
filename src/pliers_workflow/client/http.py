"""A small HTTP/1.1 client: keep-alive, a bounded number of connections, no redirects, no compression.

It promises one thing that matters here: when the connection breaks before the answer was read whole, it raises
`ConnectionLost`, and the caller knows that the request may or may not have taken effect.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from urllib.parse import urlsplit

import msgspec

from pliers_workflow import __version__

_LIMIT = 16 * 1024 * 1024


class ConnectionLost(Exception):
    """The server could not be reached, or the connection broke before its answer was complete."""


class Response(msgspec.Struct, frozen=True):
    """An answer, read whole."""

    status: int
    #: names in lower case
    headers: dict[str, str]
    body: bytes


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def close(self) -> None:
        self.writer.close()


class HttpClient:
    """Requests to one server, at most `connections` of them at a time; more wait their turn."""

    def __init__(self, url: str, *, connections: int = 16, timeout: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ValueError(f"{url!r} is no http address; give one such as http://127.0.0.1:8080")
        self.url = url.rstrip("/")
        self._host = parts.hostname
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        self._authority = parts.netloc.rpartition("@")[2]
        self._timeout = timeout
        self._turns = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []

    async def __aenter__(self) -> HttpClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    async def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Response:
        """
        Send one request and read its answer.

        Nothing is ever sent twice here: whoever sends again must know that it is safe. Raises `ConnectionLost`.
        """
        lines = [
            f"{method} {self._prefix}{path} HTTP/1.1",
            f"host: {self._authority}",
            f"user-agent: pliers/{__version__}",
            "accept: application/json",
        ]
        if body is not None:
            if "content-type" not in (headers or {}):
                lines.append("content-type: application/json")
            lines.append(f"content-length: {len(body)}")
        elif method not in ("GET", "HEAD"):
            lines.append("content-length: 0")
        for name, value in (headers or {}).items():
            lines.append(f"{name}: {value}")
        payload = "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")
        async with self._turns:
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._exchange(payload, head_only=method == "HEAD")
            except TimeoutError:
                raise ConnectionLost(f"no answer from {self.url} within {self._timeout:g} s") from None
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                raise ConnectionLost(f"the connection to {self.url} broke: {error or type(error).__name__}") from None
            except (ValueError, IndexError):
                raise ConnectionLost(f"what answers at {self.url} does not speak HTTP") from None

    async def _exchange(self, payload: bytes, *, head_only: bool) -> Response:
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            connection.writer.write(payload)
            response, keep = await self._read(connection.reader, head_only=head_only)
        except BaseException:
            connection.close()
            raise
        if keep:
            self._idle.append(connection)
        else:
            connection.close()
        return response

    async def _connect(self) -> _Connection:
        return _Connection(
            *await asyncio.open_connection(self._host, self._port, ssl=True if self._tls else None, limit=_LIMIT)
        )

    async def _read(self, reader: asyncio.StreamReader, *, head_only: bool) -> tuple[Response, bool]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ", 2)[1])
        headers: dict[str, str] = {}
        for line in head[1:]:
            name, colon, value = line.partition(":")
            if colon:
                headers[name.lower()] = value.strip()
        if 100 <= status < 200:
            return await self._read(reader, head_only=head_only)
        keep = headers.get("connection", "").lower() != "close"
        if head_only or status in (204, 304):
            body = b""
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            body = await self._read_chunks(reader)
        elif "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            body, keep = await reader.read(), False
        return Response(status, headers, body), keep

    async def _read_chunks(self, reader: asyncio.StreamReader) -> bytes:
        parts = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        while (await reader.readuntil(b"\r\n")) != b"\r\n":
            pass
        return b"".join(parts)
