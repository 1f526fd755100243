"""Submissions and bindings over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from ...problems import FindingView
from .base import Input, Json, PageQuery, Person, View


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
    #: CEL over `submission`, `metadata` (the definition's) and `now`
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
