"""Definitions: drafts, versions, which of them is active, and the charts compiled from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.definition.chart import Chart
    from pliers_workflow.definition.findings import Finding
    from pliers_workflow.storage.paging import Page

    from .answers import RequestKey
    from .audit import Audit
    from .principal import Principal
    from .rows import DefinitionRow, DefinitionSummary


class Catalog:
    """Signatures first; bodies follow within the hour."""

    def __init__(self, pool: asyncpg.Pool, audit: Audit, *, cache_bytes: int = 64_000_000) -> None: ...
    async def validate(self, document: object) -> tuple[Finding, ...]: ...
    async def create(
        self, principal: Principal, document: object, *, request: RequestKey | None = None
    ) -> DefinitionRow | tuple[Finding, ...]: ...
    async def replace(
        self, principal: Principal, ref: str, document: object, if_match: int | None = None, *,
        request: RequestKey | None = None,
    ) -> DefinitionRow | tuple[Finding, ...]: ...
    async def publish(
        self, principal: Principal, ref: str, version: str | None = None, if_match: int | None = None, *,
        request: RequestKey | None = None,
    ) -> DefinitionRow | tuple[Finding, ...]: ...
    async def archive(
        self, principal: Principal, ref: str, if_match: int | None = None, *, request: RequestKey | None = None
    ) -> tuple[DefinitionSummary, ...]: ...
    async def get(self, tenant_id: str, ref: str, version: str | None = None) -> DefinitionRow | None: ...
    async def list(
        self, tenant_id: str, *, status: str | None = None, name_prefix: str | None = None, limit: int = 50,
        cursor: str | None = None,
    ) -> Page[DefinitionSummary]: ...
    async def versions(
        self, tenant_id: str, ref: str, *, limit: int = 50, cursor: str | None = None
    ) -> Page[DefinitionSummary]: ...
    async def resolve(
        self, tenant_id: str, name: str, version_or_range: str | None = None, *, deprecated: bool = False
    ) -> DefinitionRow | None: ...
    async def to_start(self, tenant_id: str, ref: str, version: str | None = None) -> DefinitionRow:
        """The version to start for an API request; NotFoundError, or ConflictError where it may not start."""
    def cached(self, tenant_id: str, definition_id: str) -> Chart | None: ...
    async def chart(self, tenant_id: str, definition_id: str) -> Chart: ...
