"""Effects: duties an outcome leaves to the runtime, done in the commit that makes the outcome true."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from .commands import Order, Parent
from .instance import Incident, Timer, WorkItem


class OpenWorkItem(Struct, frozen=True, tag="open_work_item"):
    """Put a row into inboxes."""

    chain: str
    stage: str
    visit: int
    round: int
    item: WorkItem
    timeout_at: datetime | None = None


class SettleWorkItem(Struct, frozen=True, tag="settle_work_item", omit_defaults=True):
    """Take a row out of inboxes: decided, or withdrawn because nobody needs the answer any more."""

    item: str
    action: Literal["approve", "reject", "request_changes", "delegate", "withdraw"]
    decided_by: str | None = None
    principal: str | None = None
    comments: str | None = None
    #: the decision's own data and attachments
    decision_data: dict[str, Any] = {}
    delegated_to: str | None = None
    weight: int = 1
    group: str | None = None


class ScheduleTimer(Struct, frozen=True, tag="schedule_timer"):
    """Write the timer's job, or write it anew: paused, resumed, moved."""

    timer: Timer


class CancelTimer(Struct, frozen=True, tag="cancel_timer"):
    """Drop the timer's job."""

    timer: str


class ScheduleStep(Struct, frozen=True, tag="schedule_step", omit_defaults=True):
    """
    Leave a step to workers: one job, claimed under a lease, whose result comes back as `CompleteStep` or `FailStep`.

    Scheduling the same run again replaces its job, whatever became of that one.
    """

    #: the step run: `step/7`, which is the job's name
    step: str
    attempt: int
    #: who serves it: `plugin:NAME`, `http`, `script`, `notification`, `external:TOPIC`
    queue: str
    #: what the executor needs: `configuration` and `input`, all expressions evaluated; `stepId` and `type` for people
    payload: dict[str, Any]
    #: later than now: a retry's delay
    due_at: datetime
    #: lower first
    priority: int = 0
    #: milliseconds the worker may take; None: the engine's own limit
    timeout_ms: int | None = None


class CancelStep(Struct, frozen=True, tag="cancel_step"):
    """Drop a step's job: done, failed for good, or not needed any more. A worker that holds it learns so at its heartbeat."""

    step: str


class SendOrder(Struct, frozen=True, tag="send_order"):
    """
    Leave an order for another instance: a job that is carried out exactly once.

    No command ever locks two instances; a parent and its child, a cancellation that travels, all go this way.
    """

    #: the job's name, counted up inside the sender: `order/3`
    name: str
    instance: str
    order: Order


class StartChild(Struct, frozen=True, tag="start_child", omit_defaults=True):
    """Leave the start of a sub-workflow: a job that is carried out exactly once; what cannot start fails the step."""

    #: the job's name, counted up inside the parent: `order/3`
    name: str
    #: the child's id, derived from the parent's
    instance: str
    workflow: str
    #: a version, or a range; None: the active one. Resolved when it starts, and recorded
    version: str | None
    data: dict[str, Any]
    parent: Parent
    context: dict[str, Any] = {}
    requester: str | None = None


class AwaitEvent(Struct, frozen=True, tag="await_event"):
    """A receive step waits: an event of this type with this key is for it."""

    step: str
    #: exact, or a prefix that ends in `.*`
    event_type: str
    key: str
    #: by what in the event the key is found (`listening.event_key_id`)
    by: str = ""


class StopAwaiting(Struct, frozen=True, tag="stop_awaiting"):
    """The receive step waits no more."""

    step: str


class SetCorrelationKeys(Struct, frozen=True, tag="set_correlation_keys"):
    """The keys by which events find this instance, as they are now: name -> key; empty when it ends."""

    keys: dict[str, str]


class OpenIncident(Struct, frozen=True, tag="open_incident"):
    """Put an incident on the operators' list."""

    incident: Incident


class CloseIncident(Struct, frozen=True, tag="close_incident", omit_defaults=True):
    """Take an incident off the list: resolved by a person, or gone with what it was about."""

    incident: str
    #: None: it went away by itself
    action: Literal["retry", "skip", "give_up"] | None = None
    reason: str | None = None
    user: str | None = None


Effect: TypeAlias = (
    OpenWorkItem
    | SettleWorkItem
    | ScheduleTimer
    | CancelTimer
    | ScheduleStep
    | CancelStep
    | SendOrder
    | StartChild
    | AwaitEvent
    | StopAwaiting
    | SetCorrelationKeys
    | OpenIncident
    | CloseIncident
)
