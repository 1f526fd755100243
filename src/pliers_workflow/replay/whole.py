"""Replaying whole cases on a virtual clock: trip, permit and declaration together, as they really lay in time.

All cases share the clock of one tenant. It is moved from one instant at which something can become due to the next (the
ends of trips and the reminders that may follow them), and each time everything due is carried out before the next events
are played. Between two stops the events of different cases are played at the same time, those of one case in their order.

A trip's permit is decided in the trip's own instance, its declaration in the sub-workflow that the first thing done about
it begins. What was to happen is told apart for each document by the table, and for the reminders by a rule that knows
nothing of the engine: one for every 30 days that have passed between the trip's end and the declaration's beginning.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from pliers_workflow.client.api import Api
from pliers_workflow.client.setup import ensure_binding, ensure_workflow

from .cases import LogError, Refusal, Step, Verdict, lines, walk
from .cast import MAPPING, Cast
from .travel import Row, key, travel_definition
from .trip import DECLARE, NAME, REMINDER_DAYS, TRIGGERS, permit_rows, trip_definition

PERMIT: Final = "Permit"
DECLARATION: Final = "Declaration"
_PREFIX: Final = "permit_"
_INTERVAL: Final = timedelta(days=REMINDER_DAYS)
#: seconds for which one move of the clock may be busy
_SETTLE_MAX: Final = 60


class Moment(Struct, frozen=True):
    """One recorded event, with its time."""

    at: datetime
    activity: str
    act: str
    by: str
    #: the document it concerns; None: the trip, or the payment
    document: str | None


class Trip(Struct, frozen=True):
    """One recorded case, whole."""

    id: str
    attributes: dict[str, Any]
    moments: tuple[Moment, ...]

    @property
    def ended_at(self) -> datetime | None:
        """When the traveller came back."""
        return next((each.at for each in self.moments if each.activity == "End trip"), None)

    @property
    def declared_at(self) -> datetime | None:
        """When something was first done about the declaration."""
        return next((each.at for each in self.moments if each.document == DECLARATION), None)

    def reminders(self, until: datetime) -> list[datetime]:
        """When the traveller is to be reminded; a reminder and a declaration at one instant: the reminder comes first."""
        if self.ended_at is None:
            return []
        last = until if self.declared_at is None else self.declared_at
        return [self.ended_at + number * _INTERVAL for number in range(1, (last - self.ended_at) // _INTERVAL + 1)]


def read_trips(path: Path, limit: int = 0) -> list[Trip]:
    """Read whole cases. Raises `LogError` with the line."""
    trips: list[Trip] = []
    for number, content in lines(path):
        try:
            trips.append(Trip(content["case"], content.get("attrs") or {}, tuple(map(_moment, content["events"]))))
        except (KeyError, TypeError, ValueError) as error:
            raise LogError(f"{path}, line {number}, is no case: {type(error).__name__}: {error}") from None
        if limit and len(trips) == limit:
            break
    return trips


def _moment(event: dict[str, Any]) -> Moment:
    return Moment(
        datetime.fromisoformat(event["t"]),
        event["a"],
        event.get("act") or event["a"],
        event.get("by") or "",
        event.get("doc"),
    )


class TripRun(Struct):
    """What became of one case."""

    number: int
    trip: Trip
    instance: str | None = None
    #: the declaration's own
    child: str | None = None
    #: by document: states after each accepted step, and what was refused
    states: dict[str, list[str]] = {}
    refused: dict[str, Refusal] = {}
    reminders: int = 0
    #: what should not have happened
    faults: list[str] = []

    def outcome(self, document: str) -> Verdict:
        """A document's own steps as the table would tell them."""
        return Verdict(tuple(self.states.get(document, ())), self.refused.get(document))


