"""Databases for tests: one server for a whole test run, one database for each test, cloned from a migrated template.

The server is an embedded one in a temporary folder, which all workers of a run (pytest-xdist) share and the last one
removes; or the one that `PLIERS_TEST_DATABASE_URL` names, whose user must be allowed to create databases.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from pliers_workflow.storage.embedded import EmbeddedPostgres
from pliers_workflow.storage.embedded.locks import FileLock
from pliers_workflow.storage.migrations import migrate

T = TypeVar("T")


def with_database(dsn: str, name: str) -> str:
    """The DSN of another database of the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def _sweep(parent: Path) -> None:
    """Remove what runs that were killed have left: folders an hour old whose server nobody uses."""
    for folder in parent.glob("pliers-tests-*"):
        users = FileLock(folder / "server" / "users.lock")
        try:
            if time.time() - folder.stat().st_mtime > 3600 and users.acquire():
                users.release()
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # another user's, or another worker is removing it


@contextmanager
def serve() -> Iterator[Server]:
    """A server with its template, for as long as this process tests."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    folder = Path(tempfile.gettempdir()) / f"pliers-tests-{run[:16]}"
    _sweep(folder.parent)
    folder.mkdir(exist_ok=True)
    folder.chmod(
        0o711
    )  # as root, the server runs as another user, who must pass through here to its own folder of 0700
    if given := os.environ.get("PLIERS_TEST_DATABASE_URL"):
        with _share(Server(given, f"pliers_test_{run[:8]}"), folder) as server:
            yield server
        return
    # Nothing of a test outlives its machine, so nothing waits for the disk; all else is as in production.
    embedded = EmbeddedPostgres(folder / "server", settings={"fsync": "off", "full_page_writes": "off"})
    with embedded:
        with _share(Server(embedded.dsn, "test"), folder) as server:
            yield server
    if not embedded.running:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _share(server: Server, folder: Path) -> Iterator[Server]:
    """The first process of a run makes the template, the last one drops it."""
    users = FileLock(folder / "users.lock")
    with FileLock(folder / "template.lock"):
        users.acquire(shared=True)
        if not (folder / "made").exists():
            server.make_template()
            (folder / "made").touch()
    try:
        yield server
    finally:
        users.release()
        with FileLock(folder / "template.lock"):
            if users.acquire() and (folder / "made").exists():
                server.drop_template()
                (folder / "made").unlink()
            users.release()
        server.close()


class Server:
    """A PostgreSQL server whose databases come and go. Used from any thread and any event loop."""

    def __init__(self, dsn: str, prefix: str) -> None:
        #: of a database that may be connected to while others are made
        self.dsn = dsn
        self._prefix = prefix
        self._count = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test databases", daemon=True)
        self._thread.start()
        self._connection: asyncpg.Connection[Any] | None = None

    @property
    def template(self) -> str:
        """The name of the migrated template; every worker of a run shares it."""
        return f"{self._prefix}_template"

    def make_template(self) -> None:
        """Create and migrate the template."""
        self.create(self.template, template="template0")
        self.run(migrate(with_database(self.dsn, self.template)))
        # Nobody connects to it again, so that any number of clones can be taken at once.
        self.execute(f'ALTER DATABASE "{self.template}" ALLOW_CONNECTIONS false')

    def drop_template(self) -> None:
        """Drop the template."""
        self.execute(f'ALTER DATABASE "{self.template}" ALLOW_CONNECTIONS true')
        self.drop(self.template)

    def create(self, name: str, *, template: str) -> str:
        """A new database; its DSN."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return with_database(self.dsn, name)

    def clone(self) -> tuple[str, str]:
        """A fresh, migrated database: its name and DSN."""
        self._count += 1
        name = f"{self._prefix}_{os.getpid()}_{self._count}"
        return name, self.create(name, template=self.template)

    def drop(self, name: str) -> None:
        """Drop a database, whoever is still connected."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        """Run a statement outside any transaction."""
        self.run(self._execute(statement))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on this server's own loop, so that no test's loop is touched."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(120)

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self.run(self._connection.close())
            self._connection = None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _execute(self, statement: str) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self.dsn, timeout=30)
        await self._connection.execute(statement)
