"""Tenants, and the clocks of those whose time is moved by hand."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.storage.paging import Page

    from .audit import Audit
    from .principal import Principal
    from .rows import TenantRow


class Tenants:
    """Signatures first; bodies follow within the hour."""

    def __init__(self, pool: asyncpg.Pool, audit: Audit) -> None: ...
    async def create(
        self, principal: Principal | None, tenant_id: str, name: str, *, virtual_now: datetime | None = None
    ) -> TenantRow:
        """`principal`: an administrator of the tenant `default`; None: the command line."""
    async def get(self, tenant_id: str) -> TenantRow | None: ...
    async def list(self, principal: Principal | None, *, limit: int = 50, cursor: str | None = None) -> Page[TenantRow]: ...
    async def set_clock(self, principal: Principal, virtual_now: datetime) -> TenantRow:
        """Move the clock of the principal's own tenant, forwards only; the tenant must have been made virtual."""
