"""Incidents and step runs over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from .base import Input, Json, PageQuery, View

Action = Literal["retry", "skip", "give_up"]
_Text = Annotated[str, Meta(min_length=1, max_length=255)]
Reason = Annotated[
    str, Meta(min_length=1, max_length=2000, description="Why; kept in the history and in the audit log.")
]


class IncidentRowView(View, frozen=True, kw_only=True):
    """Why an instance could not go on, and what an operator did about it."""

    workflow_instance_id: str
    #: `incident/3`; its number is what resolving it names
    id: str
    #: name of the workflow
    workflow: str
    code: str
    #: the same for incidents of one cause: workflow, step and code
    fingerprint: str
    message: str
    state: str | None
    #: of an approval chain
    stage: str | None
    #: the step run (`step/7`), and the step's id in the definition
    step: str | None
    step_id: str | None
    attempts: int
    details: Json
    raised_at: datetime
    #: null: it is open
    resolved_at: datetime | None
    #: null where it went away by itself, with what it was about
    action: Action | None
    reason: str | None
    resolved_by: str | None


class IncidentGroupView(View, frozen=True, kw_only=True):
    """Open incidents of one cause."""

    fingerprint: str
    workflow: str
    code: str
    step_id: str | None
    stage: str | None
    #: of the newest
    message: str
    count: int
    first_raised_at: datetime
    last_raised_at: datetime


class IncidentsQuery(PageQuery, frozen=True, kw_only=True):
    """Which incidents: all that are given must fit."""

    fingerprint: _Text | None = None
    code: _Text | None = None
    #: name of a workflow
    workflow: _Text | None = None
    #: id of a step in the definition
    step_id: _Text | None = None
    #: false: resolved ones, too
    open: bool = True


class IncidentGroupsQuery(Input, frozen=True, kw_only=True):
    """Which incidents are counted."""

    code: _Text | None = None
    workflow: _Text | None = None
    step_id: _Text | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class ResolveInput(Input, frozen=True, kw_only=True):
    """What an operator does about an incident."""

    #: do again what failed, let it count as done, or fail the instance for good
    action: Action
    reason: Reason
    #: RFC 7396, merged into the instance data first
    patch: Json | None = None
    #: `skip`: what the step counts as having given
    output: Any = None


class IncidentFilterInput(Input, frozen=True, kw_only=True):
    """Which incidents: all that are given must fit, and one must be given."""

    fingerprint: _Text | None = None
    code: _Text | None = None
    workflow: _Text | None = None
    step_id: _Text | None = None


class ResolveManyInput(Input, frozen=True, kw_only=True):
    """What is done about all open incidents that fit."""

    action: Action
    reason: Reason
    #: those of one cause
    fingerprint: _Text | None = None
    #: or those that fit
    filter: IncidentFilterInput | UnsetType = UNSET
    patch: Json | None = None
    output: Any = None


class RefusalView(View, frozen=True, kw_only=True):
    """An incident that could not be resolved so."""

    workflow_instance_id: str
    incident: str
    code: str
    message: str


class ResolutionView(View, frozen=True, kw_only=True):
    """Many incidents resolved at once, and how far that has come."""

    id: str
    #: running: there are more to come; read it again at its address
    status: Literal["running", "done"]
    filter: Json
    action: Action
    reason: str
    handled: int
    resolved: int
    refused: int
    #: the first hundred
    refusals: list[RefusalView]
    created_by: str
    created_at: datetime
    finished_at: datetime | None


class StepErrorView(View, frozen=True, kw_only=True):
    """Why an attempt failed."""

    code: str
    message: str
    details: Json


class StepsAtWorkQuery(PageQuery, frozen=True, kw_only=True):
    """Which steps: all that are given must fit."""

    #: those only that have been due for so long
    min_age_seconds: Annotated[float, Meta(ge=0, le=315_360_000)] = 0
    #: name of a workflow
    workflow: _Text | None = None
    #: `http`, `plugin:NAME`, `external:TOPIC`
    queue: Annotated[str, Meta(min_length=1, max_length=300)] | None = None


class StepAtWorkView(View, frozen=True, kw_only=True):
    """A step that a worker is at, or that waits for one."""

    #: of its job; an external task has the same
    id: str
    workflow_instance_id: str
    #: `step/7`
    step: str
    step_id: str
    #: `http`, `plugin:NAME`, `external:TOPIC`
    queue: str
    workflow: str
    version: str
    attempt: int
    #: when its first attempt was due, and since when this one is
    created_at: datetime
    due_at: datetime
    #: the node, or the external worker as it calls itself; null: nobody is at it
    worker: str | None
    #: until when it is theirs, unless they prolong that
    lease_until: datetime | None


class StepRunView(View, frozen=True, kw_only=True):
    """One passage through a step."""

    #: `step/7`; null where it was skipped, and so never begun
    id: str | None
    step_id: str
    #: `http`, `parallel` …
    type: str | None
    #: `scheduled` (left to a worker), `retrying`, `waiting`, `open` (what it holds is at work), `undoing`, `failed`, `stuck` (an
    #: incident tells of it); `completed`, `passed_over` (it failed, and what follows goes on), `skipped`, `cancelled`, `compensated`
    status: str
    state: str | None
    #: the run it stands in, its branch of a `parallel`, its position in a `for_each`
    parent: str | None
    branch: str | None
    index: int | None
    attempt: int
    started_at: datetime
    ended_at: datetime | None
    #: when the next attempt is due
    retry_at: datetime | None
    #: seq of the history entries where it began and ended
    started_seq: int
    ended_seq: int | None
    input: Any
    output: Any
    error: StepErrorView | None
    #: the instance of a sub-workflow
    child_instance_id: str | None
