"""What every change of the directory shares: the transaction that puts changes in a row, and finding who is meant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from pliers_workflow.storage import canonical, queries
from pliers_workflow.storage.identity import is_uuid

from ..errors import NotFoundError
from ..rows import SetRow, UserRow
from .keys import is_key

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.storage.database import AnyConnection as Connection

    from ..access.audit import Audit
    from ..access.principal import Principal

sql: Final = queries.load("directory")


class Base:
    """The pool, the audit log, and what is done inside one change."""

    def __init__(
        self, pool: asyncpg.Pool[Any], audit: Audit, *, somebody_left: Callable[[], None] = lambda: None
    ) -> None:
        """`somebody_left` is called after a change by which people may have left; it says so to whoever looks."""
        self._pool = pool
        self._audit = audit
        self._somebody_left = somebody_left

    @asynccontextmanager
    async def _change(self, principal: Principal) -> AsyncIterator[Connection]:
        """A transaction that has raised the directory revision: its lock puts the tenant's changes in a row."""
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(sql.bump, principal.tenant_id) is None:
                raise NotFoundError(
                    "unknown_tenant", f"There is no tenant {principal.tenant_id}; check its id, or make it first."
                )
            yield connection

    async def _find(
        self, connection: Connection | asyncpg.Pool[Any], tenant_id: str, ref: str, *, by_name: bool = False
    ) -> UserRow | None:
        if is_uuid(ref) and not by_name:
            row = await connection.fetchrow(sql.user_by_id, tenant_id, ref)
            if row is not None:
                return user_row(row)
        if not is_key(ref):
            return None
        row = await connection.fetchrow(sql.user_by_name, tenant_id, ref)
        return user_row(row) if row else None

    async def _user(self, connection: Connection, tenant_id: str, user_id: str) -> UserRow:
        row = await connection.fetchrow(sql.user_by_id, tenant_id, user_id)
        if row is None:
            raise NotFoundError("unknown_user", f"There is no user {user_id}.")
        return user_row(row)

    async def _set(self, connection: Connection, tenant_id: str, kind: str, key: str) -> SetRow:
        row = await connection.fetchrow(sql.set_by_key, tenant_id, kind, key) if is_key(key) else None
        if row is None:
            raise NotFoundError(f"unknown_{kind}", f"There is no {kind} {key}; make it first.")
        return set_row(row)

    async def _ids(self, connection: Connection, tenant_id: str, refs: Sequence[str]) -> dict[str, str]:
        """The ids behind usernames and ids; an id wins over a username that looks like one."""
        uuids = {ref: ref.lower() for ref in refs if is_uuid(ref)}
        rows = await connection.fetch(sql.ids_of, tenant_id, [ref for ref in refs if is_key(ref)], list(uuids.values()))
        found = {row["ref"]: row["id"] for row in rows}
        return {ref: found[known] for ref in refs if (known := uuids.get(ref, ref)) in found or (known := ref) in found}


def user_row(record: asyncpg.Record) -> UserRow:
    """A person as the statements' `person` columns tell them."""
    return UserRow.of(
        record,
        attributes=canonical.decode(record["attributes"]),
        roles=tuple(record["roles"]),
        groups=tuple(record["groups"]),
    )


def set_row(record: asyncpg.Record) -> SetRow:
    """A role or group."""
    return SetRow.of(record)
