"""RabbitMQ: the only consumer of a queue, with a prefetch of one batch.

What was not acknowledged when a connection ends goes back to where it was in the queue. The broker counts a node that fell
silent as gone when its heartbeats stay out, and refuses another exclusive consumer until then; so the order holds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import aio_pika.exceptions
import aiormq.exceptions

from ...brokers.rabbitmq import FAILURES, connect
from .port import BrokerError, BrokerMessage, BrokerReader, parted, text_of

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

    from ...outbound.guard import Guard
    from ..kinds import RabbitMqBroker

#: seconds without messages after which it is looked whether we still consume
_LOOK_EVERY: Final = 5.0
#: seconds between heartbeats that the broker is asked for
_HEARTBEAT: Final = 20


class RabbitMqReader(BrokerReader):
    """See the module."""

    failures = FAILURES

    def __init__(self, broker: RabbitMqBroker, guard: Guard, *, batch_size: int, timeout: float) -> None:
        super().__init__(broker, guard, batch_size=batch_size, timeout=timeout)
        self._broker = broker
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._waiting: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
        self._looked_at = time.monotonic()

    async def _open(self) -> float:
        broker = self._broker
        self._connection = await connect(broker, timeout=self.timeout, heartbeat=_HEARTBEAT)
        self._channel = channel = await self._connection.channel(publisher_confirms=False)
        channel.close_callbacks.add(self._closed)
        await channel.set_qos(prefetch_count=self.batch_size)
        try:
            queue = await channel.get_queue(broker.queue, ensure=True)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            raise BrokerError(f"There is no queue {broker.queue}; declare it.") from None
        try:
            await queue.consume(self._waiting.put, exclusive=broker.exclusive, timeout=self.timeout)
        except aiormq.exceptions.ChannelAccessRefused:
            raise BrokerError(f"Somebody else reads the queue {broker.queue}; a source must have it alone.") from None
        return 0.0

    def _closed(self, *_: Any) -> None:
        self._waiting.put_nowait(None)

    async def _read(self, wait: float) -> Sequence[BrokerMessage]:
        try:
            async with asyncio.timeout(wait):
                found = [await self._waiting.get()]
        except TimeoutError:
            await self._look()
            return []
        while len(found) < self.batch_size and not self._waiting.empty():
            found.append(self._waiting.get_nowait())
        if None in found:
            raise BrokerError("The connection to the broker broke.")
        return [self._message(each) for each in found if each is not None]

    async def _look(self) -> None:
        """A queue that was deleted tells its consumers nothing that reaches us: ask now and then."""
        if time.monotonic() - self._looked_at < _LOOK_EVERY:
            return
        assert self._channel is not None
        self._looked_at = time.monotonic()
        queue = await self._channel.declare_queue(self._broker.queue, passive=True)
        if not queue.declaration_result.consumer_count:
            raise BrokerError(f"The queue {self._broker.queue} was made anew.")

    async def _acknowledge(self, messages: Sequence[BrokerMessage]) -> None:
        await messages[-1].handle.ack(multiple=True)

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    def _message(self, message: AbstractIncomingMessage) -> BrokerMessage:
        headers = {text_of(name): text_of(value) for name, value in message.headers.items()}
        attributes, others = parted(headers, "cloudEvents:", "cloudEvents_")
        return BrokerMessage(
            id=text_of(message.message_id).strip() or None if message.message_id else None,
            address=message.routing_key or "",
            body=message.body,
            content_type=message.content_type,
            key=message.correlation_id and text_of(message.correlation_id),
            attributes=attributes,
            headers=others,
            handle=message,
        )
