"""Brokers for tests: the real servers where they are, private ones that a test may stop, and a cable that can be cut.

`PLIERS_TEST_NATS_URL`, `PLIERS_TEST_REDIS_URL` and `PLIERS_TEST_AMQP_URL` say where the servers are; a test whose server is
not there is skipped, and says so. Private servers need their programs on the path.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest

from pliers_workflow.client.server import free_port

NATS = os.environ.get("PLIERS_TEST_NATS_URL", "nats://127.0.0.1:4222")
REDIS = os.environ.get("PLIERS_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
AMQP = os.environ.get("PLIERS_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")

Served = TypeVar("Served", bound="Breakable")


def amqp_address(port: int | None = None) -> dict[str, Any]:
    """RabbitMQ as sinks and event sources name it; by another port of this machine, where there is a cable."""
    read = urlsplit(AMQP)
    return {
        "type": "rabbitmq", "url": f"amqp://{read.hostname}:{port or read.port}{read.path}", "user": read.username,
        "password": read.password,
    }  # fmt: skip


def need_server(url: str, what: str) -> None:
    """Skip the test unless somebody listens there."""
    read = urlsplit(url)
    try:
        socket.create_connection((read.hostname or "", read.port or 0), timeout=2).close()
    except OSError as error:
        pytest.skip(f"no {what} at {read.hostname}:{read.port}: {error}")


def need_program(name: str) -> str:
    """Skip the test unless the program is there."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


class PrivateServer:
    """A server of this test's own, on a port and a folder that stay the same when it is started again."""

    def __init__(self, *command: str, port: int) -> None:
        self._command = command
        self.port = port
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        for _ in range(200):
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{self._command[0]} does not listen")

    async def kill(self) -> None:
        """As a crash would: what was not on disk is gone."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def private_nats(folder: Path) -> AsyncIterator[PrivateServer]:
    """A NATS server with JetStream."""
    port = free_port()
    command = (need_program("nats-server"), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder))
    server = PrivateServer(*command, port=port)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


@asynccontextmanager
async def private_redis(folder: Path) -> AsyncIterator[PrivateServer]:
    """A Redis that writes every command to disk before it answers."""
    port = free_port()
    server = PrivateServer(
        need_program("redis-server"), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", "",
        "--appendonly", "yes", "--appendfsync", "always", port=port,
    )  # fmt: skip
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


class Breakable(ABC):
    """Something on a port of this machine whose connections a test may cut, and let be made again."""

    def __init__(self) -> None:
        self.port = 0
        self._ends: set[asyncio.StreamWriter] = set()
        self._up = True

    @abstractmethod
    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends; it may end by an OSError, or by an IncompleteReadError."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._up:
            self._ends.add(writer)
            with suppress(OSError, asyncio.IncompleteReadError):
                await self.talk(reader, writer)
            self._ends.discard(writer)
        writer.close()

    async def cut(self) -> None:
        """Every connection is gone at once, and none is taken until it is mended."""
        self._up = False
        for end in self._ends:
            end.transport.abort()

    async def mend(self) -> None:
        self._up = True


@asynccontextmanager
async def listening(made: Served) -> AsyncIterator[Served]:
    """It is there for as long as the block."""
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        await made.cut()
        server.close()


class Cable(Breakable):
    """A way to the server of an address that can be cut, and laid again."""

    def __init__(self, url: str) -> None:
        super().__init__()
        read = urlsplit(url)
        self._there = (read.hostname or "", read.port or 0)
        self.connections = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection(*self._there)
        self._ends.add(far_writer)
        await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))
        self._ends.discard(far_writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()