class WholeReplayer:
    """Replays whole cases in one tenant, whose clock is virtual."""

    def __init__(self, admin: Api, tenant: str, rows: Sequence[Row], start: str, trips: Sequence[Trip]) -> None:
        deeds = {(each.act, each.by) for trip in trips for each in trip.moments if each.document}
        self._cast = Cast(admin, rows, start, deeds)
        self._tenant = tenant
        self._rows = rows
        self._start = start
        self.runs = [TripRun(number, trip, states={}, refused={}, faults=[]) for number, trip in enumerate(trips)]
        self._until = max(each.at for trip in trips for each in trip.moments)
        #: moves of the clock
        self.stops = 0

    @property
    def repeated(self) -> int:
        """Calls that had to be sent again."""
        return self._cast.repeated

    async def prepare(self) -> None:
        """Make what the log needs: a user and a token for each role, both workflows, the form's binding."""
        await self._cast.prepare()
        await ensure_workflow(self._cast.admin, travel_definition(self._rows, self._start))
        await ensure_workflow(self._cast.admin, trip_definition(self._rows, self._start))
        await ensure_binding(self._cast.admin, NAME, NAME, MAPPING)

    # -- the replay ----------------------------------------------------------------------------------------------------

    async def replay(self, *, callers: int, done: Callable[[int], None]) -> None:
        """Play everything; `done` is told how many events more have been."""
        events = sorted(
            ((each.at, run.number, index) for run in self.runs for index, each in enumerate(run.trip.moments)),
        )
        position = 0
        slots = asyncio.Semaphore(callers)
        stops = self._stops(events[0][0])
        for stop, following in zip(stops, [*stops[1:], None], strict=True):
            await self._move_clock(stop)
            batch: dict[int, list[int]] = {}
            while position < len(events) and (following is None or events[position][0] < following):
                _, number, index = events[position]
                batch.setdefault(number, []).append(index)
                position += 1
            async with asyncio.TaskGroup() as group:
                for number, indexes in batch.items():
                    group.create_task(self._play(self.runs[number], indexes, slots))
            done(sum(map(len, batch.values())))
        await self._move_clock(self._until + timedelta(minutes=1))

    def _stops(self, first: datetime) -> list[datetime]:
        """Where the clock stands still: at the beginning, and wherever something becomes due or begins to count."""
        stops = {first}
        for run in self.runs:
            trip = run.trip
            if trip.ended_at is not None:
                stops.add(trip.ended_at)
                stops.update(trip.reminders(self._until))
                if trip.declared_at is not None:
                    # What is due at the very instant of the declaration is carried out before it.
                    stops.update(
                        each for each in (trip.declared_at,) if (each - trip.ended_at) % _INTERVAL == timedelta()
                    )
        return sorted(stop for stop in stops if stop >= first)

    async def _move_clock(self, to: datetime) -> None:
        self.stops += 1
        answer = await self._cast.admin.do(
            "PUT", f"/api/v1/tenants/{self._tenant}/clock", {"virtualNow": to.isoformat(), "waitSeconds": _SETTLE_MAX}
        )
        if not answer["settled"]:
            raise LogError(f"what was due at {to.isoformat()} was not carried out within {_SETTLE_MAX} s")

    async def _play(self, run: TripRun, indexes: Iterable[int], slots: asyncio.Semaphore) -> None:
        async with slots:
            if run.instance is None:
                await self._submit(run)
            if run.instance is None:
                return
            for index in indexes:
                await self._play_one(run, index, run.trip.moments[index])

    async def _submit(self, run: TripRun) -> None:
        data = run.trip.attributes | {"case": run.trip.id}
        answer, run.instance = await self._cast.submit(run.number, NAME, data)
        if run.instance is None:
            run.faults.append(f"its submission started no workflow: {answer.sentence}")

    async def _play_one(self, run: TripRun, index: int, moment: Moment) -> None:
        if moment.activity in TRIGGERS:
            answer = await self._cast.advance(run.number, index, run.instance, TRIGGERS[moment.activity])
            if not answer.ok:
                run.faults.append(f"event {index}, {moment.activity}, was answered {answer.sentence}")
        elif moment.document is not None:
            if moment.document not in run.refused:  # what was refused once ends there, as in the log's expectation
                await self._play_document(run, index, moment)
        elif not moment.by and any(row.act == moment.act for row in self._rows):
            await self._pay(run, index, moment)

    async def _play_document(self, run: TripRun, index: int, moment: Moment) -> None:
        document = moment.document
        assert document is not None
        if document == DECLARATION and run.child is None:
            await self._begin_declaration(run, index)
            if run.child is None:
                return
        instance = run.instance if document == PERMIT else run.child
        states = run.states.setdefault(document, [])
        before = states[-1] if states else self._start
        answer = await self._cast.do(run.number, index, instance, moment.act, moment.by)
        if answer.ok:
            states.append(self._state(document, answer.body))
            return
        if not 400 <= answer.status < 500:
            run.faults.append(f"event {index} was answered {answer.sentence}")
        run.refused[document] = Refusal(before, len(states))
        now = await self._cast.instance(instance)
        if document == PERMIT and f"{_PREFIX}{key(before)}" not in now["configuration"]:
            run.faults.append(f"event {index} was refused, but the permit is not in {before} any more")
        if document == DECLARATION and self._reading(self._state(document, now)) != before:
            run.faults.append(
                f"event {index} was refused, but the declaration went from {before} to {now['currentState']}"
            )

    async def _pay(self, run: TripRun, index: int, moment: Moment) -> None:
        """What the payment system does: no step of the document, so it is told apart from what people do."""
        if run.child is None:
            return
        state = self._state(DECLARATION, await self._cast.instance(run.child))
        allowed = any((row.state, row.act, row.by) == (state, moment.act, "") for row in self._rows)
        answer = await self._cast.do(run.number, index, run.child, moment.act, moment.by)
        if answer.ok != allowed:
            run.faults.append(f"event {index}, {moment.act} in {state}, was answered {answer.sentence}")

    async def _begin_declaration(self, run: TripRun, index: int) -> None:
        answer = await self._cast.advance(run.number, f"{index}/begin", run.instance, DECLARE)
        if not answer.ok:
            run.faults.append(f"the declaration could not be begun: {answer.sentence}")
            return
        rows = await self._cast.history(run.instance)
        events = [event for row in rows for event in row["executionData"]["events"]]
        started = [event["run"] for event in events if event["type"] == "workflow.step.started"]
        child = next((each["child"] for each in started if "child" in each), None)
        if child is None:
            run.faults.append("the declaration was begun, but no step of the trip has another instance")
            return
        await self._cast.until_there(child)
        run.child = child

    def _state(self, document: str, instance: dict[str, Any]) -> str:
        """The state of a document, by the table's name."""
        if document == DECLARATION:
            return self._cast.state(instance["currentState"])
        found = [each.removeprefix(_PREFIX) for each in instance["configuration"] if each.startswith(_PREFIX)]
        return self._cast.state(found[0]) if found else "closed"

    def _reading(self, state: str) -> str:
        """A state as a document's own steps tell it: what the payment system has done since is not among them."""
        paid = {row.to: row.state for row in self._rows if not row.by}
        while state in paid:
            state = paid[state]
        return state

    # -- afterwards ----------------------------------------------------------------------------------------------------

    async def judge(self, *, callers: int, done: Callable[[int], None]) -> None:
        """Hold every trip as it is now against the table, the rule for reminders, and what its sub-workflow came to."""
        slots = asyncio.Semaphore(callers)

        async def one(run: TripRun) -> None:
            async with slots:
                if run.instance is not None:
                    await self._judge(run)
                done(1)

        async with asyncio.TaskGroup() as group:
            for run in self.runs:
                group.create_task(one(run))

    async def _judge(self, run: TripRun) -> None:
        parent = await self._cast.instance(run.instance)
        run.reminders = int(parent["instanceData"].get("reminders", 0))
        wanted = len(run.trip.reminders(self._until))
        if run.reminders != wanted:
            run.faults.append(f"{run.reminders} reminders, {wanted} by the rule")
        for document in (PERMIT, DECLARATION):
            rows = permit_rows(self._rows, self._start) if document == PERMIT else self._rows
            steps = [Step(each.act, each.by) for each in run.trip.moments if each.document == document]
            must = walk(rows, self._start, steps)
            if run.outcome(document) != must:
                run.faults.append(f"the {document.lower()} went {run.outcome(document)}, by the table {must}")
        if run.child is not None:
            child = await self._cast.instance(run.child)
            ended = child["status"] == "completed"
            if ended != (parent["instanceData"].get("outcome") == child["currentState"]):
                run.faults.append(
                    f"the declaration is {child['status']} in {child['currentState']}, "
                    f"and the trip knows {parent['data'].get('outcome')}"
                )

    def outcomes(self, document: str) -> dict[str, Verdict]:
        """By case, what became of one document; cases without that document are left out."""
        return {
            run.trip.id: run.outcome(document)
            for run in self.runs
            if any(each.document == document for each in run.trip.moments)
        }

    def summary(self) -> dict[str, Any]:
        """Figures, by document as the log's expectations count them."""
        documents = {}
        for document in (PERMIT, DECLARATION):
            took = [run for run in self.runs if any(each.document == document for each in run.trip.moments)]
            whole = [run for run in took if document not in run.refused]
            documents[document] = {
                "cases": len(took),
                "replayed": len(whole),
                "refused": len(took) - len(whole),
                "final_states": dict(Counter(run.states[document][-1] for run in whole if run.states.get(document))),
            }
        return {
            "cases": len(self.runs),
            "documents": documents,
            "reminders": sum(run.reminders for run in self.runs),
            "reminders_by_the_rule": sum(len(run.trip.reminders(self._until)) for run in self.runs),
            "clock_moves": self.stops,
        }
