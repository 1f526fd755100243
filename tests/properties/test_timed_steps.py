"""The life of a tree of steps is what `timed_steps` tells of it, to the millisecond."""

from __future__ import annotations

from datetime import datetime, timedelta
from json import dumps
from math import inf
from random import Random
from typing import Any

from hypothesis import assume, given, note
from hypothesis import strategies as st

from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.reading import read
from pliers_workflow.interpreter.commands import (
    CompleteStep,
    DeliverEvent,
    FailStep,
    InboundEvent,
    Order,
    ResolveIncident,
)
from pliers_workflow.interpreter.events import (
    StepCancelled,
    StepCompensated,
    StepCompleted,
    StepFailed,
    StepRetried,
    StepStarted,
)
from pliers_workflow.interpreter.outcome import Outcome
from pliers_workflow.interpreter.simulation import START, Simulation
from tests.properties.effort import tries
from tests.properties.timed_steps import INSTANT, Fate, Player, Trees, Unclear, document

HOLDERS = ("sequential", "parallel", "conditional", "for_each")
UNTIL = 30 * 24 * 3_600_000
DATA = {"yes": True, "no": False, "n": 0}


def milliseconds(at: datetime) -> int:
    """Since the start."""
    return (at - START) // timedelta(milliseconds=1)


class Driver:
    """Lets an instance meet its fate: does its work, brings it events, resolves its incidents, each at its moment."""

    def __init__(self, run: Simulation, fate: Fate) -> None:
        self.run = run
        self.fate = fate
        #: attempts at work, by run: place, and when it began
        self.open: dict[str, tuple[str, int]] = {}
        self.spans: list[tuple[str, int, int, str]] = []
        self.places: dict[str, str] = {}
        self.types: dict[str, str] = {}
        self._seen = 0

    def drive(self, until: int) -> None:
        """One thing after the other, until nothing is left to do."""
        self._look()
        while self.run.instance is not None and not self.run.instance.ended:
            due = self._due()
            timer = min(
                (milliseconds(each.due_at) for each in self.run.instance.machine.timers.values() if each.due_at),
                default=None,
            )
            at = min([each for each in (timer, due[0] if due else None) if each is not None], default=None)
            if at is None or at > until:
                return
            now = milliseconds(self.run.now)
            if timer is not None and (due is None or timer <= due[0]):
                self.run.advance(max(0, timer - now))
            else:
                assert due is not None
                self.run.advance(due[0] - now)
                answer = self.run.give(due[1], None)
                assert isinstance(answer, Outcome), answer
            self._look()

    def _due(self) -> tuple[int, Any] | None:
        """What happens next outside, and when."""
        instance = self.run.instance
        assert instance is not None
        found: list[tuple[int, str, Order]] = []
        for incident in instance.machine.incidents.values():
            assert incident.step is not None and incident.raised_at is not None
            raised = milliseconds(incident.raised_at)
            operator = self.fate.operator(self.places[incident.step], raised)
            if operator is not None:
                order = ResolveIncident(incident.id, operator.action, "because")  # type: ignore[arg-type]
                found.append((raised + operator.after, incident.id, order))
        for id, (where, began) in self.open.items():
            run = instance.machine.steps[id]
            work = self.fate.work(where, began)
            if run.type == "receive":
                event = InboundEvent(f"event/{id}", "fate", "paid", time=self.run.now)
                found.append((began + work.takes, id, DeliverEvent(event, "receive", steps=(id,))))
            elif run.type != "wait" and work.code is None:
                found.append((began + work.takes, id, CompleteStep(id, run.attempt)))
            elif run.type != "wait" and work.code is not None:
                failure = FailStep(id, run.attempt, work.code, "made up", work.retryable)
                found.append((began + work.takes, id, failure))
        if not found:
            return None
        at, _, order = min(found, key=lambda each: each[:2])
        return at, order

    def _look(self) -> None:
        """Note down what has begun and ended since."""
        for row in self.run.history[self._seen :]:
            at = milliseconds(row.at)
            for event in row.events:
                match event:
                    case StepStarted(run=run):
                        above = "" if run.parent is None else self.places[run.parent]
                        if run.index is not None and run.undoes is None:
                            above += f"/[{run.index}]"
                        if run.branch is not None:
                            above += f"/{run.branch}"
                        # Rows of steps have no name of their own.
                        self.places[run.id] = above if "/" in run.step_id else f"{above}/{run.step_id}"
                        self.types[run.id] = run.type
                        self._begin(run.id, at)
                    case StepRetried(run=run):
                        self._begin(run.id, at)
                    case StepFailed(step=id, retry_at=retry_at):
                        self._end(id, at, "failed")
                        if retry_at is not None:
                            self._begin(id, milliseconds(retry_at))
                    case StepCompleted(step=id) | StepCompensated(step=id):
                        self._end(id, at, "completed")
                    case StepCancelled(step=id):
                        self._end(id, at, "given up")
        self._seen = len(self.run.history)

    def _begin(self, id: str, at: int) -> None:
        if self.types[id] not in (*HOLDERS, *INSTANT):
            self.open[id] = self.places[id], at

    def _end(self, id: str, at: int, how: str) -> None:
        if id in self.open:
            where, began = self.open.pop(id)
            if began < at:
                self.spans.append((where, began, at, how))


def lived(document: dict[str, Any], fate: Fate) -> tuple[str | None, float, list[Any]]:
    """What the interpreter makes of it: the state entered after the steps, when, and who did what from when to when."""
    reading = read(document)
    assume(reading.definition is not None)
    assert reading.definition is not None
    run = Simulation(compile_definition(reading.definition))
    answer = run.start(DATA, "ada")
    assert isinstance(answer, Outcome), answer
    driver = Driver(run, fate)
    driver.drive(UNTIL)
    assert run.instance is not None
    unfinished = [(where, began, inf, "never") for where, began in driver.open.values() if began < UNTIL]
    spans = sorted([*driver.spans, *unfinished])
    if not run.instance.ended:
        return None, inf, spans
    return run.instance.current_state, milliseconds(run.now), spans


@tries(200)
@given(st.integers(0, 2**32), st.integers(0, 3), st.booleans(), st.sampled_from((0.1, 0.3, 0.6)))
def test_steps_live_as_is_told(seed: int, depth: int, handled: bool, failing: float) -> None:
    """Who does what from when to when, and how and when it ends, is what the second opinion says."""
    steps = Trees(Random(seed)).row(depth)
    told_of = document(steps, handled=handled)
    note(dumps(told_of["stateMachine"]["states"]["work"]["properties"]["steps"], indent=1))
    fate = Fate(seed, failing)
    try:
        state, at, life = Player(fate).state(steps, handled=handled)
    except Unclear:
        assume(False)
    told = [(each.place, each.begin, each.end, each.how) for each in life.spans if each.begin < min(each.end, UNTIL)]
    spans = sorted(told)
    assert lived(told_of, fate) == (state, at, spans)
