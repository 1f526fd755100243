"""Messages that were no events: kept for somebody to look at, put in again when the cause is gone, or thrown away.

Of each the beginning of its body is kept, and so many of one source (settings `event_sources.rejects_max`, `.rejects_ttl`):
what a broken sender makes must not fill the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from pliers_workflow.storage import canonical, identity, queries
from pliers_workflow.storage.identity import is_uuid
from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from .. import idempotency
from ..errors import ConflictError, InvalidError, NotFoundError
from ..inbound.rows import EventAnswer
from ..paging import uuid_cursor
from .plain import BadMessage, mapping_of
from .readers.port import HEADER_LENGTH_MAX, BrokerMessage
from .reading import read
from .rows import RejectRow

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.settings import Settings

    from ..access.audit import Audit
    from ..access.principal import Principal
    from ..answers import RequestKey
    from ..inbound.inbox import Inbox

_sql: Final = queries.load("event_sources")

#: bytes of a body that are kept
BODY_KEPT: Final = 65_536
_NAME_MAX: Final = 1_000
_READS: Final = ("operator", "auditor")


class Rejected(Struct, frozen=True):
    """A message, and why it is no event."""

    message: BrokerMessage
    reason: str


async def keep(
    connection: Any, tenant_id: str, source_id: str, rejects: Sequence[Rejected], *, rejects_max: int
) -> None:
    """Write rejects down in the caller's transaction; beyond so many of one source the oldest go."""
    now = datetime.now(UTC)
    rows = {}
    for each in rejects[-rejects_max:] if rejects_max else ():
        message = each.message
        # One that stands twice in a batch is one; the last counts.
        rows[message.name] = (
            identity.new_instance_id(now), _kept(message.name, _NAME_MAX), _kept(each.reason, 2_000),
            _kept(message.address, _NAME_MAX), None if message.key is None else _kept(message.key, _NAME_MAX),
            None if message.content_type is None else _kept(message.content_type, _NAME_MAX),
            None if message.attributes is None else _json(message.attributes), _json(message.headers),
            message.body[:BODY_KEPT], len(message.body),
        )  # fmt: skip
    if rows:
        columns = [list(column) for column in zip(*rows.values(), strict=True)]
        await connection.execute(_sql.add_rejects, tenant_id, source_id, *columns)
        await connection.execute(_sql.trim_rejects, tenant_id, source_id, rejects_max)


def _json(texts: dict[str, str]) -> str:
    return canonical.encode({_kept(name, 200): _kept(text, HEADER_LENGTH_MAX) for name, text in texts.items()}).decode()


def _kept(text: str, length: int) -> str:
    """A text as the database can keep it."""
    return text[:length].encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


