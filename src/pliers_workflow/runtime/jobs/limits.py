"""How many steps of a queue may run at once, and how many may begin in a time: on all nodes and workers together.

A limit is about a queue (`http`, `plugin:erp`, `external:print`) or a type (`plugin`, `external`), which is all its queues
together. Whoever claims from a limited queue holds the limit's row for the length of the claim; so two claimers see each
other's. What runs is counted by slots, rows that a claim adds, a heartbeat prolongs, and the end of a step removes: a
worker that falls silent loses its slots with its leases. How many may begin is a bucket of tokens in the limit's row.

A limit counts what is claimed after it was set, and every node knows of it within a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from pliers_workflow.storage import queries

from .. import idempotency
from ..errors import InvalidError, NotFoundError, PreconditionFailedError
from ..storable import check_text

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.storage.database import AnyConnection as Connection

    from ..access.audit import Audit
    from ..access.principal import Principal
    from ..answers import RequestKey

_sql: Final = queries.load("limits")

RATE_MAX: Final = 1_000_000
PERIOD_MAX: Final = 7 * 86_400.0


class StepLimit(Struct, frozen=True, kw_only=True):
    """A limit as it is set."""

    queue: str
    #: None: any number. 0: nothing is begun
    max_running: int | None
    #: at most `rate` begin in `per_seconds`; None: any number
    rate: int | None
    per_seconds: float | None
    revision: int
    updated_at: datetime
    updated_by: str | None
    #: slots that are taken now
    running: int = 0


def keys_of(queue: str) -> tuple[str, ...]:
    """
    The limits that are about a queue: its own, and its type's.

    >>> keys_of("plugin:erp"), keys_of("http")
    (('plugin', 'plugin:erp'), ('http',))
    """
    type_, colon, _ = queue.partition(":")
    return (type_, queue) if colon else (queue,)


class Free(Struct, frozen=True):
    """How much a limited queue may begin now, while its limits are held by this transaction."""

    count: int
    #: the keys of the limits, of those with slots, and of those with tokens
    slots: tuple[str, ...]
    rates: tuple[str, ...]
    #: seconds until a rate lets another one begin; None: it is not the rate
    wait: float | None


async def hold(connection: Connection, tenant_id: str, queue: str) -> Free | None:
    """
    Lock the limits of a queue until the end of the transaction, and say how much they leave; None: there is none.

    Whoever begins steps then calls `take`, in the same transaction.
    """
    rows = await connection.fetch(_sql.hold, tenant_id, list(keys_of(queue)))
    if not rows:
        return None
    taken: dict[str, int] = {}
    slots = tuple(row["queue"] for row in rows if row["max_running"] is not None)
    if slots:
        taken = {row["queue"]: row["count"] for row in await connection.fetch(_sql.taken, tenant_id, list(slots))}
    count, wait = 1 << 30, None
    for row in rows:
        if row["max_running"] is not None:
            count = min(count, max(0, row["max_running"] - taken.get(row["queue"], 0)))
        if row["rate"] is not None:
            count = min(count, int(row["tokens"]))
            if row["tokens"] < 1:
                wait = max(wait or 0.0, (1 - row["tokens"]) * row["per_seconds"] / row["rate"])
    return Free(count, slots, tuple(row["queue"] for row in rows if row["rate"] is not None), wait)


async def take(
    connection: Connection, tenant_id: str, free: Free, jobs: Sequence[tuple[str, int]], lease: timedelta
) -> None:
    """Put claimed jobs (id, fencing token) on the limits' account, in the transaction that holds them."""
    if not jobs:
        return
    ids, tokens = zip(*jobs, strict=True)
    for key in free.slots:
        await connection.execute(_sql.take_slots, tenant_id, key, ids, tokens, lease)
    if free.rates:
        await connection.execute(_sql.take_tokens, tenant_id, list(free.rates), len(jobs))


async def release(
    connection: Connection | asyncpg.Pool[Any], tenant_id: str, queue: str, job_id: str, token: int
) -> None:
    """A step of a limited queue runs no more for whoever claimed it under this token."""
    await connection.execute(_sql.release, tenant_id, list(keys_of(queue)), job_id, token)


async def known(connection: Connection) -> dict[str, frozenset[str]]:
    """The keys of all limits, by tenant."""
    found: dict[str, set[str]] = {}
    for row in await connection.fetch(_sql.keys):
        found.setdefault(row["tenant_id"], set()).add(row["queue"])
    return {tenant_id: frozenset(keys) for tenant_id, keys in found.items()}


