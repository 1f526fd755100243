"""What goes over the wire: bodies, queries and answers, with the specification's names in camelCase.

These types are the contract with callers. Fields are only ever added; `openapi` publishes them as they stand here, and a
field's description is the comment above it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from pliers_workflow.interpreter.instance import Status

from ..problems import FindingView

Item = TypeVar("Item")

Json = dict[str, Any]
#: a user id or a username
Person = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\s:/]+$", description="A username or user id.")]
Uuid = Annotated[str, Meta(pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
ShortText = Annotated[str, Meta(max_length=500)]
LongText = Annotated[str, Meta(max_length=10_000)]
Limit = Annotated[int, Meta(ge=1, le=200, description="How many items a page may have.")]
Cursor = Annotated[str, Meta(min_length=1, max_length=2000, description="`nextCursor` of the page before.")]
#: with its time zone
Instant = Annotated[datetime, Meta(tz=True)]
Permission = Literal["author", "publisher", "operator", "auditor", "admin"]


class Input(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Base of bodies and queries."""


class View(Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of answers."""


class Page(View, Generic[Item], frozen=True, kw_only=True):
    """A page of a list. `nextCursor` is null on the last one."""

    items: list[Item]
    next_cursor: str | None


class PageQuery(Input, frozen=True, kw_only=True):
    """A page of a list without filters."""

    limit: Limit = 50
    cursor: Cursor | None = None


# -- definitions -------------------------------------------------------------------------------------------------------


class DefinitionSummaryView(View, frozen=True, kw_only=True):
    """One version of a workflow, as lists show it."""

    id: str
    name: str
    version: str
    title: str
    description: str | None
    status: Literal["draft", "active", "deprecated", "archived"]
    #: for If-Match
    revision: int
    created_at: datetime
    updated_at: datetime
    published_at: datetime | None
    archived_at: datetime | None
    created_by: str | None
    updated_by: str | None


class DefinitionView(DefinitionSummaryView, frozen=True, kw_only=True):
    """One version of a workflow with its document."""

    #: the document as its author wrote it
    definition: Json
    #: the document's stateMachine
    state_machine: Json
    #: the document's approvalChains
    approval_chains: Any
    #: the document's eventHooks
    event_hooks: Any
    #: the document's timeoutConfig
    timeout_config: Any
    #: the document's metadata
    metadata: Any
    #: warnings, in the answer to the request that wrote it
    findings: list[FindingView]


class DefinitionsQuery(PageQuery, frozen=True, kw_only=True):
    """Which definitions to list."""

    status: Literal["draft", "active", "deprecated", "archived"] | None = None
    #: names that begin with this
    name: Annotated[str, Meta(max_length=255)] | None = None


class PublishInput(Input, frozen=True, kw_only=True):
    """Which version to publish; by default the draft."""

    version: Annotated[str, Meta(max_length=100)] | None = None


class ValidationView(View, frozen=True, kw_only=True):
    """What checking a document came to."""

    #: there is no finding of severity error
    valid: bool
    findings: list[FindingView]


class ArchivedView(View, frozen=True, kw_only=True):
    """What was archived."""

    archived: list[DefinitionSummaryView]


# -- instances ---------------------------------------------------------------------------------------------------------


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
    #: triggers that transitions of the active states take from outside; guards and access are asked when one is fired
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


# -- approvals ---------------------------------------------------------------------------------------------------------


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


# -- history -----------------------------------------------------------------------------------------------------------


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


# -- health, me --------------------------------------------------------------------------------------------------------


class HealthView(View, frozen=True, kw_only=True):
    """Whether this node can work. `details` is for operators, auditors and administrators."""

    status: Literal["up", "down"]
    details: Json | None = None


class MeView(View, frozen=True, kw_only=True):
    """Who you are to the engine."""

    user_id: str
    username: str
    tenant_id: str
    token_id: str | None
    permissions: list[str]
    #: directory keys; what `user.roles` means in expressions
    roles: list[str]
    groups: list[str]


class ProblemKindView(View, frozen=True, kw_only=True):
    """What a problem's code means."""

    code: str
    status: int
    error_code: str
    title: str
    detail: str


# -- directory ---------------------------------------------------------------------------------------------------------

Key = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\s:/]+$")]
Keys = Annotated[tuple[Key, ...], Meta(max_length=1000)]


