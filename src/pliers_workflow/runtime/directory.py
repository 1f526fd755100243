"""People: users, roles and groups, and the facts about them that the interpreter asks for.

Every change raises the tenant's directory revision in its own transaction, as its first statement. So changes of one
tenant follow one another, and the commit of a batch can compare the revision its facts rest on with the present one.
Nobody is ever deleted: a person who leaves is made inactive, because the history names them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pliers_workflow.interpreter.facts import Fact, Members, User
from pliers_workflow.storage import canonical, queries
from pliers_workflow.storage.identity import is_uuid
from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from . import idempotency
from .errors import ConflictError, InvalidError, NotFoundError, PreconditionFailedError
from .paging import cursor_key
from .rows import SetRow, UserInput, UserRow
from .storable import BYTES_MAX, check_object, check_text

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.storage.database import AnyConnection as Connection

    from .answers import RequestKey
    from .audit import Audit
    from .principal import Principal

Kind: TypeAlias = Literal["role", "group"]

_sql: Final = queries.load("directory")

#: What PostgreSQL's `\s` takes for a blank, and what expressions could not tell apart from it.
_KEY: Final = re.compile(r"[^\s:/]{1,200}")
#: Members of one role or group, and users of one `put_users`.
MANY_MAX: Final = 20_000


class Directory:
    """Keeps people, roles and groups of every tenant."""

    def __init__(self, pool: asyncpg.Pool[Any], audit: Audit) -> None:
        self._pool = pool
        self._audit = audit

    # -- users ---------------------------------------------------------------------------------------------------------

    async def create_user(self, principal: Principal, user: UserInput, *, request: RequestKey | None = None) -> UserRow:
        """Add a person. Raises ConflictError where the username is taken, InvalidError for an unknown manager, role or group."""
        tenant = principal.tenant_id
        await self._audit.require(principal, "user.create", "user:", "admin")
        _check_user(user)
        async with self._change(principal) as connection:
            if (made := await idempotency.claim(connection, tenant, request)) is not None:
                return await self._user(connection, tenant, made)
            manager = await self._manager_id(connection, tenant, user.manager)
            user_id = await connection.fetchval(
                _sql.create_user, tenant, user.username, user.name, user.email, manager,
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
            _check_user(after)
            if after.username != before.username and await self._find(connection, tenant, after.username, by_name=True):
                raise ConflictError("username_taken", f"There is a user {after.username} already; choose another name.")
            manager = await self._manager_id(connection, tenant, after.manager, of=before)
            await connection.fetchval(
                _sql.update_user, tenant, before.id, after.username, after.name, after.email, manager,
                canonical.encode(after.attributes).decode(), after.active,
            )  # fmt: skip
            await self._set_memberships(connection, tenant, before.id, {"role": after.roles, "group": after.groups})
            await idempotency.settle(connection, tenant, request, before.id)
            details = {"changes": {key: changes[key] for key in sorted(changes)}}
            await self._audit.record(
                connection, tenant, "user.updated", f"user:{before.id}", details, principal.user_id
            )
            return await self._user(connection, tenant, before.id)

    async def deactivate(
        self, principal: Principal, ref: str, if_match: int | None = None, *, request: RequestKey | None = None
    ) -> UserRow:
        """Make a user inactive: their tokens stop working, and nobody asks them any more. They stay on record."""
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
        rows = await self._pool.fetch(
            _sql.page_users, tenant_id, after, active, username_prefix, role, group, limit + 1
        )
        return make_page(rows, limit, _user_row, lambda row: (row["username"],))

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
            _check_user(user)
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
            rows = await connection.fetch(_sql.upsert_users, tenant, *columns)
            ids = {row["username"]: row["id"] for row in rows}
            managers = [user.manager for user in users]
            own = [user.username for user in users if user.manager == user.username]
            if own:
                raise InvalidError("bad_manager", f"{own[0]} cannot be their own manager.")
            done = await connection.fetch(_sql.set_managers, tenant, columns[0], managers)
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
                await connection.execute(_sql.make_sets, tenant, [kind] * len(named), named)
                await connection.execute(
                    _sql.leave_others, tenant, kind, [user_id for user_id, _ in told],
                    [user_id for user_id, _ in pairs], [key for _, key in pairs],
                )  # fmt: skip
                await connection.execute(
                    _sql.add_members, tenant, [kind] * len(pairs), [key for _, key in pairs],
                    [user_id for user_id, _ in pairs],
                )  # fmt: skip
            details = {"count": len(users), "usernames": [user.username for user in users[:100]]}
            await self._audit.record(connection, tenant, "user.imported", "user:", details, principal.user_id)
        return ids

    # -- roles and groups ----------------------------------------------------------------------------------------------

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
        _check_optional("A name", name, 500)
        _check_optional("A description", description, 10_000)
        async with self._change(principal) as connection:
            if await idempotency.claim(connection, tenant, request) is not None:
                return await self._set(connection, tenant, kind, key), False
            made = bool(await connection.fetchval(_sql.upsert_set, tenant, kind, key, name, description))
            await idempotency.settle(connection, tenant, request, subject)
            details = {"name": name, "description": description}
            action = f"{kind}.created" if made else f"{kind}.updated"
            await self._audit.record(connection, tenant, action, subject, details, principal.user_id)
            return await self._set(connection, tenant, kind, key), made

    async def delete_set(
        self, principal: Principal, kind: Kind, key: str, *, request: RequestKey | None = None
    ) -> None:
        """Delete a role or group; its members stay users. Work items it was asked for can then be decided by nobody of it."""
        tenant, subject = principal.tenant_id, f"{kind}:{key}"
        await self._audit.require(principal, f"{kind}.delete", subject, "admin")
        async with self._change(principal) as connection:
            if await idempotency.claim(connection, tenant, request) is not None:
                return
            if not _is_key(key) or await connection.fetchval(_sql.delete_set, tenant, kind, key) is None:
                raise NotFoundError(f"unknown_{kind}", f"There is no {kind} {key}.")
            await idempotency.settle(connection, tenant, request, subject)
            await self._audit.record(connection, tenant, f"{kind}.deleted", subject, {}, principal.user_id)

    async def get_set(self, tenant_id: str, kind: Kind, key: str) -> SetRow | None:
        """Give a role or group, or None."""
        if not _is_key(key):
            return None
        row = await self._pool.fetchrow(_sql.set_by_key, tenant_id, kind, key)
        return _set_row(row) if row else None

    async def list_sets(
        self, tenant_id: str, kind: Kind, *, key_prefix: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[SetRow]:
        """List roles or groups by key."""
        limit = max(1, min(limit, LIMIT_MAX))
        (after,) = cursor_key(cursor, str)
        if key_prefix is not None:
            check_text("A filter", key_prefix, length_max=200, length_min=0)
        rows = await self._pool.fetch(_sql.page_sets, tenant_id, kind, after, key_prefix, limit + 1)
        return make_page(rows, limit, _set_row, lambda row: (row["key"],))

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
            changed: set[str] = set()
            if how == "removed":
                gone = await connection.fetchval(_sql.remove_member, tenant, kind, key, ids[0])
                if gone is None:
                    raise NotFoundError("not_a_member", f"{refs[0]} is no member of the {kind} {key}.")
                changed.add(gone)
            else:
                if how == "set":
                    rows = await connection.fetch(_sql.set_members_of_set, tenant, kind, key, ids)
                    changed.update(row["user_id"] for row in rows)
                rows = await connection.fetch(_sql.add_members, tenant, [kind] * len(ids), [key] * len(ids), ids)
                changed.update(row["user_id"] for row in rows)
            await connection.execute(_sql.touch_users, tenant, sorted(changed))
            await idempotency.settle(connection, tenant, request, subject)
            details = {"how": how, "users": ids}
            await self._audit.record(connection, tenant, f"{kind}.members_{how}", subject, details, principal.user_id)
            return await self._set(connection, tenant, kind, key)

    # -- facts ---------------------------------------------------------------------------------------------------------

    async def load_facts(
        self, connection: Connection | asyncpg.Pool[Any], tenant_id: str, keys: Iterable[str]
    ) -> dict[str, Fact]:
        """
        Say what the directory knows behind each key of `interpreter.facts`, in one statement; None where it is nothing.

        Keys of other kinds (`script:`) are left out of the answer.
        """
        users: dict[str, str] = {}
        names: dict[str, str] = {}
        sets: dict[str, tuple[str, str]] = {}
        facts: dict[str, Fact] = {}
        for key in keys:
            kind, _, value = key.partition(":")
            if kind in ("role", "group"):
                facts[key] = None
                if _is_key(value):
                    sets[key] = (kind, value)
            elif kind == "username":
                facts[key] = None
                if _is_key(value):
                    names[key] = value
            elif kind == "user":
                facts[key] = None
                if is_uuid(value):
                    users[key] = value.lower()
        if not (users or names or sets):
            return facts
        rows = await connection.fetch(
            _sql.facts, tenant_id, list(users.values()), list(names.values()),
            [kind for kind, _ in sets.values()], [value for _, value in sets.values()],
        )  # fmt: skip
        found: dict[tuple[str, str], Fact] = {(row["kind"], row["key"]): _fact(row) for row in rows}
        facts.update((key, found.get(("user", value))) for key, value in users.items())
        facts.update((key, found.get(("username", value))) for key, value in names.items())
        facts.update((key, found.get(pair)) for key, pair in sets.items())
        return facts

    async def revision(self, tenant_id: str) -> int:
        """The number that grows with every change of the tenant's directory; 0 where there is no such tenant."""
        return int(await self._pool.fetchval(_sql.revision, tenant_id) or 0)

    # -- within one change ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _change(self, principal: Principal) -> AsyncIterator[Connection]:
        """A transaction that has raised the directory revision: its lock puts the tenant's changes in a row."""
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(_sql.bump, principal.tenant_id) is None:
                raise NotFoundError("unknown_tenant", "There is no such tenant any more.")
            yield connection

    async def _find(
        self, connection: Connection | asyncpg.Pool[Any], tenant_id: str, ref: str, *, by_name: bool = False
    ) -> UserRow | None:
        if is_uuid(ref) and not by_name:
            row = await connection.fetchrow(_sql.user_by_id, tenant_id, ref)
            if row is not None:
                return _user_row(row)
        if not _is_key(ref):
            return None
        row = await connection.fetchrow(_sql.user_by_name, tenant_id, ref)
        return _user_row(row) if row else None

    async def _user(self, connection: Connection, tenant_id: str, user_id: str) -> UserRow:
        row = await connection.fetchrow(_sql.user_by_id, tenant_id, user_id)
        if row is None:
            raise NotFoundError("unknown_user", f"There is no user {user_id}.")
        return _user_row(row)

    async def _set(self, connection: Connection, tenant_id: str, kind: str, key: str) -> SetRow:
        row = await connection.fetchrow(_sql.set_by_key, tenant_id, kind, key) if _is_key(key) else None
        if row is None:
            raise NotFoundError(f"unknown_{kind}", f"There is no {kind} {key}; make it first.")
        return _set_row(row)

    async def _ids(self, connection: Connection, tenant_id: str, refs: Sequence[str]) -> dict[str, str]:
        """The ids behind usernames and ids; an id wins over a username that looks like one."""
        uuids = {ref: ref.lower() for ref in refs if is_uuid(ref)}
        rows = await connection.fetch(
            _sql.ids_of, tenant_id, [ref for ref in refs if _is_key(ref)], list(uuids.values())
        )
        found = {row["ref"]: row["id"] for row in rows}
        return {ref: found[known] for ref in refs if (known := uuids.get(ref, ref)) in found or (known := ref) in found}

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
            await connection.execute(_sql.leave_others, tenant_id, kind, [user_id], owners, list(wanted))
            await connection.execute(_sql.add_members, tenant_id, [kind] * len(wanted), list(wanted), owners)


