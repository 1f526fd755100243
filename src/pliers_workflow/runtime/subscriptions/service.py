"""Keeps subscriptions: made, changed, paused, replayed and removed by operators; disabled by the engine.

Every change is audited in its own transaction and wakes the readers of all nodes. A subscription's lanes are made and set
in the same transaction, so it begins exactly where its maker said.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec

from pliers_workflow.definition.findings import Finding
from pliers_workflow.storage import canonical, queries
from pliers_workflow.storage.identity import is_uuid
from pliers_workflow.storage.paging import LIMIT_MAX, BadCursor, Page, make_page

from .. import idempotency
from ..errors import ConflictError, InvalidError, NotFoundError, PreconditionFailedError
from ..nodes.wakeups import READERS
from ..outbound.signing import new_secret
from ..paging import uuid_cursor
from ..storable import check_text
from . import filters, sinks
from .reader import reader_name
from .rows import SubscriptionInput, SubscriptionRow, SubscriptionStatus
from .sinks import WebhookSink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pliers_workflow.settings import Settings

    from ..access.audit import Audit
    from ..access.principal import Principal
    from ..answers import RequestKey
    from ..feed import Feed
    from ..nodes.wakeups import Wakeups
    from ..outbound import Outbound

_sql: Final = queries.load("event_subscriptions")
_feed_sql: Final = queries.load("feed")

_READS: Final = ("operator", "auditor")
#: how long a secret that was replaced signs beside the new one, unless the request says otherwise
KEEP_SECRET: Final = timedelta(days=1)
#: secrets that sign at the same time: each makes the header longer
_SECRETS_MAX: Final = 10


class Subscriptions:
    """See the module."""

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        audit: Audit,
        feed: Feed,
        outbound: Outbound,
        wakeups: Wakeups,
        settings: Settings,
    ) -> None:
        self._pool = pool
        self._audit = audit
        self._feed = feed
        self._outbound = outbound
        self._wakeups = wakeups
        self._settings = settings.subscriptions

    # -- reading -------------------------------------------------------------------------------------------------------

    async def get(self, principal: Principal, subscription_id: str) -> SubscriptionRow | None:
        """Give a subscription to operators and auditors; None to everybody else."""
        if not principal.may(*_READS) or not is_uuid(subscription_id):
            return None
        row = await self._pool.fetchrow(_sql.get_subscription, principal.tenant_id, subscription_id)
        return (await self._rows([row]))[0] if row is not None else None

    async def list(self, principal: Principal, *, limit: int = 50, cursor: str | None = None) -> Page[SubscriptionRow]:
        """List a tenant's subscriptions by id."""
        limit = max(1, min(limit, LIMIT_MAX))
        after = uuid_cursor(cursor)
        if not principal.may(*_READS):
            return Page(())
        rows = await self._pool.fetch(_sql.page_subscriptions, principal.tenant_id, after, limit + 1)
        read = {row.id: row for row in await self._rows(rows)}
        return make_page(rows, limit, lambda row: read[row["id"]], lambda row: (row["id"],))

    # -- changing ------------------------------------------------------------------------------------------------------

    async def create(
        self, principal: Principal, wanted: SubscriptionInput, *, request: RequestKey | None = None
    ) -> tuple[SubscriptionRow, str | None]:
        """
        Make a subscription; with it, once, the secret that signs its webhooks (None: it has none, or was given).

        Raises InvalidError with all findings, ConflictError where the name is taken.
        """
        tenant = principal.tenant_id
        await self._audit.require(principal, "subscription.create", f"subscription:{wanted.name}", "operator")
        self._check(wanted)
        position = await self._position(wanted.position)
        sink, secrets = sinks.SECRETS.split(sinks.SECRETS.unmasked(wanted.sink, {}))
        given = secrets.pop("secret", None)
        made = new_secret() if isinstance(wanted.sink, WebhookSink) and given is None else None
        if isinstance(wanted.sink, WebhookSink):
            secrets["signing"] = [{"secret": given or made}]
        lanes = wanted.lanes or self._settings.lanes
        async with self._pool.acquire() as connection, connection.transaction():
            known = await idempotency.claim(connection, tenant, request)
            if known is None:
                try:
                    known = await connection.fetchval(
                        _sql.create_subscription, tenant, wanted.name, _json(sink), list(wanted.event_types),
                        list(wanted.definitions), wanted.condition, wanted.include_data, lanes,
                        "active" if wanted.enabled else "paused", principal.user_id,
                    )  # fmt: skip
                except asyncpg.UniqueViolationError:
                    raise _name_taken(wanted.name) from None
                await connection.execute(_sql.put_secrets, tenant, known, _json(secrets))
                await connection.execute(_feed_sql.add_lanes, reader_name(known), lanes, position)
                await connection.execute(_sql.pause_lanes, reader_name(known), not wanted.enabled)
                await idempotency.settle(connection, tenant, request, known)
                await self._record(connection, principal, "subscription.created", known, wanted.name, sink=sink["type"])
            else:
                made = None
        self._wakeups.wake(READERS)
        return await self._after(principal, known), made

    async def replace(
        self,
        principal: Principal,
        subscription_id: str,
        wanted: SubscriptionInput,
        revision: int | None = None,
        *,
        request: RequestKey | None = None,
    ) -> SubscriptionRow:
        """Change everything but position and lanes. Raises NotFoundError, PreconditionFailedError, InvalidError, ConflictError."""
        tenant = principal.tenant_id
        await self._audit.require(principal, "subscription.replace", f"subscription:{subscription_id}", "operator")
        async with self._pool.acquire() as connection, connection.transaction():
            if await idempotency.claim(connection, tenant, request) is None:
                row = await self._locked(connection, tenant, subscription_id)
                if revision is not None and revision != row["revision"]:
                    raise PreconditionFailedError("revision", "The subscription has changed since; read it again.")
                if type(wanted.sink) is not type(sinks.SECRETS.join(row["sink"], {})):
                    raise ConflictError("sink_type", "A subscription stays with its kind of sink; make another one.")
                complete = msgspec.structs.replace(wanted, sink=sinks.SECRETS.unmasked(wanted.sink, row["secrets"]))
                self._check(complete)
                sink, secrets = sinks.SECRETS.split(complete.sink)
                if isinstance(complete.sink, WebhookSink):
                    given = secrets.pop("secret", None)
                    secrets["signing"] = [{"secret": given}] if given else row["secrets"]["signing"]
                try:
                    await connection.execute(
                        _sql.replace_subscription, tenant, subscription_id, wanted.name, _json(sink),
                        list(wanted.event_types), list(wanted.definitions), wanted.condition, wanted.include_data,
                    )  # fmt: skip
                except asyncpg.UniqueViolationError:
                    raise _name_taken(wanted.name) from None
                await connection.execute(_sql.put_secrets, tenant, subscription_id, _json(secrets))
                if wanted.enabled == (row["state"] == "paused"):
                    await connection.execute(
                        _sql.set_state, tenant, subscription_id, "active" if wanted.enabled else "paused", None
                    )
                    await connection.execute(_sql.pause_lanes, reader_name(subscription_id), not wanted.enabled)
                # What failed as it was says nothing of it as it is.
                await connection.execute(_feed_sql.forgive, reader_name(subscription_id))
                await idempotency.settle(connection, tenant, request, subscription_id)
                await self._record(
                    connection, principal, "subscription.replaced", subscription_id, wanted.name, sink=sink["type"]
                )
        self._wakeups.wake(READERS)
        return await self._after(principal, subscription_id)

    async def set_enabled(
        self, principal: Principal, subscription_id: str, enabled: bool, *, request: RequestKey | None = None
    ) -> SubscriptionRow:
        """Pause, or go on where it was, also after the engine had disabled it. Nothing is lost meanwhile."""
        tenant, action = principal.tenant_id, "resumed" if enabled else "paused"
        await self._audit.require(principal, f"subscription.{action}", f"subscription:{subscription_id}", "operator")
        async with self._pool.acquire() as connection, connection.transaction():
            if await idempotency.claim(connection, tenant, request) is None:
                row = await self._locked(connection, tenant, subscription_id)
                state = "active" if enabled else "paused"
                if await connection.fetchval(_sql.set_state, tenant, subscription_id, state, None) is None:
                    await connection.execute(_sql.touch, tenant, subscription_id)
                await connection.execute(_feed_sql.forgive, reader_name(subscription_id))
                await connection.execute(_sql.pause_lanes, reader_name(subscription_id), not enabled)
                await idempotency.settle(connection, tenant, request, subscription_id)
                await self._record(connection, principal, f"subscription.{action}", subscription_id, row["name"])
        self._wakeups.wake(READERS)
        return await self._after(principal, subscription_id)

    async def replay(
        self, principal: Principal, subscription_id: str, position: str, *, request: RequestKey | None = None
    ) -> SubscriptionRow:
        """Send again what came after a position, or skip to one. Raises NotFoundError, InvalidError for a bad cursor."""
        tenant = principal.tenant_id
        await self._audit.require(principal, "subscription.replay", f"subscription:{subscription_id}", "operator")
        wanted = await self._position(position)
        async with self._pool.acquire() as connection, connection.transaction():
            if await idempotency.claim(connection, tenant, request) is None:
                row = await self._locked(connection, tenant, subscription_id)
                if wanted is None:
                    wanted = await connection.fetchval(_feed_sql.sequence)
                await connection.execute(_feed_sql.seek, reader_name(subscription_id), wanted)
                # Whatever this node remembers as sent is to be sent again.
                await connection.execute(_sql.touch, tenant, subscription_id)
                await idempotency.settle(connection, tenant, request, subscription_id)
                await self._record(
                    connection, principal, "subscription.replayed", subscription_id, row["name"], position=wanted
                )
        self._wakeups.wake(READERS)
        return await self._after(principal, subscription_id)

    async def rotate_secret(
        self,
        principal: Principal,
        subscription_id: str,
        keep: timedelta = KEEP_SECRET,
        *,
        request: RequestKey | None = None,
    ) -> tuple[SubscriptionRow, str]:
        """
        Sign with a new secret, which is given once; for as long as `keep` the one before signs as well.

        Those before that one sign as long as they were promised to; without `keep` no older one signs any more.
        Raises NotFoundError, ConflictError for a sink that signs nothing or a request that was repeated.
        """
        tenant, secret = principal.tenant_id, new_secret()
        await self._audit.require(principal, "subscription.rotate", f"subscription:{subscription_id}", "operator")
        async with self._pool.acquire() as connection, connection.transaction():
            if await idempotency.claim(connection, tenant, request) is not None:
                raise ConflictError("secret_not_kept", "The secret was given in the first answer; rotate it again.")
            row = await self._locked(connection, tenant, subscription_id)
            signing = row["secrets"].get("signing")
            if signing is None:
                raise ConflictError("no_signature", "Only webhooks are signed.")
            secrets = {**row["secrets"], "signing": [{"secret": secret}, *_still_signing(signing, keep)]}
            await connection.execute(_sql.put_secrets, tenant, subscription_id, _json(secrets))
            await connection.execute(_sql.touch, tenant, subscription_id)
            await idempotency.settle(connection, tenant, request, subscription_id)
            await self._record(connection, principal, "subscription.secret_rotated", subscription_id, row["name"])
        self._wakeups.wake(READERS)
        return await self._after(principal, subscription_id), secret

    async def delete(self, principal: Principal, subscription_id: str, *, request: RequestKey | None = None) -> None:
        """Remove a subscription, and forget how far it was. Raises NotFoundError."""
        tenant = principal.tenant_id
        await self._audit.require(principal, "subscription.delete", f"subscription:{subscription_id}", "operator")
        async with self._pool.acquire() as connection, connection.transaction():
            if await idempotency.claim(connection, tenant, request) is None:
                row = await self._locked(connection, tenant, subscription_id)
                await connection.execute(_sql.delete_subscription, tenant, subscription_id)
                await connection.execute(_feed_sql.remove_lanes, reader_name(subscription_id))
                await idempotency.settle(connection, tenant, request, subscription_id)
                await self._record(connection, principal, "subscription.deleted", subscription_id, row["name"])
        self._wakeups.wake(READERS)

    # -- what these share ----------------------------------------------------------------------------------------------

    def _check(self, wanted: SubscriptionInput) -> None:
        check_text("A subscription's name", wanted.name, length_max=200)
        findings = [
            *sinks.check(wanted.sink, self._outbound.guard, schemes=self._settings.webhook_schemes),
            *filters.check(wanted.event_types, wanted.definitions, wanted.condition),
        ]
        errors = [finding for finding in findings if finding.severity == "error"]
        if errors:
            raise InvalidError(
                "invalid_subscription", f"The subscription makes no sense: {errors[0].message}", findings=findings
            )

    async def _position(self, position: str) -> int | None:
        """Where to begin; None: beyond every position that there is."""
        if position == "now":
            return None
        if position == "beginning":
            return 0
        try:
            return await self._feed.log.position_of(position)
        except BadCursor as error:
            finding = Finding("/position", "bad_cursor", f"{str(error).capitalize()}.", "Or `now`, or `beginning`.")
            raise InvalidError("bad_cursor", finding.message, findings=[finding]) from None

    async def _locked(self, connection: Any, tenant_id: str, subscription_id: str) -> Any:
        row = None
        if is_uuid(subscription_id):
            row = await connection.fetchrow(_sql.lock_subscription, tenant_id, subscription_id)
        if row is None:
            raise NotFoundError("unknown_subscription", f"There is no subscription {subscription_id}.")
        return row

    async def _after(self, principal: Principal, subscription_id: str) -> SubscriptionRow:
        row = await self._pool.fetchrow(_sql.get_subscription, principal.tenant_id, subscription_id)
        if row is None:
            raise NotFoundError("unknown_subscription", f"There is no subscription {subscription_id} any more.")
        return (await self._rows([row]))[0]

    async def _record(
        self, connection: Any, principal: Principal, action: str, subscription_id: str, name: str, **details: Any
    ) -> None:
        # Of the sink its kind alone: an address may hold what is secret, and the audit log is for ever.
        subject = f"subscription:{subscription_id}"
        await self._audit.record(
            connection, principal.tenant_id, action, subject, {"name": name, **details}, principal.user_id
        )

    async def _rows(self, rows: Sequence[Any]) -> tuple[SubscriptionRow, ...]:
        await self._feed.log.known()
        names = [reader_name(row["id"]) for row in rows]
        doing = {row["reader"]: row for row in await self._pool.fetch(_feed_sql.readers, names)}
        return tuple(self._row(row, doing.get(name)) for row, name in zip(rows, names, strict=True))

    def _row(self, row: Any, doing: Any) -> SubscriptionRow:
        status = SubscriptionStatus(
            cursor=self._feed.log.cursor(doing["position"] if doing else 0),
            lag=doing["lag"] if doing else 0,
            lag_seconds=doing["lag_seconds"] if doing else None,
            failures=doing["failures"] if doing else 0,
            failing_since=doing["failing_since"] if doing else None,
            last_error=row["last_error"],
            last_error_at=row["last_error_at"],
            last_sent_at=doing["handled_at"] if doing else None,
            disabled_reason=row["disabled_reason"],
            disabled_at=row["disabled_at"],
        )
        return SubscriptionRow.of(
            row,
            sink=sinks.SECRETS.masked(row["sink"], row["secrets"]),
            event_types=tuple(row["event_types"]),
            definitions=tuple(row["definitions"]),
            status=status,
        )


def _still_signing(signing: Sequence[dict[str, str]], keep: timedelta) -> list[dict[str, str]]:
    """The secrets that go on signing beside a new one, newest first."""
    if not keep:
        return []
    now = datetime.now(UTC)
    older = [each for each in signing[1:] if datetime.fromisoformat(each["until"]) > now]
    return [{"secret": signing[0]["secret"], "until": (now + keep).isoformat()}, *older][: _SECRETS_MAX - 1]


def _json(value: Any) -> str:
    return canonical.encode(value).decode()


def _name_taken(name: str) -> ConflictError:
    return ConflictError("name_taken", f"There is a subscription called {name} already.")
