"""Kafka: one record for each event, keyed by the instance, so that an instance's events are in one partition, in order.

The producer is idempotent and waits for all in-sync replicas (`acks=all`): what it tries again itself is neither doubled
nor out of order. The header `key` is the same whenever an event is sent again, for consumers that remember.
"""

from __future__ import annotations

from aiokafka import AIOKafkaProducer

from ...brokers.kafka import FAILURES, client_options
from ...feed.cloudevents import MEDIA_TYPE
from ...outbound.guard import Guard
from ..sinks import KafkaSink
from .connecting import BrokerTransport
from .port import Message, place


class KafkaTransport(BrokerTransport[AIOKafkaProducer]):
    """See the module."""

    failures = FAILURES

    def __init__(self, sink: KafkaSink, guard: Guard, *, timeout: float) -> None:
        # It gives up by itself before we do, so that nothing it still tries overtakes what comes next.
        self.close_timeout = timeout
        super().__init__(sink, guard, timeout=timeout)
        self._sink = sink

    async def _connect(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**self.options())
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    def options(self) -> dict[str, object]:
        """With what the producer is made."""
        return {
            **client_options(self._sink),
            "acks": "all",
            "enable_idempotence": True,
            "request_timeout_ms": round(self._timeout * 700),
        }

    async def _disconnect(self, client: AIOKafkaProducer) -> None:
        await client.stop()

    async def _send(self, client: AIOKafkaProducer, message: Message) -> None:
        await client.send_and_wait(
            place(self._sink.topic, message),
            message.body,
            key=message.instance_id.encode(),
            headers=[("content-type", MEDIA_TYPE.encode()), ("key", message.key.encode())],
        )