def check_key(what: str, key: object) -> str:
    """Give a username or a role's or group's key back, or raise InvalidError."""
    text = check_text(f"A {what}", key, length_max=200)
    if not _KEY.fullmatch(text):
        raise InvalidError("bad_format", f"A {what} holds no blanks, colons or slashes, and at most 200 characters.")
    return text


def _is_key(text: str) -> bool:
    """Could this be a username, role or group at all? What could not must not reach a statement (NUL, surrogates)."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return _KEY.fullmatch(text) is not None and "\0" not in text


def _check_optional(what: str, text: object, length_max: int) -> None:
    if text is not None:
        check_text(what, text, length_max=length_max, length_min=0)


def _check_user(user: UserInput) -> None:
    check_key("username", user.username)
    _check_optional("A name", user.name, 500)
    _check_optional("An e-mail address", user.email, 320)
    if user.manager is not None:
        check_key("manager", user.manager)
    check_object("Attributes", user.attributes)
    if len(canonical.encode(user.attributes)) > BYTES_MAX:
        raise InvalidError("too_large", f"Attributes may have {BYTES_MAX // 1024} kB.")
    if not isinstance(user.active, bool):
        raise InvalidError("wrong_type", "`active` is true or false.")
    for kind, keys in (("role", user.roles), ("group", user.groups)):
        for key in keys or ():
            check_key(kind, key)


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


def _user_row(row: asyncpg.Record) -> UserRow:
    return UserRow(
        id=row["id"],
        tenant_id=row["tenant_id"],
        username=row["username"],
        name=row["name"],
        email=row["email"],
        manager=row["manager"],
        manager_id=row["manager_id"],
        active=row["active"],
        attributes=canonical.decode(row["attributes"]),
        roles=tuple(row["roles"]),
        groups=tuple(row["groups"]),
        revision=row["revision"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _set_row(row: asyncpg.Record) -> SetRow:
    return SetRow(
        tenant_id=row["tenant_id"],
        kind=row["kind"],
        key=row["key"],
        name=row["name"],
        description=row["description"],
        member_count=row["member_count"],
        created_at=row["created_at"],
    )


def _fact(row: asyncpg.Record) -> Fact:
    if row["kind"] == "user":
        return User(
            id=row["key"],
            username=row["username"],
            active=row["active"],
            name=row["name"],
            email=row["email"],
            manager=row["manager"],
            roles=tuple(row["roles"]),
            groups=tuple(row["groups"]),
            attributes=canonical.decode(row["attributes"]),
        )
    if row["kind"] == "username":
        user_id: str = row["username"]
        return user_id
    return Members(tuple(row["members"]))
