"""Tenants, and the clocks of those whose time is moved by hand.

A tenant marked virtual lives in a time of its own, for tests and replays over the API. Its clock only goes forwards, and
a tenant that lives in real time can never be made virtual: its instances' times would jump.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from pliers_workflow.storage import queries
from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from .. import idempotency
from ..errors import ConflictError, InvalidError, NotFoundError
from ..paging import cursor_key
from ..rows import TenantRow
from ..storable import check_text

if TYPE_CHECKING:
    import asyncpg

    from ..answers import RequestKey
    from .audit import Audit
    from .principal import Principal
    from .tokens import Tokens

_sql: Final = queries.load("tenants")
_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

#: The tenant that a plain installation has; its administrators make others.
DEFAULT: Final = "default"


class Tenants:
    """Makes and lists tenants, and moves virtual clocks."""

    def __init__(
        self, pool: asyncpg.Pool[Any], audit: Audit, tokens: Tokens, *, clock_moved: Callable[[], None] = lambda: None
    ) -> None:
        self._pool = pool
        self._audit = audit
        self._tokens = tokens
        #: called when a virtual clock was moved, so that timers it passed fire at once
        self._clock_moved = clock_moved

    async def create(
        self,
        principal: Principal | None,
        tenant_id: str,
        name: str,
        *,
        virtual_now: datetime | None = None,
        request: RequestKey | None = None,
    ) -> tuple[TenantRow, str | None]:
        """
        Make a tenant, and its administrator's first token with it; the row, and the secret, which is never shown again.

        `principal` is an administrator of the tenant `default`, or None for the command line. With `virtual_now` the
        tenant's clock stands there until it is moved. A repeated request is given the tenant of the first one, without
        the secret (None). Raises ConflictError where the id is taken.
        """
        await self._require_installation(principal, "tenant.create", f"tenant:{tenant_id}")
        if not _ID.fullmatch(tenant_id):
            raise InvalidError(
                "bad_format",
                "A tenant's id has small letters, digits, `_` and `-`, at most 63, and no `_` or `-` first.",
            )
        check_text("A tenant's name", name, length_max=255)
        if virtual_now is not None:
            _check_instant(virtual_now)
        async with self._pool.acquire() as connection, connection.transaction():
            if principal is not None:
                made = await idempotency.claim(connection, principal.tenant_id, request)
                if made is not None:
                    row = await connection.fetchrow(_sql.get, made)
                    assert row is not None, "tenants are never deleted"
                    return _row(row), None
            row = await connection.fetchrow(_sql.create, tenant_id, name, virtual_now)
            if row is None:
                raise ConflictError("tenant_exists", f"There is a tenant {tenant_id} already; choose another id.")
            by = principal.user_id if principal and principal.tenant_id == tenant_id else None
            await self._audit.record(connection, tenant_id, "tenant.created", f"tenant:{tenant_id}", {"name": name}, by)
            secret = await self._tokens.first(connection, tenant_id)
            if principal is not None:
                details = {"tenant": tenant_id}
                await self._audit.record(
                    connection, principal.tenant_id, "tenant.created", f"tenant:{tenant_id}", details, principal.user_id
                )
                await idempotency.settle(connection, principal.tenant_id, request, tenant_id)
        return _row(row), secret

    async def get(self, tenant_id: str) -> TenantRow | None:
        """Give a tenant, or None."""
        if not _ID.fullmatch(tenant_id):
            return None
        row = await self._pool.fetchrow(_sql.get, tenant_id)
        return _row(row) if row else None

    async def list(self, principal: Principal | None, *, limit: int = 50, cursor: str | None = None) -> Page[TenantRow]:
        """List tenants by id: all for administrators of `default` and the command line, their own for everybody else."""
        limit = max(1, min(limit, LIMIT_MAX))
        (after,) = cursor_key(cursor, str)
        everything = principal is None or (principal.tenant_id == DEFAULT and principal.may("admin"))
        only = None if everything or principal is None else principal.tenant_id
        rows = await self._pool.fetch(_sql.page, after, limit + 1, only)
        return make_page(rows, limit, _row, lambda row: (row["tenant_id"],))

    async def set_clock(
        self, principal: Principal, virtual_now: datetime, *, request: RequestKey | None = None
    ) -> TenantRow:
        """
        Move the clock of the principal's own tenant, forwards only. Raises ConflictError where it has no virtual one.

        A repeated request moves nothing, wherever the clock has gone since, and is given the first one's answer.
        """
        subject = f"tenant:{principal.tenant_id}"
        await self._audit.require(principal, "tenant.clock", subject, "operator")
        _check_instant(virtual_now)
        async with self._pool.acquire() as connection, connection.transaction():
            if await idempotency.claim(connection, principal.tenant_id, request) is not None:
                row = await connection.fetchrow(_sql.get, principal.tenant_id)
                assert row is not None, "tenants are never deleted"
                return replace(_row(row), virtual_now=virtual_now)
            row = await connection.fetchrow(_sql.move_clock, principal.tenant_id, virtual_now)
            if row is None:
                now = await connection.fetchrow(_sql.get, principal.tenant_id)
                if now is None:
                    raise NotFoundError("unknown_tenant", "There is no such tenant any more.")
                if now["virtual_now"] is None:
                    raise ConflictError(
                        "clock_not_virtual",
                        "This tenant lives in real time; only one made with a virtual clock has one to move.",
                    )
                raise ConflictError(
                    "clock_goes_forwards",
                    "A clock only goes forwards; give an instant that is not before the present one.",
                    {"now": now["virtual_now"].isoformat()},
                )
            details = {"now": virtual_now.isoformat()}
            await self._audit.record(
                connection, principal.tenant_id, "tenant.clock_moved", subject, details, principal.user_id
            )
            await idempotency.settle(connection, principal.tenant_id, request, subject)
        self._clock_moved()
        return _row(row)

    async def settled(self, tenant_id: str, *, timeout: float) -> bool:
        """
        Wait until everything that is due by a tenant's clock has been carried out; false: it was not within `timeout` seconds.

        What follows from it at once is waited for, too: a sub-workflow's start, the next timer that is due already. For
        tests and replays, which move a clock and then want to see what came of it.
        """
        give_up_at = time.monotonic() + timeout
        pause = 0.002
        while await self._pool.fetchval(_sql.anything_due, tenant_id):
            if time.monotonic() >= give_up_at:
                return False
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        return True

    async def _require_installation(self, principal: Principal | None, action: str, subject: str) -> None:
        """Only administrators of the tenant `default` administer the installation."""
        if principal is None:
            return
        permission = "admin" if principal.tenant_id == DEFAULT else "admin of the tenant default"
        await self._audit.require(
            principal if principal.tenant_id == DEFAULT else _without_permissions(principal),
            action,
            subject,
            permission,
        )


def _without_permissions(principal: Principal) -> Principal:
    return replace(principal, permissions=frozenset())


def _check_instant(at: datetime) -> None:
    if at.tzinfo is None:
        raise InvalidError("bad_format", "An instant needs its time zone, such as 2026-03-02T09:00:00Z.")
    if not 1970 <= at.year <= 9000:
        raise InvalidError("out_of_range", "An instant must lie between the years 1970 and 9000.")


def _row(record: asyncpg.Record) -> TenantRow:
    return TenantRow.of(record, id=record["tenant_id"])
