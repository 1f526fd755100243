"""The engine's own calls: one bounded request, one bounded answer."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Final

import httpx
from msgspec import Struct

from pliers_workflow import __version__

from .errors import OutboundError
from .guard import Guard
from .transport import ForbiddenAddress, GuardedTransport

if TYPE_CHECKING:
    from pliers_workflow.settings import OutboundSettings

#: How we introduce ourselves, unless a request says otherwise.
USER_AGENT: Final = f"pliers-workflow/{__version__}"

#: of a body on which nothing depends: bytes that are read, and seconds in which they must come
_BEGINNING: Final = 64 * 1024
_SOON: Final = 1.0
_PACKED: Final = ("gzip", "x-gzip", "deflate")
#: for zlib: what is packed says whether it is as gzip or as zlib does it
_ANY_FORMAT: Final = 47
#: what a member of gzip begins with
_GZIP: Final = b"\x1f\x8b"
_PIECE: Final = 4096


class Received(Struct, frozen=True):
    """An answer, whatever its status."""

    status: int
    #: names in lower case; several of one name are joined by commas
    headers: Mapping[str, str]
    body: bytes


class Outbound:
    """Sends requests to the outside. One for each node; used from one event loop."""

    def __init__(self, settings: OutboundSettings) -> None:
        self._settings = settings
        self.guard = Guard(settings)
        self._transport = GuardedTransport(self.guard, connections_max=settings.connections_max)
        self._client = httpx.AsyncClient(
            transport=self._transport,
            timeout=None,
            trust_env=False,
            follow_redirects=False,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"},
        )
        # Two parties must not meet in a jar: an answer's cookies are nobody else's.
        self._client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout: float | None = None,
        size_max: int | None = None,
        status_only: bool = False,
    ) -> Received:
        """
        Send one request and give its answer, of any status. Redirects are answers, too.

        `timeout` (seconds) is for all of it, from resolving the name to the last byte. `status_only`: the answer is its
        status, and its body no more than a remark: the beginning of it, if it comes soon. Raises OutboundError.
        """
        seconds = self._settings.request_timeout if timeout is None else timeout
        size_max = self._settings.response_size_max if size_max is None else size_max
        request = self._request(method, url, headers or {}, content)
        try:
            async with asyncio.timeout(seconds):
                response = await self._client.send(request, stream=True)
                if not status_only:
                    try:
                        body = await _read(response, size_max)
                    finally:
                        await response.aclose()
        except TimeoutError:
            raise OutboundError(
                "HTTP_TIMEOUT", f"{_place(request)} gave no whole answer within {seconds:g} s.", retryable=True
            ) from None
        except httpx.HTTPError as error:
            raise _failure(error, _place(request)) from error
        if status_only:
            body = await _beginning(response, min(size_max, _BEGINNING))
        return Received(response.status_code, {name.lower(): text for name, text in response.headers.items()}, body)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _request(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None) -> httpx.Request:
        check_url(url)
        connect = self._settings.connect_timeout
        try:
            return self._client.build_request(
                method, url, headers=dict(headers), content=content,
                timeout=httpx.Timeout(None, connect=connect, pool=connect),
            )  # fmt: skip
        except (httpx.InvalidURL, UnicodeError, ValueError, TypeError) as error:
            raise OutboundError("HTTP_INVALID_URL", f"The request cannot be sent: {error}", retryable=False) from None


def check_url(url: str) -> httpx.URL:
    """Read an address that can be called: http or https, a host, no user or password. Raises OutboundError."""
    try:
        read = httpx.URL(url)
        host = read.host
        # As whoever resolves it will do; a label that is empty or too long is refused there, and not as an error of the network.
        read.raw_host.decode("ascii").encode("idna")
    except (httpx.InvalidURL, TypeError, UnicodeError, ValueError) as error:
        raise OutboundError("HTTP_INVALID_URL", f"{url[:200]!r} is no address: {error}", retryable=False) from None
    if read.scheme not in ("http", "https") or not host:
        raise OutboundError(
            "HTTP_INVALID_URL", f"{url[:200]!r} is no address of http or https with a host.", retryable=False
        )
    if read.userinfo:
        raise OutboundError(
            "HTTP_INVALID_URL", "An address holds no user and no password: send a header instead.", retryable=False
        )
    return read


async def _beginning(response: httpx.Response, size_max: int) -> bytes:
    """What comes soon of a body on which nothing depends; a connection whose answer has an end is used again."""
    raw = bytearray()
    try:
        with contextlib.suppress(TimeoutError, httpx.HTTPError):
            async with asyncio.timeout(_SOON):
                async for part in response.aiter_raw():
                    raw += part
                    if len(raw) > size_max:
                        break
    finally:
        with contextlib.suppress(httpx.HTTPError):
            await response.aclose()
    if response.headers.get("content-encoding", "").strip().lower() in _PACKED:
        try:
            return _unpacked(bytes(raw), size_max)[0]
        except zlib.error:
            return b""
    return bytes(raw[:size_max])


async def _read(response: httpx.Response, size_max: int) -> bytes:
    """The body, as it is after unpacking; more than allowed is not read."""
    raw = bytearray()
    async for part in response.aiter_raw():
        raw += part
        if len(raw) > size_max:
            raise _too_large(size_max)
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("", "identity") or not raw:
        return bytes(raw)
    if coding not in _PACKED:
        raise OutboundError("HTTP_PROTOCOL", f"The answer is packed as {coding[:40]!r}.", retryable=False)
    try:
        body, whole = _unpacked(bytes(raw), size_max + 1)
    except zlib.error as error:
        raise OutboundError("HTTP_PROTOCOL", f"The answer cannot be unpacked: {error}", retryable=True) from None
    if len(body) > size_max:
        raise _too_large(size_max)
    if not whole:
        raise OutboundError("HTTP_PROTOCOL", "The answer's packed body ends too soon.", retryable=True)
    return body


def _unpacked(packed: bytes, size_max: int) -> tuple[bytes, bool]:
    """As much of a body, and whether that is all of it; gzip may come in several members (RFC 1952, section 2.2)."""
    unpacker, body, at = zlib.decompressobj(_ANY_FORMAT), bytearray(), 0
    view = memoryview(packed)
    while at < len(view) and len(body) < size_max:
        if unpacker.eof:
            if bytes(view[at : at + 2]) != _GZIP:
                break  # what comes after it is none of it
            unpacker = zlib.decompressobj(_ANY_FORMAT)
        # A little at a time, because what is beyond the end of a member is copied.
        piece = view[at : at + _PIECE]
        body += unpacker.decompress(piece, size_max - len(body))
        at += len(piece) - len(unpacker.unused_data)
    return bytes(body), unpacker.eof


def _too_large(size_max: int) -> OutboundError:
    return OutboundError(
        "HTTP_RESPONSE_TOO_LARGE", f"The answer has more than {size_max} bytes, which is the limit.", retryable=False
    )


def _place(request: httpx.Request) -> str:
    """Who was called, without path and query, which may hold secrets."""
    return f"{request.url.scheme}://{request.url.netloc.decode('ascii', 'replace')}"


def _failure(error: httpx.HTTPError, place: str) -> OutboundError:
    match error:
        case ForbiddenAddress():
            return error.reason
        case httpx.ConnectTimeout() | httpx.PoolTimeout() | httpx.ConnectError():
            return OutboundError("HTTP_CONNECT", f"{place} takes no connection: {_what(error)}", retryable=True)
        case httpx.TimeoutException():
            return OutboundError("HTTP_TIMEOUT", f"{place} gave no answer in time.", retryable=True)
        case _:
            return OutboundError(
                "HTTP_PROTOCOL", f"The exchange with {place} broke off: {_what(error)}", retryable=True
            )


def _what(error: httpx.HTTPError) -> str:
    """What went wrong in words: where the library has none, those of what lies below, such as an alert of TLS."""
    below: BaseException | None = error
    while below is not None:
        if text := str(below).strip():
            return text[:300]
        below = below.__cause__ or below.__context__
    return type(error).__name__
