"""A subscription as a reader of the feed: what it wants, how it is sent, and when it is given up.

Within a lane the events of one instance are sent one after another. What has been sent of a batch that then failed is
remembered, so that it is not sent again while this node reads; only a node that dies makes others repeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import structlog

from ..feed import Envelope, Reader, Stuck
from ..feed.published import is_told
from .transports import EventTransport, Message, TransportError

if TYPE_CHECKING:
    from pliers_workflow.settings import SubscriptionSettings

    from ..feed.cloudevents import EventMaker
    from .filters import Filter

_log = structlog.get_logger(__name__)

GiveUp = Callable[[str, str], Awaitable[None]]
"""Called with what went wrong, and why the subscription is to be disabled (empty: it is not)."""


def reader_name(subscription_id: str) -> str:
    """Under what a subscription's cursors are kept."""
    return f"subscription/{subscription_id}"


class SubscriptionReader(Reader):
    """See the module. One for each revision of a subscription."""

    kind: ClassVar[str] = "subscription"
    batch_size_max = 50
    #: they are made with the subscription, and gone with it
    begins = None

    def __init__(
        self,
        subscription_id: str,
        tenant_id: str,
        *,
        lanes: int,
        filter: Filter,
        include_data: bool,
        maker: EventMaker,
        transport: EventTransport,
        settings: SubscriptionSettings,
        failed: GiveUp,
    ) -> None:
        self.name = reader_name(subscription_id)
        self.tenant_id = tenant_id
        self.lanes = lanes
        self.retry_delay_min = settings.retry_delay_min
        self.retry_delay_max = settings.retry_delay_max
        self._disable_after = settings.disable_after
        self._id = subscription_id
        self._filter = filter
        self._with_data = include_data
        self._maker = maker
        self._transport = transport
        self._failed = failed
        #: keys of what was sent of batches that failed
        self._sent: set[str] = set()

    def wants(self, envelope: Envelope) -> bool:
        """Whether it is told of this event."""
        if not is_told(envelope.type):
            return False
        event = self._maker.event(envelope, with_data=False)
        assert event is not None, "the world is told of it"
        return self._filter.wants(event.type, event.workflowname, lambda: self._maker.seen(envelope))

    async def handle(self, batch: Sequence[Envelope]) -> None:
        """Send events: of one instance one after another, of different ones as many at once as the transport likes."""
        instances: dict[str, list[Envelope]] = {}
        for envelope in batch:
            instances.setdefault(envelope.instance_id, []).append(envelope)
        waiting = list(reversed(instances.values()))
        failures: list[TransportError] = []

        async def work() -> None:
            while waiting and not failures:
                for envelope in waiting.pop():
                    if failures:
                        return
                    try:
                        await self._send(envelope)
                    except TransportError as error:
                        failures.append(error)

        workers = min(self._transport.parallel, len(instances))
        if workers == 1:
            await work()
        else:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(work())
        if failures:
            done = next((place for place, each in enumerate(batch) if each.id not in self._sent), len(batch))
            self._sent.difference_update(each.id for each in batch[:done])
            error = failures[0]
            raise Stuck(str(error), done=done, retry_after=error.retry_after) from error
        self._sent.difference_update(each.id for each in batch)

    async def _send(self, envelope: Envelope) -> None:
        if envelope.id in self._sent:
            return
        event = self._maker.event(envelope, with_data=self._with_data)
        assert event is not None, "only what the world is told of is wanted"
        await self._transport.publish(
            Message(
                key=envelope.key(self._id),
                type=event.type,
                tenant_id=envelope.tenant_id,
                instance_id=envelope.instance_id,
                workflow=event.workflowname or "",
                body=self._maker.encoded(envelope, with_data=self._with_data),
                trace=envelope.row.record.command.trace,
            )
        )
        self._sent.add(envelope.id)

    async def failed(self, error: Exception, *, failures: int, failing: float) -> None:
        """Say what went wrong, and give up after too long, or when the other side wants no more."""
        cause = error.__cause__
        if isinstance(cause, TransportError):
            message = str(cause)
        else:
            message = f"the engine failed: {error!r}"
            _log.error("subscription_failed", subscription=self._id, exc_info=error)
        because = ""
        if isinstance(cause, TransportError) and cause.gone:
            because = "gone"
        elif self._disable_after and failing >= self._disable_after:
            because = "failing"
        await self._failed(message[:1000], because)

    async def close(self) -> None:
        """Disconnect."""
        await self._transport.close()
