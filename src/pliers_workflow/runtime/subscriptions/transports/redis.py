"""Redis Streams: one entry for each event, with the event as `event` and its key as `key`.

The server's answer confirms it; how safe that is, is a matter of the server's own persistence. Redis knows no duplicates:
an entry whose answer was lost comes again, with the same `key`.
"""

from __future__ import annotations

from redis.asyncio import Redis

from ...brokers.redis import FAILURES, make_client
from ...outbound.guard import Guard
from ..sinks import RedisSink
from .connecting import BrokerTransport
from .port import Message, place


class RedisTransport(BrokerTransport[Redis]):
    """See the module."""

    failures = FAILURES

    def __init__(self, sink: RedisSink, guard: Guard, *, timeout: float) -> None:
        super().__init__(sink, guard, timeout=timeout)
        self._sink = sink

    async def _connect(self) -> Redis:
        return make_client(self._sink, connect_timeout=self._timeout, answer_timeout=self._timeout)

    async def _disconnect(self, client: Redis) -> None:
        await client.aclose()

    async def _send(self, client: Redis, message: Message) -> None:
        await client.xadd(
            place(self._sink.stream, message),
            {"event": message.body, "key": message.key, "type": message.type},
            maxlen=self._sink.length_max,
            approximate=True,
        )
