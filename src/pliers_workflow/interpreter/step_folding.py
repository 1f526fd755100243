"""Fold step events into an instance: the steps' part of `interpreter.folding`.

Every function changes a working copy by replacing containers; none is mutated. `APPLY` names the function of each event
and is merged into the table of `interpreter.folding`.

What folding promises to `interpreter.steps`: a run that is over is gone from `machine.steps`, and what it stands in
knows how far it has come; a step of a state that is being left leaves nothing behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from .events import (
    BranchFailed,
    EscalationTriggered,
    RollbackStarted,
    StepCancelled,
    StepCompensated,
    StepCompleted,
    StepFailed,
    StepHeld,
    StepRetried,
    StepSkipped,
    StepStarted,
)
from .instance import Status
from .rounds import leave_chain
from .step_runs import Ended, Held

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from .instance import Instance, Machine
    from .step_runs import StepFailure, StepRun

_V = TypeVar("_V")


def _without(mapping: dict[str, _V], key: str) -> dict[str, _V]:
    copy = mapping.copy()
    copy.pop(key, None)
    return copy


def _put(machine: Machine, run: StepRun) -> None:
    machine.steps = {**machine.steps, run.id: run}


def step_started(instance: Instance, event: StepStarted, at: datetime) -> None:
    """The run is at work; the element it is for is taken from those its loop has not begun yet."""
    machine, run = instance.machine, event.run
    number = int(run.id.rpartition("/")[2])
    if machine.counters.get("step", 0) < number:
        machine.counters = {**machine.counters, "step": number}
    steps = machine.steps.copy()
    if run.parent is None:
        if run.state is not None:
            machine.working = {**machine.working, run.state: run.id}
    elif run.index is not None and run.undoes is None:
        loop = steps[run.parent]
        run = replace(run, item=loop.items[0])
        steps[loop.id] = replace(loop, items=loop.items[1:], position=loop.position + 1)
    steps[run.id] = run
    machine.steps = steps


def step_skipped(instance: Instance, event: StepSkipped, at: datetime) -> None:
    machine = instance.machine
    ended = Ended("skipped")
    if event.kept_in is not None:
        _keep(machine, event.kept_in, event.step_id, ended)
    if event.parent is None:
        return
    parent = machine.steps[event.parent]
    if event.branch is not None:
        branch = Ended("completed") if event.completes_branch else ended
        parent = replace(parent, ended={**parent.ended, event.branch: branch})
    elif event.index is not None:
        parent = replace(parent, items=parent.items[1:], position=parent.position + 1, done=parent.done + 1)
    else:
        parent = replace(parent, position=parent.position + 1, output=None)
    _put(machine, parent)


def step_completed(instance: Instance, event: StepCompleted, at: datetime) -> None:
    machine = instance.machine
    run = machine.steps[event.step]
    ended = Ended("completed" if event.failure is None else "failed", event.output, event.failure)
    if event.kept_in is not None:
        _keep(machine, event.kept_in, event.step_id, ended)
    if event.undo is not None or event.forgets:
        _forget(machine, run)
    if event.undo is not None:
        machine.undo = {**machine.undo, str(event.undo.number): event.undo}
        if machine.counters.get("undo", 0) < event.undo.number:
            machine.counters = {**machine.counters, "undo": event.undo.number}
    _drop(machine, run)
    if run.parent is not None:
        _put(machine, _with_child_ended(machine.steps[run.parent], run, ended, event.collected))


def _with_child_ended(parent: StepRun, run: StepRun, ended: Ended, collected: bool) -> StepRun:
    if run.branch is not None:
        # A branch whose only step failed is over as one is whose last step did: that was passed over.
        kept = Ended("completed", ended.output if collected else None)
        return replace(parent, ended={**parent.ended, run.branch: kept})
    if run.index is not None:
        if collected:
            parent = replace(parent, ended={**parent.ended, str(run.index): ended})
        return replace(parent, done=parent.done + 1)
    return replace(parent, position=parent.position + 1, output=ended.output if collected else None)


def step_failed(instance: Instance, event: StepFailed, at: datetime) -> None:
    machine = instance.machine
    run = machine.steps[event.step]
    if event.retry_at is not None:
        _put(machine, replace(run, status="retrying", attempt=run.attempt + 1, due_at=event.retry_at, held=None))
    else:
        held = None if _is_held(run, event.failure) else run.held
        _put(machine, replace(run, status="failed", failure=event.failure, due_at=None, held=held))
        # What it asked is over with it: nobody can decide it, or resubmit it, any more.
        if run.id in machine.chains:
            machine.chains = _without(machine.chains, run.id)


def _is_held(run: StepRun, failure: StepFailure) -> bool:
    """Whether it is the failure that was kept with the run: now it has taken effect, and what is kept is done with."""
    kept = None if run.held is None else run.held.failure
    return kept is not None and (kept.code, kept.message) == (failure.code, failure.message)


def step_held(instance: Instance, event: StepHeld, at: datetime) -> None:
    held = Held(event.output, event.failure, event.retryable, event.retry_after_ms)
    machine = instance.machine
    _put(machine, replace(machine.steps[event.step], held=held))


def step_retried(instance: Instance, event: StepRetried, at: datetime) -> None:
    _put(instance.machine, event.run)


def step_cancelled(instance: Instance, event: StepCancelled, at: datetime) -> None:
    machine = instance.machine
    _drop(machine, machine.steps[event.step])


def branch_failed(instance: Instance, event: BranchFailed, at: datetime) -> None:
    machine = instance.machine
    _drop(machine, machine.steps[event.run])
    parent = machine.steps[event.step]
    ended = Ended("failed", failure=event.failure)
    _put(machine, replace(parent, ended={**parent.ended, event.branch: ended}))


def rollback_started(instance: Instance, event: RollbackStarted, at: datetime) -> None:
    machine = instance.machine
    _put(machine, replace(machine.steps[event.step], status="undoing", failure=event.failure))


def step_compensated(instance: Instance, event: StepCompensated, at: datetime) -> None:
    machine = instance.machine
    run = machine.steps[event.step]
    machine.undo = _without(machine.undo, str(run.undoes))
    _forget(machine, run)  # what is done to undo something is not undone in its turn
    _drop(machine, run)


def escalation_triggered(instance: Instance, event: EscalationTriggered, at: datetime) -> None:
    instance.status = Status.ESCALATED


def stick(machine: Machine, run_id: str) -> None:
    """An incident tells of a run; what it stands in waits for it, and has not failed after all."""
    steps = {**machine.steps, run_id: replace(machine.steps[run_id], status="stuck")}
    above = steps[run_id].parent
    while above is not None and steps[above].status == "failed":
        steps[above] = replace(steps[above], status="open", failure=None)
        above = steps[above].parent
    machine.steps = steps


def unstick(machine: Machine, run_id: str) -> None:
    """The incident is resolved; what becomes of the run, the next event tells."""
    run = machine.steps[run_id]
    if run.status == "stuck":
        _put(machine, replace(run, status="open", failure=None))


def leave_state(machine: Machine, state: str) -> None:
    """What its steps gave is not seen any more."""
    if state in machine.outputs:
        machine.outputs = _without(machine.outputs, state)
    if state in machine.working:
        machine.working = _without(machine.working, state)


def _keep(machine: Machine, scope: str, step: str, ended: Ended) -> None:
    machine.outputs = {**machine.outputs, scope: {**machine.outputs.get(scope, {}), step: ended}}


def _forget(machine: Machine, run: StepRun) -> None:
    """Nothing that was done inside a run will be undone any more."""
    if machine.undo:
        machine.undo = {key: undo for key, undo in machine.undo.items() if run.id not in undo.within}


def _drop(machine: Machine, run: StepRun) -> None:
    leave_chain(machine, run.id)
    machine.steps = _without(machine.steps, run.id)
    if run.parent is None:
        _forget(machine, run)
        if run.state is not None and machine.working.get(run.state) == run.id:
            machine.working = _without(machine.working, run.state)
    if run.id in machine.outputs:
        machine.outputs = _without(machine.outputs, run.id)


#: Event type -> what it changes.
APPLY: dict[type, Callable[[Instance, Any, datetime], None]] = {
    StepStarted: step_started,
    StepSkipped: step_skipped,
    StepCompleted: step_completed,
    StepFailed: step_failed,
    StepHeld: step_held,
    StepRetried: step_retried,
    StepCancelled: step_cancelled,
    BranchFailed: branch_failed,
    RollbackStarted: rollback_started,
    StepCompensated: step_compensated,
    EscalationTriggered: escalation_triggered,
}
