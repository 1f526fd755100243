"""People: users, roles, groups, and the facts about them that the interpreter asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.interpreter.facts import Fact
    from pliers_workflow.storage.paging import Page

    from .answers import RequestKey
    from .audit import Audit
    from .principal import Principal
    from .rows import SetRow, UserInput, UserRow


class Directory:
    """Signatures first; bodies follow within the hour."""

    def __init__(self, pool: asyncpg.Pool, audit: Audit) -> None: ...
    async def create_user(self, principal: Principal, user: UserInput, *, request: RequestKey | None = None) -> UserRow: ...
    async def update_user(
        self, principal: Principal, ref: str, changes: dict[str, Any], if_match: int | None = None, *,
        request: RequestKey | None = None,
    ) -> UserRow:
        """`changes`: any of username, name, email, manager, attributes, active, roles, groups. `ref`: id or username."""
    async def deactivate(
        self, principal: Principal, ref: str, if_match: int | None = None, *, request: RequestKey | None = None
    ) -> UserRow: ...
    async def get_user(self, tenant_id: str, ref: str) -> UserRow | None: ...
    async def user_by_name(self, tenant_id: str, username: str) -> UserRow | None: ...
    async def list_users(
        self, tenant_id: str, *, active: bool | None = None, role: str | None = None, group: str | None = None,
        username_prefix: str | None = None, limit: int = 50, cursor: str | None = None,
    ) -> Page[UserRow]: ...
    async def put_users(self, principal: Principal, users: Sequence[UserInput]) -> dict[str, str]:
        """Username to id."""
    async def put_set(
        self, principal: Principal, kind: Literal["role", "group"], key: str, *, name: str | None = None,
        description: str | None = None, request: RequestKey | None = None,
    ) -> tuple[SetRow, bool]:
        """The row, and whether it is new."""
    async def delete_set(
        self, principal: Principal, kind: Literal["role", "group"], key: str, *, request: RequestKey | None = None
    ) -> None: ...
    async def get_set(self, tenant_id: str, kind: Literal["role", "group"], key: str) -> SetRow | None: ...
    async def list_sets(
        self, tenant_id: str, kind: Literal["role", "group"], *, key_prefix: str | None = None, limit: int = 50,
        cursor: str | None = None,
    ) -> Page[SetRow]: ...
    async def members(
        self, tenant_id: str, kind: Literal["role", "group"], key: str, *, limit: int = 50, cursor: str | None = None
    ) -> Page[UserRow]: ...
    async def set_members(
        self, principal: Principal, kind: Literal["role", "group"], key: str, users: Iterable[str], *,
        request: RequestKey | None = None,
    ) -> SetRow:
        """`users`: ids or usernames."""
    async def add_member(
        self, principal: Principal, kind: Literal["role", "group"], key: str, user: str, *,
        request: RequestKey | None = None,
    ) -> SetRow: ...
    async def remove_member(
        self, principal: Principal, kind: Literal["role", "group"], key: str, user: str, *,
        request: RequestKey | None = None,
    ) -> SetRow: ...
    async def load_facts(
        self, connection: asyncpg.Connection | asyncpg.Pool, tenant_id: str, keys: Iterable[str]
    ) -> dict[str, Fact]: ...
    async def revision(self, tenant_id: str) -> int: ...


class DirectoryCache:
    def get(self, tenant_id: str, revision: int, key: str) -> Fact | object:
        """MISSING when unknown."""
    def put(self, tenant_id: str, revision: int, key: str, fact: Fact) -> None: ...
