"""Roles and groups: made, deleted, listed, and who belongs to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from .. import idempotency
from ..errors import InvalidError, NotFoundError
from ..jobs import departures
from ..paging import cursor_key
from ..rows import SetRow, UserRow
from ..storable import check_text
from .base import set_row, sql
from .keys import MANY_MAX, check_key, check_optional, is_key
from .users import Users

if TYPE_CHECKING:
    from ..access.principal import Principal
    from ..answers import RequestKey

Kind: TypeAlias = Literal["role", "group"]


class Sets(Users):
    """The roles and groups of every tenant."""

    async def put_set(
        self,
        principal: Principal,
        kind: Kind,
        key: str,
        *,
        name: str | None = None,
        description: str | None = None,
        request: RequestKey | None = None,
    ) -> tuple[SetRow, bool]:
        """Make a role or group, or rename it; the row, and whether it is new. Its members stay."""
        tenant, subject = principal.tenant_id, f"{kind}:{key}"
        await self._audit.require(principal, f"{kind}.put", subject, "admin")
        check_key(kind, key)
        check_optional("A name", name, 500)
        check_optional("A description", description, 10_000)
        async with self._change(principal) as connection:
            if (done := await idempotency.claim(connection, tenant, request)) is not None:
                return await self._set(connection, tenant, kind, key), done == f"{kind}.created"
            made = bool(await connection.fetchval(sql.upsert_set, tenant, kind, key, name, description))
            action = f"{kind}.created" if made else f"{kind}.updated"
            await idempotency.settle(connection, tenant, request, action)
            details = {"name": name, "description": description}
            await self._audit.record(connection, tenant, action, subject, details, principal.user_id)
            return await self._set(connection, tenant, kind, key), made

    async def delete_set(
        self, principal: Principal, kind: Kind, key: str, *, request: RequestKey | None = None
    ) -> None:
        """Delete a role or group; its members stay users. What it is asked at the moment is asked of others."""
        tenant, subject = principal.tenant_id, f"{kind}:{key}"
        await self._audit.require(principal, f"{kind}.delete", subject, "admin")
        async with self._change(principal) as connection:
            if await idempotency.claim(connection, tenant, request) is not None:
                return
            if is_key(key):
                await connection.execute(sql.touch_members, tenant, kind, key)
            if not is_key(key) or await connection.fetchval(sql.delete_set, tenant, kind, key) is None:
                raise NotFoundError(f"unknown_{kind}", f"There is no {kind} {key}.")
            await departures.schedule(connection, tenant, [(kind, key)])
            await idempotency.settle(connection, tenant, request, subject)
            await self._audit.record(connection, tenant, f"{kind}.deleted", subject, {}, principal.user_id)
        self._somebody_left()

    async def get_set(self, tenant_id: str, kind: Kind, key: str) -> SetRow | None:
        """Give a role or group, or None."""
        if not is_key(key):
            return None
        row = await self._pool.fetchrow(sql.set_by_key, tenant_id, kind, key)
        return set_row(row) if row else None

    async def list_sets(
        self, tenant_id: str, kind: Kind, *, key_prefix: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[SetRow]:
        """List roles or groups by key."""
        limit = max(1, min(limit, LIMIT_MAX))
        (after,) = cursor_key(cursor, str)
        if key_prefix is not None:
            check_text("A filter", key_prefix, length_max=200, length_min=0)
        rows = await self._pool.fetch(sql.page_sets, tenant_id, kind, after, key_prefix, limit + 1)
        return make_page(rows, limit, set_row, lambda row: (row["key"],))

    async def members(
        self, tenant_id: str, kind: Kind, key: str, *, limit: int = 50, cursor: str | None = None
    ) -> Page[UserRow]:
        """List the members of a role or group by username, inactive ones included. Raises NotFoundError."""
        if await self.get_set(tenant_id, kind, key) is None:
            raise NotFoundError(f"unknown_{kind}", f"There is no {kind} {key}.")
        if kind == "role":
            return await self.list_users(tenant_id, role=key, limit=limit, cursor=cursor)
        return await self.list_users(tenant_id, group=key, limit=limit, cursor=cursor)

    async def set_members(
        self,
        principal: Principal,
        kind: Kind,
        key: str,
        users: Iterable[str],
        *,
        request: RequestKey | None = None,
    ) -> SetRow:
        """Make exactly these users (ids or usernames) the members. Raises NotFoundError, InvalidError for unknown users."""
        refs = list(dict.fromkeys(users))
        return await self._members(principal, kind, key, refs, "set", request)

    async def add_member(
        self, principal: Principal, kind: Kind, key: str, user: str, *, request: RequestKey | None = None
    ) -> SetRow:
        """Make a user a member; one who is already stays one."""
        return await self._members(principal, kind, key, [user], "added", request)

    async def remove_member(
        self, principal: Principal, kind: Kind, key: str, user: str, *, request: RequestKey | None = None
    ) -> SetRow:
        """Take a member out. Raises NotFoundError where the user is none."""
        return await self._members(principal, kind, key, [user], "removed", request)

    async def _members(
        self,
        principal: Principal,
        kind: Kind,
        key: str,
        refs: Sequence[str],
        how: Literal["set", "added", "removed"],
        request: RequestKey | None,
    ) -> SetRow:
        tenant, subject = principal.tenant_id, f"{kind}:{key}"
        await self._audit.require(principal, f"{kind}.members", subject, "admin")
        if len(refs) > MANY_MAX:
            raise InvalidError("out_of_range", f"At most {MANY_MAX} members at once.")
        for ref in refs:
            check_text("A member", ref, length_max=200)
        async with self._change(principal) as connection:
            if await idempotency.claim(connection, tenant, request) is not None:
                return await self._set(connection, tenant, kind, key)
            await self._set(connection, tenant, kind, key)
            found = await self._ids(connection, tenant, refs)
            if unknown := [ref for ref in refs if ref not in found]:
                raise InvalidError("unknown_user", f"There is no user {unknown[0]}.", {"unknown": unknown[:100]})
            ids = sorted(set(found.values()))
            left: set[str] = set()
            came: set[str] = set()
            if how == "removed":
                gone = await connection.fetchval(sql.remove_member, tenant, kind, key, ids[0])
                if gone is None:
                    raise NotFoundError("not_a_member", f"{refs[0]} is no member of the {kind} {key}.")
                left.add(gone)
            else:
                if how == "set":
                    rows = await connection.fetch(sql.set_members_of_set, tenant, kind, key, ids)
                    left.update(row["user_id"] for row in rows)
                rows = await connection.fetch(sql.add_members, tenant, [kind] * len(ids), [key] * len(ids), ids)
                came.update(row["user_id"] for row in rows)
            await connection.execute(sql.touch_users, tenant, sorted(left | came))
            if left:
                await departures.schedule(connection, tenant, [(kind, key)])
            await idempotency.settle(connection, tenant, request, subject)
            details = {"how": how, "users": ids}
            await self._audit.record(connection, tenant, f"{kind}.members_{how}", subject, details, principal.user_id)
            changed = await self._set(connection, tenant, kind, key)
        if left:
            self._somebody_left()
        return changed
