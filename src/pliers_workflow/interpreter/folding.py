"""Fold events into an instance: the only code that changes one.

`apply` changes a working copy; every container in it is replaced and never mutated, so that an instance handed out
before stays as it was. The interpreter's draft applies each event as it is emitted, and `fold` applies the events of a
history row: the same functions, so folding the log gives the instance by construction. Nothing here needs the chart.
What the events of approvals and steps change stands in `approval_folding` and `step_folding`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from . import approval_folding, step_folding
from . import events as e
from .instance import ChainRun, Instance, Machine, Status
from .rounds import leave_chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from .events import Event

_V = TypeVar("_V")


def fold(instance: Instance | None, events: Iterable[Event], *, seq: int, at: datetime, instance_id: str) -> Instance:
    """
    Apply the events of one history row, number `seq`, written at `at`.

    `instance` is None for the first row, whose first event is `WorkflowStarted`. The instance given is left as it is.
    """
    copy = blank(instance_id, at) if instance is None else thaw(instance)
    for event in events:
        APPLY[type(event)](copy, event, at)
    seal(copy, seq, at)
    return copy


def apply(instance: Instance, event: Event, at: datetime) -> None:
    """Apply one event to a working copy (see `thaw`), which is derived anew by `seal` after the last one."""
    APPLY[type(event)](instance, event, at)


def blank(instance_id: str, at: datetime) -> Instance:
    """A working copy before the first event."""
    return Instance(
        id=instance_id,
        definition_id="",
        definition_name="",
        version="",
        revision=0,
        status=Status.PENDING,
        configuration=(),
        current_state="",
        previous_state=None,
        data={},
        context={},
        machine=Machine(),
        requester=None,
        created_by=None,
        created_at=at,
        last_activity_at=at,
    )


def thaw(instance: Instance) -> Instance:
    """A working copy: the instance and its machine may be changed, the containers in them only replaced."""
    copy: Instance = instance.__copy__()  # type: ignore[attr-defined]  # msgspec's stubs leave it out
    copy.machine = instance.machine.__copy__()  # type: ignore[attr-defined]
    return copy


def seal(instance: Instance, revision: int, at: datetime) -> None:
    """Set what is derived once, after the last event: revision, time, earliest due timer, the one person asked."""
    instance.revision = revision
    instance.last_activity_at = at
    machine = instance.machine
    earliest: datetime | None = None
    for timer in machine.timers.values():
        due = timer.due_at
        if due is not None and (earliest is None or due < earliest):
            earliest = due
    # One that is halted tells nobody when it would go on by itself: it would not, or it would not be halted.
    instance.timeout_at = earliest if instance.status is not Status.FAILED else None
    instance.assigned_to = _only_person_asked(machine.chains) if machine.chains else None


def _only_person_asked(chains: Mapping[str, ChainRun]) -> str | None:
    """The one user whom all open work items ask; None where a role, a group or several people are asked."""
    person: str | None = None
    for chain in chains.values():
        for stage in chain.stages:
            for item in stage.items:
                if item.approver_type != "user" or (person is not None and person != item.approver):
                    return None
                person = item.approver
    return person


def _with(mapping: dict[str, _V], key: str, value: _V) -> dict[str, _V]:
    copy = mapping.copy()
    copy[key] = value
    return copy


def _without(mapping: dict[str, _V], key: str) -> dict[str, _V]:
    if key not in mapping:
        return mapping
    copy = mapping.copy()
    del copy[key]
    return copy


def _count(machine: Machine, counter: str, identifier: str) -> None:
    """Remember the highest number given: `timer/7` makes the counter `timer` 7."""
    number = int(identifier.rpartition("/")[2])
    if machine.counters.get(counter, 0) < number:
        machine.counters = _with(machine.counters, counter, number)


# -- the instance ------------------------------------------------------------------------------------------------------


def _workflow_started(instance: Instance, event: e.WorkflowStarted, at: datetime) -> None:
    instance.definition_id = event.definition_id
    instance.definition_name = event.definition_name
    instance.version = event.version
    instance.data = event.data
    instance.context = event.context
    instance.requester = event.requester
    instance.created_by = event.created_by
    instance.submission_id = event.submission_id
    instance.submission = event.submission
    instance.external_key = event.external_key
    instance.machine.parent = event.parent
    instance.created_at = at
    instance.started_at = None if event.queued else at


def _workflow_begun(instance: Instance, event: e.WorkflowBegun, at: datetime) -> None:
    instance.started_at = at


def _state_entered(instance: Instance, event: e.StateEntered, at: datetime) -> None:
    before = instance.configuration
    position = event.position
    instance.configuration = (*before[:position], event.state, *before[position:]) if before else (event.state,)
    if not event.in_region:
        instance.current_state = event.state


def _state_exited(instance: Instance, event: e.StateExited, at: datetime) -> None:
    state = event.state
    instance.configuration = tuple([each for each in instance.configuration if each != state])
    machine = instance.machine
    if event.remembered:
        machine.history = {**machine.history, **event.remembered}
    leave_chain(machine, state)
    if machine.outputs or machine.working:
        step_folding.leave_state(machine, state)


def _state_changed(instance: Instance, event: e.StateChanged, at: datetime) -> None:
    instance.previous_state = event.from_state
    instance.current_state = event.to_state


def _data_changed(instance: Instance, event: e.DataChanged, at: datetime) -> None:
    before = instance.data if event.root == "data" else instance.context
    after = event.set if event.replaced else {**before, **event.set}
    if event.removed:
        after = {key: value for key, value in after.items() if key not in event.removed}
    if event.root == "data":
        instance.data = after
    else:
        instance.context = after


def _correlation_keys_changed(instance: Instance, event: e.CorrelationKeysChanged, at: datetime) -> None:
    instance.machine.correlation = event.keys


def _title_changed(instance: Instance, event: e.TitleChanged, at: datetime) -> None:
    instance.title = event.title


def _status_changed(instance: Instance, event: e.StatusChanged, at: datetime) -> None:
    """To `failed`: it is halted by its incidents, and goes on when somebody resolves them."""
    status = Status(event.status)
    instance.status = status
    instance.machine.halted = status is Status.FAILED
    instance.failed_at = at if status is Status.FAILED else None


def _workflow_suspended(instance: Instance, event: e.WorkflowSuspended, at: datetime) -> None:
    instance.machine.resumes_to = instance.status
    instance.status = Status.SUSPENDED
    instance.failed_at = None


def _workflow_resumed(instance: Instance, event: e.WorkflowResumed, at: datetime) -> None:
    instance.status = instance.machine.resumes_to or Status.WAITING
    instance.machine.resumes_to = None
    if instance.status is Status.FAILED:
        instance.failed_at = at


def _workflow_completed(instance: Instance, event: e.WorkflowCompleted, at: datetime) -> None:
    _end(instance, Status.COMPLETED)
    instance.completed_at = at


def _workflow_failed(instance: Instance, event: e.WorkflowFailed, at: datetime) -> None:
    _end(instance, Status.FAILED)
    instance.failed_at = at


def _workflow_cancelled(instance: Instance, event: e.WorkflowCancelled, at: datetime) -> None:
    _end(instance, Status.CANCELLED)
    instance.cancelled_at = at


def _end(instance: Instance, status: Status) -> None:
    instance.status = status
    instance.failed_at = None
    instance.machine.resumes_to = None
    instance.machine.halted = False


def _for_reading(instance: Instance, event: Struct, at: datetime) -> None:
    """Changes nothing."""


# -- timers ------------------------------------------------------------------------------------------------------------


def _timer_scheduled(instance: Instance, event: e.TimerScheduled, at: datetime) -> None:
    machine = instance.machine
    timer = event.timer
    machine.timers = _with(machine.timers, timer.id, timer)
    _count(machine, "timer", timer.id)


def _timer_gone(instance: Instance, event: e.TimerCancelled | e.TimeoutOccurred, at: datetime) -> None:
    instance.machine.timers = _without(instance.machine.timers, event.timer)


#: Event type -> what it changes. Every event is here; a test holds that.
APPLY: dict[type[Struct], Callable[[Instance, Any, datetime], None]] = {
    e.WorkflowStarted: _workflow_started,
    e.WorkflowBegun: _workflow_begun,
    e.StateEntered: _state_entered,
    e.StateExited: _state_exited,
    e.TransitionTaken: _for_reading,
    e.StateChanged: _state_changed,
    e.DataChanged: _data_changed,
    e.TitleChanged: _title_changed,
    e.CorrelationKeysChanged: _correlation_keys_changed,
    e.NoteLogged: _for_reading,
    e.TriggerRaised: _for_reading,
    e.ErrorOccurred: _for_reading,
    e.TimerScheduled: _timer_scheduled,
    e.TimerCancelled: _timer_gone,
    e.TimeoutOccurred: _timer_gone,
    e.StatusChanged: _status_changed,
    e.WorkflowSuspended: _workflow_suspended,
    e.WorkflowResumed: _workflow_resumed,
    e.WorkflowCompleted: _workflow_completed,
    e.WorkflowFailed: _workflow_failed,
    e.WorkflowCancelled: _workflow_cancelled,
    **approval_folding.APPLY,
    **step_folding.APPLY,
    e.EventEmitted: _for_reading,
}