class Rejects:
    """See the module."""

    def __init__(self, pool: asyncpg.Pool[Any], audit: Audit, inbox: Inbox, settings: Settings) -> None:
        self._pool = pool
        self._audit = audit
        self._inbox = inbox
        self._settings = settings.event_sources

    async def list(
        self, principal: Principal, source_id: str, *, limit: int = 50, cursor: str | None = None
    ) -> Page[RejectRow]:
        """List what a source rejected, newest first. Raises NotFoundError where there is no such source."""
        limit = max(1, min(limit, LIMIT_MAX))
        before = uuid_cursor(cursor)
        if not principal.may(*_READS):
            return Page(())
        await self._source(principal, source_id)
        rows = await self._pool.fetch(_sql.page_rejects, principal.tenant_id, source_id, before, limit + 1)
        return make_page(rows, limit, _row, lambda row: (row["id"],))

    async def retry(
        self, principal: Principal, source_id: str, reject_id: str, *, request: RequestKey | None = None
    ) -> tuple[EventAnswer, ...]:
        """
        Read a rejected message again, by the source as it is now, and take its events in; a repeated request is told of them.

        Raises NotFoundError, ConflictError where only its beginning was kept, InvalidError where it is still no event.
        """
        tenant = principal.tenant_id
        await self._audit.require(principal, "event_source.retry_reject", f"event_source:{source_id}", "operator")
        made = await idempotency.known(self._pool, tenant, request)
        if made is not None:
            rows = [await self._inbox.get(principal, event_id) for event_id in made.split()]
            return tuple(EventAnswer(each, True) for each in rows if each is not None)
        source = await self._source(principal, source_id)
        found = await self._pool.fetchrow(_sql.get_reject, tenant, source_id, reject_id) if is_uuid(reject_id) else None
        if found is None:
            raise _unknown(reject_id)
        row = _row(found)
        if not row.whole:
            raise ConflictError(
                "not_whole",
                f"Only the first {BODY_KEPT:,} bytes of this message were kept; send it to the broker again.",
            )
        message = BrokerMessage(
            # A message without a name of the broker's is called by its content, which is not its id.
            id=None if row.message.startswith("sha256:") else row.message,
            address=row.address, body=row.body, content_type=row.content_type, key=row.key, attributes=row.attributes,
            headers=row.headers,
        )  # fmt: skip
        try:
            events = read(message, mapping_of(source["configuration"], source_id))
        except BadMessage as error:
            raise InvalidError("not_an_event", f"This is still no event: {error}") from None
        # First kept, then dropped: should this end in between, the next attempt finds its events known.
        answers = await self._inbox.receive(tenant, events, event_source=source_id) if events else ()
        made = " ".join(each.row.id for each in answers)
        await self._drop(principal, source_id, reject_id, "event_source.reject_retried", request, made, missing=True)
        return answers

    async def discard(
        self, principal: Principal, source_id: str, reject_id: str, *, request: RequestKey | None = None
    ) -> None:
        """Throw a rejected message away. Raises NotFoundError."""
        await self._audit.require(principal, "event_source.discard_reject", f"event_source:{source_id}", "operator")
        await self._source(principal, source_id)
        await self._drop(principal, source_id, reject_id, "event_source.reject_discarded", request, "", missing=False)

    async def sweep(self) -> None:
        """Forget what is old, in all tenants."""
        oldest = datetime.now(UTC) - timedelta(seconds=self._settings.rejects_ttl)
        await self._pool.execute(_sql.sweep_rejects, identity.lowest_id(oldest))

    async def _drop(
        self,
        principal: Principal,
        source_id: str,
        reject_id: str,
        action: str,
        request: RequestKey | None,
        made: str,
        *,
        missing: bool,
    ) -> None:
        """Take a reject away; `missing`: it does not matter where somebody else has."""
        tenant = principal.tenant_id
        async with self._pool.acquire() as connection, connection.transaction():
            if await idempotency.claim(connection, tenant, request) is not None:
                return
            gone = None
            if is_uuid(reject_id):
                gone = await connection.fetchval(_sql.drop_reject, tenant, source_id, reject_id)
            if gone is None and not missing:
                raise _unknown(reject_id)
            await idempotency.settle(connection, tenant, request, made)
            if gone is not None:
                subject, details = f"event_source:{source_id}", {"reject": reject_id, "message": gone}
                await self._audit.record(connection, tenant, action, subject, details, principal.user_id)

    async def _source(self, principal: Principal, source_id: str) -> Any:
        row = None
        if is_uuid(source_id):
            row = await self._pool.fetchrow(_sql.get_source, principal.tenant_id, source_id)
        if row is None:
            raise NotFoundError("unknown_event_source", f"There is no event source {source_id[:300]}.")
        return row


def _unknown(reject_id: str) -> NotFoundError:
    return NotFoundError("unknown_reject", f"There is no rejected message {reject_id[:300]}.")


def _row(row: asyncpg.Record) -> RejectRow:
    attributes = row["attributes"]
    return RejectRow.of(
        row,
        attributes=None if attributes is None else canonical.decode(attributes),
        headers=canonical.decode(row["headers"]),
    )
