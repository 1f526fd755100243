"""Events: what happened, kept for ever. Folding them gives the instance, so each carries all that it changes.

The wire names are the specification's where it has one, and in its style elsewhere (design §5). A new meaning is a new
event: fields are only ever added, with a default.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from .commands import Parent
from .instance import Incident, Seat, Timer, WorkItem
from .step_runs import StepFailure, StepRun, Undo


class _Event(Struct, frozen=True, omit_defaults=True, tag_field="type"):
    pass


class WorkflowStarted(_Event, frozen=True, tag="workflow.started"):
    """The instance exists; it has not entered a state yet."""

    definition_id: str
    definition_name: str
    version: str
    data: dict[str, Any]
    context: dict[str, Any] = {}
    requester: str | None = None
    created_by: str | None = None
    submission_id: str | None = None
    submission: dict[str, Any] = {}
    external_key: str | None = None
    #: the sub-workflow step for which it runs
    parent: Parent | None = None
    #: it waits for its turn; `WorkflowBegun` follows in a later row
    queued: bool = False


class WorkflowBegun(_Event, frozen=True, tag="workflow.begun"):
    """Its turn has come: an instance that was queued enters its first state."""


class StateEntered(_Event, frozen=True, tag="workflow.state.entered"):
    state: str
    #: where it stands in the configuration, which keeps document order; so folding needs no chart
    position: int = 0
    #: inside a region of a parallel state, so that it does not become `current_state`
    in_region: bool = False


class StateExited(_Event, frozen=True, tag="workflow.state.exited"):
    state: str
    #: ids that history states of this state's parent chain remember, by history state id
    remembered: dict[str, tuple[str, ...]] = {}


class TransitionTaken(_Event, frozen=True, tag="workflow.transition.taken"):
    """A transition was taken; the exits before it and entries after it are events of their own."""

    transition: str
    source: str
    targets: tuple[str, ...] = ()
    trigger: str | None = None


class StateChanged(_Event, frozen=True, tag="workflow.state.changed"):
    """`current_state` moved, seen from before to after the whole command; at most one a command."""

    from_state: str | None
    to_state: str
    trigger: str | None = None


class DataChanged(_Event, frozen=True, tag="workflow.data.changed"):
    """Top-level fields set and removed."""

    root: Literal["data", "context"] = "data"
    set: dict[str, Any] = {}
    removed: tuple[str, ...] = ()
    #: the whole was replaced: every field not in `set` is gone
    replaced: bool = False


class CorrelationKeysChanged(_Event, frozen=True, tag="workflow.correlation.changed"):
    """Under which keys events from outside find the instance now, by name; none when it has ended."""

    keys: dict[str, str] = {}


class TitleChanged(_Event, frozen=True, tag="workflow.title.changed"):
    title: str


class NoteLogged(_Event, frozen=True, tag="workflow.note.logged"):
    label: str | None = None
    value: Any = None


class TriggerRaised(_Event, frozen=True, tag="workflow.trigger.raised"):
    """A trigger took effect from the internal queue or from a timer (for reading; folding ignores it)."""

    trigger: str
    data: Any = None


class ErrorOccurred(_Event, frozen=True, tag="workflow.error.occurred"):
    """An expression or action failed: where the chart handles that, it raised `error.execution`; else it was passed over."""

    message: str
    source: str | None = None
    state: str | None = None


class TimerScheduled(_Event, frozen=True, tag="workflow.timer.scheduled"):
    timer: Timer


class TimerCancelled(_Event, frozen=True, tag="workflow.timer.cancelled"):
    timer: str


class TimeoutOccurred(_Event, frozen=True, tag="workflow.timeout.occurred"):
    """A timer fired and is gone."""

    timer: str
    kind: Literal["state", "workflow", "stage", "send", "step", "wait", "retry"]
    trigger: str
    due_at: datetime
    state: str | None = None
    stage: str | None = None
    step: str | None = None


class ChainStarted(_Event, frozen=True, tag="workflow.approval.chain_started"):
    chain: str
    state: str
    visit: int
    round: int
    #: the step run that asks, where it is not the state itself
    step: str | None = None


class StageAsked(_Event, frozen=True, tag="workflow.approval.stage_asked"):
    """A stage begins to ask; the voters are frozen here."""

    state: str
    stage: str
    seats: tuple[Seat, ...] = ()
    step: str | None = None


class StageSkipped(_Event, frozen=True, tag="workflow.approval.stage_skipped"):
    """Not asked: its condition is false, or nothing it watches has changed since it was granted."""

    state: str
    stage: str
    reason: Literal["condition", "unchanged"]
    step: str | None = None


class ApprovalRequested(_Event, frozen=True, tag="workflow.approval.requested"):
    """A work item was opened."""

    state: str
    chain: str
    stage: str
    visit: int
    round: int
    item: WorkItem
    #: when the stage's clock runs out
    timeout_at: datetime | None = None
    step: str | None = None


class _Decided(_Event, frozen=True):
    state: str
    chain: str
    stage: str
    item: str
    user: str
    seat: int = 0
    principal: str | None = None
    comments: str | None = None
    attachments: tuple[str, ...] = ()
    data: dict[str, Any] = {}
    weight: int = 1
    group: str | None = None
    step: str | None = None


class ApprovalGranted(_Decided, frozen=True, tag="workflow.approval.granted"):
    """One approver approved."""


class ApprovalRejected(_Decided, frozen=True, tag="workflow.approval.rejected"):
    """One approver rejected."""


class ChangesRequested(_Decided, frozen=True, tag="workflow.approval.changes_requested"):
    """One approver wants changes; the chain stops asking until the requester has made them."""


class ApprovalDelegated(_Decided, frozen=True, tag="workflow.approval.delegated"):
    """A work item passed to another person, who decides in the principal's place."""

    delegate_to: str = ""
    #: the item as it is now
    replacement: WorkItem | None = None


