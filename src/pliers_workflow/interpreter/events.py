"""Events: what happened, kept for ever. Folding them gives the instance, so each carries all that it changes.

The wire names are the specification's where it has one, and in its style elsewhere (design §5). A new meaning is a new
event: fields are only ever added, with a default.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from .instance import Incident, Seat, Timer, WorkItem


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
    kind: Literal["state", "workflow", "stage", "send"]
    trigger: str
    due_at: datetime
    state: str | None = None
    stage: str | None = None


class ChainStarted(_Event, frozen=True, tag="workflow.approval.chain_started"):
    chain: str
    state: str
    visit: int
    round: int


class StageAsked(_Event, frozen=True, tag="workflow.approval.stage_asked"):
    """A stage begins to ask; the voters are frozen here."""

    state: str
    stage: str
    seats: tuple[Seat, ...] = ()


class StageSkipped(_Event, frozen=True, tag="workflow.approval.stage_skipped"):
    """Not asked: its condition is false, or nothing it watches has changed since it was granted."""

    state: str
    stage: str
    reason: Literal["condition", "unchanged"]


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
    reason: Literal["stage_settled", "state_left", "cancelled", "changes_requested", "timeout"] = "stage_settled"


class StageGranted(_Event, frozen=True, tag="workflow.approval.stage_granted"):
    state: str
    stage: str
    watched_hash: str = ""


class StageRefused(_Event, frozen=True, tag="workflow.approval.stage_refused"):
    state: str
    stage: str


class ChainGranted(_Event, frozen=True, tag="workflow.approval.chain_granted"):
    chain: str
    state: str


class ChainRefused(_Event, frozen=True, tag="workflow.approval.chain_refused"):
    chain: str
    state: str


class IncidentRaised(_Event, frozen=True, tag="workflow.incident.raised"):
    incident: Incident


class IncidentResolved(_Event, frozen=True, tag="workflow.incident.resolved"):
    incident: str
    reason: str | None = None


class StatusChanged(_Event, frozen=True, tag="workflow.status.changed"):
    """Between `pending`, `running`, `waiting` and `escalated`; the other ones have events of their own."""

    status: Literal["pending", "running", "waiting", "escalated"]


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
    WorkflowStarted | StateEntered | StateExited | TransitionTaken | StateChanged | DataChanged | TitleChanged | NoteLogged
    | TriggerRaised | ErrorOccurred | TimerScheduled | TimerCancelled | TimeoutOccurred
    | ChainStarted | StageAsked | StageSkipped | ApprovalRequested | ApprovalGranted | ApprovalRejected | ChangesRequested
    | ApprovalDelegated | ApprovalWithdrawn | StageGranted | StageRefused | ChainGranted | ChainRefused
    | IncidentRaised | IncidentResolved | StatusChanged | WorkflowSuspended | WorkflowResumed
    | WorkflowCompleted | WorkflowFailed | WorkflowCancelled
)  # fmt: skip
