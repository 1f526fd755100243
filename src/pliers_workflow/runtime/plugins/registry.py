"""Which plugins there are on all nodes: every node says what it has, and anybody may ask.

What a plugin says of itself (title, schemas) is written down when a node that has it starts, under its id and version; which
node has which, and which are broken there, stands in the node's own row and comes and goes with its heartbeats. So a node that
only answers requests checks definitions against plugins that are installed elsewhere, also while all workers restart
(docs/decisions/0013).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cmp_to_key
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from pliers_workflow.definition import versions
from pliers_workflow.storage import queries

from ..errors import NotFoundError
from .discovery import Installed

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.storage.database import AnyConnection as Connection

_sql: Final = queries.load("plugins")

#: Days for which a plugin is remembered that no node has any more.
KEPT_DAYS: Final = 90

State: TypeAlias = Literal["ready", "missing", "broken"]
"""A node that runs steps has it; it was there once and no such node has it now; all that is known of it is that it is broken."""


class Holder(Struct, frozen=True):
    """A node that has a plugin, or a broken one."""

    node: str
    role: str
    draining: bool
    #: None: it is broken, and nobody knows
    version: str | None
    state: Literal["ready", "broken"]
    #: why it is broken
    reason: str | None

    @property
    def runs(self) -> bool:
        """Whether steps for the plugin are run there."""
        return self.state == "ready" and self.role != "api" and not self.draining


class Description(Struct, frozen=True):
    """What one version of a plugin says of itself."""

    version: str
    title: str
    description: str
    isolation: str
    #: seconds
    timeout: float
    #: MiB; None: no bound of its own
    memory: int | None
    configuration_schema: dict[str, Any]
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    registered_at: datetime


class KnownPlugin(Struct, frozen=True):
    """A plugin as all nodes know it."""

    id: str
    state: State
    #: of the newest version that a node has, else of the newest there ever was; None: it was never anything but broken
    about: Description | None
    holders: tuple[Holder, ...]

    @property
    def broken(self) -> tuple[Holder, ...]:
        """The nodes on which it is broken."""
        return tuple(holder for holder in self.holders if holder.state == "broken")


class PluginRegistry:
    """See the module. One for each node."""

    def __init__(
        self, pool: asyncpg.Pool[Any], installed: Installed | None = None, *, silent_after: float = 30.0
    ) -> None:
        """`silent_after`: seconds after which a node counts as gone."""
        self._pool = pool
        self._silent_after = silent_after
        #: on this node
        self.installed = installed or Installed()

    def told(self) -> Sequence[dict[str, str]]:
        """What this node says in its row."""
        ready = [
            {"id": id, "version": found.plugin.version, "state": "ready"} for id, found in self.installed.ready.items()
        ]
        broken = [{"id": id, "state": "broken", "reason": one.reason} for id, one in self.installed.broken.items()]
        return [*ready, *broken]

    async def register(self) -> None:
        """Write down what this node's plugins say of themselves."""
        plugins = [found.plugin for _, found in sorted(self.installed.ready.items())]
        if not plugins:
            return
        await self._pool.execute(
            _sql.register, [each.id for each in plugins], [each.version for each in plugins],
            [each.title for each in plugins], [each.description for each in plugins],
            [each.isolation for each in plugins], [each.timeout for each in plugins],
            [each.memory for each in plugins],
            [_json(each.configuration_schema) for each in plugins], [_json(each.input_schema) for each in plugins],
            [_json(each.output_schema) for each in plugins],
        )  # fmt: skip

    async def keep(self) -> None:
        """Upkeep, once an hour: forget what no node has had for long."""
        await self._pool.execute(_sql.keep, KEPT_DAYS)

    async def all(self) -> Sequence[KnownPlugin]:
        """All that are known, by id."""
        return list((await self.known(self._pool)).values())

    async def get(self, id: str) -> KnownPlugin:
        """One of them. Raises NotFoundError."""
        found = (await self.known(self._pool, (id,))).get(id)
        if found is None:
            raise NotFoundError("unknown_plugin", f"There is no plugin {id[:300]} on any node.")
        return found

    async def known(
        self, connection: Connection | asyncpg.Pool[Any], ids: Collection[str] | None = None
    ) -> dict[str, KnownPlugin]:
        """Plugins by id: those of `ids`, or all."""
        rows = await connection.fetch(_sql.registered, None if ids is None else list(ids))
        about: defaultdict[str, list[Description]] = defaultdict(list)
        for row in rows:
            about[row["id"]].append(_description(row))
        holders: defaultdict[str, list[Holder]] = defaultdict(list)
        for row in await connection.fetch(_sql.holders, self._silent_after):
            if ids is None or row["id"] in ids:
                holders[row["id"]].append(Holder(**{name: row[name] for name in Holder.__struct_fields__}))
        return {id: _known(id, about.get(id, ()), holders.get(id, ())) for id in sorted({*about, *holders})}


def _known(id: str, about: Sequence[Description], holders: Sequence[Holder]) -> KnownPlugin:
    running = {holder.version for holder in holders if holder.runs}
    newest = sorted(about, key=cmp_to_key(_order))
    there = [each for each in newest if each.version in running]
    state: State = "ready" if there else "missing" if newest else "broken"
    return KnownPlugin(id, state, next(reversed(there or newest), None), tuple(holders))


def _order(one: Description, other: Description) -> int:
    return versions.compare(one.version, other.version)


def _description(row: asyncpg.Record) -> Description:
    schemas = ("configuration_schema", "input_schema", "output_schema")
    return Description(
        **{
            name: msgspec.json.decode(row[name]) if name in schemas else row[name]
            for name in Description.__struct_fields__
        }
    )


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
