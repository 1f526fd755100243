"""Redis Streams: a consumer group with one consumer.

What was given to a consumer that died stays its own until somebody claims it; so whoever begins to read claims all of it
first (`XAUTOCLAIM`), in the order of the stream, and then reads what is new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from ...brokers.redis import FAILURES, make_client
from .port import BrokerMessage, BrokerReader, parted, text_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ...outbound.guard import Guard
    from ..kinds import RedisBroker

_CONSUMER: Final = "pliers"
_START: Final = "0-0"


class RedisReader(BrokerReader):
    """See the module."""

    failures = FAILURES

    def __init__(self, broker: RedisBroker, guard: Guard, *, batch_size: int, timeout: float) -> None:
        super().__init__(broker, guard, batch_size=batch_size, timeout=timeout)
        self._broker = broker
        self._client: Redis | None = None
        #: from where on there may be something to claim; None: there is no more
        self._claim_from: str | None = _START

    async def _open(self) -> float:
        broker = self._broker
        # A read waits for messages, and is watched by our own clock.
        self._client = make_client(broker, connect_timeout=self.timeout, answer_timeout=None)
        try:
            await self._client.xgroup_create(broker.stream, broker.group, id=await self._begin(), mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        if self.place.after is None:
            groups = await self._client.xinfo_groups(broker.stream)
            self.place.after = next(
                (text_of(each["last-delivered-id"]) for each in groups if text_of(each["name"]) == broker.group), None
            )
        return 0.0

    async def _begin(self) -> str:
        """Where a group begins that is missing."""
        assert self._client is not None
        after = self.place.after
        if after is None:
            return "0" if self._broker.begin == "beginning" else "$"
        try:
            stream = await self._client.xinfo_stream(self._broker.stream)
        except ResponseError:  # there is none any more
            return "0"
        # A stream that was made anew may count from the beginning: of that nothing was read.
        return after if _counted(text_of(stream["last-generated-id"])) >= _counted(after) else "0"

    async def _read(self, wait: float) -> Sequence[BrokerMessage]:
        assert self._client is not None
        stream, group = self._broker.stream, self._broker.group
        while self._claim_from is not None:
            answer = await self._client.xautoclaim(
                stream, group, _CONSUMER, min_idle_time=0, start_id=self._claim_from, count=self.batch_size
            )
            following = text_of(answer[0])
            self._claim_from = None if following == _START else following
            if claimed := [self._message(*each) for each in answer[1] if each[1]]:
                return claimed
        found: Any = await self._client.xreadgroup(
            group, _CONSUMER, {stream: ">"}, count=self.batch_size, block=max(1, round(wait * 1000))
        )
        entries = found.values() if isinstance(found, dict) else (each[1] for each in found or ())
        return [self._message(*entry) for each in entries for entry in _flat(each)]

    async def _acknowledge(self, messages: Sequence[BrokerMessage]) -> None:
        assert self._client is not None
        await self._client.xack(self._broker.stream, self._broker.group, *(each.handle for each in messages))
        self.place.after = text_of(messages[-1].handle)

    async def _close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    def _message(self, entry: bytes, fields: Mapping[bytes, bytes]) -> BrokerMessage:
        body = fields.get(self._broker.field.encode(), b"")
        headers = {
            text_of(name): text_of(value) for name, value in fields.items() if name != self._broker.field.encode()
        }
        content_type = next(
            (value for name, value in headers.items() if name.lower().replace("_", "-") == "content-type"), None
        )
        attributes, others = parted(headers, "ce-", "ce_")
        return BrokerMessage(
            id=text_of(entry),
            address=self._broker.stream,
            body=body,
            content_type=content_type,
            key=headers.get("key"),
            attributes=attributes,
            headers=others,
            handle=entry,
        )


def _counted(entry: str) -> tuple[int, int]:
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number or 0)


def _flat(entries: Any) -> Sequence[Any]:
    """The entries of one stream; in the newer protocol they come in a list of their own."""
    return (
        entries[0]
        if entries and isinstance(entries[0], list) and entries[0] and isinstance(entries[0][0], tuple | list)
        else entries
    )
