"""Events that came too early, and how each finds the one instance that takes it.

An event that no instance could take is written down for each listener, under the key it carries. It is *offered* to an
instance when

- the event has just been written down: to everybody who has the key by now;
- an instance has just moved (any command: a new key, another state, other data): whatever waits under its keys;
- a sweep finds both, because some node died between its commit and its look.

While it is offered, nobody else is offered it (`take`). Taken, the row is gone; refused, it is given back with the reason,
and offered to those who have moved since. Where an instance fails over it and nobody else takes it, it waits no more: the
event has failed, and an operator may retry it. An offer that lapses because its node died is made to the same instance again, whose answer
tells whether it had been taken. So of several instances one gets the event, and no instance gets it twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec
import structlog
from msgspec.structs import replace

from pliers_workflow.definition.listening import type_matches
from pliers_workflow.interpreter.commands import InboundEvent
from pliers_workflow.storage import canonical, queries

from .. import tracing
from ..answers import EngineError
from ..failures import DATABASE_AWAY
from ..submissions.mapping import Failure
from .delivering import failed, refused, result, taken
from .matching import Match, Scope, match, receiving
from .rows import Result, Stored

if TYPE_CHECKING:
    from ..commit.fold import Fold
    from .delivering import Deliverer
    from .rules import Rules

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("waits")
_events: Final = queries.load("inbound")
_read_event: Final = msgspec.json.Decoder(InboundEvent, float_hook=Decimal).decode

#: How long an offer may take before another node makes it again.
_LEASE: Final = timedelta(seconds=30)
#: results that are kept of one event
RESULTS_MAX: Final = 100
#: events kept in memory while they are offered
_EVENTS_MAX: Final = 500
#: waiting events that a sweep looks at, in each tenant
_SWEEP_SIZE: Final = 500
#: how often the sweep looks at one that waits
_OVERLOOKED_AFTER: Final = timedelta(seconds=30)

#: The database is away, or this node has too much to do: somebody comes back to it.
LATER: Final = (EngineError, *DATABASE_AWAY)

Offer = asyncpg.Record
"""A row of `for_instances`, `for_event` or `lapsed`: an event that waits, and an instance that has its key."""


class Waits:
    """See the module."""

    def __init__(self, pool: asyncpg.Pool[Any], rules: Rules, deliverer: Deliverer) -> None:
        self._pool = pool
        self._rules = rules
        self._deliverer = deliverer
        #: tenant and id of instances that have moved and have not been looked at
        self._moved: dict[tuple[str, str], None] = {}
        self._looking: asyncio.Task[None] | None = None
        self._events: OrderedDict[tuple[str, str], Stored] = OrderedDict()
        #: counted since the start: offers made, and taken
        self.offered = 0
        self.taken = 0

    def committed(self, folds: Sequence[Fold]) -> None:
        """A batch is committed: look what waits for the instances in it that can be found by a key."""
        for fold in folds:
            instance = fold.instance
            if fold.rows and instance is not None and (instance.machine.correlation or fold.awaited):
                self._moved[fold.key] = None
        if self._moved and self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="look for waiting events")

    async def settle(self) -> None:
        """Wait until everybody who has moved has been looked at."""
        while self._looking is not None:
            await asyncio.shield(self._looking)

    async def add(self, connection: Any, stored: Stored, matches: Sequence[Match], open_until: Any) -> None:
        """Write down, in the caller's transaction, that nobody could take an event; `look_for` follows the commit."""
        rows = [
            (one.candidate.workflow, one.candidate.trigger_id, one.candidate.rule.rule.correlation, one.key, one.candidate.priority)
            for one in matches
        ]  # fmt: skip
        columns = [list(column) for column in zip(*rows, strict=True)]
        await connection.execute(_sql.add, stored.tenant_id, stored.id, open_until, *columns)

    async def look_for(self, tenant_id: str, event_id: str) -> None:
        """Offer an event to everybody who has its key by now."""
        await self._offer_all(await self._pool.fetch(_sql.for_event, tenant_id, event_id))

    async def sweep(self, tenant_id: str) -> int:
        """Make lapsed offers again, offer what was overlooked, and close what nobody came for; how many were looked at."""
        lapsed = await self._pool.fetch(_sql.lapsed, tenant_id, _SWEEP_SIZE)
        await self._offer_all(lapsed)
        rows = await self._pool.fetch(_sql.overlooked, tenant_id, _OVERLOOKED_AFTER, _SWEEP_SIZE)
        for event_id in dict.fromkeys(row["event_id"] for row in rows if row["found"]):
            await self.look_for(tenant_id, event_id)
        await self._pool.execute(_sql.close, tenant_id)
        return len(lapsed) + len(rows)

    async def _look(self) -> None:
        try:
            while self._moved:
                moved, self._moved = list(self._moved), {}
                try:
                    offers = await self._pool.fetch(
                        _sql.for_instances, [key[0] for key in moved], [key[1] for key in moved]
                    )
                    await self._offer_all(offers)
                except LATER as error:
                    _log.warning("waiting_events_left_to_sweep", instances=len(moved), error=repr(error))
        finally:
            self._looking = None

    async def _offer_all(self, offers: Sequence[Offer]) -> None:
        """Make offers: those to one instance one after another, in their order."""
        by_instance: dict[tuple[str, str], list[Offer]] = {}
        for offer in offers:
            by_instance.setdefault((offer["tenant_id"], offer["instance_id"]), []).append(offer)

        async def make(each: list[Offer]) -> None:
            try:
                for offer in each:
                    await self._offer(offer)
            except LATER as error:
                # What is being offered stays so until its lease lapses: it may have been taken.
                _log.warning("waiting_events_left_to_sweep", instance=each[0]["instance_id"], error=repr(error))
            except Exception:
                # A defect of ours, or a row that cannot be read: in nobody else's way.
                _log.exception("offer_failed", instance=each[0]["instance_id"])

        await asyncio.gather(*(make(each) for each in by_instance.values()))

    async def _offer(self, offer: Offer) -> None:
        """Offer an event to an instance, and where it refuses, to those who have moved meanwhile, it included."""
        tenant_id = offer["tenant_id"]
        wait = (tenant_id, offer["event_id"], offer["workflow_name"], offer["trigger_id"])
        instance_id, definition_id = offer["instance_id"], offer["definition_id"]
        #: the revision at which each has refused
        refused_at: dict[str, int] = {}
        failures: dict[str, Result] = {}
        while True:
            revision = await self._pool.fetchval(_sql.take, *wait, instance_id, _LEASE)
            if revision is None:
                return
            became = await self._deliver(wait, instance_id, definition_id, offer["key"])
            told = canonical.encode_loose([] if became is None else [became]).decode()
            if became is not None and became.outcome == "delivered":
                self.taken += 1
                await self._pool.execute(_sql.taken, *wait, instance_id, told, RESULTS_MAX)
                return
            if became is not None and became.outcome == "failed":
                failures[instance_id], told = became, "[]"
            await self._pool.execute(_sql.give_back, *wait, instance_id, told, RESULTS_MAX)
            refused_at[instance_id] = revision
            others = await self._pool.fetch(_sql.others, *wait)
            following = next((row for row in others if refused_at.get(row["instance_id"], -1) < row["revision"]), None)
            if following is None:
                break
            instance_id, definition_id = following["instance_id"], following["definition_id"]
        if failures:
            told = canonical.encode_loose(list(failures.values())).decode()
            await self._pool.execute(_sql.failed, *wait, told, RESULTS_MAX)

    async def _deliver(
        self, wait: tuple[str, str, str, str], instance_id: str, definition_id: str, key: str
    ) -> Result | None:
        """Give the instance the event; what it made of it. None: it listens for something else, or is gone."""
        tenant_id, event_id, workflow, trigger_id = wait
        self.offered += 1
        stored = await self._stored(tenant_id, event_id)
        if stored is None:
            return None
        steps: tuple[str, ...] = ()
        if trigger_id.startswith("receive/"):
            rows = await self._pool.fetch(_sql.awaiting, tenant_id, instance_id, key)
            steps = tuple(row["name"] for row in rows if type_matches(row["event_type"], stored.event.type))
            found = receiving(workflow, trigger_id, definition_id, key) if steps else None
        else:
            # What the instance's own version makes of the event: it may listen for something else under this id.
            listener = await self._rules.of(tenant_id, definition_id, trigger_id)
            if listener is None or not type_matches(listener[0], stored.event.type):
                return None
            try:
                found = match(listener[1], Scope(stored.event, stored.received_at))
            except Failure as failure:
                return replace(failed(Match(listener[1]), failure), instance=instance_id)
        if found is None or found.key != key:
            return None
        answer = await self._deliverer.deliver(stored, found, instance_id, steps)
        if taken(answer):
            return result(found, "delivered", instance=instance_id)
        return refused(found, instance_id, answer)

    async def _stored(self, tenant_id: str, event_id: str) -> Stored | None:
        kept = self._events.get((tenant_id, event_id))
        if kept is None:
            row = await self._pool.fetchrow(_events.get, tenant_id, event_id)
            if row is None:
                return None
            kept = self._events[tenant_id, event_id] = stored_of(row)
            while len(self._events) > _EVENTS_MAX:
                self._events.popitem(last=False)
        return kept


def stored_of(row: asyncpg.Record) -> Stored:
    """An event as its row keeps it."""
    return Stored(
        tenant_id=row["tenant_id"],
        id=row["id"],
        event=_read_event(row["event"]),
        depth=row["depth"],
        received_at=row["received_at"],
        open_until=row["open_until"],
        attempt=row["attempt"],
        own=row["received_by"] is None and row["event_source_id"] is None,
        trace=tracing.kept(row["trace"]),
    )
