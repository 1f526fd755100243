"""What the interpreter asks of the directory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pliers_workflow.interpreter.facts import Fact, Members, User
from pliers_workflow.storage import canonical
from pliers_workflow.storage.identity import is_uuid

from .base import Base, sql
from .keys import is_key

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.storage.database import AnyConnection as Connection


class Facts(Base):
    """Answers the keys of `interpreter.facts`, and says how old its answers are."""

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
                if is_key(value):
                    sets[key] = (kind, value)
            elif kind == "username":
                facts[key] = None
                if is_key(value):
                    names[key] = value
            elif kind == "user":
                facts[key] = None
                if is_uuid(value):
                    users[key] = value.lower()
        if not (users or names or sets):
            return facts
        rows = await connection.fetch(
            sql.facts, tenant_id, list(users.values()), list(names.values()),
            [kind for kind, _ in sets.values()], [value for _, value in sets.values()],
        )  # fmt: skip
        found: dict[tuple[str, str], Fact] = {(row["kind"], row["key"]): _fact(row) for row in rows}
        facts.update((key, found.get(("user", value))) for key, value in users.items())
        facts.update((key, found.get(("username", value))) for key, value in names.items())
        facts.update((key, found.get(pair)) for key, pair in sets.items())
        return facts

    async def revision(self, tenant_id: str) -> int:
        """The number that grows with every change of the tenant's directory; 0 where there is no such tenant."""
        return int(await self._pool.fetchval(sql.revision, tenant_id) or 0)


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
