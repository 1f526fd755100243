"""RabbitMQ: one persistent message for each event, confirmed by the broker (publisher confirms).

It is mandatory: one that no queue takes comes back, and counts as refused, so that a binding that is missing loses
nothing. `message_id` is the event's key, for consumers that remember what they have seen.
"""

from __future__ import annotations

import aio_pika
import aio_pika.exceptions
from aio_pika.abc import AbstractConnection, AbstractExchange
from msgspec import Struct

from ...brokers.rabbitmq import FAILURES, connect
from ...feed.cloudevents import MEDIA_TYPE
from ...outbound.guard import Guard
from ..sinks import RabbitMqSink
from .connecting import BrokerTransport
from .port import Message, TransportError, place


class _Open(Struct, eq=False):
    connection: AbstractConnection
    exchange: AbstractExchange


class RabbitMqTransport(BrokerTransport[_Open]):
    """See the module."""

    failures = FAILURES

    def __init__(self, sink: RabbitMqSink, guard: Guard, *, timeout: float) -> None:
        super().__init__(sink, guard, timeout=timeout)
        self._sink = sink

    async def _connect(self) -> _Open:
        sink = self._sink
        connection = await connect(sink, timeout=self._timeout)
        try:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            if sink.exchange:
                try:
                    exchange = await channel.get_exchange(sink.exchange, ensure=True)
                except aio_pika.exceptions.ChannelNotFoundEntity:
                    raise TransportError(f"There is no exchange {sink.exchange}; declare it.") from None
            else:
                exchange = channel.default_exchange
        except BaseException:
            await connection.close()
            raise
        return _Open(connection, exchange)

    async def _disconnect(self, client: _Open) -> None:
        await client.connection.close()

    async def _send(self, client: _Open, message: Message) -> None:
        routing_key = place(self._sink.routing_key, message)
        try:
            await client.exchange.publish(
                aio_pika.Message(
                    message.body,
                    content_type=MEDIA_TYPE,
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    message_id=message.key,
                    type=message.type,
                    app_id="pliers",
                ),
                routing_key,
                mandatory=True,
                timeout=self._timeout,
            )
        except aio_pika.exceptions.PublishError:
            raise TransportError(f"No queue takes the routing key {routing_key}; bind one.") from None
        except aio_pika.exceptions.DeliveryError:
            raise TransportError("The broker refused the message.") from None
