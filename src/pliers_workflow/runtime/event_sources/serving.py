"""Serves event sources: gives the lanes the readers there are just now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import structlog

from pliers_workflow.storage import canonical, queries

from ..feed import Reader
from ..feed.revised import RevisedReaders
from . import kinds
from .lane import SourceLane, SourceWork
from .plain import mapping_of
from .readers.opening import open_reader

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.settings import EventSourceSettings

    from ..feed.cursors import Claimed, Cursors
    from ..feed.held import HeldLane
    from ..inbound.inbox import Inbox
    from ..outbound import Outbound

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("event_sources")


def reader_name(source_id: str) -> str:
    """Under what a source's lane is kept."""
    return f"source/{source_id}"


class SourceReader(Reader):
    """A source as a reader that has one lane, in which its broker is read. One for each revision."""

    kind: ClassVar[str] = "source"
    lanes = 1
    #: it is made with the source, and gone with it
    begins = None

    def __init__(self, work: SourceWork) -> None:
        self.name = reader_name(work.source_id)
        self.tenant_id = work.tenant_id
        self._work = work

    def lane(self, claimed: Claimed, cursors: Cursors) -> HeldLane:
        """Read the broker."""
        return SourceLane(self, claimed, cursors, self._work)

    async def close(self) -> None:
        """Wait until its connections are closed."""
        if self._work.closing:
            await asyncio.wait(self._work.closing)


class SourceServer:
    """One for each node that reads; `readers` is a source for `Lanes`."""

    def __init__(
        self, pool: asyncpg.Pool[Any], inbox: Inbox, outbound: Outbound, settings: EventSourceSettings
    ) -> None:
        self._pool = pool
        self._inbox = inbox
        self._outbound = outbound
        self._settings = settings
        self._readers = RevisedReaders("event_source", self._reader)

    async def readers(self) -> Sequence[Reader]:
        """The readers there are just now (a source for `Lanes`)."""
        return await self._readers.of(await self._pool.fetch(_sql.enabled))

    async def _reader(self, tenant_id: str, source_id: str) -> Reader | None:
        row = await self._pool.fetchrow(_sql.get_source, tenant_id, source_id)
        if row is None:
            return None
        broker = kinds.SECRETS.join(row["configuration"]["broker"], row["secrets"])
        settings, batch_size = self._settings, int(row["configuration"]["batchSize"])

        def opened() -> Any:
            return open_reader(broker, self._outbound.guard, batch_size=batch_size, timeout=settings.timeout)

        try:
            opened()
        except ImportError as error:
            # Another node may have the library; this one leaves the lane to it.
            _log.warning("event_source_needs_library", source=source_id, error=str(error))
            return None
        return SourceReader(
            SourceWork(
                tenant_id=tenant_id,
                source_id=source_id,
                revision=row["revision"],
                mapping=mapping_of(row["configuration"], source_id),
                what=canonical.encode(kinds.what_is_read(row["configuration"]["broker"])).decode(),
                hidden=tuple(map(str, row["secrets"].values())),
                open=opened,
                pool=self._pool,
                inbox=self._inbox,
                settings=settings,
            )
        )
