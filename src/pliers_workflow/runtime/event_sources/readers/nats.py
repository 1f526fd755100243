"""NATS JetStream: a durable pull consumer, each message acknowledged by itself.

JetStream gives a message again when its acknowledgement has not come for `ack_wait`; until then it goes on with those
behind it. So whoever begins to read while others are still out waits that long first: then they come, before all others
and in the order of the stream.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import nats.errors
import nats.js.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RetentionPolicy

from ...brokers.nats import FAILURES, connect
from .port import BrokerError, BrokerMessage, BrokerReader, parted, text_of

if TYPE_CHECKING:
    from nats.aio.client import Client as NatsClient
    from nats.js.api import StreamInfo

    from ...outbound.guard import Guard
    from ..kinds import NatsBroker

#: longer than any batch is under way; more than that a consumer gives no one
_ACK_PENDING_MAX: Final = 10_000
#: seconds without messages after which it is looked whether the consumer is there
_LOOK_EVERY: Final = 5.0


class NatsReader(BrokerReader):
    """See the module."""

    failures = FAILURES

    def __init__(self, broker: NatsBroker, guard: Guard, *, batch_size: int, timeout: float) -> None:
        super().__init__(broker, guard, batch_size=batch_size, timeout=timeout)
        self._broker = broker
        self._client: NatsClient | None = None
        self._subscription: Any = None
        self._looked_at = time.monotonic()
        #: when the stream was made, as the server says it
        self._created = ""

    async def _open(self) -> float:
        broker = self._broker
        self._client = client = await connect(broker, timeout=self.timeout)
        jetstream = client.jetstream(timeout=self.timeout)
        try:
            stream = await jetstream.stream_info(broker.stream)
        except nats.js.errors.NotFoundError:
            raise BrokerError(f"There is no stream {broker.stream}; make it.") from None
        self._created = "" if stream.created is None else stream.created.isoformat()
        try:
            info = await jetstream.consumer_info(broker.stream, broker.consumer)
        except nats.js.errors.NotFoundError:
            info = await jetstream.add_consumer(broker.stream, self._wanted(stream))
            if self.place.after is None and broker.begin == "now":
                self._at(stream.state.last_seq)
        if self.place.after is None and info.ack_floor is not None:
            self._at(info.ack_floor.stream_seq)
        config = info.config
        if config is None or config.deliver_subject or config.ack_policy != AckPolicy.EXPLICIT:
            raise BrokerError(
                f"The consumer {broker.consumer} does not pull, or does not acknowledge each message; name another one."
            )
        if broker.subject != (config.filter_subject or None) and not config.filter_subjects:
            raise BrokerError(
                f"The consumer {broker.consumer} reads {config.filter_subject or 'all subjects'} of the stream, and the "
                f"source {broker.subject or 'all'}; name another consumer, or remove that one."
            )
        self._subscription = await jetstream.pull_subscribe_bind(consumer=broker.consumer, stream=broker.stream)
        return float(config.ack_wait or 30.0) if info.num_ack_pending else 0.0

    def _at(self, sequence: int) -> None:
        """So far it has been read. With the stream's birth, because one that is made anew counts anew."""
        self.place.after = {"sequence": sequence, "created": self._created}

    def _wanted(self, stream: StreamInfo) -> ConsumerConfig:
        broker, after = self._broker, self.place.after
        begin, first = DeliverPolicy.ALL, None
        if after is None:
            begin = DeliverPolicy.ALL if broker.begin == "beginning" else DeliverPolicy.NEW
        elif stream.config.retention == RetentionPolicy.WORK_QUEUE:
            pass  # what was acknowledged is not there any more, and such a stream allows no other way to begin
        elif after["created"] == self._created and after["sequence"] <= stream.state.last_seq:
            begin, first = DeliverPolicy.BY_START_SEQUENCE, after["sequence"] + 1
        return ConsumerConfig(
            durable_name=broker.consumer,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=broker.ack_wait_seconds,
            deliver_policy=begin,
            opt_start_seq=first,
            filter_subject=broker.subject,
            max_ack_pending=_ACK_PENDING_MAX,
        )

    async def _read(self, wait: float) -> Sequence[BrokerMessage]:
        assert self._client is not None
        try:
            found = await self._subscription.fetch(self.batch_size, timeout=wait)
        except nats.errors.TimeoutError:
            found = []
        if not found:
            if self._client.is_closed:
                raise BrokerError("The connection to the broker broke.")
            await self._look()
        return [_message(each) for each in found]

    async def _look(self) -> None:
        """A consumer that was removed gives nothing, and says nothing: ask now and then."""
        if time.monotonic() - self._looked_at < _LOOK_EVERY:
            return
        assert self._client is not None
        self._looked_at = time.monotonic()
        try:
            await self._client.jetstream(timeout=self.timeout).consumer_info(self._broker.stream, self._broker.consumer)
        except nats.js.errors.NotFoundError:
            raise BrokerError(f"The consumer {self._broker.consumer} was removed.") from None

    async def _acknowledge(self, messages: Sequence[BrokerMessage]) -> None:
        assert self._client is not None
        for message in messages:
            await message.handle.ack()
        self._at(messages[-1].handle.metadata.sequence.stream)
        await self._client.flush(timeout=max(1, round(self.timeout)))

    async def _close(self) -> None:
        if self._client is not None:
            await self._client.close()


def _message(message: Any) -> BrokerMessage:
    headers = {name: text_of(value) for name, value in (message.headers or {}).items()}
    content_type = next((value for name, value in headers.items() if name.lower() == "content-type"), None)
    attributes, others = parted(headers, "ce-")
    at = message.metadata
    # With its time, because a stream that is made anew counts anew.
    return BrokerMessage(
        id=f"{at.stream}/{at.sequence.stream}/{at.timestamp.isoformat()}",
        address=message.subject,
        body=message.data or b"",
        content_type=content_type,
        attributes=attributes,
        headers=others,
        handle=message,
    )
