"""What the engine starts and closes: services that find work for themselves."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

#: seconds after which a task is told again that it is cancelled
_AGAIN: Final = 0.5


class Service(Protocol):
    """A service of a node."""

    async def start(self) -> None:
        """Begin to work; what goes wrong later is logged and tried again."""

    async def close(self) -> None:
        """Take no new work, finish what has begun or give it back, and release leases. Also when it was never started."""


async def stop(task: asyncio.Task[Any]) -> None:
    """
    Cancel a task and wait until it has ended, whatever it ends with.

    It is told again until it does: `asyncio.wait_for`, which client libraries use, loses a cancellation that comes at the
    same moment as what it waits for (before Python 3.12).
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN)
    if not task.cancelled():
        task.exception()  # looked at, so that nobody warns of it
