"""What an event comes to: its matches carried out, and what they came to written down.

Starts and deliveries begin in the order of their priorities, so commands to one instance are executed in it. A match that
finds instances is given to all of them; when none takes it, it waits (`waiting`), unless one of them has failed over it:
then an operator's retry does it again, for those that failed. What is delayed becomes a job.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from pliers_workflow.definition.listening import SUBMISSION, Doing, type_matches
from pliers_workflow.storage import canonical, identity, queries

from ..submissions.mapping import Failure
from .delivering import Deliverer, digest, failed, in_order, refused, result, taken
from .matching import Candidate, Match, Scope, match
from .rows import EventStatus, Result, Stored
from .waiting import RESULTS_MAX, Waits

if TYPE_CHECKING:
    import asyncpg

    from ..answers import Answer

_sql: Final = queries.load("inbound")
_waits: Final = queries.load("waits")

#: How long an event's id is known after the last thing it may still do.
AFTERWARDS: Final = timedelta(days=1)
#: what is kept first of results that are too many
_ORDER: Final = {"failed": 0, "refused": 2}
#: listeners that are looked at before others get a turn
_TURN: Final = 200


Again: TypeAlias = Mapping[tuple[str, str], frozenset[str]]
"""What a retry does again: by workflow and trigger, the instances that failed; none: whatever the trigger finds."""


class Delayed(Struct, frozen=True):
    """What the job of a delayed trigger keeps."""

    event: str
    workflow: str
    trigger: str
    action: Doing
    #: hexadecimal
    rule: str
    format: int = 1


class Acted(Struct, frozen=True):
    """What an event, or one of its delayed triggers, came to."""

    results: tuple[Result, ...]
    #: nobody could take these
    waiting: tuple[Match, ...] = ()
    delayed: tuple[Match, ...] = ()

    @property
    def status(self) -> EventStatus:
        """What this says of the event."""
        outcomes = {each.outcome for each in self.results}
        if "failed" in outcomes:
            return "failed"
        if self.waiting:
            return "buffered"
        return "matched" if outcomes & {"started", "delivered", "scheduled"} else "unmatched"


class Actor:
    """Carries matches out."""

    def __init__(self, pool: asyncpg.Pool[Any], deliverer: Deliverer, waits: Waits) -> None:
        self._pool = pool
        self._deliverer = deliverer
        self._waits = waits

    async def matches(self, stored: Stored, candidates: Sequence[Candidate]) -> tuple[list[Match], list[Result]]:
        """What listeners make of an event, in their order, and those that failed over it."""
        scope = Scope(stored.event, stored.received_at)
        found: list[Match] = []
        wrong: list[Result] = []
        for number, candidate in enumerate(candidates, start=1):
            if candidate.rule.rule.correlation == SUBMISSION and not stored.of_submission:
                continue  # only called like one
            try:
                one = match(candidate, scope)
            except Failure as failure:
                wrong.append(failed(Match(candidate), failure))
            else:
                if one is not None:
                    found.append(one)
            if number % _TURN == 0:
                await asyncio.sleep(0)
        return found, wrong

    async def act(
        self, stored: Stored, matches: Sequence[Match], *, at_once: bool = False, again: Again | None = None
    ) -> Acted:
        """
        Carry out matches; `at_once`: those that are delayed too, as their time has come; `again`: of a retry.

        Raises EngineError and the database's errors where it cannot be known now what they come to.
        """
        delayed = [] if at_once else [one for one in matches if one.delay_ms > 0]
        now = [one for one in matches if at_once or one.delay_ms == 0]
        keyed = [one for one in now if one.key is not None]
        targets = await self._find(stored, keyed)
        earlier = await self._earlier(stored) if stored.attempt > 1 and keyed else {}
        orders: list[Callable[[], Awaitable[Any]]] = []
        for one in now:
            if one.key is None:
                orders.append(lambda one=one: self._deliverer.start(stored, one))  # type: ignore[misc]
            else:
                failed_before = again and again.get((one.candidate.workflow, one.candidate.trigger_id))
                for instance_id, steps in targets[id(one)].items():
                    if failed_before and instance_id not in failed_before:
                        continue
                    orders.append(lambda one=one, to=instance_id, steps=steps: self._give(stored, one, to, steps))  # type: ignore[misc]
        answers = await in_order(orders)
        results = [each for each in answers if isinstance(each, Result)]
        given: defaultdict[int, list[tuple[str, Answer]]] = defaultdict(list)
        for each in answers:
            if not isinstance(each, Result):
                one, instance_id, answer = each
                given[id(one)].append((instance_id, answer))
        waiting = []
        for one in keyed:
            took = [result(one, "delivered", instance=to) for to, answer in given[id(one)] if taken(answer)]
            took = took or [result(one, "delivered", instance=to) for to in earlier.get(digest(one), ())]
            refusals = [why for to, answer in given[id(one)] if not taken(answer) and (why := refused(one, to, answer))]
            results += took + refusals
            failing = any(each.outcome == "failed" for each in refusals)
            if not took and not failing and stored.open_until > stored.received_at:
                waiting.append(one)
        results += [result(one, "scheduled", due_at=_due(stored, one)) for one in delayed]
        return Acted(tuple(results), tuple(waiting), tuple(delayed))

    async def keep(self, connection: Any, stored: Stored, acted: Acted, open_until: datetime) -> None:
        """Write down, in the caller's transaction, what waits and what is delayed."""
        if acted.waiting:
            await self._waits.add(connection, stored, acted.waiting, open_until)
        if acted.delayed:
            rows = [_job(stored, one) for one in acted.delayed]
            columns = [list(column) for column in zip(*rows, strict=True)]
            await connection.execute(_sql.schedule, stored.tenant_id, stored.received_at, *columns)

    async def _find(self, stored: Stored, keyed: Sequence[Match]) -> dict[int, dict[str, tuple[str, ...]]]:
        """
        The living instances that have the matches' keys and a version that has their rule, by match.

        With each the steps that wait for the event, where it is received.
        """
        found: dict[int, dict[str, tuple[str, ...]]] = {id(one): {} for one in keyed}
        if not keyed:
            return found
        rows = await self._pool.fetch(
            _waits.find, stored.tenant_id, [one.candidate.workflow for one in keyed],
            [one.candidate.rule.rule.correlation for one in keyed], [one.key for one in keyed],
        )  # fmt: skip
        for row in rows:
            one = keyed[row["ord"] - 1]
            if row["definition_id"] not in one.candidate.definition_ids:
                continue
            targets = found[id(one)]
            if row["event_type"] is None:
                targets[row["instance_id"]] = ()
            elif type_matches(row["event_type"], stored.event.type):
                targets[row["instance_id"]] = (*targets.get(row["instance_id"], ()), row["name"])
        return found

    async def _give(
        self, stored: Stored, one: Match, instance_id: str, steps: tuple[str, ...]
    ) -> tuple[Match, str, Answer]:
        return one, instance_id, await self._deliverer.deliver(stored, one, instance_id, steps)

    async def _earlier(self, stored: Stored) -> dict[str, list[str]]:
        """The instances that took an event before its node died, by trigger: they may have lost their keys since."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for row in await self._pool.fetch(_sql.acted, stored.tenant_id, stored.id):
            _, instance_id, trigger = row["key"].split("/")
            found[trigger].append(instance_id)
        return found


def _due(stored: Stored, one: Match) -> datetime:
    return stored.received_at + timedelta(milliseconds=one.delay_ms)


def forget_after(stored: Stored, acted: Acted) -> timedelta:
    """How long after its arrival an event must be known at least: until its last delayed trigger is past."""
    longest = max((one.delay_ms for one in acted.delayed), default=0)
    return timedelta(milliseconds=longest) + (stored.open_until - stored.received_at) + AFTERWARDS


def _job(stored: Stored, one: Match) -> tuple[Any, ...]:
    candidate = one.candidate
    rule = candidate.rule.rule
    payload = Delayed(stored.id, candidate.workflow, candidate.trigger_id, rule.action, candidate.rule_hash.hex())
    name = f"trigger/{candidate.workflow}/{candidate.trigger_id}/{payload.rule[:16]}"
    return (
        identity.job_id(stored.id, name),
        name,
        _due(stored, one),
        candidate.workflow,
        msgspec.json.encode(payload).decode(),
    )


def encoded(results: Sequence[Result]) -> str:
    """Results as they are kept: what failed first, what was refused last, and no more than people read."""
    chosen = sorted(results, key=lambda each: _ORDER.get(each.outcome, 1))[:RESULTS_MAX]
    return canonical.encode_loose(chosen).decode()
