"""NATS JetStream: one message for each event, confirmed by the stream that takes its subject.

`Nats-Msg-Id` is the event's key, so a stream drops what comes again within its duplicate window.
"""

from __future__ import annotations

import nats.js.errors
from nats.aio.client import Client as NatsClient

from ...brokers.nats import FAILURES, connect
from ...feed.cloudevents import MEDIA_TYPE
from ...outbound.guard import Guard
from ..sinks import NatsSink
from .connecting import BrokerTransport
from .port import Message, TransportError, place


class NatsTransport(BrokerTransport[NatsClient]):
    """See the module."""

    failures = FAILURES

    def __init__(self, sink: NatsSink, guard: Guard, *, timeout: float) -> None:
        super().__init__(sink, guard, timeout=timeout)
        self._sink = sink

    async def _connect(self) -> NatsClient:
        return await connect(self._sink, timeout=self._timeout)

    async def _disconnect(self, client: NatsClient) -> None:
        await client.close()

    async def _send(self, client: NatsClient, message: Message) -> None:
        subject = place(self._sink.subject, message)
        try:
            await client.jetstream().publish(
                subject,
                message.body,
                timeout=self._timeout,
                headers={"Nats-Msg-Id": message.key, "content-type": MEDIA_TYPE},
            )
        except nats.js.errors.NoStreamResponseError:
            raise TransportError(f"No JetStream stream takes the subject {subject}; make one that does.") from None
