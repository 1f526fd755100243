"""One bounded request, one bounded answer."""

from __future__ import annotations

import asyncio
import gzip
import sys
from collections.abc import AsyncIterator

import httpx
import pytest

from pliers_workflow.runtime.outbound import Outbound, OutboundError
from pliers_workflow.runtime.outbound.guard import Guard
from pliers_workflow.runtime.outbound.transport import ForbiddenAddress, GuardedSyncTransport
from pliers_workflow.settings import OutboundSettings

from .server import OutsideServer, Request, outside, reply


@pytest.fixture
async def server() -> AsyncIterator[OutsideServer]:
    async with outside() as server:
        yield server


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    client = Outbound(OutboundSettings(allowed_hosts=("127.0.0.1",), response_size_max=2048, request_timeout=2))
    yield client
    await client.close()


async def failure(outbound: Outbound, *arguments: object, **options: object) -> OutboundError:
    with pytest.raises(OutboundError) as failed:
        await outbound.send(*arguments, **options)  # type: ignore[arg-type]
    return failed.value


async def test_a_request_is_sent_as_it_is(server: OutsideServer, outbound: Outbound) -> None:
    """Method, path, headers and body arrive; status, headers and body come back."""
    server.answer = reply(201, b'{"id": 7}', X_Made="yes")
    received = await outbound.send("POST", f"{server.url}/orders?x=1", headers={"X-Key": "k"}, content=b"[1]")
    assert (received.status, received.body, received.headers["x-made"]) == (201, b'{"id": 7}', "yes")
    (request,) = server.requests
    assert (request.method, request.target, request.body) == ("POST", "/orders?x=1", b"[1]")
    assert request.headers["x-key"] == "k"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"


class _Finder:
    """Finds nothing, and remembers what was looked for."""

    def __init__(self) -> None:
        self.wanted: list[str] = []

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        self.wanted.append(name)


