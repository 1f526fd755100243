"""Serves subscriptions: gives the feed the readers there are just now, and disables what has failed for too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from pliers_workflow.storage import queries

from ..feed.revised import RevisedReaders
from ..nodes.wakeups import READERS
from . import filters, sinks
from .reader import SubscriptionReader, reader_name
from .sinks import SigningSecret
from .transports.opening import open_transport

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.settings import SubscriptionSettings

    from ..access.audit import Audit
    from ..feed import Reader
    from ..feed.cloudevents import EventMaker
    from ..nodes.wakeups import Wakeups
    from ..outbound import Outbound

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("event_subscriptions")

_BECAUSE: Final = {
    "gone": "The sink answered that it is gone for good.",
    "failing": "Nothing could be sent for too long.",
}


class SubscriptionServer:
    """One for each node that reads; `readers` is a source for `Lanes`."""

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        audit: Audit,
        maker: EventMaker,
        outbound: Outbound,
        wakeups: Wakeups,
        settings: SubscriptionSettings,
    ) -> None:
        self._pool = pool
        self._audit = audit
        self._maker = maker
        self._outbound = outbound
        self._wakeups = wakeups
        self._settings = settings
        self._readers = RevisedReaders("subscription", self._reader)

    async def readers(self) -> Sequence[Reader]:
        """The readers there are just now (a source for `Lanes`)."""
        return await self._readers.of(await self._pool.fetch(_sql.active))

    async def _reader(self, tenant_id: str, subscription_id: str) -> Reader | None:
        row = await self._pool.fetchrow(_sql.get_subscription, tenant_id, subscription_id)
        if row is None:
            return None
        secrets, revision = row["secrets"], row["revision"]

        async def failed(message: str, because: str) -> None:
            await self._note_failure(tenant_id, subscription_id, revision, message, because)

        try:
            transport = open_transport(
                sinks.SECRETS.join(row["sink"], secrets),
                msgspec.convert(secrets.get("signing", []), list[SigningSecret]),
                self._outbound,
                self._settings,
            )
        except ImportError as error:
            # Another node may have the library; this one leaves the lanes to it.
            _log.warning("subscription_needs_library", subscription=subscription_id, error=str(error))
            return None
        return SubscriptionReader(
            subscription_id,
            tenant_id,
            lanes=row["lanes"],
            filter=filters.Filter(row["event_types"], row["definitions"], row["condition"]),
            include_data=row["include_data"],
            maker=self._maker,
            transport=transport,
            settings=self._settings,
            failed=failed,
        )

    async def _note_failure(
        self, tenant_id: str, subscription_id: str, revision: int, message: str, because: str
    ) -> None:
        """What went wrong with a subscription as it was: where it has been changed meanwhile, that says nothing of it."""
        message = message.replace("\0", " ")
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(_sql.note_error, tenant_id, subscription_id, message, revision) is None:
                return
            if not because:
                return
            reason = f"{_BECAUSE[because]} {message}"[:1000]
            if await connection.fetchval(_sql.set_state, tenant_id, subscription_id, "disabled", reason) is None:
                return
            await connection.execute(_sql.pause_lanes, reader_name(subscription_id), True)
            subject, details = f"subscription:{subscription_id}", {"reason": because, "error": message}
            await self._audit.record(connection, tenant_id, "subscription.disabled", subject, details, None)
        _log.error("subscription_disabled", tenant=tenant_id, subscription=subscription_id, reason=reason)
        self._wakeups.wake(READERS)