class UserView(View, frozen=True, kw_only=True):
    """A person of the directory."""

    id: str
    username: str
    name: str | None
    email: str | None
    #: the manager's username
    manager: str | None
    active: bool
    attributes: Json
    roles: list[str]
    groups: list[str]
    revision: int
    created_at: datetime
    updated_at: datetime


class UserInputBody(Input, frozen=True, kw_only=True):
    """A new person."""

    username: Key
    name: ShortText | None = None
    email: ShortText | None = None
    #: the manager's username
    manager: Person | None = None
    attributes: Json = {}
    active: bool = True
    #: keys of roles and groups that exist
    roles: Keys = ()
    groups: Keys = ()


class UserChanges(Input, frozen=True, kw_only=True):
    """What changes of a person; what is left out stays."""

    username: Key | UnsetType = UNSET
    name: ShortText | None | UnsetType = UNSET
    email: ShortText | None | UnsetType = UNSET
    manager: Person | None | UnsetType = UNSET
    attributes: Json | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    roles: Keys | UnsetType = UNSET
    groups: Keys | UnsetType = UNSET


class UsersQuery(PageQuery, frozen=True, kw_only=True):
    """Which people."""

    active: bool | None = None
    role: Annotated[str, Meta(max_length=200)] | None = None
    group: Annotated[str, Meta(max_length=200)] | None = None
    #: usernames that begin with this
    username: Annotated[str, Meta(max_length=200)] | None = None


class SetView(View, frozen=True, kw_only=True):
    """A role or group of the directory."""

    kind: Literal["role", "group"]
    key: str
    name: str | None
    description: str | None
    member_count: int
    created_at: datetime


class SetInput(Input, frozen=True, kw_only=True):
    """What a role or group is called."""

    name: ShortText | None = None
    description: LongText | None = None


class SetsQuery(PageQuery, frozen=True, kw_only=True):
    """Which roles or groups."""

    #: keys that begin with this
    key: Annotated[str, Meta(max_length=200)] | None = None


class MembersInput(Input, frozen=True, kw_only=True):
    """Exactly these people belong to it."""

    users: Annotated[tuple[Person, ...], Meta(max_length=100_000)]


# -- tokens, tenants, audit --------------------------------------------------------------------------------------------


class TokenView(View, frozen=True, kw_only=True):
    """A bearer token; its secret is known to its holder alone."""

    id: str
    user_id: str
    username: str
    name: str
    permissions: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class TokenMadeView(TokenView, frozen=True, kw_only=True):
    """A new token with its secret, which is never shown again."""

    secret: str


class TokenInput(Input, frozen=True, kw_only=True):
    """A new token."""

    user: Person
    name: Annotated[str, Meta(max_length=200)] = ""
    permissions: Annotated[tuple[Permission, ...], Meta(max_length=5)] = ()
    expires_at: Instant | None = None


class TokensQuery(PageQuery, frozen=True, kw_only=True):
    """Whose tokens; without `user`, and without the admin permission, your own."""

    user: Person | None = None


class TenantView(View, frozen=True, kw_only=True):
    """A tenant."""

    id: str
    name: str
    #: the hand-moved clock; null: the database's
    virtual_now: datetime | None
    created_at: datetime


class TenantMadeView(TenantView, frozen=True, kw_only=True):
    """A new tenant, with the one-time token of its administrator."""

    admin_token: str | None


class TenantInput(Input, frozen=True, kw_only=True):
    """A new tenant. With `virtualNow` its clock stands still and is moved through the API, for tests and replays."""

    id: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]{0,62}$")]
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    virtual_now: Instant | None = None


