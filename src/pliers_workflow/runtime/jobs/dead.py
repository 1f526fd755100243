"""Dead jobs: what the engine itself could not settle, for an operator to look at, to retry, or to give up.

A step whose attempts have all failed is no dead job but an incident of its instance. Here is what went wrong on our side:
the database refused a result, a version that a sub-workflow needs was never published.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import msgspec
from msgspec import Struct

from pliers_workflow.interpreter.commands import CompleteStep, FailStep
from pliers_workflow.storage import canonical, queries
from pliers_workflow.storage.identity import is_uuid
from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from .. import idempotency
from ..errors import ConflictError, NotFoundError
from ..paging import uuid_cursor
from .orders import not_started
from .payloads import CHILD, ORDER, STEP, TIMER, OrderPayload, read_child, read_order

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from pliers_workflow.storage.database import AnyConnection as Connection

    from ..access.audit import Audit
    from ..access.principal import Principal
    from ..answers import RequestKey

_sql: Final = queries.load("dead_jobs")

#: Kinds for which an instance waits: giving one up would leave it waiting for ever. (An order may be one, too.)
_AWAITED: Final = frozenset({STEP, TIMER})


class DeadJob(Struct, frozen=True, kw_only=True):
    """A dead job."""

    id: str
    kind: str
    #: as the instance that owes it calls it: `order/3`
    name: str
    queue: str | None
    instance_id: str | None
    definition_name: str | None
    attempt: int
    error: str | None
    due_at: datetime
    created_at: datetime


class DeadJobs:
    """See the module."""

    def __init__(self, pool: asyncpg.Pool[Any], audit: Audit, *, wake: Callable[[str], None]) -> None:
        self._pool = pool
        self._audit = audit
        #: tells who serves jobs of a kind that there is one
        self._wake = wake

    async def list(
        self,
        tenant_id: str,
        *,
        kind: str | None = None,
        instance_id: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[DeadJob]:
        """List a tenant's dead jobs by id, of all kinds or one, of all instances or of one, by its UUID."""
        limit = max(1, min(limit, LIMIT_MAX))
        rows = await self._pool.fetch(_sql.page, tenant_id, kind, instance_id, uuid_cursor(cursor), limit + 1)
        return make_page(rows, limit, _row, lambda row: (row["id"],))

    async def retry(self, principal: Principal, job_id: str, *, request: RequestKey | None = None) -> DeadJob:
        """Let a dead job be claimed again, with all its attempts. Raises NotFoundError, KeyReusedError."""
        tenant, subject = principal.tenant_id, f"job:{job_id}"
        await self._audit.require(principal, "job.retry", subject, "operator")
        async with self._pool.acquire() as connection, connection.transaction():
            if await idempotency.claim(connection, tenant, request) is not None:
                return await self._get(connection, tenant, job_id)
            job = _row(await self._locked(connection, tenant, job_id))
            await connection.execute(_sql.retry, tenant, job_id)
            await idempotency.settle(connection, tenant, request, job_id)
            await self._audit.record(connection, tenant, "job.retried", subject, _told(job), principal.user_id)
        self._wake(job.kind)
        return job

    async def discard(
        self, principal: Principal, job_id: str, reason: str, *, request: RequestKey | None = None
    ) -> None:
        """
        Give a dead job up for good. Of a sub-workflow that did not start the parent is told: its step has failed.

        Raises ConflictError for a job that its instance waits for: retry it, or cancel the instance.
        """
        tenant, subject = principal.tenant_id, f"job:{job_id}"
        await self._audit.require(principal, "job.discard", subject, "operator")
        async with self._pool.acquire() as connection, connection.transaction():
            if await idempotency.claim(connection, tenant, request) is not None:
                return
            row = await self._locked(connection, tenant, job_id)
            job, told = _row(row), _order_instead(row)
            if told is not None:
                encoded = canonical.encode_loose(told).decode()
                await connection.execute(_sql.turn_into_order, tenant, job_id, str(uuid4()), encoded)
            elif _awaited(row):
                raise ConflictError(
                    "awaited", "An instance waits for this job: retry it, or cancel the instance.",
                    {"kind": job.kind, "instance": job.instance_id},
                )  # fmt: skip
            else:
                await connection.execute(_sql.discard, tenant, job_id)
            await idempotency.settle(connection, tenant, request, job_id)
            details = {**_told(job), "reason": reason}
            await self._audit.record(connection, tenant, "job.discarded", subject, details, principal.user_id)
        if told is not None:
            self._wake(ORDER)

    async def _locked(self, connection: Connection, tenant_id: str, job_id: str) -> asyncpg.Record:
        row: asyncpg.Record | None = None
        if is_uuid(job_id):
            row = await connection.fetchrow(_sql.lock, tenant_id, job_id)
        if row is None:
            raise _unknown(job_id)
        return row

    async def _get(self, connection: Connection, tenant_id: str, job_id: str) -> DeadJob:
        """The job of a repeated request; what has been served since is told by its id alone."""
        row = await connection.fetchrow(_sql.get, tenant_id, job_id)
        if row is None:
            raise _unknown(job_id)
        return _row(row)


def _awaited(row: asyncpg.Record) -> bool:
    """Whether an instance waits for it. An order may say what became of a step; one that cannot be read says nothing."""
    if row["kind"] != ORDER:
        return row["kind"] in _AWAITED
    try:
        return isinstance(read_order(row["payload"]).order, CompleteStep | FailStep)
    except msgspec.DecodeError:
        return False


def _order_instead(row: asyncpg.Record) -> OrderPayload | None:
    """For the start of a sub-workflow that is given up: how its parent is told. None: it is no such start, or unreadable."""
    if row["kind"] != CHILD:
        return None
    try:
        start = read_child(row["payload"])
    except msgspec.DecodeError:
        return None
    return OrderPayload(start.parent.instance, not_started(start, "given_up", "An operator has given its start up."))


def _told(job: DeadJob) -> dict[str, Any]:
    return {"kind": job.kind, "name": job.name, "instance": job.instance_id, "error": job.error}


def _unknown(job_id: str) -> NotFoundError:
    return NotFoundError("unknown_job", f"There is no dead job {job_id[:300]}.")


def _row(row: asyncpg.Record) -> DeadJob:
    return DeadJob(**{name: row[name] for name in DeadJob.__struct_fields__})
