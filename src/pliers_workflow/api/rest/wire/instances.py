"""Instances, their work items and their history over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from pliers_workflow.interpreter.instance import Status

from .base import Input, Instant, Json, LongText, PageQuery, Person, ShortText, Uuid, View


class DefinitionOfInstance(View, frozen=True, kw_only=True):
    """The version an instance runs."""

    id: str
    name: str
    version: str


class IncidentView(View, frozen=True, kw_only=True):
    """Why an instance cannot go on until someone resolves it."""

    id: str
    code: str
    message: str
    state: str | None
    stage: str | None
    raised_at: datetime | None
    #: the step run (`step/7`), and the step's id in the definition
    step: str | None
    step_id: str | None
    #: the same for incidents of one cause
    fingerprint: str
    attempts: int


class InstanceLinks(View, frozen=True, kw_only=True):
    """Where to go from here."""

    self: str
    definition: str
    approvals: str
    history: str
    timeline: str


class InstanceView(View, frozen=True, kw_only=True):
    """One run of a workflow."""

    id: str
    workflow_definition: DefinitionOfInstance
    workflow_version: str
    #: the innermost active state that is not inside a region of a parallel state
    current_state: str
    previous_state: str | None
    #: ids of all active states, in document order
    configuration: list[str]
    status: Status
    title: str | None
    instance_data: Json
    context_data: Json
    submission_id: str | None
    external_key: str | None
    #: the person for whom it runs
    requester_id: str | None
    created_by: str | None
    #: the one user who is asked now, where it is just one
    assigned_to: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None
    cancelled_at: datetime | None
    last_activity_at: datetime
    #: the earliest clock that is running
    timeout_at: datetime | None
    #: grows by one with every command; for If-Match
    revision: int
    incidents: list[IncidentView]
    #: triggers that transitions of the active states take from you; their guards are asked when one is fired
    available_triggers: list[str]
    links: InstanceLinks


class InstancesQuery(PageQuery, frozen=True, kw_only=True):
    """Which instances to list, and which of their fields."""

    status: Status | None = None
    #: current state
    state: Annotated[str, Meta(max_length=255)] | None = None
    version: Annotated[str, Meta(max_length=100)] | None = None
    assigned_to: Person | None = None
    requester: Person | None = None
    submission_id: Uuid | None = None
    external_key: ShortText | None = None
    created_after: Instant | None = None
    created_before: Instant | None = None
    #: names of top-level fields, separated by commas
    fields: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None


class FieldsQuery(Input, frozen=True, kw_only=True):
    """Which fields to answer."""

    #: names of top-level fields, separated by commas
    fields: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None


class StartInput(Input, frozen=True, kw_only=True):
    """What a new instance begins with."""

    data: Json = {}
    context: Json = {}
    #: for whom it runs; by default the submission's submitter, else you. Another person needs the operator permission.
    requester: Person | None = None
    submission_id: Uuid | None = None
    #: your own key for it, unique among this workflow's instances
    external_key: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    #: a version or a range such as ^1.2; by default the active version
    version: Annotated[str, Meta(min_length=1, max_length=100)] | None = None


class UpdateDataInput(Input, frozen=True, kw_only=True):
    """New data: `data` replaces all of it, `patch` is merged into it (RFC 7396). Send one of the two."""

    data: Json | UnsetType = UNSET
    patch: Json | UnsetType = UNSET


class AdvanceInput(Input, frozen=True, kw_only=True):
    """A trigger, or the state to reach through an enabled transition, or both."""

    trigger: Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^\S+$")] | None = None
    target_state: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    #: what the definition's expressions see as `event.data`
    data: Any = None


class ReasonInput(Input, frozen=True, kw_only=True):
    """Why."""

    reason: LongText | None = None


class DecisionInput(Input, frozen=True, kw_only=True):
    """A decision. `stage` may be left out while you can decide in one stage only, `item` likewise."""

    stage: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    item: Annotated[str, Meta(min_length=1, max_length=40)] | None = None
    comments: LongText | None = None
    attachments: Annotated[tuple[Annotated[str, Meta(max_length=1000)], ...], Meta(max_length=100)] = ()
    #: what the definition's expressions see as `event.data.data`
    data: Json = {}


class DelegateInput(DecisionInput, frozen=True, kw_only=True):
    """Pass a work item to another person, who decides in your place."""

    to: Person


class ApproverView(View, frozen=True, kw_only=True):
    """Who is asked."""

    type: Literal["user", "role", "group"]
    #: user id, or the role's or group's key
    identifier: str
    username: str | None = None


class WorkItemView(View, frozen=True, kw_only=True):
    """A work item: somebody is asked to decide, or has decided (`action` is set)."""

    id: str
    workflow_instance_id: str
    #: the name `item` of a decision
    item: str
    chain_id: str
    #: the stage
    step_id: str
    round: int
    approver: ApproverView
    #: in whose place the approver was asked, by delegation
    principal_id: str | None
    action: Literal["approve", "reject", "request_changes", "delegate", "escalate", "withdraw"] | None
    comments: str | None
    decision_data: Any
    decided_by: str | None
    decided_at: datetime | None
    timeout_at: datetime | None
    delegated_to: str | None
    delegated_at: datetime | None
    created_at: datetime


class InboxItemView(WorkItemView, frozen=True, kw_only=True):
    """A work item with what a list needs to know of its instance."""

    workflow_definition: DefinitionOfInstance
    #: the title of the workflow
    definition_title: str
    #: the title of the instance
    title: str | None
    current_state: str
    #: of the instance: a suspended one takes no decision
    status: Status
    #: of the instance, for If-Match
    revision: int
    requester_id: str | None
    requester_username: str | None
    requester_name: str | None


class ApprovalsQuery(Input, frozen=True, kw_only=True):
    """Which work items of the instance."""

    status: Literal["pending", "all"] = "pending"


class InboxQuery(PageQuery, frozen=True, kw_only=True):
    """Which work items of the person."""

    #: name of a workflow
    workflow: Annotated[str, Meta(max_length=255)] | None = None


class HistoryEntryView(View, frozen=True, kw_only=True):
    """One accepted command, with what happened."""

    #: counts within the instance
    seq: int
    id: str
    #: the kind of command
    action_type: str
    from_state: str | None
    to_state: str | None
    #: the stage or timer concerned
    step_id: str | None
    result: str
    error_message: str | None
    executed_at: datetime
    #: null: the engine
    executed_by: str | None
    #: the record as it was hashed: command, events, facts
    execution_data: Any
    #: SHA-256 over the row before and this record, in hex
    hash: str


class TimelineEntryView(View, frozen=True, kw_only=True):
    """One thing that happened, as a person would tell it."""

    at: datetime
    seq: int
    #: the event's type, e.g. workflow.state.entered
    type: str
    #: user id; null: the engine
    by: str | None
    by_name: str | None
    state: str | None
    #: a sentence
    summary: str
    details: Json
    #: of an entered state: how long it was, or has been, active
    duration_ms: int | None


class TimelineView(View, frozen=True, kw_only=True):
    """An instance's life."""

    items: list[TimelineEntryView]
    #: milliseconds in each state, over all visits
    durations_ms: dict[str, int]
