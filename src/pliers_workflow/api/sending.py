"""Writing an answer: the headers all have in common, and compression for those who can read it."""

from __future__ import annotations

import asyncio
import gzip
import re
from typing import Final

from starlette.types import Send

#: answers from this size on are compressed for those who can read it, in bytes
COMPRESSED_SIZE_MIN: Final = 4_000

#: bytes that take more than a millisecond to compress: other people's answers do not wait for that
_LARGE: Final = 131_072
JSON: Final = (b"content-type", b"application/json")
PROBLEM: Final = (b"content-type", b"application/problem+json")
COMMON: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
#: a node that stops lets go of connections that would be used again
CLOSE: Final = (b"connection", b"close")
#: 204 has none, and that of 304 would be the length of what is not sent (RFC 9110 section 8.6)
_WITHOUT_LENGTH: Final = (204, 304)
_GZIP: Final = ((b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"))


async def send_answer(
    send: Send,
    status: int,
    body: bytes,
    headers: list[tuple[bytes, bytes]],
    request: dict[bytes, bytes],
    *,
    head: bool = False,
) -> None:
    """Send all of an answer; `request` are the headers it came with, `head` leaves the body out."""
    if len(body) >= COMPRESSED_SIZE_MIN and accepts_gzip(request.get(b"accept-encoding", b"")):
        # zlib lets go of the interpreter meanwhile.
        body = compressed(body) if len(body) < _LARGE else await asyncio.to_thread(compressed, body)
        headers.extend(_GZIP)
    if status not in _WITHOUT_LENGTH:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


def compressed(body: bytes) -> bytes:
    """The body as gzip, quickly rather than tightly."""
    return gzip.compress(body, compresslevel=1, mtime=0)


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Whether the caller reads gzip (RFC 9110 section 12.5.3; `q=0` refuses it)."""
    if b"gzip" not in accept_encoding:
        return False
    for part in accept_encoding.split(b","):
        coding, _, weight = part.partition(b";")
        if coding.strip().lower() == b"gzip":
            quality = weight.replace(b" ", b"").lower()
            return not re.fullmatch(rb"q=0(\.0*)?", quality)
    return False
