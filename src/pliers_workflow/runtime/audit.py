"""The audit log: what has no instance, hash-chained, one chain for each tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.storage.paging import Page

    from .principal import Principal
    from .rows import AuditRow, Verification


class Audit:
    """Signatures first; bodies follow within the hour."""

    def __init__(self, pool: asyncpg.Pool) -> None: ...
    async def record(
        self, connection: asyncpg.Connection, tenant_id: str, action: str, subject: str, record: dict[str, Any],
        by: str | None,
    ) -> int:
        """Its seq. In the caller's transaction, as its last statement: it holds the tenant's chain until the commit."""
    async def denied(self, principal: Principal, action: str, subject: str, needed: tuple[str, ...] = ()) -> None:
        """Put a refused attempt on record, in a transaction of its own."""
    async def require(self, principal: Principal, action: str, subject: str, *permissions: str) -> None:
        """Raise ForbiddenError, and put it on record, unless the principal holds one of these."""
    async def list(
        self, tenant_id: str, *, action: str | None = None, subject: str | None = None, limit: int = 50,
        cursor: str | None = None,
    ) -> Page[AuditRow]: ...
    async def verify(self, tenant_id: str) -> Verification: ...
