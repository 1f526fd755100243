"""People: added, changed, made inactive, listed, imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pliers_workflow.storage import canonical
from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from .. import idempotency
from ..errors import ConflictError, InvalidError, NotFoundError, PreconditionFailedError
from ..jobs import departures
from ..paging import cursor_key
from ..rows import UserInput, UserRow
from ..storable import check_text
from .base import Base, sql, user_row
from .keys import MANY_MAX, check_user

if TYPE_CHECKING:
    from pliers_workflow.storage.database import AnyConnection as Connection

    from ..access.principal import Principal
    from ..answers import RequestKey


class Users(Base):
    """The people of every tenant."""

    async def create_user(self, principal: Principal, user: UserInput, *, request: RequestKey | None = None) -> UserRow:
        """Add a person. Raises ConflictError where the username is taken, InvalidError for an unknown manager, role or group."""
        tenant = principal.tenant_id
        await self._audit.require(principal, "user.create", "user:", "admin")
        check_user(user)
        async with self._change(principal) as connection:
            if (made := await idempotency.claim(connection, tenant, request)) is not None:
                return await self._user(connection, tenant, made)
            manager = await self._manager_id(connection, tenant, user.manager)
            user_id = await connection.fetchval(
                sql.create_user, tenant, user.username, user.name, user.email, manager,
                canonical.encode(user.attributes).decode(), user.active,
            )  # fmt: skip
            if user_id is None:
                raise ConflictError(
                    "username_taken",
                    f"There is a user {user.username} already; choose another name or change that user.",
                )
            await self._set_memberships(connection, tenant, user_id, {"role": user.roles, "group": user.groups})
            await idempotency.settle(connection, tenant, request, user_id)
            details = _told(user)
            await self._audit.record(connection, tenant, "user.created", f"user:{user_id}", details, principal.user_id)
            return await self._user(connection, tenant, user_id)

    async def update_user(
        self,
        principal: Principal,
        ref: str,
        changes: dict[str, Any],
        if_match: int | None = None,
        *,
        request: RequestKey | None = None,
    ) -> UserRow:
        """
        Change some of username, name, email, manager, attributes, active, roles and groups of a user.

        `ref` is an id or a username. Raises NotFoundError, PreconditionFailedError, ConflictError (username taken) and
        InvalidError.
        """
        tenant = principal.tenant_id
        await self._audit.require(principal, "user.update", f"user:{ref}", "admin")
        unknown = changes.keys() - {"username", "name", "email", "manager", "attributes", "active", "roles", "groups"}
        if unknown:
            raise InvalidError("unknown_key", f"A user has no {', '.join(sorted(unknown))}.")
        async with self._change(principal) as connection:
            if (made := await idempotency.claim(connection, tenant, request)) is not None:
                return await self._user(connection, tenant, made)
            before = await self._find(connection, tenant, ref)
            if before is None:
                raise NotFoundError("unknown_user", f"There is no user {ref}.")
            if if_match is not None and if_match != before.revision:
                raise PreconditionFailedError(
                    "revision_conflict",
                    "The user has changed since you read it; read it again.",
                    {"revision": before.revision},
                )
            after = UserInput(
                username=changes.get("username", before.username),
                name=changes.get("name", before.name),
                email=changes.get("email", before.email),
                manager=changes.get("manager", before.manager),
                attributes=changes.get("attributes", before.attributes),
                active=changes.get("active", before.active),
                roles=_keys_or_none(changes, "roles"),
                groups=_keys_or_none(changes, "groups"),
            )
            check_user(after)
            if after.username != before.username and await self._find(connection, tenant, after.username, by_name=True):
                raise ConflictError("username_taken", f"There is a user {after.username} already; choose another name.")
            manager = await self._manager_id(connection, tenant, after.manager, of=before)
            await connection.fetchval(
                sql.update_user, tenant, before.id, after.username, after.name, after.email, manager,
                canonical.encode(after.attributes).decode(), after.active,
            )  # fmt: skip
            if after.username != before.username:
                await connection.execute(sql.touch_managed, tenant, before.id)
            await self._set_memberships(connection, tenant, before.id, {"role": after.roles, "group": after.groups})
            left = _left_as(before, after)
            await departures.schedule(connection, tenant, left)
            await idempotency.settle(connection, tenant, request, before.id)
            details = {"changes": {key: changes[key] for key in sorted(changes)}}
            await self._audit.record(
                connection, tenant, "user.updated", f"user:{before.id}", details, principal.user_id
            )
            user = await self._user(connection, tenant, before.id)
        if left:
            self._somebody_left()
        return user

    async def deactivate(
        self, principal: Principal, ref: str, if_match: int | None = None, *, request: RequestKey | None = None
    ) -> UserRow:
        """
        Make a user inactive: their tokens stop working, and nobody asks them any more. They stay on record.

        What they are asked at the moment is asked of others.
        """
        return await self.update_user(principal, ref, {"active": False}, if_match, request=request)

    async def get_user(self, tenant_id: str, ref: str) -> UserRow | None:
        """Give a user by id or username, or None."""
        return await self._find(self._pool, tenant_id, ref)

    async def user_by_name(self, tenant_id: str, username: str) -> UserRow | None:
        """Give a user by username, or None."""
        return await self._find(self._pool, tenant_id, username, by_name=True)

    async def list_users(
        self,
        tenant_id: str,
        *,
        active: bool | None = None,
        role: str | None = None,
        group: str | None = None,
        username_prefix: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[UserRow]:
        """List users by username."""
        limit = max(1, min(limit, LIMIT_MAX))
        (after,) = cursor_key(cursor, str)
        for what in (role, group, username_prefix):
            if what is not None:
                check_text("A filter", what, length_max=200, length_min=0)
        rows = await self._pool.fetch(sql.page_users, tenant_id, after, active, username_prefix, role, group, limit + 1)
        return make_page(rows, limit, user_row, lambda row: (row["username"],))

    async def put_users(self, principal: Principal, users: Sequence[UserInput]) -> dict[str, str]:
        """
        Create users, or bring them up to date, all at once or none; give the id behind each username.

        Roles and groups that are named and missing are made. For imports: a handful of statements, however many users.
        """
        tenant = principal.tenant_id
        await self._audit.require(principal, "user.import", "user:", "admin")
        if len(users) > MANY_MAX:
            raise InvalidError("out_of_range", f"At most {MANY_MAX} users at once.")
        if len({user.username for user in users}) != len(users):
            raise InvalidError("duplicate_id", "A username stands twice in the list.")
        for user in users:
            check_user(user)
        if not users:
            return {}
        async with self._change(principal) as connection:
            columns = (
                [user.username for user in users],
                [user.name for user in users],
                [user.email for user in users],
                [canonical.encode(user.attributes).decode() for user in users],
                [user.active for user in users],
            )
            left = await connection.fetch(sql.who_leaves, tenant, [user.username for user in users if not user.active])
            rows = await connection.fetch(sql.upsert_users, tenant, *columns)
            ids = {row["username"]: row["id"] for row in rows}
            managers = [user.manager for user in users]
            own = [user.username for user in users if user.manager == user.username]
            if own:
                raise InvalidError("bad_manager", f"{own[0]} cannot be their own manager.")
            done = await connection.fetch(sql.set_managers, tenant, columns[0], managers)
            if missing := {user.username for user in users} - {row["username"] for row in done}:
                name = min(missing)
                raise InvalidError("unknown_user", f"The manager of {name} is no user; import the manager too.")
            of_roles = [(ids[user.username], user.roles) for user in users if user.roles is not None]
            of_groups = [(ids[user.username], user.groups) for user in users if user.groups is not None]
            for kind, told in (("role", of_roles), ("group", of_groups)):
                if not told:
                    continue
                pairs = [(user_id, key) for user_id, keys in told for key in keys]
                named = sorted({key for _, key in pairs})
                await connection.execute(sql.make_sets, tenant, [kind] * len(named), named)
                left += await connection.fetch(
                    sql.leave_others, tenant, kind, [user_id for user_id, _ in told],
                    [user_id for user_id, _ in pairs], [key for _, key in pairs],
                )  # fmt: skip
                await connection.execute(
                    sql.add_members, tenant, [kind] * len(pairs), [key for _, key in pairs],
                    [user_id for user_id, _ in pairs],
                )  # fmt: skip
            await departures.schedule(connection, tenant, [(row["kind"], row["key"]) for row in left])
            details = {"count": len(users), "usernames": [user.username for user in users[:100]]}
            await self._audit.record(connection, tenant, "user.imported", "user:", details, principal.user_id)
        if left:
            self._somebody_left()
        return ids

    async def _manager_id(
        self, connection: Connection, tenant_id: str, manager: str | None, *, of: UserRow | None = None
    ) -> str | None:
        if manager is None:
            return None
        found = await self._find(connection, tenant_id, manager)
        if found is None:
            raise InvalidError("unknown_user", f"The manager {manager} is no user; add them first.")
        if of is not None and found.id == of.id:
            raise InvalidError("bad_manager", "Nobody is their own manager.")
        return found.id

    async def _set_memberships(
        self, connection: Connection, tenant_id: str, user_id: str, keys: dict[str, tuple[str, ...] | None]
    ) -> None:
        for kind, wanted in keys.items():
            if wanted is None:
                continue
            for key in wanted:
                await self._set(connection, tenant_id, kind, key)
            owners = [user_id] * len(wanted)
            await connection.execute(sql.leave_others, tenant_id, kind, [user_id], owners, list(wanted))
            await connection.execute(sql.add_members, tenant_id, [kind] * len(wanted), list(wanted), owners)


def _left_as(before: UserRow, after: UserInput) -> list[tuple[str, str]]:
    """As whom a person cannot be asked any more: themselves, and a member of roles and groups."""
    if not before.active:
        return []
    lost: list[tuple[str, str]] = [] if after.active else [("user", before.id)]
    for kind, had, has in (("role", before.roles, after.roles), ("group", before.groups, after.groups)):
        kept = () if not after.active else had if has is None else has
        lost += [(kind, key) for key in had if key not in kept]
    return lost


def _keys_or_none(changes: dict[str, Any], name: str) -> tuple[str, ...] | None:
    keys = changes.get(name)
    if keys is None:
        return None
    if not isinstance(keys, list | tuple):
        raise InvalidError("wrong_type", f"`{name}` is a list of keys.")
    return tuple(dict.fromkeys(keys))


def _told(user: UserInput) -> dict[str, Any]:
    return {
        "username": user.username,
        "name": user.name,
        "email": user.email,
        "manager": user.manager,
        "active": user.active,
        "roles": user.roles,
        "groups": user.groups,
    }