async def test_a_request_looks_for_no_module(
    server: OutsideServer, outbound: Outbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a request imports is there: a module that is missing is looked for on the whole path, each time anew."""
    await outbound.send("GET", server.url)
    finder = _Finder()
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    await outbound.send("POST", server.url, content=b"{}")
    assert server.connections == 1
    async with outside() as other:  # and one over a new connection
        await outbound.send("GET", other.url)
    assert finder.wanted == []


async def test_a_redirect_is_an_answer(server: OutsideServer, outbound: Outbound) -> None:
    """Nobody sends the engine elsewhere."""
    server.answer = reply(302, Location="http://169.254.169.254/latest")
    received = await outbound.send("GET", server.url)
    assert received.status == 302
    assert len(server.requests) == 1


async def test_cookies_are_not_kept(server: OutsideServer, outbound: Outbound) -> None:
    """Two calls of two workflows have nothing to do with each other."""
    server.answer = reply(200, Set_Cookie="session=secret; Path=/")
    await outbound.send("GET", server.url)
    await outbound.send("GET", server.url)
    assert "cookie" not in server.requests[1].headers


async def test_this_machine_is_not_called(server: OutsideServer) -> None:
    """With the defaults an address of this machine is refused, before any connection is made, under any name."""
    client = Outbound(OutboundSettings())
    for host in ("127.0.0.1", "localhost", "2130706433", "0x7f000001"):
        error = await failure(client, "GET", f"http://{host}:{server.port}/")
        assert error.code in ("HTTP_FORBIDDEN_ADDRESS", "HTTP_UNRESOLVED"), host
    assert server.requests == []
    await client.close()


async def test_too_large_an_answer(server: OutsideServer, outbound: Outbound) -> None:
    """More than allowed is not read, packed or not; a small bomb is not unpacked."""
    server.answer = reply(200, b"x" * 2049)
    assert (await failure(outbound, "GET", server.url)).code == "HTTP_RESPONSE_TOO_LARGE"
    bomb = gzip.compress(b"x" * 1_000_000)
    assert len(bomb) < 2048
    server.answer = reply(200, bomb, Content_Encoding="gzip")
    assert (await failure(outbound, "GET", server.url)).code == "HTTP_RESPONSE_TOO_LARGE"
    server.answer = reply(200, gzip.compress(b"small"), Content_Encoding="gzip")
    assert (await outbound.send("GET", server.url)).body == b"small"


async def test_packed_answers_count_whole(server: OutsideServer, outbound: Outbound) -> None:
    """One that was cut off before it was packed to the end is no answer; one in several members is one."""
    packed = gzip.compress(bytes(range(256)) * 4)
    server.answer = reply(200, packed[:-1], Content_Encoding="gzip")
    error = await failure(outbound, "GET", server.url)
    assert (error.code, error.retryable) == ("HTTP_PROTOCOL", True)
    server.answer = reply(200, packed[:-100], Content_Encoding="gzip")
    assert (await failure(outbound, "GET", server.url)).code == "HTTP_PROTOCOL"
    server.answer = reply(200, gzip.compress(b"one, ") + gzip.compress(b"two"), Content_Encoding="gzip")
    assert (await outbound.send("GET", server.url)).body == b"one, two"
    server.answer = reply(200, gzip.compress(b"x" * 2000) + gzip.compress(b"x" * 2000), Content_Encoding="gzip")
    assert (await failure(outbound, "GET", server.url)).code == "HTTP_RESPONSE_TOO_LARGE"
    server.answer = reply(200, gzip.compress(b"small") + b"\0\0", Content_Encoding="gzip")
    assert (await outbound.send("GET", server.url)).body == b"small"


async def test_silence(server: OutsideServer, outbound: Outbound) -> None:
    """The time is for the whole exchange: a server that sends a byte now and then does not hold the engine."""

    async def drip(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.02)

    server.answer = drip
    error = await failure(outbound, "GET", server.url, timeout=0.2)
    assert (error.code, error.retryable) == ("HTTP_TIMEOUT", True)


async def test_broken_exchanges(server: OutsideServer, outbound: Outbound) -> None:
    """Nobody listens, no HTTP, cut off in the middle: each is worth another attempt."""

    async def rubbish(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-x\r\n\r\n")

    async def cut(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        writer.close()

    for answer in (rubbish, cut):
        server.answer = answer
        error = await failure(outbound, "GET", server.url)
        assert (error.code, error.retryable) == ("HTTP_PROTOCOL", True)
    error = await failure(outbound, "GET", "http://127.0.0.1:1/")
    assert (error.code, error.retryable) == ("HTTP_CONNECT", True)
    error = await failure(outbound, "GET", "http://nowhere.invalid/")
    assert (error.code, error.retryable) == ("HTTP_UNRESOLVED", True)


async def _twice(request: Request, writer: asyncio.StreamWriter) -> None:
    body = request.target.encode()
    writer.write((b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body) * 2)


async def test_a_server_that_answers_twice(server: OutsideServer, outbound: Outbound) -> None:
    """The second answer is nobody's: it is not taken for that to the next request on the same connection."""
    server.answer = _twice
    for number in range(20):
        received = await outbound.send("GET", f"{server.url}/{number}")
        assert received.body == f"/{number}".encode()


async def test_a_server_that_answers_twice_and_code_that_is_not_asynchronous(server: OutsideServer) -> None:
    """The same for a plugin's own client; and a server that answers once keeps its connection."""

    def ask() -> list[str]:
        guard = Guard(OutboundSettings(allowed_hosts=("127.0.0.1",)))
        with httpx.Client(transport=GuardedSyncTransport(guard, connections_max=2)) as client:
            return [client.get(f"{server.url}/{number}").text for number in range(10)]

    server.answer = _twice
    assert await asyncio.to_thread(ask) == [f"/{number}" for number in range(10)]
    connections = server.connections
    assert connections == 10
    server.answer = reply(200, b"once")
    await asyncio.to_thread(ask)
    assert server.connections == connections + 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://x/",
        "http://",
        "file:///etc/passwd",
        "http://user:pass@example.com/",
        "x" * 100_000,
        "http://a..b/",
        "http://./",
        f"http://{'a' * 64}.example.com/",
        "http://xn--a/",
    ],
)
async def test_what_is_no_address(outbound: Outbound, url: str) -> None:
    """An address that cannot be called is the author's mistake; trying again does not help."""
    error = await failure(outbound, "GET", url)
    assert (error.code, error.retryable) == ("HTTP_INVALID_URL", False)
    assert len(error.message) < 600


async def test_a_body_that_is_not_as_long_as_its_header_says(outbound: Outbound, server: OutsideServer) -> None:
    """Is an exchange that broke off, as any other."""
    error = await failure(outbound, "POST", server.url, headers={"Content-Length": "5"}, content=b"abc")
    assert error.code == "HTTP_PROTOCOL"


async def test_headers_that_break_out(outbound: Outbound, server: OutsideServer) -> None:
    """A header's value cannot begin a second request."""
    error = await failure(outbound, "GET", server.url, headers={"X": "a\r\nHost: b"})
    assert error.code in ("HTTP_INVALID_URL", "HTTP_PROTOCOL")
    assert server.requests == []


async def test_secrets_in_an_address_stay_out_of_messages(outbound: Outbound) -> None:
    """What is kept in the history of an instance names the server and no more."""
    error = await failure(outbound, "GET", "http://127.0.0.1:1/hook/s3cr3t?key=s3cr3t")
    assert "s3cr3t" not in error.message


def test_the_guard_for_code_that_is_not_asynchronous() -> None:
    """A plugin's own client passes the same guard."""
    with httpx.Client(transport=GuardedSyncTransport(Guard(OutboundSettings()), connections_max=2)) as client:
        with pytest.raises(ForbiddenAddress):
            client.get("http://127.0.0.1:9/")
