"""Runs and the agenda: the small parts that everything about steps is made of.

One thing leads to another: a leaf that completes lets its sequence begin the next, which may complete at once. None of
that happens by calling each other, or a thousand assignments in a row would nest a thousand calls; each thing that has
to follow is put on the draft's *agenda*, and `starting.work_off` does one after the other. What was put there may have
been overtaken when its turn comes, so every task looks first whether its run is still at work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from .. import approvals
from ..clocks import cancel_timer, start_timer
from ..commands import CancelInstance
from ..effects import CancelStep, CloseIncident, SendOrder, StopAwaiting
from ..events import IncidentResolved, StepCancelled, StepRetried, StepStarted
from ..step_runs import IN_FLIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pliers_workflow.definition.step_chart import Step

    from ..draft import Draft
    from ..step_runs import StepRun

CancelReason: TypeAlias = Literal["state_left", "not_needed", "failed", "cancelled", "retried"]

#: Types whose work is left to workers, with a job.
OUTSIDE: Final = frozenset({"plugin", "http", "script", "notification", "external"})
#: Bytes as JSON of what a step is given, and of what it gives.
INPUT_MAX_BYTES: Final = 256_000
OUTPUT_MAX_BYTES: Final = 256_000

_encode = msgspec.json.Encoder(decimal_format="number").encode


def step_of(draft: Draft, run: StepRun) -> Step:
    """The step that a run is a passage through."""
    return draft.chart.steps[run.path]


def run_at_work(draft: Draft, id: str | None) -> StepRun | None:
    """The run of this id, as it is now; None where it is over."""
    return None if id is None else draft.instance.machine.steps.get(id)


def children(draft: Draft, run: StepRun) -> list[StepRun]:
    """The runs that stand directly in a run, in the order in which they began."""
    return [each for each in draft.instance.machine.steps.values() if each.parent == run.id]


def number_of(run: StepRun) -> int:
    """7 of `step/7`."""
    return int(run.id[5:])


def below(draft: Draft, run: StepRun) -> list[StepRun]:
    """All runs inside a run, the latest first."""
    found: list[StepRun] = []
    todo = [run.id]
    by_parent: dict[str, list[StepRun]] = {}
    for each in draft.instance.machine.steps.values():
        if each.parent is not None:
            by_parent.setdefault(each.parent, []).append(each)
    while todo:
        for each in by_parent.get(todo.pop(), ()):
            found.append(each)
            todo.append(each.id)
    return sorted(found, key=number_of, reverse=True)


def size(value: Any) -> int:
    """Bytes of a value as JSON."""
    return len(_encode(value))


def announce(draft: Draft, run: StepRun, given: Any = None) -> None:
    """The run is at work from now on: begun, or begun again."""
    event = StepRetried if run.id in draft.instance.machine.steps else StepStarted
    draft.emit(event(run, given))


def start_clock(draft: Draft, step: Step, run: StepRun, delay_ms: int = 0) -> None:
    """Limit the time of the run's attempt, where the step says so."""
    if step.timeout_ms is not None:
        start_timer(
            draft,
            kind="step",
            trigger=f"timeout.step.{run.step_id}",
            budget_ms=delay_ms + step.timeout_ms,
            state=run.state,
            step=run.id,
            attempt=run.attempt,
        )


def timers_of(draft: Draft, run: StepRun) -> Iterator[str]:
    """Ids of the clocks that tick for a run."""
    return (timer.id for timer in draft.instance.machine.timers.values() if timer.step == run.id)


def release(draft: Draft, run: StepRun, *, abandoned: bool) -> None:
    """
    Stop whatever is at work for a run outside of the instance: its job, its clocks, what it awaits.

    `abandoned`: its result is not wanted any more, so another workflow that it started is cancelled.
    """
    if draft.instance.machine.timers:
        for timer in timers_of(draft, run):
            cancel_timer(draft, timer)
    if run.status not in IN_FLIGHT:
        return
    if run.type in OUTSIDE:
        draft.owe(CancelStep(run.id))
    elif run.type == "receive":
        draft.owe(StopAwaiting(run.id))
    elif run.type == "approval":
        approvals.leave(draft, run.id)
    elif run.type == "sub_workflow" and abandoned and run.child is not None and _at_work_elsewhere(run):
        name = f"order/cancel/{run.id}/{run.attempt}"
        draft.owe(SendOrder(name, run.child, CancelInstance(f"{draft.instance.id} does not need it any more")))


def _at_work_elsewhere(run: StepRun) -> bool:
    """Whether the workflow that it has started may go on still: its result has not come."""
    return run.status == "waiting" and run.held is None


def cancel(draft: Draft, run: StepRun, reason: CancelReason) -> None:
    """Give up a run and all that stands in it."""
    for each in (*below(draft, run), run):
        release(draft, each, abandoned=True)
        close_incidents(draft, each.id, reason)
        draft.emit(StepCancelled(each.id, each.step_id, reason))


def cancel_below(draft: Draft, run: StepRun, reason: CancelReason) -> None:
    """Give up what stands in a run."""
    for each in children(draft, run):
        cancel(draft, each, reason)


def undoing_below(draft: Draft, run: StepRun) -> list[StepRun]:
    """The sequences inside a run that are being undone."""
    if not any(each.status == "undoing" for each in draft.instance.machine.steps.values()):
        return []
    return [each for each in below(draft, run) if each.status == "undoing"]


def give_up_below(draft: Draft, run: StepRun) -> None:
    """Give up what stands in a run, but for what is being undone there: that goes on to its end."""
    steps = draft.instance.machine.steps
    kept: set[str] = set()
    for undoing in undoing_below(draft, run):
        kept.update([each.id for each in below(draft, undoing)])
        above: str | None = undoing.id
        while above is not None and above != run.id:
            kept.add(above)
            above = steps[above].parent
    for each in below(draft, run):
        if each.id not in kept:
            release(draft, each, abandoned=True)
            close_incidents(draft, each.id, "failed")
            draft.emit(StepCancelled(each.id, each.step_id, "failed"))


def close_incidents(draft: Draft, run: str, reason: str) -> None:
    """What was wrong with a run does not matter any more."""
    incidents = draft.instance.machine.incidents
    if incidents:
        for incident in incidents.values():
            if incident.step == run:
                draft.emit(IncidentResolved(incident.id, reason))
                draft.owe(CloseIncident(incident.id))
