"""Events carried out: each by all its listeners at once, those of a broker in the order in which they came.

What is carried out is in the inbox already, so whatever ends in between is done again, by this node or another, and comes
to the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from pliers_workflow.storage import queries

from ..mapping import Failure
from .acting import Acted, Actor, Again, encoded, forget_after
from .delivering import failed
from .matching import Candidate, Match
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
    ) -> list[asyncio.Task[None]]:
        """Begin to carry out events of one tenant."""
        tasks = []
        for own in (False, True):
            part = [each for each in events if each.own is own]
            if part:
                listening = await self.rules.listening(tenant_id, {each.event.type for each in part}, own=own)
                tasks += [self._begin(each, listening[each.event.type], again) for each in part]
        return tasks

    def _begin(self, stored: Stored, candidates: Sequence[Candidate], again: Again | None = None) -> Any:
        task = asyncio.create_task(self._carry_out(stored, candidates, again), name=f"event {stored.id}")
        self._remember(task)
        return task

    def _remember(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def carry_out_in_order(self, tenant_id: str, events: Sequence[Stored]) -> list[Stored]:
        """
        Carry out events of outside in the order in which they came, as far as they may concern the same instances.

        Returns those that are left for later, because the database is away or this node has too much to do: give them
        again, before any that came after them. A caller that is cancelled does not take them with it.
        """
        try:
            listening = await self.rules.listening(tenant_id, {each.event.type for each in events})
        except LATER as error:
            _log.warning("events_left_for_later", tenant=tenant_id, events=len(events), error=repr(error))
            return list(events)
        found = []
        for each in events:
            try:
                matches, wrong = await self._actor.matches(each, listening[each.event.type])
            except Exception:
                # A defect of ours: it stays `received`, and is in nobody's way.
                _log.exception("event_failed", tenant=tenant_id, id=each.id)
                continue
            found.append(((each, matches, wrong), matches))

        async def carry_out(subject: tuple[Stored, list[Match], list[Result]]) -> bool:
            stored, matches, wrong = subject
            async with self._turns:
                return await self._act(stored, matches, wrong)

        tasks = begin_in_order(found, carry_out)
        for task in tasks:
            self._remember(task)
        if tasks:
            await asyncio.wait(tasks)
        return [
            subject[0] for (subject, _), task in zip(found, tasks, strict=True) if task.cancelled() or not task.result()
        ]

    async def _carry_out(self, stored: Stored, candidates: Sequence[Candidate], again: Again | None = None) -> None:
        """Carry out an event, of all its listeners or what failed of some, and say what became of it."""
        async with self._turns:
            if again is not None:
                candidates = [each for each in candidates if (each.workflow, each.trigger_id) in again]
            matches, wrong = await self._actor.matches(stored, candidates)
            await self._act(stored, matches, wrong, again)

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
            # The sweep of some node comes back to it, or the reader of its source.
            _log.warning("event_left_for_later", tenant=stored.tenant_id, id=stored.id, error=repr(error))
            return False
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
