"""The inbox: events are kept in it, carried out, and forgotten when their time is over.

Whoever sends an event is answered when it is on disk and, within a few seconds, what became of it is known; what takes
longer goes on by itself. An event whose node dies meanwhile stays `received`, and another node takes it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec
from msgspec.structs import replace as altered

from pliers_workflow.storage import canonical, identity, queries
from pliers_workflow.storage.identity import is_uuid
from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from .. import idempotency
from ..answers import ShuttingDown
from ..errors import ConflictError, NotFoundError
from ..failures import set_apart
from ..paging import uuid_cursor
from ..storable import check_text
from .acting import Actor, Again
from .carrying import Carrier
from .delayed import DelayedTriggers
from .delivering import Deliverer
from .rows import EventAnswer, EventRow, Result, Stored, Wait
from .rules import Rules
from .waiting import Waits, stored_of

if TYPE_CHECKING:
    from pliers_workflow.settings import Settings

    from ..access.audit import Audit
    from ..access.principal import Principal
    from ..answers import RequestKey
    from ..catalog import Catalog
    from ..directory import Directory
    from .cloudevents import Incoming
    from .delivering import Execute

_sql: Final = queries.load("inbound")
_waits: Final = queries.load("waits")
_read_results: Final = msgspec.json.Decoder(tuple[Result, ...]).decode

#: How long a node has for an event before another one takes it up.
_LEASE: Final = timedelta(seconds=60)
_SWEEP_SIZE: Final = 500


class Inbox(Carrier):
    """See the module. One for each node."""

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        settings: Settings,
        *,
        catalog: Catalog,
        directory: Directory,
        audit: Audit,
        execute: Execute,
        owner: str,
    ) -> None:
        rules = Rules(pool)
        key_ttl = settings.events.dedupe_ttl + 2 * 86_400
        deliverer = Deliverer(execute, catalog, directory, key_ttl=key_ttl)
        waits = Waits(pool, rules, deliverer)
        super().__init__(pool, settings.events, rules, Actor(pool, deliverer, waits), waits)
        self._audit = audit
        self._dedupe = timedelta(seconds=settings.events.dedupe_ttl)
        self.delayed = DelayedTriggers(pool, settings, self.rules, self._actor, self.waits, owner=owner)
        self._closing = False

    async def close(self) -> None:
        """Take no more events, and finish those that are being carried out."""
        self._closing = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self.waits.settle()

    # -- receiving -----------------------------------------------------------------------------------------------------

    async def receive_request(
        self, tenant_id: str, events: Sequence[Incoming], *, received_by: str, request: RequestKey | None
    ) -> tuple[tuple[EventAnswer, ...], bool]:
        """
        Receive the events of a request; whether its Idempotency-Key had been used for them before.

        Source and id of an event make it safe to repeat by themselves; the key only notices another body. Raises
        KeyReusedError.
        """
        made = None
        if request is not None:
            async with self._pool.acquire() as connection, connection.transaction():
                made = await idempotency.claim(connection, tenant_id, request)
                if made is None:
                    await idempotency.settle(connection, tenant_id, request, "events")
        # Also where the key is known: whoever claimed it may have died before it had kept the events.
        return await self.receive(tenant_id, events, received_by=received_by), made is not None

    async def receive(
        self,
        tenant_id: str,
        events: Sequence[Incoming],
        *,
        received_by: str | None = None,
        event_source: str | None = None,
        patience: float | None = None,
    ) -> tuple[EventAnswer, ...]:
        """
        Keep events and carry them out; what became of each, in their order.

        When this returns they are on disk. One that is not done within `patience` seconds (by default the setting) is
        answered as `received` and follows by itself.
        """
        prints = [_fingerprint(each) for each in events]
        kept = await self.keep(self._pool, tenant_id, events, received_by=received_by, event_source=event_source)
        if kept:
            await self._wait(tenant_id, kept, self._settings.answer_within if patience is None else patience)
        by_print = {row["fingerprint"]: row for row in await self._pool.fetch(_sql.known, tenant_id, prints)}
        if len(by_print) < len(set(prints)):
            # A duplicate was forgotten in this very moment. So it is none: all are received again, and those are kept.
            return await self.receive(
                tenant_id, events, received_by=received_by, event_source=event_source, patience=patience
            )
        new = {each.id for each in kept}
        answers = []
        for mark in prints:
            row = by_print[mark]
            # Of an event that stands twice in one batch, the first is the new one.
            duplicate = row["id"] not in new
            new.discard(row["id"])
            answers.append(EventAnswer(await self._row(row), duplicate))
        return tuple(answers)

    async def receive_all(self, tenant_id: str, events: Sequence[Incoming]) -> None:
        """
        Keep events of the engine itself and carry them out, in their order and however long it takes.

        Repeated by whoever comes after a node that died in between, it does what is left. Raises the database's errors
        where they cannot be kept.
        """
        kept = {each.id for each in await self.keep(self._pool, tenant_id, events)}
        rows = await self._pool.fetch(_sql.known, tenant_id, [_fingerprint(each) for each in events])
        # Those that were kept before may have been begun.
        owed = [
            stored if stored.id in kept else altered(stored, attempt=stored.attempt + 1)
            for stored in (stored_of(row) for row in rows if row["status"] == "received")
        ]
        await self.carry_out_all(tenant_id, sorted(owed, key=lambda each: each.id))

    async def keep(
        self,
        connection: Any,
        tenant_id: str,
        events: Sequence[Incoming],
        *,
        received_by: str | None = None,
        event_source: str | None = None,
    ) -> list[Stored]:
        """Write down the events that are new, in a transaction of the caller's or of their own; their ids grow."""
        if self._closing:
            raise ShuttingDown("this node is shutting down; repeat the request, another node will take it")
        real_now = datetime.now(UTC)
        ids = [identity.new_instance_id(real_now) for _ in events]
        traces = {id: each.belongs_to for id, each in zip(ids, events, strict=True)}
        rows = await connection.fetch(
            _sql.receive, tenant_id, ids, [_fingerprint(each) for each in events], [each.event.type for each in events],
            [canonical.encode_loose(each.event).decode() for each in events], [each.depth for each in events],
            received_by, event_source, self._dedupe, _LEASE,
            [self._settings.ttl if each.ttl is None else each.ttl for each in events],
            [None if trace is None else canonical.encode_loose(trace).decode() for trace in traces.values()],
        )  # fmt: skip
        by_id = dict(zip(ids, events, strict=True))
        kept = [
            Stored(
                tenant_id, row["id"], by_id[row["id"]].event, by_id[row["id"]].depth, row["received_at"],
                row["open_until"], own=received_by is None and event_source is None, trace=traces[row["id"]],
            )
            for row in rows
        ]  # fmt: skip
        return sorted(kept, key=lambda each: each.id)

    async def act_on(self, stored: Stored) -> None:
        """Carry out an event that its caller has kept; return when that is done, or after the usual patience."""
        if not self._closing:
            await self._wait(stored.tenant_id, [stored], self._settings.answer_within)

    async def owed_by_source(self, tenant_id: str, event_source: str) -> list[Stored]:
        """What a reader of an event source before the caller has kept and not carried out, in order; it is the caller's now."""
        rows = await self._pool.fetch(_sql.claim_owed_by_source, tenant_id, event_source, _LEASE)
        return sorted((stored_of(row) for row in rows), key=lambda each: each.id)

    # -- the sweep -----------------------------------------------------------------------------------------------------

    async def sweep(self, *, delayed: bool = False) -> int:
        """
        Take up what crashes have left, make lapsed offers again, and forget what is old, in all tenants; how much.

        `delayed`: carry out delayed triggers too, for tests that move clocks.
        """
        count = 0
        for (tenant_id,) in await self._pool.fetch(_sql.tenants):
            for sweep in (self._take_up, self.waits.sweep, self._forget):
                with set_apart(sweep.__qualname__, tenant=tenant_id):
                    count += await sweep(tenant_id)
        if delayed:
            count += await self.delayed.run_due()
        return count

    async def _take_up(self, tenant_id: str) -> int:
        rows = await self._pool.fetch(_sql.claim_owed, tenant_id, _SWEEP_SIZE, _LEASE)
        await self.carry_out(tenant_id, sorted((stored_of(row) for row in rows), key=lambda each: each.id))
        return len(rows)

    async def _forget(self, tenant_id: str) -> int:
        await self._pool.execute(_sql.forget, tenant_id, _SWEEP_SIZE * 10)
        return 0

    # -- for operators -------------------------------------------------------------------------------------------------

    async def get(self, principal: Principal, event_id: str) -> EventRow | None:
        """Give an event to operators and auditors; None to everybody else."""
        if not principal.may("operator", "auditor") or not is_uuid(event_id):
            return None
        row = await self._pool.fetchrow(_sql.get, principal.tenant_id, event_id)
        return None if row is None else await self._row(row)

    async def list(
        self,
        principal: Principal,
        *,
        status: str | None = None,
        event_type: str | None = None,
        event_source: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[EventRow]:
        """List events, newest first, of one status, type or event source where given."""
        limit = max(1, min(limit, LIMIT_MAX))
        if event_type is not None:
            check_text("A type", event_type, length_max=255)
        before = uuid_cursor(cursor)
        if not principal.may("operator", "auditor") or (event_source is not None and not is_uuid(event_source)):
            return Page(())
        rows = await self._pool.fetch(
            _sql.page, principal.tenant_id, status, event_type, event_source, before, limit + 1
        )
        return make_page(rows, limit, _event_row, lambda row: (row["id"],))

    async def retry(self, principal: Principal, event_id: str) -> EventRow:
        """
        Do again what of an event has failed, when its cause is gone; everything else stays as it was.

        Raises NotFoundError, and ConflictError where nothing has failed.
        """
        tenant_id, subject = principal.tenant_id, f"event:{event_id}"
        await self._audit.require(principal, "event.retry", subject, "operator")
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_sql.reopen, tenant_id, event_id, _LEASE) if is_uuid(event_id) else None
            if row is not None:
                await self._audit.record(connection, tenant_id, "event.retried", subject, {}, principal.user_id)
        if row is None:
            if await self.get(principal, event_id) is None:
                raise NotFoundError("unknown_event", f"There is no event {event_id[:300]}.")
            raise ConflictError("nothing_failed", "Nothing of this event has failed, or somebody is retrying it.")
        stored = stored_of(row)
        again = _again(_read_results(row["results"]))
        await self._wait(tenant_id, [stored], self._settings.answer_within, again)
        after = await self.get(principal, event_id)
        assert after is not None, "an event is kept while it is retried"
        return after

    async def _row(self, row: asyncpg.Record) -> EventRow:
        found = _event_row(row)
        if found.status not in ("buffered", "failed"):  # of several listeners one may have failed, and another wait
            return found
        waits = await self._pool.fetch(_waits.of_event, found.tenant_id, found.id)
        return altered(found, waits=tuple(Wait(*each) for each in waits))


def _again(results: Sequence[Result]) -> Again:
    """What a retry does again: where an instance has failed, that one; where no instance is told, the whole trigger."""
    failures = [each for each in results if each.outcome == "failed"]
    whole = {(each.workflow, each.trigger) for each in failures if each.instance is None}
    return {
        key: frozenset()
        if key in whole
        else frozenset(one.instance for one in failures if (one.workflow, one.trigger) == key and one.instance)
        for key in {(each.workflow, each.trigger) for each in failures}
    }


def _fingerprint(incoming: Incoming) -> bytes:
    return sha256(f"{incoming.event.source}\0{incoming.event.id}".encode()).digest()


def _event_row(row: asyncpg.Record) -> EventRow:
    return EventRow(
        id=row["id"],
        tenant_id=row["tenant_id"],
        event=stored_of(row).event,
        depth=row["depth"],
        status=row["status"],
        received_at=row["received_at"],
        received_by=row["received_by"],
        event_source=row["event_source_id"],
        open_until=row["open_until"],
        forget_at=row["forget_at"],
        results=_read_results(row["results"]),
    )
