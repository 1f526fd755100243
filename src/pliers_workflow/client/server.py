"""A server as a process of its own, on a database that outlives it: started, killed without mercy, started again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from pliers_workflow import ports

from .http import ConnectionLost, HttpClient


class ServerFailed(Exception):
    """The server process ended before it answered; the message carries the end of its log."""


def free_port(host: str = "127.0.0.1", wanted: int = 0) -> int:
    """
    A port nobody listens on: `wanted` if it is free, else another.

    Between asking and using it somebody else may take it; then the server says so and ends.
    """
    for port in [wanted, *ports.candidates()] if wanted else ports.candidates():
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerFailed(f"no port of {host} is free")


class LocalServer:
    """`pliers serve` on 127.0.0.1, its output in a log file."""

    def __init__(
        self, dsn: str, log: Path, *, port: int = 0, role: str = "all", settings: Mapping[str, object] | None = None
    ) -> None:
        """`settings` by the end of their environment variables: `{"NODE__DRAIN_DELAY": 0}`."""
        self._dsn = dsn
        #: where its output goes
        self.log = log
        self._role = role
        self._settings = {f"PLIERS_{name}": str(value) for name, value in (settings or {}).items()}
        self.port = free_port(wanted=port)
        self._process: asyncio.subprocess.Process | None = None
        #: how often it has been started
        self.starts = 0

    @property
    def url(self) -> str:
        """Where it listens; the same after every restart."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self, *, timeout: float = 60.0) -> None:
        """Start it and wait until it answers. Raises `ServerFailed` with the end of its log."""
        # The DSN may carry a password, so it goes through the environment and not through the command line.
        environment = {**os.environ, **self._settings, "PLIERS_DATABASE__URL": self._dsn, "PYTHONUNBUFFERED": "1"}
        with _private(self.log) as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "pliers_workflow", "serve", "--host", "127.0.0.1", "--port", str(self.port),
                "--role", self._role, "--no-migrate", "--quiet",
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        self.starts += 1
        process = self._process
        http = HttpClient(self.url, connections=1, timeout=5)
        ended = asyncio.ensure_future(process.wait())
        try:
            async with asyncio.timeout(timeout):
                while not await self._answers(http):
                    # Either it ends, or a moment passes: the log is where it would say why.
                    done, _ = await asyncio.wait({ended}, timeout=0.05)
                    if done:
                        raise ServerFailed(f"the server ended with status {process.returncode}: {self._last_words()}")
        except TimeoutError:
            await self.stop()
            raise ServerFailed(f"the server did not answer within {timeout:g} s: {self._last_words()}") from None
        finally:
            ended.cancel()
            http.close()

    async def kill(self) -> None:
        """`kill -9`: no goodbye, no draining."""
        if self.pid is not None and self._process is not None:
            self._process.kill()
            await self._process.wait()

    async def stop(self, *, timeout: float = 30.0) -> int | None:
        """Ask it to finish what it has begun and to end; insist after `timeout` seconds. Its exit status."""
        if self.pid is None or self._process is None:
            return None
        self.ask_to_stop()
        try:
            await self.ended(timeout=timeout)
        except TimeoutError:
            await self.kill()
        return self._process.returncode

    def ask_to_stop(self) -> None:
        """SIGTERM, and do not wait."""
        if self.pid is not None and self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    async def ended(self, *, timeout: float = 30.0) -> int:
        """Wait until it has ended; its exit status. Raises TimeoutError."""
        assert self._process is not None, "it was started"
        return await asyncio.wait_for(self._process.wait(), timeout)

    async def _answers(self, http: HttpClient) -> bool:
        try:
            return (await http.request("GET", "/health/ready")).status == 200
        except ConnectionLost:
            return False

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return " / ".join(lines[-5:]) or "it said nothing"


def _private(path: Path) -> BinaryIO:
    """A file to append to for its owner's eyes: the first start prints the administrator's token."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.fchmod(descriptor, 0o600)  # it may be there from before
    return os.fdopen(descriptor, "ab")
