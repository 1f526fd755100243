"""Requests that never end or never come: refused after 64 kB or some seconds, with a sentence, while others are answered."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
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


async def test_a_request_that_does_not_come_is_not_waited_for(cluster: Cluster) -> None:
    """408 and a sentence after `server.receive_timeout`, however often a byte comes; who has said nothing is told nothing."""
    node = await cluster.node(SERVER__RECEIVE_TIMEOUT=1)
    known = b"POST /api/v1/workflows HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\n"
    known += b"Authorization: Bearer %s\r\n" % cluster.admin.encode()
    live = b"GET /health/live HTTP/1.1\r\nHost: node\r\n\r\n"
    head = b"The request line and the headers of a request must come within 1 s; send it again, without pauses.\n"
    part = b"A request's body must come at 500 bytes a second or faster, counted over 1 s; send it again, without pauses.\n"
    # what is sent first and then again and again, how the answers begin and end, and how many they are
    cases = [
        (START, b"X", b"HTTP/1.1 408 ", head, 1),
        (live, b"\r\n", b"HTTP/1.1 200 ", head, 2),
        (live + START, b"", b"HTTP/1.1 200 ", head, 2),
        (known + b"Content-Length: 100\r\n\r\n{", b"", b"HTTP/1.1 408 ", part, 1),
        (known + b"Content-Length: 9000\r\n\r\n{", b" ", b"HTTP/1.1 408 ", part, 1),
        (known + b"Content-Length: 9000\r\n\r\n{" + b" " * 600, b" ", b"HTTP/1.1 408 ", part, 1),
        (known + b"Transfer-Encoding: chunked\r\n\r\n", b"0", b"HTTP/1.1 408 ", part, 1),
        (CHUNKED, b"0", b"HTTP/1.1 401 ", b"}", 1),  # whose body nobody wanted is not told twice
        (b"", b"", b"", b"", 0),
    ]
    answers = await asyncio.gather(*(dripped(node, first, drop) for first, drop, _, _, _ in cases))
    for answer, (_, _, beginning, ending, count) in zip(answers, cases, strict=True):
        assert answer.startswith(beginning)
        assert answer.endswith(ending)
        assert answer.count(b"HTTP/1.1 ") == count


async def test_what_takes_its_time_is_not_cut(cluster: Cluster) -> None:
    """An answer that is waited for, a body whose parts keep coming, and a pause between two requests outlast the limit."""
    node = await cluster.node(SERVER__RECEIVE_TIMEOUT=1)
    token = await cluster.token("worker", "worker")
    head = b"POST /api/v1/external-tasks/fetch HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\n"
    head += b"Authorization: Bearer %s\r\n" % token.encode()
    content = b'{"workerId": "w", "topics": ["ocr"], "waitSeconds": 3}'
    padded = [b"%s " % part + b" " * 700 for part in content.split(b" ")]
    reader, writer = await connection(node)
    try:
        for parts in [content], padded:
            writer.write(head + b"Content-Length: %d\r\n\r\n" % sum(map(len, parts)))
            for each in parts:
                writer.write(each)
                await asyncio.sleep(0.6)
            # What comes next is begun before there is an answer, and waits for it.
            writer.write(START[:10])
            answer = await asyncio.wait_for(reader.readuntil(b"}"), 30)
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            writer.write(START[10:] + b"\r\n")
            answer = await asyncio.wait_for(reader.readuntil(b"}"), 30)
            assert answer.startswith(b"HTTP/1.1 401 "), answer
            await asyncio.sleep(2.5)
    finally:
        writer.transport.abort()


async def test_a_body_that_nobody_reads_comes_to_an_end(cluster: Cluster) -> None:
    """Who is answered before the body has come may send some of it, so as to get to the answer, and not go on for ever."""
    node = await cluster.node()
    reader, writer = await connection(node)
    part = b"10000\r\n%s\r\n" % (b" " * 0x10000)
    writer.write(CHUNKED + 8 * part)
    answer = await asyncio.wait_for(reader.readuntil(b"}"), 30)
    assert answer.startswith(b"HTTP/1.1 401 ")
    sent = 0
    try:
        while sent < FAR_TOO_MUCH:
            writer.write(part)
            await writer.drain()
            sent += len(part)
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    assert sent < FAR_TOO_MUCH


async def test_an_answer_that_is_not_taken_is_not_kept(cluster: Cluster) -> None:
    """A caller who leaves answers where they are is cut off, a slow one is not."""
    node = await cluster.node(SERVER__RECEIVE_TIMEOUT=1)
    whole = {count: len(await answers(node, count)) for count in (1, 6)}
    assert whole[1] > 400_000
    assert len(await answers(node, 6, pause=0.2)) == whole[6]
    assert len(await answers(node, 6, first_pause=5)) < whole[6]
    assert len(await answers(node, 1, first_pause=5)) < whole[1]


async def answers(node: Node, count: int, *, first_pause: float = 0, pause: float = 0) -> bytes:
    """What comes when a large answer is asked for so often; `pause` after each part of up to 1 MB, in seconds."""
    loop = asyncio.get_running_loop()
    host, _, port = node.server.url.removeprefix("http://").partition(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.setblocking(False)
        await loop.sock_connect(connection, (host, int(port)))
        request = b"GET /openapi.json HTTP/1.1\r\nHost: node\r\n%s\r\n"
        await loop.sock_sendall(connection, (request % b"") * (count - 1) + request % b"Connection: close\r\n")
        await asyncio.sleep(first_pause)
        taken = bytearray()
        try:
            while part := await asyncio.wait_for(loop.sock_recv(connection, 1_000_000), 30):
                taken += part
                await asyncio.sleep(pause)
        except ConnectionError:
            pass
        return bytes(taken)


async def test_an_offer_to_change_the_protocol_is_declined(cluster: Cluster) -> None:
    """As Java's client makes it with its first request: that request keeps its body, and the next ones are heard."""
    node = await cluster.node()
    live = b"GET /health/live HTTP/1.1\r\nHost: node\r\n\r\n"
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nHTTP2-Settings: AAEAAEAAAAI\r\n"
    for protocol in b"h2c", b"websocket", b"anything":
        head = b"POST /api/v1/users HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\n"
        head += b"Authorization: Bearer %s\r\n" % cluster.admin.encode() + offer % protocol
        body = b'{"username": "%s"}' % protocol
        whole = head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        for sent in [whole], [whole[:90], whole[90 : -len(body)], body]:
            reader, writer = await connection(node)
            for part in sent:
                writer.write(part)
                await asyncio.sleep(0.05)
            answer = await asyncio.wait_for(reader.readuntil(b"}"), 30)
            assert answer.startswith(b"HTTP/1.1 201 " if sent == [whole] else b"HTTP/1.1 409 "), answer
            writer.transport.abort()
        await node.api("GET", f"/users/{protocol.decode()}", cluster.admin)
        asked = live.replace(b"\r\n\r\n", b"\r\n" + offer % protocol + b"\r\n")
        chunked = head + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        answer = await said(node, asked + live + 60 * asked + chunked)
        assert answer.count(b"HTTP/1.1 200 ") == 62
        assert answer.count(b"`username`") == 2