class ApprovalWithdrawn(_Event, frozen=True, tag="workflow.approval.withdrawn"):
    """A work item is not needed any more."""

    state: str
    stage: str
    item: str
    reason: Literal["stage_settled", "state_left", "cancelled", "changes_requested", "timeout", "approver_left"] = (
        "stage_settled"
    )
    step: str | None = None


class StageGranted(_Event, frozen=True, tag="workflow.approval.stage_granted"):
    state: str
    stage: str
    watched_hash: str = ""
    step: str | None = None


class StageRefused(_Event, frozen=True, tag="workflow.approval.stage_refused"):
    state: str
    stage: str
    step: str | None = None


class ChainGranted(_Event, frozen=True, tag="workflow.approval.chain_granted"):
    chain: str
    state: str
    step: str | None = None


class ChainRefused(_Event, frozen=True, tag="workflow.approval.chain_refused"):
    chain: str
    state: str
    step: str | None = None


class IncidentRaised(_Event, frozen=True, tag="workflow.incident.raised"):
    incident: Incident


class IncidentResolved(_Event, frozen=True, tag="workflow.incident.resolved"):
    incident: str
    reason: str | None = None
    #: what an operator did about it; None: it went away with what it was about
    action: Literal["retry", "skip", "give_up"] | None = None


# -- steps -------------------------------------------------------------------------------------------------------------


class StepStarted(_Event, frozen=True, tag="workflow.step.started"):
    """A run began: its first attempt, or what it holds."""

    run: StepRun
    #: what a step that is done outside was given
    input: Any = None


class StepSkipped(_Event, frozen=True, tag="workflow.step.skipped"):
    """Its condition is false, so it was not begun."""

    path: str
    step_id: str
    state: str | None = None
    parent: str | None = None
    branch: str | None = None
    index: int | None = None
    #: where expressions see that: a state, or the run of a loop's element
    kept_in: str | None = None
    #: it is all there is in a branch whose own condition holds, which is complete with that
    completes_branch: bool = False


class StepCompleted(_Event, frozen=True, tag="workflow.step.completed"):
    """A run is over, and what it stands in goes on."""

    step: str
    step_id: str
    state: str | None = None
    attempt: int = 1
    output: Any = None
    #: it failed, and that was passed over
    failure: StepFailure | None = None
    #: where its output is kept for expressions: a state, or the run of a loop's element
    kept_in: str | None = None
    #: its output becomes part of its parent's
    collected: bool = False
    #: how it can be undone from now on
    undo: Undo | None = None
    #: nothing done inside it can be wanted undone any more
    forgets: bool = False


