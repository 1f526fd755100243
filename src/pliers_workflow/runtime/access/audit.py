"""The audit log: what has no instance, hash-chained, one chain for each tenant.

Publishing, the directory, tokens, bindings, administration and denied attempts are written here in the transaction that
does them, as its last statement: the tenant's row is locked until the commit, so that seqs have no gaps and each row's
hash covers the one before. The canonical bytes that are hashed are the ones that are stored (`json` keeps its text,
`jsonb` would not), and they repeat every column, so that no column can be changed unseen. A missing tail does not show
in the chain alone; that is what signed checkpoints are for.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from pliers_workflow.storage import canonical, queries
from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from ..errors import ForbiddenError, NotFoundError
from ..paging import cursor_key
from ..rows import AuditRow, Verification

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.storage.database import AnyConnection as Connection

    from .principal import Principal

_sql: Final = queries.load("audit")

#: Format of the records; a new meaning is a new number.
FORMAT: Final = 1
#: What the first row of a chain has before it.
GENESIS: Final = bytes(32)


class Audit:
    """Writes, lists and verifies the audit log."""

    def __init__(self, pool: asyncpg.Pool[Any], *, record_denied: bool = True) -> None:
        self._pool = pool
        self._record_denied = record_denied

    async def record(
        self,
        connection: Connection,
        tenant_id: str,
        action: str,
        subject: str,
        record: dict[str, Any],
        by: str | None,
    ) -> int:
        """
        Append a row in the caller's transaction, as its last statement, and give its seq.

        `subject` is `kind:id`; `by` a user id, or None for the engine. The tenant's chain is held until the commit.
        """
        assert connection.is_in_transaction(), "an audit row belongs to the transaction that does what it tells"
        subject = _kept(subject)
        locked_at: datetime | None = await connection.fetchval(_sql.lock_chain, tenant_id)
        if locked_at is None:
            raise NotFoundError("unknown_tenant", f"There is no tenant {tenant_id}.")
        last = await connection.fetchrow(_sql.last_row, tenant_id)
        seq, previous, at = (
            (last["seq"] + 1, last["hash"], max(locked_at, last["executed_at"])) if last else (1, GENESIS, locked_at)
        )
        encoded = _encode(tenant_id, seq, action, subject, record, at, by)
        digest = sha256(previous + encoded).digest()
        await connection.execute(
            _sql.append, tenant_id, seq, action, subject, encoded.decode(), at, by, previous, digest
        )
        return int(seq)

    async def denied(self, principal: Principal, action: str, subject: str, needed: tuple[str, ...] = ()) -> None:
        """Put a refused attempt on record, in a transaction of its own (the attempt's own leaves nothing)."""
        if not self._record_denied:
            return
        details = {"action": action, "needed": list(needed), "token": principal.token_id}
        async with self._pool.acquire() as connection, connection.transaction():
            await self.record(connection, principal.tenant_id, "denied", subject, details, principal.user_id)

    async def require(self, principal: Principal, action: str, subject: str, *permissions: str) -> None:
        """Raise ForbiddenError, and put the attempt on record, unless the principal holds one of these permissions."""
        if principal.may(*permissions):
            return
        await self.denied(principal, action, subject, permissions)
        wanted = " or ".join(f"`{permission}`" for permission in permissions)
        raise ForbiddenError(
            "permission_denied",
            f"This needs a token with the permission {wanted}; ask an administrator for one.",
            {"permissions": list(permissions)},
        )

    async def list(
        self,
        tenant_id: str,
        *,
        action: str | None = None,
        subject: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[AuditRow]:
        """List the log, newest first. Who may see it is the caller's to ask (`require(…, "auditor")`)."""
        limit = max(1, min(limit, LIMIT_MAX))
        (before,) = cursor_key(cursor, int)
        rows = await self._pool.fetch(_sql.page, tenant_id, before, action, subject, limit + 1)
        return make_page(rows, limit, _row, lambda row: (row["seq"],))

    async def verify(self, tenant_id: str) -> Verification:
        """Walk the whole chain: every row's own hash, its link to the row before, and its columns against its record."""
        seq, previous = 0, GENESIS
        while rows := await self._pool.fetch(_sql.rows_after, tenant_id, seq, 1000):
            for row in rows:
                problem = _problem(row, tenant_id, seq + 1, previous)
                if problem is not None:
                    return Verification(intact=False, rows=seq, broken_at=row["seq"], problem=problem)
                seq, previous = row["seq"], row["hash"]
        return Verification(intact=True, rows=seq)


def _encode(
    tenant_id: str, seq: int, action: str, subject: str, record: dict[str, Any], at: datetime, by: str | None
) -> bytes:
    return canonical.encode(
        {
            "format": FORMAT,
            "tenant": tenant_id,
            "seq": seq,
            "action": action,
            "subject": subject,
            "details": record,
            "at": _instant(at),
            "by": by,
        }
    )


def _kept(subject: str) -> str:
    """A subject as it can be kept: what was denied may have been asked for by any text whatever."""
    return subject[:500].encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _problem(row: asyncpg.Record, tenant_id: str, expected: int, previous: bytes) -> str | None:
    if row["seq"] != expected:
        return f"row {expected} is missing"
    if row["previous_hash"] != previous:
        return "the row before is not the one it was chained to"
    if row["hash"] != sha256(previous + row["record"].encode()).digest():
        return "its record is not the one that was hashed"
    told = canonical.decode(row["record"])
    columns = (tenant_id, row["seq"], row["action"], row["subject"], _instant(row["executed_at"]), row["executed_by"])
    if columns != tuple(told.get(key) for key in ("tenant", "seq", "action", "subject", "at", "by")):
        return "its columns are not what its record says"
    return None


def _row(row: asyncpg.Record) -> AuditRow:
    return AuditRow(
        tenant_id=row["tenant_id"],
        seq=row["seq"],
        action=row["action"],
        subject=row["subject"],
        details=canonical.decode(row["record"])["details"],
        executed_at=row["executed_at"],
        executed_by=row["executed_by"],
        hash=row["hash"],
    )
