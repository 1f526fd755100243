"""The services' answers: what is kept about definitions, people, submissions, tokens and tenants, as frozen values.

Ids are UUID text. Instants are aware datetimes in UTC. `revision` is what `If-Match` compares: it grows with every change.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Self

from msgspec import Struct

from pliers_workflow.definition.findings import Finding

if TYPE_CHECKING:
    import asyncpg

DefinitionStatus = Literal["draft", "active", "deprecated", "archived"]
SubmissionEvent = Literal["submission.created", "submission.updated"]


class Row(Struct, frozen=True, kw_only=True):
    """Base of what is read from the database and answered."""

    @classmethod
    def of(cls, record: asyncpg.Record, **other: Any) -> Self:
        """Make it of the columns that are called as its fields are, and of `other` where they are kept in another form."""
        named = {name: record[name] for name in cls.__struct_fields__ if name not in other and name in record}
        return cls(**named, **other)


class DefinitionSummary(Row, frozen=True, kw_only=True):
    """A version of a workflow as lists show it, without its document."""

    id: str
    tenant_id: str
    name: str
    version: str
    title: str
    description: str | None
    status: DefinitionStatus
    #: grows across all versions of a name, so that two versions never share one
    revision: int
    created_at: datetime
    updated_at: datetime
    #: None: never published
    published_at: datetime | None
    archived_at: datetime | None
    #: user ids
    created_by: str | None
    updated_by: str | None


class DefinitionRow(DefinitionSummary, frozen=True, kw_only=True):
    """A version of a workflow with its document."""

    #: the document as its author wrote it
    definition: dict[str, Any]
    #: sha256 of the canonical document
    content_hash: bytes
    #: warnings about the document, in the answer to the request that wrote it; empty when merely read
    findings: tuple[Finding, ...] = ()


class UserRow(Row, frozen=True, kw_only=True):
    """A person of the directory."""

    id: str
    tenant_id: str
    username: str
    name: str | None
    email: str | None
    #: the manager's username
    manager: str | None
    manager_id: str | None
    active: bool
    attributes: dict[str, Any]
    #: keys, sorted
    roles: tuple[str, ...]
    groups: tuple[str, ...]
    #: microseconds of `updated_at`
    revision: int
    created_at: datetime
    updated_at: datetime


class UserInput(Struct, frozen=True, kw_only=True):
    """A person to be created, or brought up to date (`put_users`)."""

    username: str
    name: str | None = None
    email: str | None = None
    #: the manager's username
    manager: str | None = None
    attributes: dict[str, Any] = {}
    active: bool = True
    #: None: leave memberships as they are; otherwise exactly these, made where they are missing
    roles: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None


class SetRow(Row, frozen=True, kw_only=True):
    """A role or a group of the directory."""

    tenant_id: str
    kind: Literal["role", "group"]
    key: str
    name: str | None
    description: str | None
    #: how many belong to it, inactive people included
    member_count: int
    created_at: datetime


class SubmissionRow(Row, frozen=True, kw_only=True):
    """A submitted form."""

    id: str
    tenant_id: str
    form_id: str
    data: dict[str, Any]
    revision: int
    #: user id, and the name that goes with it
    submitted_by: str
    submitted_by_username: str
    created_at: datetime
    updated_at: datetime
    #: instances it has started, oldest first
    instances: tuple[str, ...] = ()


class FailedStart(Struct, frozen=True, kw_only=True):
    """A workflow that a binding should have started and that could not be: kept until somebody retries it."""

    #: job id
    id: str
    submission_id: str
    binding_id: str
    workflow: str
    #: a `Reason`, or `no_startable_version`, `condition_error`, `mapping_error`, `data_too_large`
    code: str
    message: str
    details: dict[str, Any] = {}


class SubmissionAnswer(Struct, frozen=True, kw_only=True):
    """What became of a submission: it is kept in any case, the rest says which workflows run."""

    submission: SubmissionRow
    #: ids of the instances started
    instances: tuple[str, ...]
    #: ids of instances whose start is on record but not yet done (this node is overloaded); they follow by themselves
    pending: tuple[str, ...] = ()
    #: what a binding should have started and could not
    failed: tuple[FailedStart, ...] = ()
    #: the Idempotency-Key had been used before, and this is that answer again
    replayed: bool = False


class BindingRow(Row, frozen=True, kw_only=True):
    """A standing order: start this workflow when that form is submitted (spec: SubmissionWorkflowBinding)."""

    id: str
    tenant_id: str
    form_id: str
    trigger_events: tuple[SubmissionEvent, ...]
    workflow_name: str
    #: a version or a range; None: the active version
    version: str | None
    #: CEL over `submission`, `metadata` and `now`
    condition: str | None
    #: `{"submission": {data field: CEL or path}, "context": {context field: CEL or path}}`
    data_mapping: dict[str, dict[str, str]]
    enabled: bool
    created_at: datetime
    created_by: str | None
    #: warnings, in the answer to the request that wrote it
    findings: tuple[Finding, ...] = ()


class BindingInput(Struct, frozen=True, kw_only=True):
    """A binding as it is written. `workflow` is a name or the UUID of a version."""

    form_id: str
    workflow: str
    trigger_events: tuple[str, ...] = ("submission.created",)
    version: str | None = None
    condition: str | None = None
    data_mapping: dict[str, dict[str, str]] = {}
    enabled: bool = True


class TokenRow(Row, frozen=True, kw_only=True):
    """A bearer token; its secret is known to its holder alone."""

    id: str
    tenant_id: str
    user_id: str
    username: str
    name: str
    permissions: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class TenantRow(Row, frozen=True, kw_only=True):
    """A tenant: a world of its own."""

    id: str
    name: str
    #: the hand-moved clock; None: the database's
    virtual_now: datetime | None
    directory_revision: int
    created_at: datetime


class AuditRow(Row, frozen=True, kw_only=True):
    """A row of the audit log."""

    tenant_id: str
    seq: int
    #: `definition.published`, `user.created`, `denied` …
    action: str
    #: what it was done to: `definition:UUID`, `user:UUID`, `token:UUID` …
    subject: str
    details: dict[str, Any]
    executed_at: datetime
    #: user id; None: the engine
    executed_by: str | None
    hash: bytes


class Verification(Struct, frozen=True, kw_only=True):
    """Whether a tenant's audit chain is whole."""

    intact: bool
    #: rows that were checked and found whole
    rows: int
    #: seq of the first row that does not fit, and why
    broken_at: int | None = None
    problem: str | None = None
