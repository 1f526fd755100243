"""The directory: users, roles and groups."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET

from pliers_workflow.runtime.rows import UserInput

from ..endpoint import Call, Reply, Routes, SetKey, UserRef
from . import views
from .wire import (
    MembersInput,
    Page,
    PageQuery,
    SetInput,
    SetsQuery,
    SetView,
    UserChanges,
    UserInputBody,
    UsersQuery,
    UserView,
)

routes = Routes("Directory", "Users, roles and groups: who may approve. What a token may do is something else.")

_ADMIN = ("admin",)


@routes.get("/users", "List users", answers=Page[UserView])
async def list_users(call: Call, query: UsersQuery) -> Reply:
    """People of the directory by username."""
    rows = await call.engine.directory.list_users(
        call.principal.tenant_id,
        active=query.active,
        role=query.role,
        group=query.group,
        username_prefix=query.username,
        limit=query.limit,
        cursor=query.cursor,
    )
    return Reply(views.page(rows, UserView.of))


@routes.post("/users", "Create a user", answers=UserView, status=201, permissions=_ADMIN, problems=("conflict",))
async def create_user(call: Call, body: UserInputBody) -> Reply:
    """Add a person. Roles and groups named must be there already."""
    user = UserInput(
        username=body.username,
        name=body.name,
        email=body.email,
        manager=body.manager,
        attributes=body.attributes,
        active=body.active,
        roles=body.roles,
        groups=body.groups,
    )
    row = await call.engine.directory.create_user(call.principal, user, request=call.request)
    return Reply(UserView.of(row), revision=row.revision, location=f"{call.base}/users/{row.id}")


@routes.get("/users/{userId}", "Get a user", answers=UserView, tagged=True)
async def get_user(call: Call, userId: UserRef) -> Reply:  # noqa: N803
    """One person, by id or username; `me` is yourself."""
    ref = call.principal.user_id if userId == "me" else userId
    row = views.found(await call.engine.directory.get_user(call.principal.tenant_id, ref), "user")
    return Reply(UserView.of(row), revision=row.revision)


@routes.patch(
    "/users/{userId}",
    "Update a user",
    answers=UserView,
    permissions=_ADMIN,
    conditional=True,
    problems=("conflict",),
)
async def update_user(call: Call, userId: UserRef, body: UserChanges) -> Reply:  # noqa: N803
    """Change what is sent and leave the rest. Takes effect for decisions at once."""
    names = ("username", "name", "email", "manager", "attributes", "active", "roles", "groups")
    changes: dict[str, Any] = {name: value for name in names if (value := getattr(body, name)) is not UNSET}
    row = await call.engine.directory.update_user(
        call.principal, _me(call, userId), changes, call.if_match, request=call.request
    )
    _forget_tokens(call, row.id)
    return Reply(UserView.of(row), revision=row.revision)


@routes.delete(
    "/users/{userId}",
    "Deactivate a user",
    answers=UserView,
    permissions=_ADMIN,
    conditional=True,
    problems=("conflict",),
)
async def deactivate_user(call: Call, userId: UserRef) -> Reply:  # noqa: N803
    """
    Make a person inactive: their tokens stop working, they are asked no more, and others are asked in their place where
    they are asked at the moment. History keeps their name.
    """
    row = await call.engine.directory.deactivate(call.principal, _me(call, userId), call.if_match, request=call.request)
    _forget_tokens(call, row.id)
    return Reply(UserView.of(row), revision=row.revision)


def _me(call: Call, ref: str) -> str:
    return call.principal.user_id if ref == "me" else ref


def _forget_tokens(call: Call, user_id: str) -> None:
    call.engine.tokens.forget_user(call.principal.tenant_id, user_id)


# Roles and groups are the same thing under two names, so their endpoints are declared by one function.


def _declare_sets(kind: Literal["role", "group"]) -> None:
    one, many = kind, f"{kind}s"

    async def list_sets(call: Call, query: SetsQuery) -> Reply:
        rows = await call.engine.directory.list_sets(
            call.principal.tenant_id, kind, key_prefix=query.key, limit=query.limit, cursor=query.cursor
        )
        return Reply(views.page(rows, SetView.of))

    async def get_set(call: Call, key: SetKey) -> Reply:
        row = views.found(await call.engine.directory.get_set(call.principal.tenant_id, kind, key), one)
        return Reply(SetView.of(row))

    async def put_set(call: Call, key: SetKey, body: SetInput | None) -> Reply:
        body = body or SetInput()
        row, is_new = await call.engine.directory.put_set(
            call.principal, kind, key, name=body.name, description=body.description, request=call.request
        )
        return Reply(SetView.of(row), status=201 if is_new else 200)

    async def delete_set(call: Call, key: SetKey) -> Reply:
        await call.engine.directory.delete_set(call.principal, kind, key, request=call.request)
        return Reply(None)

    async def list_members(call: Call, key: SetKey, query: PageQuery) -> Reply:
        views.found(await call.engine.directory.get_set(call.principal.tenant_id, kind, key), one)
        rows = await call.engine.directory.members(
            call.principal.tenant_id, kind, key, limit=query.limit, cursor=query.cursor
        )
        return Reply(views.page(rows, UserView.of))

    async def set_members(call: Call, key: SetKey, body: MembersInput) -> Reply:
        row = await call.engine.directory.set_members(call.principal, kind, key, body.users, request=call.request)
        return Reply(SetView.of(row))

    async def add_member(call: Call, key: SetKey, userId: UserRef) -> Reply:  # noqa: N803
        row = await call.engine.directory.add_member(call.principal, kind, key, _me(call, userId), request=call.request)
        return Reply(SetView.of(row))

    async def remove_member(call: Call, key: SetKey, userId: UserRef) -> Reply:  # noqa: N803
        row = await call.engine.directory.remove_member(
            call.principal, kind, key, _me(call, userId), request=call.request
        )
        return Reply(SetView.of(row))

    at = f"/{many}/{{key}}"
    for declare, handler, name, about in (
        (
            routes.get(f"/{many}", f"List {many}", answers=Page[SetView]),
            list_sets,
            f"list_{many}",
            f"All {many} by key.",
        ),
        (routes.get(at, f"Get a {one}", answers=SetView), get_set, f"get_{one}", f"One {one}, by key."),
        (
            routes.put(at, f"Create or rename a {one}", answers=SetView, permissions=_ADMIN, further=(201,)),
            put_set,
            f"put_{one}",
            f"Make a {one}, or change its name and description; 201 when it is new.",
        ),
        (
            routes.delete(at, f"Delete a {one}", permissions=_ADMIN, problems=("conflict",)),
            delete_set,
            f"delete_{one}",
            f"Remove a {one} from the directory. Work items asked of it before stay open to those who were asked.",
        ),
        (
            routes.get(f"{at}/members", f"List members of a {one}", answers=Page[UserView]),
            list_members,
            f"list_{one}_members",
            f"People who belong to the {one}, by username.",
        ),
        (
            routes.put(f"{at}/members", f"Set members of a {one}", answers=SetView, permissions=_ADMIN),
            set_members,
            f"set_{one}_members",
            f"Make exactly these people the members of the {one}.",
        ),
        (
            routes.put(f"{at}/members/{{userId}}", f"Add a member to a {one}", answers=SetView, permissions=_ADMIN),
            add_member,
            f"add_{one}_member",
            f"Let a person belong to the {one}; nothing happens when they do already.",
        ),
        (
            routes.delete(
                f"{at}/members/{{userId}}", f"Remove a member from a {one}", answers=SetView, permissions=_ADMIN
            ),
            remove_member,
            f"remove_{one}_member",
            f"Take a person out of the {one}.",
        ),
    ):
        handler.__name__, handler.__doc__ = name, about
        declare(handler)


_declare_sets("role")
_declare_sets("group")