class ClockInput(Input, frozen=True, kw_only=True):
    """The new time; it cannot go back."""

    virtual_now: Instant


class AuditEntryView(View, frozen=True, kw_only=True):
    """A row of the audit log."""

    seq: int
    action: str
    subject: str
    details: Json
    executed_at: datetime
    #: user id; null: the engine
    executed_by: str | None
    #: hex
    hash: str


class AuditQuery(PageQuery, frozen=True, kw_only=True):
    """Which rows."""

    action: Annotated[str, Meta(max_length=200)] | None = None
    subject: Annotated[str, Meta(max_length=500)] | None = None


class VerificationView(View, frozen=True, kw_only=True):
    """Whether the audit log's chain of hashes is whole."""

    intact: bool
    #: rows found whole
    rows: int
    #: seq of the first row that does not fit
    broken_at: int | None
    problem: str | None


# -- submissions -------------------------------------------------------------------------------------------------------


class SubmissionView(View, frozen=True, kw_only=True):
    """A submitted form."""

    id: str
    form_id: str
    data: Json
    revision: int
    submitted_by: str
    submitted_by_username: str
    created_at: datetime
    updated_at: datetime
    #: ids of the instances it has started
    instances: list[str]


class FailedStartView(View, frozen=True, kw_only=True):
    """A workflow that a binding should have started and could not; `id` is what a retry names."""

    id: str
    submission_id: str
    binding_id: str
    workflow: str
    code: str
    message: str
    details: Json


class SubmissionAnswerView(SubmissionView, frozen=True, kw_only=True):
    """What became of a submission: it is kept in any case, the rest says which workflows run."""

    #: ids of instances that are about to start
    pending: list[str]
    failed: list[FailedStartView]


class SubmissionInput(Input, frozen=True, kw_only=True):
    """A form, filled in."""

    form_id: Annotated[str, Meta(min_length=1, max_length=255)]
    data: Json


class SubmissionUpdate(Input, frozen=True, kw_only=True):
    """The form's new content; it replaces the old."""

    data: Json


class SubmissionsQuery(PageQuery, frozen=True, kw_only=True):
    """Which submissions."""

    form_id: Annotated[str, Meta(max_length=255)] | None = None
    submitted_by: Person | None = None


SubmissionEvents = Annotated[
    tuple[Literal["submission.created", "submission.updated"], ...], Meta(min_length=1, max_length=2)
]


class DataMapping(Input, frozen=True, kw_only=True):
    """CEL, or paths into the submission, by field of the instance's data and context."""

    submission: dict[str, str] = {}
    context: dict[str, str] = {}


class BindingBody(Input, frozen=True, kw_only=True):
    """A standing order: start this workflow when that form is submitted (spec: SubmissionWorkflowBinding)."""

    form_id: Annotated[str, Meta(min_length=1, max_length=255)]
    #: name of the workflow, or the UUID of a version
    workflow_id: Annotated[str, Meta(min_length=1, max_length=255)]
    trigger_events: SubmissionEvents = ("submission.created",)
    #: a version or a range such as ^1.2; by default the active version
    version: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    #: CEL over `submission`, `metadata`, `user` and `now`
    condition: Annotated[str, Meta(min_length=1, max_length=4000)] | None = None
    data_mapping: DataMapping = DataMapping()
    enabled: bool = True


class BindingView(View, frozen=True, kw_only=True):
    """A binding of a form to a workflow."""

    id: str
    form_id: str
    #: name of the workflow
    workflow_id: str
    trigger_events: list[str]
    version: str | None
    condition: str | None
    data_mapping: dict[str, dict[str, str]]
    enabled: bool
    created_at: datetime
    created_by: str | None
    #: warnings, in the answer to the request that wrote it
    findings: list[FindingView]


class BindingsQuery(PageQuery, frozen=True, kw_only=True):
    """Which bindings."""

    form_id: Annotated[str, Meta(max_length=255)] | None = None
    #: name of a workflow
    workflow: Annotated[str, Meta(max_length=255)] | None = None
