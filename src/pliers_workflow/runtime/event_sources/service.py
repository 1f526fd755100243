"""Keeps event sources: made, changed, enabled, disabled and removed by operators.

Every change is audited in its own transaction and wakes the readers of all nodes. A source's lane is made and removed in the
same transaction as the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec

from pliers_workflow.storage import canonical, queries
from pliers_workflow.storage.identity import is_uuid
from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from .. import idempotency
from ..errors import ConflictError, InvalidError, NotFoundError, PreconditionFailedError
from ..nodes.wakeups import READERS
from ..paging import uuid_cursor
from . import kinds, plain
from .plain import Mapping
from .rows import EventSourceInput, EventSourceRow
from .serving import reader_name

if TYPE_CHECKING:
    from ..access.audit import Audit
    from ..access.principal import Principal
    from ..answers import RequestKey
    from ..nodes.wakeups import Wakeups
    from ..outbound import Outbound

_sql: Final = queries.load("event_sources")
_feed_sql: Final = queries.load("feed")

_READS: Final = ("operator", "auditor")


class EventSources:
    """See the module."""

    def __init__(self, pool: asyncpg.Pool[Any], audit: Audit, outbound: Outbound, wakeups: Wakeups) -> None:
        self._pool = pool
        self._audit = audit
        self._outbound = outbound
        self._wakeups = wakeups

    async def get(self, principal: Principal, source_id: str) -> EventSourceRow | None:
        """Give a source to operators and auditors; None to everybody else."""
        if not principal.may(*_READS) or not is_uuid(source_id):
            return None
        row = await self._pool.fetchrow(_sql.get_source, principal.tenant_id, source_id)
        return _row(row) if row is not None else None

    async def list(self, principal: Principal, *, limit: int = 50, cursor: str | None = None) -> Page[EventSourceRow]:
        """List a tenant's sources by id."""
        limit = max(1, min(limit, LIMIT_MAX))
        after = uuid_cursor(cursor)
        if not principal.may(*_READS):
            return Page(())
        rows = await self._pool.fetch(_sql.page_sources, principal.tenant_id, after, limit + 1)
        return make_page(rows, limit, _row, lambda row: (row["id"],))

    async def create(
        self, principal: Principal, wanted: EventSourceInput, *, request: RequestKey | None = None
    ) -> EventSourceRow:
        """Make a source, which is read from now on. Raises InvalidError with all findings, ConflictError where the name is taken."""
        tenant = principal.tenant_id
        await self._audit.require(principal, "event_source.create", f"event_source:{wanted.name}", "operator")
        complete = msgspec.structs.replace(wanted, broker=kinds.SECRETS.unmasked(wanted.broker, {}))
        self._check(complete)
        configuration, secrets = _split(complete)
        kind = complete.broker.kind
        async with self._pool.acquire() as connection, connection.transaction():
            known = await idempotency.claim(connection, tenant, request)
            if known is None:
                await self._alone(connection, tenant, None, kind, configuration)
                try:
                    known = await connection.fetchval(
                        _sql.create_source, tenant, wanted.name, kind, configuration, wanted.enabled, principal.user_id
                    )
                except asyncpg.UniqueViolationError:
                    raise _name_taken(wanted.name) from None
                await connection.execute(_sql.put_secrets, tenant, known, secrets)
                await connection.execute(_feed_sql.add_lanes, reader_name(known), 1, 0)
                await idempotency.settle(connection, tenant, request, known)
                await self._record(connection, principal, "created", known, wanted.name, kind=kind)
        self._wakeups.wake(READERS)
        return await self._after(principal, known)

    async def replace(
        self,
        principal: Principal,
        source_id: str,
        wanted: EventSourceInput,
        revision: int | None = None,
        *,
        request: RequestKey | None = None,
    ) -> EventSourceRow:
        """Change a source. Raises NotFoundError, PreconditionFailedError, InvalidError, ConflictError."""
        tenant = principal.tenant_id
        await self._audit.require(principal, "event_source.replace", f"event_source:{source_id}", "operator")
        async with self._pool.acquire() as connection, connection.transaction():
            if await idempotency.claim(connection, tenant, request) is None:
                row = await self._locked(connection, tenant, source_id)
                if revision is not None and revision != row["revision"]:
                    raise PreconditionFailedError("revision", "The event source has changed since; read it again.")
                if wanted.broker.kind != row["configuration"]["broker"]["type"]:
                    raise ConflictError(
                        "broker_type", "An event source stays with its kind of broker; make another one."
                    )
                complete = msgspec.structs.replace(wanted, broker=kinds.SECRETS.unmasked(wanted.broker, row["secrets"]))
                self._check(complete)
                configuration, secrets = _split(complete)
                await self._alone(connection, tenant, source_id, complete.broker.kind, configuration)
                try:
                    await connection.execute(
                        _sql.replace_source,
                        tenant,
                        source_id,
                        wanted.name,
                        configuration,
                        wanted.enabled,
                        canonical.encode(kinds.what_is_read(kinds.SECRETS.split(complete.broker)[0])).decode(),
                    )
                except asyncpg.UniqueViolationError:
                    raise _name_taken(wanted.name) from None
                await connection.execute(_sql.put_secrets, tenant, source_id, secrets)
                await connection.execute(_feed_sql.forgive, reader_name(source_id))
                await idempotency.settle(connection, tenant, request, source_id)
                await self._record(connection, principal, "replaced", source_id, wanted.name, enabled=wanted.enabled)
        self._wakeups.wake(READERS)
        return await self._after(principal, source_id)

    async def set_enabled(
        self, principal: Principal, source_id: str, enabled: bool, *, request: RequestKey | None = None
    ) -> EventSourceRow:
        """Read on, at once also where it waits after a failure; or read no more. What lies in the broker stays there."""
        tenant, action = principal.tenant_id, "enabled" if enabled else "disabled"
        await self._audit.require(principal, f"event_source.{action}", f"event_source:{source_id}", "operator")
        async with self._pool.acquire() as connection, connection.transaction():
            if await idempotency.claim(connection, tenant, request) is None:
                row = await self._locked(connection, tenant, source_id)
                await connection.execute(_sql.set_enabled, tenant, source_id, enabled)
                await connection.execute(_feed_sql.forgive, reader_name(source_id))
                await idempotency.settle(connection, tenant, request, source_id)
                await self._record(connection, principal, action, source_id, row["name"])
        self._wakeups.wake(READERS)
        return await self._after(principal, source_id)

    async def delete(self, principal: Principal, source_id: str, *, request: RequestKey | None = None) -> None:
        """Remove a source and what it rejected; the events it brought stay. Raises NotFoundError."""
        tenant = principal.tenant_id
        await self._audit.require(principal, "event_source.delete", f"event_source:{source_id}", "operator")
        async with self._pool.acquire() as connection, connection.transaction():
            if await idempotency.claim(connection, tenant, request) is None:
                row = await self._locked(connection, tenant, source_id)
                await connection.execute(_feed_sql.remove_lanes, reader_name(source_id))
                await connection.execute(_sql.delete_source, tenant, source_id)
                await idempotency.settle(connection, tenant, request, source_id)
                await self._record(connection, principal, "deleted", source_id, row["name"])
        self._wakeups.wake(READERS)

    def _check(self, wanted: EventSourceInput) -> None:
        findings = kinds.check(wanted.broker, self._outbound.guard)
        if wanted.mapping is not None:
            findings += plain.check(wanted.mapping)
        errors = [finding for finding in findings if finding.severity == "error"]
        if errors:
            raise InvalidError(
                "invalid_event_source", f"The event source makes no sense: {errors[0].message}", findings=findings
            )

    async def _alone(
        self, connection: Any, tenant_id: str, source_id: str | None, kind: str, configuration: str
    ) -> None:
        """Raises ConflictError where another source of the tenant reads under the same name."""
        name = canonical.encode(kinds.under_one_name(canonical.decode(configuration)["broker"])).decode()
        other = await connection.fetchval(_sql.reads_the_same, tenant_id, kind, name, source_id)
        if other is not None:
            raise ConflictError(
                "read_already",
                f"The event source {other} reads that already, and each would get a part of it: change that one, or name "
                "another consumer, group or queue.",
            )

    async def _locked(self, connection: Any, tenant_id: str, source_id: str) -> Any:
        row = None
        if is_uuid(source_id):
            row = await connection.fetchrow(_sql.lock_source, tenant_id, source_id)
        if row is None:
            raise NotFoundError("unknown_event_source", f"There is no event source {source_id[:300]}.")
        return row

    async def _after(self, principal: Principal, source_id: str) -> EventSourceRow:
        row = await self._pool.fetchrow(_sql.get_source, principal.tenant_id, source_id)
        if row is None:
            raise NotFoundError("unknown_event_source", f"There is no event source {source_id} any more.")
        return _row(row)

    async def _record(
        self, connection: Any, principal: Principal, action: str, source_id: str, name: str, **details: Any
    ) -> None:
        # Of the broker its kind alone: an address may hold what is secret, and the audit log is for ever.
        subject = f"event_source:{source_id}"
        await self._audit.record(
            connection, principal.tenant_id, f"event_source.{action}", subject, {"name": name, **details},
            principal.user_id,
        )  # fmt: skip


def _split(wanted: EventSourceInput) -> tuple[str, str]:
    """The configuration and the secrets, as they are kept."""
    broker, secrets = kinds.SECRETS.split(wanted.broker)
    mapping = None if wanted.mapping is None else msgspec.to_builtins(wanted.mapping)
    configuration = {"broker": broker, "mapping": mapping, "batchSize": wanted.batch_size}
    return canonical.encode(configuration).decode(), canonical.encode(secrets).decode()


def _row(row: asyncpg.Record) -> EventSourceRow:
    configuration = row["configuration"]
    mapping = configuration["mapping"]
    return EventSourceRow.of(
        row,
        broker=kinds.SECRETS.masked(configuration["broker"], row["secrets"]),
        mapping=None if mapping is None else msgspec.convert(mapping, Mapping),
        batch_size=configuration["batchSize"],
    )


def _name_taken(name: str) -> ConflictError:
    return ConflictError("name_taken", f"There is an event source called {name} already.")
