"""A broker in memory that does as it is told: it gives again what was not acknowledged, and fails when it should."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pliers_workflow.runtime.event_sources.readers.port import BrokerError, BrokerMessage

from .office import body

#: any address that a source may have; nobody connects to it
ADDRESS: dict[str, Any] = {"type": "redis", "url": "redis://127.0.0.1:1", "stream": "s"}


async def _nothing(*_: Any) -> None:
    return


class Post:
    """The messages, in order, and who was given which."""

    def __init__(self) -> None:
        self.messages: list[BrokerMessage] = []
        self.acknowledged = 0
        self.given: list[str] = []
        self.opened = 0
        self.batch = 3
        #: called with the messages that are about to be given, and acknowledged; may wait, or raise
        self.giving: Callable[[Sequence[BrokerMessage]], Awaitable[None]] = _nothing
        self.acknowledging: Callable[[Sequence[BrokerMessage]], Awaitable[None]] = _nothing
        self.news = asyncio.Event()

    async def publish(self, parcel: str, number: int) -> None:
        self.put(body(parcel, number))

    def put(self, data: bytes, **more: Any) -> None:
        place = len(self.messages)
        self.messages.append(BrokerMessage(id=f"m/{place}", address="s", body=data, handle=place, **more))
        self.news.set()

    def open(self, *_: Any, **__: Any) -> Reading:
        return Reading(self)


class Reading:
    """A connection to it."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._next = 0

    async def open(self) -> float:
        self._post.opened += 1
        self._next = self._post.acknowledged
        return 0.0

    async def read(self, wait: float) -> Sequence[BrokerMessage]:
        post = self._post
        if self._next >= len(post.messages):
            post.news.clear()
            try:
                async with asyncio.timeout(wait):
                    await post.news.wait()
            except TimeoutError:
                return []
        found = post.messages[self._next : self._next + post.batch]
        await post.giving(found)
        self._next += len(found)
        post.given += [str(each.id) for each in found]
        return found

    async def acknowledge(self, messages: Sequence[BrokerMessage]) -> None:
        if messages:
            await self._post.acknowledging(messages)
            self._post.acknowledged = max(self._post.acknowledged, messages[-1].handle + 1)

    async def close(self) -> None:
        """Nothing is held."""


def once(error: BrokerError) -> Callable[..., Awaitable[None]]:
    """Fail the first time."""
    waiting = [error]

    async def fail(*_: Any) -> None:
        if waiting:
            raise waiting.pop()

    return fail
