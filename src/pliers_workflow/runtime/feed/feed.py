"""The feed of one node put together: relay, log, lanes and live subscribers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..nodes.wakeups import HISTORY, HORIZON, READERS
from .cursors import Cursors
from .lanes import Lanes
from .live import LiveSubscriber
from .log import Log
from .relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from pliers_workflow.settings import FeedSettings

    from ..nodes.wakeups import Wakeups
    from .envelope import Envelope
    from .reader import Reader


class Feed:
    """
    See the package. Every node follows the `log`; `relay` and `lanes` are for workers.

    They are woken by the topics `HISTORY` (the log has grown), `HORIZON` (there is more to read) and `READERS` (others are
    to read), and look by themselves every second or so.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        readers: asyncpg.Pool[Any],
        settings: FeedSettings,
        wakeups: Wakeups,
        *,
        owner: str,
    ) -> None:
        self.log = Log(
            readers, poll=settings.poll, rows_max=settings.window_rows_max, size_max=settings.window_size_max
        )
        self.relay = Relay(pool, owner=owner, poll=settings.poll, moved=lambda: wakeups.wake(HORIZON))
        self.cursors = Cursors(pool, owner=owner)
        self.lanes = Lanes(self.log, self.cursors, lease_seconds=settings.lease, poll=settings.poll)
        wakeups.subscribe(HISTORY, self.relay.wake)
        wakeups.subscribe(HORIZON, self.log.wake)
        wakeups.subscribe(READERS, self.lanes.wake)

    def register(self, reader: Reader) -> None:
        """Have a reader told of every event, on one of the nodes where it is registered."""
        self.lanes.register(reader)

    async def subscribe(
        self,
        *,
        tenant_id: str | None,
        cursor: str | None = None,
        wants: Callable[[Envelope], bool] | None = None,
    ) -> LiveSubscriber:
        """Watch the log from now on, or from a cursor. Raises `BadCursor`."""
        position = await self.log.known() if cursor is None else await self.log.position_of(cursor)
        return LiveSubscriber(self.log, position=position, tenant_id=tenant_id, wants=wants)
