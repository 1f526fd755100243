"""Submitted forms, and the bindings by which they start workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.storage.paging import Page

    from .answers import Answer, RequestKey
    from .audit import Audit
    from .catalog import Catalog
    from .principal import Principal
    from .rows import BindingInput, BindingRow, DefinitionRow, FailedStart, SubmissionAnswer, SubmissionRow


class Starter(Protocol):
    """How an instance is started: `Engine.start_instance` with the ids given, so that a repeated start is no second one."""

    async def __call__(
        self, principal: Principal, definition: DefinitionRow, *, instance_id: str, command_id: str,
        data: dict[str, Any], context: dict[str, Any], requester: str, submission_id: str, submission: dict[str, Any],
    ) -> Answer: ...


class Submissions:
    """Signatures first; bodies follow within the hour."""

    def __init__(self, pool: asyncpg.Pool, catalog: Catalog, audit: Audit, start: Starter) -> None: ...
    async def create(
        self, principal: Principal, form_id: str, data: object, *, request: RequestKey | None = None
    ) -> SubmissionAnswer: ...
    async def update(
        self, principal: Principal, submission_id: str, data: object, if_match: int | None = None, *,
        request: RequestKey | None = None,
    ) -> SubmissionAnswer: ...
    async def get(self, principal: Principal, submission_id: str) -> SubmissionRow | None: ...
    async def list(
        self, principal: Principal, *, form_id: str | None = None, submitted_by: str | None = None, limit: int = 50,
        cursor: str | None = None,
    ) -> Page[SubmissionRow]: ...
    async def put_binding(
        self, principal: Principal, binding: BindingInput, binding_id: str | None = None, *,
        request: RequestKey | None = None,
    ) -> BindingRow: ...
    async def get_binding(self, principal: Principal, binding_id: str) -> BindingRow | None: ...
    async def list_bindings(
        self, principal: Principal, *, form_id: str | None = None, workflow: str | None = None, limit: int = 50,
        cursor: str | None = None,
    ) -> Page[BindingRow]: ...
    async def delete_binding(self, principal: Principal, binding_id: str, *, request: RequestKey | None = None) -> None: ...
    async def failed_starts(self, principal: Principal, *, limit: int = 50, cursor: str | None = None) -> Page[FailedStart]: ...
    async def retry_start(self, principal: Principal, job_id: str) -> SubmissionAnswer: ...
    async def run_pending_starts(self, limit: int = 100) -> int:
        """For the timer service: finish what a crash interrupted, in all tenants. How many were settled."""
    async def close(self) -> None: ...
