"""Kafka: a consumer group with one member, its offsets committed by hand.

A partition is read in its order; between partitions there is none. The member before that died holds its partitions until
its session has timed out, so nothing is read by two.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from ...brokers.kafka import FAILURES, client_options
from .port import BrokerError, BrokerMessage, BrokerReader, parted, text_of

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from ...outbound.guard import Guard
    from ..kinds import KafkaBroker

#: seconds without messages after which it is looked whether the broker is there: the client says nothing by itself
_LOOK_EVERY: Final = 5.0


class KafkaReader(BrokerReader):
    """See the module."""

    failures = FAILURES

    def __init__(self, broker: KafkaBroker, guard: Guard, *, batch_size: int, timeout: float) -> None:
        super().__init__(broker, guard, batch_size=batch_size, timeout=timeout)
        # It leaves its group, so that whoever comes next need not wait until it has timed out.
        self.close_timeout = timeout
        self._broker = broker
        self._consumer: AIOKafkaConsumer | None = None
        self._looked_at = time.monotonic()

    async def _open(self) -> float:
        self._consumer = AIOKafkaConsumer(**self.options())
        await self._consumer.start()
        # Asked first, because a consumer of a topic that is not there waits for it without a word.
        if self._broker.topic not in await self._consumer.topics():
            raise BrokerError(f"There is no topic {self._broker.topic}; make it.")
        self._consumer.subscribe([self._broker.topic])
        return 0.0

    def options(self) -> dict[str, Any]:
        """With what the consumer is made."""
        return {
            **client_options(self._broker),
            "group_id": self._broker.group,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest" if self._broker.begin == "beginning" else "latest",
            "request_timeout_ms": max(1000, round(self.timeout * 1000)),
        }

    async def _read(self, wait: float) -> Sequence[BrokerMessage]:
        assert self._consumer is not None
        found = await self._consumer.getmany(timeout_ms=round(wait * 1000), max_records=self.batch_size)
        if not found:
            await self._look()
        return [_message(record) for records in found.values() for record in records]

    async def _look(self) -> None:
        assert self._consumer is not None
        if time.monotonic() - self._looked_at < _LOOK_EVERY:
            return
        self._looked_at = time.monotonic()
        if assigned := self._consumer.assignment():
            await self._consumer.end_offsets(assigned)

    async def _acknowledge(self, messages: Sequence[BrokerMessage]) -> None:
        assert self._consumer is not None
        await self._consumer.commit({at: offset + 1 for at, offset in (each.handle for each in messages)})

    async def _close(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()


def _message(record: ConsumerRecord[Any, Any]) -> BrokerMessage:
    headers = {text_of(name): text_of(value) for name, value in record.headers}
    content_type = next((value for name, value in headers.items() if name.lower() == "content-type"), None)
    attributes, others = parted(headers, "ce_")
    return BrokerMessage(
        # With its time, because a topic that is made anew counts anew: as it is, for a producer may have written anything.
        id=f"{record.topic}/{record.partition}/{record.offset}/{record.timestamp}",
        address=record.topic,
        body=record.value or b"",
        content_type=content_type,
        key=None if record.key is None else text_of(record.key),
        attributes=attributes,
        headers=others,
        handle=(TopicPartition(record.topic, record.partition), record.offset),
    )
