"""Fixtures that every test may use: a PostgreSQL, and a fresh migrated database in it for each test that asks."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pliers_workflow.storage.database import open_pool
from tests.databases import Server

if TYPE_CHECKING:
    from asyncpg.pool import Pool


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The test run's PostgreSQL server."""
    dsn = os.environ.get("PLIERS_TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
    server = Server(dsn, f"pliers_test_{secrets.token_hex(4)}")
    server.make_template()
    yield server
    server.execute(f'ALTER DATABASE "{server.template}" ALLOW_CONNECTIONS true')
    server.drop(server.template)
    server.close()


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """The DSN of a fresh, migrated database that is this test's alone."""
    name, dsn = server.clone()
    yield dsn
    server.drop(name)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool[Any]]:
    """A writing pool on `database`."""
    pool = await open_pool(database)
    yield pool
    pool.terminate()