class StepLimits:
    """Sets and lists limits, for operators."""

    def __init__(self, pool: asyncpg.Pool[Any], audit: Audit) -> None:
        self._pool = pool
        self._audit = audit

    async def list(self, tenant_id: str) -> Sequence[StepLimit]:
        """All limits of a tenant, by queue, with what runs now."""
        return [_row(row) for row in await self._pool.fetch(_sql.list, tenant_id)]

    async def get(self, tenant_id: str, queue: str) -> StepLimit:
        """One limit. Raises NotFoundError."""
        row = await self._pool.fetchrow(_sql.get, tenant_id, queue)
        if row is None:
            raise NotFoundError("unknown_limit", f"There is no limit for {queue[:300]}.")
        return _row(row)

    async def put(
        self,
        principal: Principal,
        queue: str,
        *,
        max_running: int | None,
        rate: int | None,
        per_seconds: float | None,
        if_match: int | None = None,
        request: RequestKey | None = None,
    ) -> StepLimit:
        """Set a limit. Raises InvalidError, PreconditionFailedError, KeyReusedError."""
        tenant = principal.tenant_id
        _check(queue, max_running, rate, per_seconds)
        await self._audit.require(principal, "step_limit.put", f"step_limit:{queue}", "operator")
        async with self._pool.acquire() as connection, connection.transaction():
            if await idempotency.claim(connection, tenant, request) is None:
                before = await connection.fetchrow(_sql.lock, tenant, queue)
                _check_match(before, if_match)
                await connection.execute(_sql.put, tenant, queue, max_running, rate, per_seconds, principal.user_id)
                await idempotency.settle(connection, tenant, request, queue)
                details = {"max_running": max_running, "rate": rate, "per_seconds": per_seconds}
                await self._audit.record(
                    connection, tenant, "step_limit.put", f"step_limit:{queue}", details, principal.user_id
                )
        return await self.get(tenant, queue)

    async def delete(
        self, principal: Principal, queue: str, if_match: int | None = None, *, request: RequestKey | None = None
    ) -> None:
        """Lift a limit. Raises NotFoundError, PreconditionFailedError, KeyReusedError."""
        tenant = principal.tenant_id
        await self._audit.require(principal, "step_limit.delete", f"step_limit:{queue}", "operator")
        async with self._pool.acquire() as connection, connection.transaction():
            if await idempotency.claim(connection, tenant, request) is not None:
                return
            before = await connection.fetchrow(_sql.lock, tenant, queue)
            if before is None:
                raise NotFoundError("unknown_limit", f"There is no limit for {queue[:300]}.")
            _check_match(before, if_match)
            await connection.execute(_sql.delete, tenant, queue)
            await idempotency.settle(connection, tenant, request, queue)
            await self._audit.record(
                connection, tenant, "step_limit.deleted", f"step_limit:{queue}", {}, principal.user_id
            )


def _check(queue: str, max_running: int | None, rate: int | None, per_seconds: float | None) -> None:
    check_text("A queue", queue, length_max=300)
    if max_running is None and rate is None:
        raise InvalidError("missing_field", "A limit says `maxRunning`, or `rate` and `perSeconds`, or all three.")
    if (rate is None) != (per_seconds is None):
        raise InvalidError("missing_field", "`rate` and `perSeconds` belong together.")
    if max_running is not None and not 0 <= max_running <= 1_000_000:
        raise InvalidError("out_of_range", "`maxRunning` is a number from 0 to 1,000,000.")
    if rate is not None and not 1 <= rate <= RATE_MAX:
        raise InvalidError("out_of_range", f"`rate` is a number from 1 to {RATE_MAX:,}.")
    if per_seconds is not None and not 0.001 <= per_seconds <= PERIOD_MAX:
        raise InvalidError("out_of_range", "`perSeconds` is a number from 0.001 to 604,800 (a week).")


def _check_match(before: asyncpg.Record | None, if_match: int | None) -> None:
    if if_match is not None and (before is None or before["revision"] != if_match):
        raise PreconditionFailedError(
            "revision_conflict",
            "The limit has changed since you read it; read it again.",
            {"revision": before["revision"] if before else None},
        )


def limited(keys: Iterable[str], queue: str) -> bool:
    """Whether one of these limits is about a queue."""
    return not frozenset(keys).isdisjoint(keys_of(queue))


def _row(row: asyncpg.Record) -> StepLimit:
    return StepLimit(**{name: row[name] for name in StepLimit.__struct_fields__})