async def test_a_body_that_was_not_asked_for_is_not_waited_for(cluster: Cluster) -> None:
    """Refused before `100 Continue`, a caller may send its body or another request: the connection ends, so neither is mistaken."""
    node = await cluster.node()
    live = b"GET /health/live HTTP/1.1\r\nHost: node\r\n\r\n"
    post = b"POST /api/v1/users HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    post += b"Content-Length: %d\r\n%s\r\n"
    for refused in post % (100, b""), post.replace(b"/api/v1/users", b"/docs") % (100, b""):
        answer = await said(node, refused)
        assert answer.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 405 "))
        assert b"\r\nconnection: close\r\n" in answer
    known = b"Authorization: Bearer %s\r\n" % cluster.admin.encode()
    body = b'{"username": "ada"}'
    reader, writer = await connection(node)
    try:
        writer.write(post % (len(body), known))
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body + live)
        answer = await asyncio.wait_for(reader.readuntil(b"live"), 30)
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert b"connection: close" not in answer
    finally:
        writer.transport.abort()


async def test_requests_do_not_queue_up_without_end(cluster: Cluster) -> None:
    """Up to a hundred may be sent before an answer is read; whoever sends thousands loses the connection."""
    node = await cluster.node()
    live = b"GET /health/live HTTP/1.1\r\nHost: node\r\n\r\n"
    last = live.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert (await said(node, 100 * live + last)).count(b"HTTP/1.1 200 ") == 101
    assert (await said(node, 3000 * live + last)).count(b"HTTP/1.1 200 ") < 101
    await node("GET", "/health/live", status=200)


async def test_who_hangs_up_over_many_requests_leaves_no_trace(cluster: Cluster) -> None:
    """Answers that nobody is there for are dropped, and no error is logged for each of them."""
    node = await cluster.node()
    await node("GET", "/openapi.json", status=200)
    for _ in range(3):
        _, writer = await connection(node)
        writer.write(50 * b"GET /openapi.json HTTP/1.1\r\nHost: node\r\n\r\n")
        await asyncio.sleep(0.5)  # more cannot be written than has been
        writer.transport.abort()
    await asyncio.sleep(0.5)
    await node("GET", "/health/live", status=200)
    assert "Exception" not in (cluster.folder / "node1.log").read_text()


async def test_what_is_no_http_is_refused_with_a_sentence(cluster: Cluster) -> None:
    """400, and the connection is closed: what may be understood in two ways by two servers is not understood at all."""
    node = await cluster.node()
    post = b"POST /api/v1/users HTTP/1.1\r\nHost: node\r\n"
    for request, reason in (
        (b"\x16\x03\x01\x02\x00\x01\x00", b"This is no HTTP/1.1 request.\n"),
        (post + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"This is no HTTP/1.1 request.\n"),
        (post + b"Content-Length: 2\r\nContent-Length: 5\r\n\r\n{}abc", b"This is no HTTP/1.1 request.\n"),
        (post + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", b"This is no HTTP/1.1 request.\n"),
        (post + b"X: a\r\n b\r\n\r\n", b"This is no HTTP/1.1 request.\n"),
        (b"GET /health/live HTTP/1.1\r\n\r\n", b"A request has one `Host` header; send it once.\n"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"A request has one `Host` header; send it once.\n"),
        (
            b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
            b"There is nothing to connect to; this is a server of its own.\n",
        ),
    ):
        answer = await said(node, request)
        assert answer.startswith(b"HTTP/1.1 400 "), request
        assert answer.endswith(reason), request
    assert (await said(node, b"GET /health/live HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def dripped(node: Node, first: bytes, drop: bytes) -> bytes:
    """What the node answers until it hangs up, where something comes again and again, and is never whole."""
    reader, writer = await connection(node)

    async def drip() -> None:
        while True:
            writer.write(drop)
            await asyncio.sleep(0.2)

    writer.write(first)
    dripping = asyncio.ensure_future(drip())
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        dripping.cancel()
        writer.transport.abort()


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
        async with asyncio.timeout(30):
            # Who hangs up on what was sent and not read resets the connection, at whatever moment.
            with suppress(ConnectionResetError):
                while part := await reader.read(65_536):
                    answers += part
        return answers
    finally:
        writer.transport.abort()