class StepFailed(_Event, frozen=True, tag="workflow.step.failed"):
    """An attempt failed; or what a run holds, and so the run."""

    step: str
    step_id: str
    failure: StepFailure
    state: str | None = None
    attempt: int = 1
    #: when the next attempt is due; None: this was the last
    retry_at: datetime | None = None


class StepHeld(_Event, frozen=True, tag="workflow.step.held"):
    """A result has come and is kept until it can take effect."""

    step: str
    step_id: str
    attempt: int
    output: Any = None
    failure: StepFailure | None = None
    retryable: bool = True
    retry_after_ms: int | None = None


class StepRetried(_Event, frozen=True, tag="workflow.step.retried"):
    """An operator had it done again, or its delay is over: the run as it is now."""

    run: StepRun
    input: Any = None


class StepCancelled(_Event, frozen=True, tag="workflow.step.cancelled"):
    """A run is not needed any more."""

    step: str
    step_id: str
    reason: Literal["state_left", "not_needed", "failed", "cancelled", "retried"]


class BranchFailed(_Event, frozen=True, tag="workflow.step.branch_failed"):
    """A branch failed, and the others decide."""

    #: the run of the `parallel`, and of the branch
    step: str
    branch: str
    run: str
    failure: StepFailure


class RollbackStarted(_Event, frozen=True, tag="workflow.step.rollback_started"):
    """A step inside failed, and those that had completed are compensated, the last one first."""

    step: str
    step_id: str
    failure: StepFailure


class StepCompensated(_Event, frozen=True, tag="workflow.step.compensated"):
    """A completed step was undone."""

    #: the compensation's run, and the id of the step that it undid
    step: str
    step_id: str
    output: Any = None
    #: it failed, and that was passed over
    failure: StepFailure | None = None


class EventEmitted(_Event, frozen=True, tag="workflow.event.emitted"):
    """The workflow tells the world that something happened."""

    event_type: str
    subject: str | None = None
    data: Any = None
    step_id: str | None = None


class EscalationTriggered(_Event, frozen=True, tag="workflow.escalation.triggered"):
    """The instance asks for attention."""

    reason: str
    data: Any = None


class StatusChanged(_Event, frozen=True, tag="workflow.status.changed"):
    """Between `pending`, `running`, `waiting`, `escalated`, and `failed` because of incidents; the others have their own."""

    status: Literal["pending", "running", "waiting", "escalated", "failed"]


class WorkflowSuspended(_Event, frozen=True, tag="workflow.suspended"):
    reason: str | None = None


class WorkflowResumed(_Event, frozen=True, tag="workflow.resumed"):
    reason: str | None = None


class WorkflowCompleted(_Event, frozen=True, tag="workflow.completed"):
    #: the top-level final state
    state: str


class WorkflowFailed(_Event, frozen=True, tag="workflow.failed"):
    code: str
    message: str


class WorkflowCancelled(_Event, frozen=True, tag="workflow.cancelled"):
    reason: str | None = None


Event: TypeAlias = (
    WorkflowStarted | WorkflowBegun | StateEntered | StateExited | TransitionTaken | StateChanged | DataChanged | TitleChanged
    | CorrelationKeysChanged | NoteLogged
    | TriggerRaised | ErrorOccurred | TimerScheduled | TimerCancelled | TimeoutOccurred
    | ChainStarted | StageAsked | StageSkipped | ApprovalRequested | ApprovalGranted | ApprovalRejected | ChangesRequested
    | ApprovalDelegated | ApprovalWithdrawn | StageGranted | StageRefused | ChainGranted | ChainRefused
    | IncidentRaised | IncidentResolved | StepStarted | StepSkipped | StepCompleted | StepFailed | StepHeld | StepRetried
    | StepCancelled | BranchFailed | RollbackStarted | StepCompensated | EventEmitted | EscalationTriggered
    | StatusChanged | WorkflowSuspended | WorkflowResumed
    | WorkflowCompleted | WorkflowFailed | WorkflowCancelled
)  # fmt: skip
