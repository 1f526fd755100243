"""What the history of an instance says of its steps, whatever happened to it: how each began, ended and was undone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliers_workflow.definition.chart import Chart
from pliers_workflow.definition.step_chart import ForEach
from pliers_workflow.interpreter import statechart
from pliers_workflow.interpreter.commands import (
    CancelInstance,
    CompleteStep,
    DeliverEvent,
    FailStep,
    FireTimer,
    FireTrigger,
    InboundEvent,
    Order,
    RecordDecision,
    ResolveIncident,
)
from pliers_workflow.interpreter.effects import (
    AwaitEvent,
    CancelTimer,
    CloseIncident,
    OpenIncident,
    OpenWorkItem,
    ScheduleTimer,
    SendOrder,
    SettleWorkItem,
    StartChild,
    StopAwaiting,
)
from pliers_workflow.interpreter.events import (
    BranchFailed,
    StepCancelled,
    StepCompensated,
    StepCompleted,
    StepFailed,
    StepHeld,
    StepRetried,
    StepStarted,
    TimeoutOccurred,
    WorkflowResumed,
    WorkflowSuspended,
)
from pliers_workflow.interpreter.instance import Instance
from pliers_workflow.interpreter.interpret import interpret
from pliers_workflow.interpreter.outcome import Outcome
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.interpreter.simulation import Simulation
from pliers_workflow.interpreter.step_runs import StepRun
from tests.properties.effort import tries
from tests.properties.happening import runs
from tests.properties.step_charts import documents, happenings

quick = tries(100)
lists = st.lists(happenings(), min_size=5, max_size=40)


@pytest.fixture(autouse=True, scope="module")
def soon_endless() -> Iterator[None]:
    """As in the other laws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statechart, "MICROSTEPS_MAX", 40)
        yield


def lived(document: dict[str, Any], happened: list[tuple[Any, ...]]) -> Simulation | None:
    """The instance after all that; None where it could not be started."""
    return next(reversed(list(runs(document, happened))), None)


def outcomes(run: Simulation) -> Iterator[Outcome]:
    """Each row of its history interpreted again, which gives the same to the last event."""
    instance: Instance | None = None
    for row in run.history:
        again = interpret(run.chart, instance, row.command, row.facts, row.at, budget_steps=5_000_000)
        assert isinstance(again, Outcome), again
        assert (again.events, again.facts) == (row.events, row.facts)
        instance = again.instance
        yield again
    assert instance == run.instance


