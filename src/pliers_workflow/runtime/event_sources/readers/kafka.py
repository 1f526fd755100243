"""Kafka: a consumer group with one member, its offsets committed by hand.

A partition is read in its order; between partitions there is none. The member before that died holds its partitions until
its session has timed out, so nothing is read by two.

Where a group begins is committed before anything is read, for every partition, so it begins once. Of a partition that a group
has not committed for, everything is read when it has for others: it was made later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

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
        #: whether it is known where each partition is read from, and what went wrong over that
        self._placed = asyncio.Event()
        self._trouble: Exception | None = None

    async def _open(self) -> float:
        self._consumer = AIOKafkaConsumer(**self.options())
        await self._consumer.start()
        # Asked first, because a consumer of a topic that is not there waits for it without a word.
        if self._broker.topic not in await self._consumer.topics():
            raise BrokerError(f"There is no topic {self._broker.topic}; make it.")
        self._consumer.subscribe([self._broker.topic], listener=_Assigned(self.place_partitions))
        return 0.0

    def options(self) -> dict[str, Any]:
        """With what the consumer is made."""
        return {
            **client_options(self._broker),
            "group_id": self._broker.group,
            "enable_auto_commit": False,
            # Also where `begin` is `now`: that is for a group that is new, and not for offsets that are there no more.
            "auto_offset_reset": "earliest",
            "request_timeout_ms": max(1000, round(self.timeout * 1000)),
        }

    async def place_partitions(self, assigned: Collection[TopicPartition]) -> None:
        """Say where partitions are read from that the group has not committed for; called by the client, which logs errors."""
        consumer = self._consumer
        assert consumer is not None
        try:
            new = [each for each in assigned if await consumer.committed(each) is None]
            begins = new and len(new) == len(assigned) and self._broker.begin == "now"
            if begins and not await consumer.seek_to_end(*new):  # which gives up without an error
                raise BrokerError("The broker does not say where its partitions end.")
            if new:
                await consumer.commit({each: await consumer.position(each) for each in new})
        except Exception as error:
            self._trouble = error
        self._placed.set()

    async def _read(self, wait: float) -> Sequence[BrokerMessage]:
        assert self._consumer is not None
        try:
            async with asyncio.timeout(wait):
                await self._placed.wait()
        except TimeoutError:
            return []
        if self._trouble is not None:
            raise self._trouble
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


class _Assigned(ConsumerRebalanceListener):  # type: ignore[misc]  # the client has no types
    """Hears which partitions this member is given."""

    def __init__(self, given: Callable[[Collection[TopicPartition]], Awaitable[None]]) -> None:
        self._given = given

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """What was given and not committed comes to whoever has them next."""

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Before anything is read of them."""
        await self._given(assigned)


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
