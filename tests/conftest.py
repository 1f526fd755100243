"""Fixtures that every test may use: a PostgreSQL, and a fresh migrated database in it for each test that asks."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pliers_workflow.storage.database import open_pool
from tests.databases import Server, serve
from tests.nodes.processes import Cluster

if TYPE_CHECKING:
    from asyncpg.pool import Pool


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The test run's PostgreSQL server."""
    with serve() as server:
        yield server


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """The DSN of a fresh, migrated database that is this test's alone."""
    name, dsn = server.clone()
    yield dsn
    server.drop(name)


@pytest.fixture
def empty_database(server: Server) -> Iterator[str]:
    """The DSN of a database with nothing in it."""
    name = f"test_empty_{uuid.uuid4().hex[:12]}"
    yield server.create(name, template="template0")
    server.drop(name)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool[Any]]:
    """A writing pool on `database`."""
    pool = await open_pool(database)
    yield pool
    pool.terminate()


@pytest.fixture
async def cluster(database: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Servers as processes of their own on `database`, which a test may kill; what is left of them is stopped."""
    cluster = Cluster(database, tmp_path)
    await cluster.prepare()
    yield cluster
    await cluster.close()


@pytest.fixture(scope="session")
def oldest_server() -> Iterator[Server]:
    """The oldest PostgreSQL we promise to run on, where there is one (`PLIERS_TEST_PG15_URL`)."""
    dsn = os.environ.get("PLIERS_TEST_PG15_URL", "postgresql://postgres@127.0.0.1:5432/postgres")

    async def version() -> int:
        connection = await asyncpg.connect(dsn, timeout=5)
        try:
            return int(await connection.fetchval("SELECT current_setting('server_version_num')"))
        finally:
            await connection.close()

    server = Server(dsn, f"pliers_test_{uuid.uuid4().hex[:8]}")
    try:
        found = server.run(version())
    except (TimeoutError, OSError, asyncpg.PostgresError) as error:
        server.close()
        pytest.skip(f"no PostgreSQL 15 at PLIERS_TEST_PG15_URL: {error}")
    if found // 10000 != 15:
        server.close()
        pytest.skip(f"the server at PLIERS_TEST_PG15_URL is version {found // 10000}, not 15")
    yield server
    server.close()


@pytest.fixture
def oldest_empty_database(oldest_server: Server) -> Iterator[str]:
    """The DSN of an empty database on PostgreSQL 15."""
    name = f"pliers_test_{uuid.uuid4().hex[:12]}"
    yield oldest_server.create(name, template="template0")
    oldest_server.drop(name)
