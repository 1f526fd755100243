"""Transports of `httpx` that pass the guard: for the engine, and for plugins, asynchronous or not.

The guard sits where the connection is made. There a host is resolved once, and the connection goes to an address that was
judged; the name is still what TLS verifies and what the `Host` header says.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import h11
import httpcore
import httpx

from .errors import OutboundError

if TYPE_CHECKING:
    from .guard import Guard

#: Seconds that an unused connection is kept for the next call.
KEEP_ALIVE: Final = 15.0


class ForbiddenAddress(httpx.RequestError):
    """The guard refuses the address, or there is none; `reason` says what in the engine's words."""

    def __init__(self, reason: OutboundError) -> None:
        super().__init__(reason.message)
        self.reason = reason


@contextlib.contextmanager
def _as_httpx() -> Iterator[None]:
    """What httpcore raises becomes what httpx's users catch; both have the same names."""
    try:
        yield
    except OutboundError as error:
        raise ForbiddenAddress(error) from None
    except h11.ProtocolError as error:  # httpcore lets it out where a body ends too soon for its `Content-Length`
        raise httpx.LocalProtocolError(str(error)) from error
    except (
        ssl.SSLError
    ) as error:  # and where the other side breaks off by an alert, such as one that wants a certificate
        raise httpx.ReadError(str(error)) from error
    except tuple(getattr(httpcore, name) for name in _ERRORS) as error:
        for kind in type(error).__mro__:
            if kind.__name__ in _ERRORS:
                raise getattr(httpx, kind.__name__)(str(error)) from error
        raise


_ERRORS: Final = (
    "TimeoutException", "ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout", "NetworkError", "ConnectError",
    "ReadError", "WriteError", "ProxyError", "UnsupportedProtocol", "ProtocolError", "LocalProtocolError",
    "RemoteProtocolError",
)  # fmt: skip


def _core(request: httpx.Request) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        method=request.method,
        url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


def _surplus(stream: Any) -> bool:
    """
    Whether the server has sent more than its answer.

    A connection with more on it is not used again: what is left would be read as the answer to the next request, which
    may be another instance's. (What comes after the connection is back in the pool, the pool itself sees.) There is no
    public way to ask; should httpcore change, a test says so.
    """
    connection = getattr(getattr(stream, "_stream", None), "_connection", None)
    state = getattr(connection, "_h11_state", None)
    return state is not None and bool(state.trailing_data[0])


# -- asynchronous ------------------------------------------------------------------------------------------------------


class _GuardedNetwork(httpcore.AsyncNetworkBackend):
    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of a host that may be called and answers."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                resolved = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"resolving {host} took too long") from None
        except (OSError, UnicodeError):  # UnicodeError: the name has a label that no name may have
            resolved = []
        error: Exception | None = None
        for address in self._guard.choose(host, port, (str(entry[4][0]) for entry in resolved)):
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        assert error is not None, "the guard chooses an address or raises"
        raise error

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Nobody is called over a file of this machine."""
        raise httpcore.UnsupportedProtocol("no call goes over a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        """Wait, as httpcore asks for between attempts."""
        await asyncio.sleep(seconds)


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: Any, network: Any) -> None:
        self._stream = stream
        self._network = network

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        if _surplus(self._stream):
            await self._network.aclose()
        await self._stream.aclose()


class GuardedTransport(httpx.AsyncBaseTransport):
    """What `httpx.AsyncClient(transport=…)` takes."""

    def __init__(self, guard: Guard, *, connections_max: int) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=connections_max,
            max_keepalive_connections=connections_max,
            keepalive_expiry=KEEP_ALIVE,
            network_backend=_GuardedNetwork(guard),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        with _as_httpx():
            response = await self._pool.handle_async_request(_core(request))
        body = _Body(response.stream, response.extensions["network_stream"])
        return httpx.Response(response.status, headers=response.headers, stream=body, extensions=response.extensions)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


# -- for code that is not asynchronous -----------------------------------------------------------------------------------


class _GuardedSyncNetwork(httpcore.NetworkBackend):
    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of a host that may be called and answers."""
        try:
            resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # UnicodeError: the name has a label that no name may have
            resolved = []
        error: Exception | None = None
        for address in self._guard.choose(host, port, (str(entry[4][0]) for entry in resolved)):
            try:
                return self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        assert error is not None, "the guard chooses an address or raises"
        raise error


class _SyncBody(httpx.SyncByteStream):
    def __init__(self, stream: Any, network: Any) -> None:
        self._stream = stream
        self._network = network

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx():
            yield from self._stream

    def close(self) -> None:
        if _surplus(self._stream):
            self._network.close()
        self._stream.close()


class GuardedSyncTransport(httpx.BaseTransport):
    """What `httpx.Client(transport=…)` takes."""

    def __init__(self, guard: Guard, *, connections_max: int) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=connections_max,
            max_keepalive_connections=connections_max,
            keepalive_expiry=KEEP_ALIVE,
            network_backend=_GuardedSyncNetwork(guard),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        with _as_httpx():
            response = self._pool.handle_request(_core(request))
        body = _SyncBody(response.stream, response.extensions["network_stream"])
        return httpx.Response(response.status, headers=response.headers, stream=body, extensions=response.extensions)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()
