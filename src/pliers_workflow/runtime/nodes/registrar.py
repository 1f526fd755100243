"""Nodes know of each other: each keeps a row that says it lives, and sweeps the rows of those that fell silent.

A node is one process of the engine. Its row carries what it does (its role), which release it is, and the highest record
format it reads. A heartbeat renews the row and brings back who else lives; so every node knows whether there is anybody to
be woken (`Messenger`), and which format the oldest of them reads. A node that was silent for too long is forgotten, and
is there again with its next heartbeat: nothing but health and wake-ups rests on the rows, because work is held by leases.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from uuid import uuid4

import asyncpg
import structlog
from msgspec import Struct

from pliers_workflow import __version__
from pliers_workflow.storage import queries
from pliers_workflow.storage.formats import FORMAT, FORMAT_WRITTEN_MIN, agreed

from ..answers import EngineError
from ..failures import DATABASE_AWAY
from .wakeups import NODES, Slumber

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pliers_workflow.settings import NodeSettings

    from .messenger import Messenger
    from .wakeups import Wakeups

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("nodes")

Role: TypeAlias = Literal["api", "worker", "all"]


class OtherNode(Struct, frozen=True):
    """Another node that lives."""

    id: str
    name: str
    role: Role
    version: str
    #: the highest record format it reads
    format: int
    draining: bool


#: What keeps everything from being written while reading goes on, in one word for probes and alarms.
_UNWRITTEN: Final[dict[type[Exception], str]] = {
    asyncpg.ReadOnlySQLTransactionError: "database_read_only",
    asyncpg.DiskFullError: "database_full",
}


class NodeRegistrar:
    """Keeps this node's row, and knows the others."""

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        settings: NodeSettings,
        messenger: Messenger,
        wakeups: Wakeups,
        *,
        node_id: str,
        name: str,
        write_format: Callable[[int], None],
        plugins: Sequence[dict[str, str]] = (),
    ) -> None:
        """
        `write_format` is told of the record format to write, whenever that may have changed; `plugins`: which this node has
        (`PluginRegistry.told`).
        """
        self._pool = pool
        self._settings = settings
        self._messenger = messenger
        self._wakeups = wakeups
        self._id = node_id
        self._name = name
        self._reads = FORMAT
        self._write_format = write_format
        self._plugins = list(plugins)
        self._started_at = datetime.now(UTC)
        self._slumber = Slumber()
        self._task: asyncio.Task[None] | None = None
        self._draining = False
        #: why the last heartbeat was not written although the database answers; None: it was
        self.unwritten: str | None = None
        #: those that live, but for this one
        self.others: tuple[OtherNode, ...] = ()
        wakeups.subscribe(NODES, self._slumber.wake)

    @property
    def format(self) -> int:
        """The record format to write: the highest that every node that lives can read."""
        return agreed(self._reads, (node.format for node in self.others))

    async def start(self) -> None:
        """
        Register. From here on the others are known, and the messenger tells them when it listens.

        Raises when the database does not answer, and `EngineError` beside nodes that are too old to be written for.
        """
        await self.beat()
        if self.format < FORMAT_WRITTEN_MIN:
            await self._pool.execute(_sql.leave, self._id)
            old = ", ".join(node.name for node in self.others if node.format < FORMAT_WRITTEN_MIN)
            raise EngineError(f"nodes of an older release read nothing that this one writes; stop them first: {old}")
        self._task = asyncio.create_task(self._run(), name="node-registrar")

    async def drain(self) -> None:
        """Let the others see that this node takes no new work and will be gone soon."""
        self._draining = True
        if self._task is None:
            return
        with contextlib.suppress(*DATABASE_AWAY):
            await self.beat()

    async def close(self) -> None:
        """Take the row away, and say so."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        with contextlib.suppress(*DATABASE_AWAY):
            await self._pool.execute(_sql.leave, self._id, timeout=5)
            if self.others:
                self._messenger.carry(NODES, 0.0)

    async def beat(self) -> None:
        """One heartbeat."""
        settings = self._settings
        rows = await self._pool.fetch(
            _sql.beat, self._id, self._name, settings.role, __version__, self._reads, self._draining, self._started_at,
            settings.silent_after, self._plugins, timeout=5,
        )  # fmt: skip
        self.unwritten = None
        others = tuple(OtherNode(*row) for row in rows)
        for node in others:
            if node.id not in {known.id for known in self.others}:
                _log.info("node_came", node=node.name, role=node.role, version=node.version)
        self.others = others
        self._write_format(max(self.format, FORMAT_WRITTEN_MIN))
        if others:
            self._messenger.accompanied()
        else:
            self._messenger.alone()

    async def _run(self) -> None:
        while True:
            await self._slumber.sleep(self._settings.heartbeat)
            try:
                await self.beat()
            except DATABASE_AWAY as error:
                self.unwritten = _UNWRITTEN.get(type(error))
                _log.warning("heartbeat_waits_for_database", error=repr(error))
            except Exception:
                _log.exception("heartbeat_failed")


def new_node_id() -> str:
    """The id of a node, for as long as its process lives."""
    return str(uuid4())