class Book:
    """Keeps account of runs by the events alone."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        #: those that have begun and not ended
        self.live: dict[str, StepRun] = {}
        self.ended: set[str] = set()
        #: what can be undone: by its number, the runs it stood in
        self.undoable: dict[int, tuple[str, ...]] = {}
        self.undone: Counter[int] = Counter()
        self.suspended = False

    def read(self, event: Any) -> None:
        """Note one event down, or fail."""
        match event:
            case StepStarted(run=run):
                assert run.id not in self.live and run.id not in self.ended, "a number is given once"
                assert run.parent is None or run.parent in self.live, "it stands in one that is at work"
                assert not self.suspended, "nothing begins while it is suspended"
                self.live[run.id] = run
                self._within_limits(run)
                if run.undoes is not None:
                    self._undoes(run)
            case StepRetried(run=run):
                assert run.id in self.live and not self.suspended
            case StepCompleted(step=id, undo=undo):
                self._end(id)
                if undo is not None:
                    # What was done inside is undone by this one's compensation from now on.
                    self.undoable = {number: within for number, within in self.undoable.items() if id not in within}
                    self.undoable[undo.number] = undo.within
            case StepCompensated(step=id):
                number = self.live[id].undoes
                assert number is not None
                self.undone[number] += 1
                assert self.undone[number] == 1, "undone once"
                del self.undoable[number]
                self._end(id)
            case StepCancelled(step=id) | BranchFailed(run=id):
                self._end(id)
            case StepFailed(step=id) | StepHeld(step=id):
                assert id in self.live, "what has ended is not heard of any more"
            case WorkflowSuspended():
                self.suspended = True
            case WorkflowResumed():
                self.suspended = False

    def _end(self, id: str) -> None:
        assert not any(each.parent == id for each in self.live.values()), "what stands in it has ended before"
        del self.live[id]
        self.ended.add(id)

    def _within_limits(self, run: StepRun) -> None:
        if run.index is None or run.undoes is not None:
            return
        assert run.parent is not None
        loop = self.chart.steps[self.live[run.parent].path].work
        assert isinstance(loop, ForEach)
        elements = [each.index for each in self.live.values() if each.parent == run.parent]
        assert len(elements) <= loop.concurrency
        assert len(elements) == len(set(elements)), "each element once at a time"

    def _undoes(self, run: StepRun) -> None:
        number = run.undoes
        assert number is not None and run.parent is not None
        inside = [each for each, within in self.undoable.items() if run.parent in within]
        assert number == max(inside), "the last one first, and only what has completed"
        others = [each.id for each in self.live.values() if each.parent == run.parent and each.id != run.id]
        assert others == [], "nothing else is at work in a sequence that is undone"


@quick
@given(documents, lists)
def test_each_run_begins_and_ends_once(document: Any, happened: Any) -> None:
    """
    And nothing is heard of it afterwards.

    What is undone had completed, is undone once, the last one first, while nothing else is at work there; a loop never
    has more elements at work than it may; nothing begins while the instance is suspended.
    """
    run = lived(document, happened)
    if run is None:
        return
    book = Book(run.chart)
    for event in run.events:
        book.read(event)
    assert run.instance is not None
    assert book.live.keys() == run.instance.machine.steps.keys()


@quick
@given(documents, lists)
def test_effects_agree_with_the_instance(document: Any, happened: Any) -> None:
    """Doing every duty owed leaves exactly the jobs, clocks, work items, awaited events and incidents that it knows."""
    run = lived(document, happened)
    if run is None:
        return
    timers: dict[str, Any] = {}
    items: set[str] = set()
    awaited: set[str] = set()
    incidents: set[str] = set()
    for outcome in outcomes(run):
        before = set(outcome.instance.machine.steps)
        for event in outcome.events:
            if isinstance(event, TimeoutOccurred):
                del timers[event.timer]
        for effect in outcome.effects:
            match effect:
                case ScheduleTimer(timer=timer):
                    timers[timer.id] = timer
                case CancelTimer(timer=id):
                    del timers[id]
                case OpenWorkItem(item=item):
                    items.add(item.id)
                case SettleWorkItem(item=id):
                    items.remove(id)
                case AwaitEvent(step=id):
                    awaited.add(id)
                case StopAwaiting(step=id):
                    awaited.remove(id)
                case OpenIncident(incident=incident):
                    incidents.add(incident.id)
                case CloseIncident(incident=id):
                    incidents.remove(id)
        machine = outcome.instance.machine
        assert timers == machine.timers
        assert items == {each.id for chain in machine.chains.values() for stage in chain.stages for each in stage.items}
        assert incidents == machine.incidents.keys()
        waiting = {each.id for each in machine.steps.values() if each.type == "receive" and each.status == "waiting"}
        assert awaited <= waiting <= before
        if outcome.instance.ended:
            assert not timers and not items and not awaited and not incidents


@quick
@given(documents, lists)
def test_each_other_workflow_ends_or_is_cancelled_once(document: Any, happened: Any) -> None:
    """Where its result is not wanted any more it is told so; where it has come, it is not."""
    run = lived(document, happened)
    if run is None:
        return
    started: dict[str, StartChild] = {}
    cancelled: Counter[str] = Counter()
    told: set[tuple[str, int]] = set()
    for row, outcome in zip(run.history, outcomes(run), strict=True):
        order = row.command.order
        if isinstance(order, CompleteStep | FailStep):
            told.add((order.step, order.attempt))
        for effect in outcome.effects:
            if isinstance(effect, StartChild):
                assert effect.instance not in started
                started[effect.instance] = effect
            if isinstance(effect, SendOrder) and isinstance(effect.order, CancelInstance):
                assert effect.instance in started, "only what was started is cancelled"
                cancelled[effect.instance] += 1
    assert run.instance is not None
    at_work = {
        each.child for each in run.instance.machine.steps.values() if each.status == "waiting" and each.held is None
    }
    for id, child in started.items():
        ended = (child.parent.step, child.parent.attempt) in told
        assert cancelled[id] + ended + (id in at_work) == 1, (id, cancelled[id], ended, id in at_work)


GONE = {
    CompleteStep: Reason.STEP_GONE,
    FailStep: Reason.STEP_GONE,
    FireTimer: Reason.TIMER_GONE,
    ResolveIncident: Reason.UNKNOWN_INCIDENT,
}


@quick
@given(documents, lists)
def test_what_came_once_is_refused_ever_after(document: Any, happened: Any) -> None:
    """A result, a timer or a decision about an incident that is said again changes nothing, at any time after."""
    for run in runs(document, happened):
        before = run.instance
        for row in run.history:
            reason = GONE.get(type(row.command.order))
            if reason is not None:
                answer = run.give(row.command.order, None)
                assert isinstance(answer, Rejection), row.command.order
                assert answer.reason in (reason, Reason.INSTANCE_ENDED, Reason.SUSPENDED)
        assert run.instance is before


NEVER_TRUE: list[Order] = [
    CompleteStep("step/1000", 1),
    CompleteStep("state", 1),
    FailStep("step/1000", 1, "NO", "made up"),
    FireTimer("timer/1000"),
    FireTimer("step/1"),
    ResolveIncident("incident/1000", "skip", "because"),
    RecordDecision("approve", "nowhere"),
    RecordDecision("approve", item="item/1000"),
    DeliverEvent(InboundEvent("event/x", "nobody", "never.awaited")),
    DeliverEvent(InboundEvent("event/x", "nobody", "paid"), steps=("step/1000",)),
    DeliverEvent(InboundEvent("event/x", "nobody", "paid"), "execute", step="nothing"),
    FireTrigger("never.heard.of"),
]


@quick
@given(documents, lists)
def test_what_means_nothing_is_refused(document: Any, happened: Any) -> None:
    """Commands about what there never was change nothing, whatever the instance is at."""
    for run in runs(document, happened):
        before = run.instance
        for order in NEVER_TRUE:
            assert isinstance(run.give(order, None), Rejection), order
        assert run.instance is before


@quick
@given(documents, lists)
def test_the_same_commands_give_the_same_instance(document: Any, happened: Any) -> None:
    """Every row of the history can be interpreted again."""
    run = lived(document, happened)
    if run is not None:
        assert len(list(outcomes(run))) == len(run.history)
