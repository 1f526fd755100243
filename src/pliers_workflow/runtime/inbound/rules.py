"""What published versions listen for: written when they are published, found by the types of events, kept compiled.

Which listeners there are is asked for every event, so a version counts from its commit on, on every node. Their rules
never change and are known by their hashes: those are kept compiled, within a bound.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from pliers_workflow.definition.listening import Rule, listeners, patterns
from pliers_workflow.storage import canonical, queries

from .matching import Candidate, CompiledRule

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.definition.document import WorkflowDefinition
    from pliers_workflow.storage.database import AnyConnection as Connection

_sql: Final = queries.load("inbound")
_feed: Final = queries.load("feed")
_read: Final = msgspec.json.Decoder(Rule).decode

#: The reader of the feed by which the engine's own events come in, and its lanes.
OWN_READER: Final = "inbound"
OWN_READER_LANES: Final = 4
#: rules kept compiled
RULES_MAX: Final = 20_000


async def listen(connection: Connection, tenant_id: str, definition_id: str, definition: WorkflowDefinition) -> None:
    """A version is published, in the caller's transaction: it listens from now on, and those before start nothing more."""
    await connection.execute(_sql.silence, tenant_id, definition.name)
    rows = []
    for one in listeners(definition):
        rule = canonical.encode(one.rule)
        digest = sha256(rule).digest()
        rows.append((one.id, one.event_type, one.rule.action, one.priority, one.place, rule.decode(), digest))
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        await connection.execute(_sql.listen, tenant_id, definition_id, definition.name, *columns)
        # From here on, so that nothing of what happens after the commit is missed.
        await connection.execute(_feed.add_lanes, OWN_READER, OWN_READER_LANES, None)


async def forget(connection: Connection, tenant_id: str, definition_id: str) -> None:
    """A version is archived, in the caller's transaction."""
    await connection.execute(_sql.forget_version, tenant_id, definition_id)


class Rules:
    """Finds listeners, and keeps their rules compiled."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool
        self._kept: OrderedDict[bytes, CompiledRule] = OrderedDict()

    async def listening(self, tenant_id: str, types: Iterable[str], *, own: bool = False) -> dict[str, list[Candidate]]:
        """The listeners for each of these types, in the order in which they act; `own`: events of the engine itself."""
        wanted = {
            event_type: tuple(each for each in patterns(event_type) if not own or each != "*") for event_type in types
        }
        asked = sorted({pattern for each in wanted.values() for pattern in each})
        rows = await self._pool.fetch(_sql.listening, tenant_id, asked)
        by_pattern: defaultdict[str, list[Candidate]] = defaultdict(list)
        for pattern, candidate in await self._candidates(tenant_id, rows):
            by_pattern[pattern].append(candidate)
        return {
            event_type: sorted(
                _distinct(one for pattern in each for one in by_pattern[pattern]), key=lambda one: one.order
            )
            for event_type, each in wanted.items()
        }

    async def of(self, tenant_id: str, definition_id: str, trigger_id: str) -> tuple[str, Candidate] | None:
        """One version's listener and the type it waits for, or None where it has no such."""
        rows = await self._pool.fetch(_sql.listener, tenant_id, definition_id, trigger_id)
        return next(iter(await self._candidates(tenant_id, rows)), None)

    async def alike(self, tenant_id: str, workflow: str, trigger_id: str, rule_hash: bytes) -> Candidate | None:
        """The listener of all versions of a workflow that have this very rule, or None where none is left."""
        rows = await self._pool.fetch(_sql.alike, tenant_id, workflow, trigger_id, rule_hash)
        return next((candidate for _, candidate in await self._candidates(tenant_id, rows)), None)

    async def _candidates(self, tenant_id: str, rows: Collection[asyncpg.Record]) -> list[tuple[str, Candidate]]:
        missing = {row["rule_hash"]: row for row in rows if row["rule_hash"] not in self._kept}
        if missing:
            asked = list(missing.values())
            for row in await self._pool.fetch(
                _sql.rules, tenant_id, [row["definition_id"] for row in asked], [row["trigger_id"] for row in asked]
            ):
                self._kept[row["rule_hash"]] = CompiledRule(_read(row["rule"]))
        grouped: defaultdict[tuple[str, str, str, bytes], list[asyncpg.Record]] = defaultdict(list)
        for row in rows:
            trigger_id = row["trigger_id"]
            if row["action"] == "receive":
                # All that find the key in the same place are one, whatever types they wait for.
                trigger_id = trigger_id.rpartition("/")[0]
            grouped[row["event_type"], row["workflow_name"], trigger_id, row["rule_hash"]].append(row)
        found = []
        for (event_type, workflow, trigger_id, rule_hash), alike in grouped.items():
            compiled = self._kept.get(rule_hash)
            if compiled is None:
                continue  # archived between the two questions
            self._kept.move_to_end(rule_hash)
            candidate = Candidate(
                workflow=workflow,
                trigger_id=trigger_id,
                definition_ids=tuple(row["definition_id"] for row in alike),
                priority=max(row["priority"] for row in alike),
                place=alike[0]["place"],
                rule_hash=rule_hash,
                rule=compiled,
            )
            found.append((event_type, candidate))
        while len(self._kept) > RULES_MAX:
            self._kept.popitem(last=False)
        return found


def _distinct(candidates: Iterable[Candidate]) -> Iterable[Candidate]:
    """Each listener once: receive steps of one workflow may wait for an event under several patterns."""
    found: dict[tuple[str, str, bytes], Candidate] = {}
    for one in candidates:
        mark = (one.workflow, one.trigger_id, one.rule_hash)
        before = found.get(mark)
        if before is not None:
            one = replace(before, definition_ids=tuple({*before.definition_ids, *one.definition_ids}))
        found[mark] = one
    return found.values()
