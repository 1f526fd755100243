"""One change of a name: whatever happens to its versions happens one after another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from pliers_workflow.storage import queries

from .. import idempotency

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.storage.database import AnyConnection as Connection

    from ..answers import RequestKey

_sql: Final = queries.load("catalog")


class Change:
    """One change of a name: its transaction, what the request's key stands for already, the versions there were."""

    def __init__(
        self,
        connection: Connection,
        tenant_id: str,
        name: str,
        request: RequestKey | None,
        made: str | None,
        rows: Sequence[asyncpg.Record],
    ) -> None:
        self.connection = connection
        self.tenant_id = tenant_id
        self.name = name
        self.request = request
        self.made = made
        self._all = rows
        #: highest first, without archived drafts: to everybody outside those are gone
        self.versions = [row for row in rows if row["status"] != "archived" or row["published_at"] is not None]
        self._revision = max((row["revision"] for row in rows), default=0)

    def next_revision(self) -> int:
        """A revision that no version of the name has had."""
        self._revision += 1
        return self._revision

    def first(self, status: str) -> asyncpg.Record | None:
        """The highest version of a status."""
        return next((row for row in self.versions if row["status"] == status), None)

    def by_id(self, definition_id: str) -> asyncpg.Record | None:
        """A version by its UUID, archived drafts too."""
        return next((row for row in self._all if row["id"] == definition_id.lower()), None)

    def version_of(self, definition_id: str) -> str:
        """The number of a version."""
        row = self.by_id(definition_id)
        assert row is not None
        version: str = row["version"]
        return version

    def highest_published(self) -> asyncpg.Record | None:
        """The highest version that was ever published."""
        return next((row for row in self.versions if row["published_at"] is not None), None)


@asynccontextmanager
async def change_of(
    pool: asyncpg.Pool[Any], tenant_id: str, name: str, request: RequestKey | None
) -> AsyncIterator[Change]:
    """Open a transaction that holds the name, and has its versions, highest first."""
    async with pool.acquire() as connection, connection.transaction():
        made = await idempotency.claim(connection, tenant_id, request)
        await connection.execute(_sql.lock_name, tenant_id, name)
        rows = await connection.fetch(_sql.siblings, tenant_id, name)
        yield Change(connection, tenant_id, name, request, made, rows)
