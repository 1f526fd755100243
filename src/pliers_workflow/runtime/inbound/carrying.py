"""Events carried out: each by all its listeners at once, those that came together in their order.

What is carried out is in the inbox already, so whatever ends in between is done again, by this node or another, and comes
to the same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from msgspec.structs import replace as altered

from pliers_workflow.storage import queries

from ..answers import ShuttingDown
from ..failures import NOT_NOW
from ..submissions.mapping import Failure
from .acting import Acted, Actor, Again, encoded, forget_after
from .delivering import failed
from .matching import Match
from .order import begin_in_order
from .rows import Result, Stored
from .waiting import LATER, Waits

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.settings import EventSettings

    from .rules import Rules

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("inbound")
_waits: Final = queries.load("waits")
_read_results: Final = msgspec.json.Decoder(tuple[Result, ...]).decode

#: events that are carried out at once
_AT_ONCE: Final = 64
#: what passes by itself, and holds up what came after it until then
_NOT_NOW: Final = (ShuttingDown, *NOT_NOW)
#: seconds between two attempts while the database is away, or this node has too much to do
_PAUSE_MIN: Final = 0.1
_PAUSE_MAX: Final = 5.0


class Carrier:
    """See the module."""

    def __init__(
        self, pool: asyncpg.Pool[Any], settings: EventSettings, rules: Rules, actor: Actor, waits: Waits
    ) -> None:
        self._pool = pool
        self._settings = settings
        self.rules = rules
        self.waits = waits
        self._actor = actor
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def _begin_all(
        self, tenant_id: str, events: Sequence[Stored], again: Again | None = None
    ) -> list[tuple[Stored, asyncio.Task[bool]]]:
        """
        Begin to carry out events of one tenant, in the order in which they came, as far as they may concern the same instances.

        With each its task, which says whether it is done, or left for later; `again`: what a retry does of one event.
        """
        listening = {}
        for own in {each.own for each in events}:
            types = {each.event.type for each in events if each.own is own}
            listening[own] = await self.rules.listening(tenant_id, types, own=own)
        found = []
        for each in events:
            candidates = listening[each.own][each.event.type]
            if again is not None:
                candidates = [one for one in candidates if (one.workflow, one.trigger_id) in again]
            try:
                matches, wrong = await self._actor.matches(each, candidates)
            except Exception:
                # A defect of ours: it stays `received`, and is in nobody's way.
                _log.exception("event_failed", tenant=tenant_id, id=each.id)
                continue
            found.append(((each, matches, wrong), matches))

        async def carry_out(subject: tuple[Stored, list[Match], list[Result]]) -> bool:
            async with self._turns:
                return await self._act(*subject, again)

        tasks = begin_in_order(found, carry_out)
        for task in tasks:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return [(subject[0], task) for (subject, _), task in zip(found, tasks, strict=True)]

    async def _wait(self, tenant_id: str, events: Sequence[Stored], seconds: float, again: Again | None = None) -> None:
        """Carry out events; return when that is done, or after so long: then it goes on by itself."""
        tasks = [task for _, task in await self._begin_all(tenant_id, events, again)]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def carry_out(self, tenant_id: str, events: Sequence[Stored]) -> list[Stored]:
        """
        Carry out events, however long it takes.

        Returns those that are left for later, because the database is away or this node has too much to do: give them
        again, before any that came after them. A caller that is cancelled does not take them with it.
        """
        try:
            begun = await self._begin_all(tenant_id, events)
        except LATER as error:
            _log.warning("events_left_for_later", tenant=tenant_id, events=len(events), error=repr(error))
            return list(events)
        if begun:
            await asyncio.wait([task for _, task in begun])
        # Some of what they were to do may be done, and whom it was done to may not be found again by the same key.
        return [
            altered(stored, attempt=stored.attempt + 1)
            for stored, task in begun
            if task.cancelled() or not task.result()
        ]

    async def carry_out_all(self, tenant_id: str, events: Sequence[Stored]) -> None:
        """The same, as often as it takes: for readers, who give nothing that came later before that is done."""
        pause = _PAUSE_MIN
        left = list(events)
        while left:
            left = await self.carry_out(tenant_id, left)
            if left:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, _PAUSE_MAX)

    async def _act(
        self,
        stored: Stored,
        matches: list[Match],
        wrong: list[Result],
        again: Again | None = None,
    ) -> bool:
        """Carry out what an event's listeners make of it; False: it is left for later, and stays `received`."""
        try:
            if stored.depth > self._settings.depth_max:
                matches, wrong = [], [*wrong, *(failed(each, _too_deep(stored)) for each in matches)]
            acted = await self._actor.act(stored, matches, at_once=again is not None, again=again)
            acted = Acted((*wrong, *acted.results), acted.waiting, acted.delayed)
            if await self._settle(stored, acted, again) and acted.waiting:
                await self.waits.look_for(stored.tenant_id, stored.id)
        except LATER as error:
            # The reader of its source comes back to it, or the sweep of some node: that alone where it is no matter of the
            # moment (a defect of ours, an instance that only a newer release can read), so that it is in nobody's way.
            _log.warning("event_left_for_later", tenant=stored.tenant_id, id=stored.id, error=repr(error))
            return not isinstance(error, _NOT_NOW)
        except Exception:
            # A defect of ours; it must not hold up what comes after it.
            _log.exception("event_failed", tenant=stored.tenant_id, id=stored.id)
        return True

    async def _settle(self, stored: Stored, acted: Acted, again: Again | None) -> bool:
        results, status = acted.results, acted.status
        async with self._pool.acquire() as connection, connection.transaction():
            if again is not None:
                row = await connection.fetchrow(_sql.get, stored.tenant_id, stored.id)
                before = _read_results(row["results"]) if row is not None else ()
                results = (*(each for each in before if not _is_settled_by(each, results, again)), *results)
                status = Acted(results, acted.waiting).status
                if status in ("matched", "unmatched") and await connection.fetch(
                    _waits.of_event, stored.tenant_id, stored.id
                ):
                    status = "buffered"
            settled = await connection.fetchval(
                _sql.settle, stored.tenant_id, stored.id, status, encoded(results), forget_after(stored, acted)
            )
            if settled is None:
                return False  # somebody else has come to it meanwhile, and to the same
            await self._actor.keep(connection, stored, acted, stored.open_until)
        return True


def _is_settled_by(before: Result, results: Sequence[Result], again: Again) -> bool:
    """Whether a retry has done again what this result tells: it had failed, or the same instance has answered anew."""
    if before.outcome == "failed":
        return (before.workflow, before.trigger) in again
    return before.instance is not None and any(
        (each.workflow, each.trigger, each.instance) == (before.workflow, before.trigger, before.instance)
        for each in results
    )


def _too_deep(stored: Stored) -> Failure:
    message = (
        f"{stored.depth} events of the engine led to this one without a person in between; workflows that start each "
        "other must come to an end (setting `events.depth_max`)."
    )
    return Failure("depth_exceeded", message)
