"""Bearer tokens: made, checked, revoked; only the hash of a secret is kept."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.storage.paging import Page

    from .answers import RequestKey
    from .audit import Audit
    from .principal import Principal
    from .rows import TokenRow


class Tokens:
    """Signatures first; bodies follow within the hour."""

    def __init__(self, pool: asyncpg.Pool, audit: Audit, *, cache_seconds: float = 3.0) -> None: ...
    async def create(
        self, principal: Principal, user: str, permissions: Iterable[str] = (), name: str = "",
        expires_at: datetime | None = None, *, request: RequestKey | None = None,
    ) -> tuple[TokenRow, str]:
        """The row, and the secret, which is never shown again. `user`: id or username."""
    async def authenticate(self, secret: str) -> Principal | None: ...
    async def revoke(self, principal: Principal, token_id: str, *, request: RequestKey | None = None) -> TokenRow: ...
    async def list(
        self, principal: Principal, *, user: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[TokenRow]: ...
    async def bootstrap(self, tenant_id: str = "default") -> str | None: ...
