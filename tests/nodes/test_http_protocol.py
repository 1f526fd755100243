"""Requests whose head never ends: refused after 64 kB, with a sentence, while everybody else is answered."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.nodes.processes import Cluster, Node

START: Final = b"GET /api/v1/me HTTP/1.1\r\nHost: node\r\n"
CHUNKED: Final = b"POST /api/v1/workflows HTTP/1.1\r\nHost: node\r\nTransfer-Encoding: chunked\r\n\r\n"
#: what a caller sends first, and then again and again
ENDLESS: Final = {
    "a value": (START + b"X: ", b"a" * 16_384),
    "headers": (START, b"X: 1\r\n" * 2_000),
    "a name": (START, b"a" * 16_384),
    "an address": (b"GET /", b"a" * 16_384),
    "an extension of a chunk": (CHUNKED + b"1;", b"a" * 16_384),
    "trailers": (CHUNKED + b"0\r\n", b"X: 1\r\n" * 2_000),
}
#: bytes; what lies in buffers of the system counts too
FAR_TOO_MUCH: Final = 64_000_000


async def test_a_head_without_end_is_refused(cluster: Cluster) -> None:
    """Whatever part of a head goes on for ever, the node hangs up soon and answers the others; a long head is no such one."""
    node = await cluster.node()
    for what, (first, again) in ENDLESS.items():
        _, writer = await connection(node)
        writer.write(first)
        sent = 0
        try:
            while sent < FAR_TOO_MUCH:
                writer.write(again)
                await writer.drain()
                sent += len(again)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
        assert sent < FAR_TOO_MUCH, what
    await node("GET", "/health/live", status=200)
    answer = await said(node, START + b"X: " + b"a" * 50_000 + b"\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_a_head_that_is_too_large_is_answered_with_what_to_do(cluster: Cluster) -> None:
    """431 and a sentence, also where the whole head comes at once; the first of two requests is answered as ever."""
    node = await cluster.node()
    large = START + b"X: " + b"a" * 70_000 + b"\r\n\r\n"
    answer = await said(node, large)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert answer.endswith(b"65,536 bytes together; send shorter or fewer ones.\n")
    answer = await said(node, b"GET /health/live HTTP/1.1\r\nHost: node\r\n\r\n", large)
    first, _, second = answer.partition(b'{"status":"live"}')
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 431 ")


async def connection(node: Node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To speak with a node byte by byte."""
    host, _, port = node.server.url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


async def said(node: Node, *requests: bytes) -> bytes:
    """What the node answers on one connection, one request after the other, until it hangs up."""
    reader, writer = await connection(node)
    answers = b""
    try:
        for request in requests[:-1]:
            writer.write(request)
            answers += await reader.readuntil(b"}")
        writer.write(requests[-1])
        return answers + await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.transport.abort()
