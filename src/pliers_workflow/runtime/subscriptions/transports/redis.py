"""Redis Streams: one entry for each event, with the event as `event` and its key as `key`.

The server's answer confirms it; how safe that is, is a matter of the server's own persistence. Redis knows no duplicates:
an entry whose answer was lost comes again, with the same `key`.
"""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ...outbound.guard import Guard
from ..sinks import RedisSink
from .connecting import BrokerTransport
from .port import Message, place


class RedisTransport(BrokerTransport[Redis]):
    """See the module."""

    failures = (RedisError, OSError)

    def __init__(self, sink: RedisSink, guard: Guard, *, timeout: float) -> None:
        super().__init__([sink.url], guard, timeout=timeout)
        self._sink = sink

    async def _connect(self) -> Redis:
        sink = self._sink
        return Redis.from_url(
            sink.url,
            username=sink.user,
            password=sink.password,
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            client_name="pliers",
            # What is tried again would overtake nothing, but the lane must know what was confirmed.
            retry=Retry(NoBackoff(), 0),
        )

    async def _disconnect(self, client: Redis) -> None:
        await client.aclose()

    async def _send(self, client: Redis, message: Message) -> None:
        await client.xadd(
            place(self._sink.stream, message),
            {"event": message.body, "key": message.key, "type": message.type},
            maxlen=self._sink.length_max,
            approximate=True,
        )
