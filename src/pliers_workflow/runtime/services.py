"""What the engine starts and closes: services that find work for themselves."""

from __future__ import annotations

from typing import Protocol


class Service(Protocol):
    """A service of a node."""

    async def start(self) -> None:
        """Begin to work; what goes wrong later is logged and tried again."""

    async def close(self) -> None:
        """Take no new work, finish what has begun or give it back, and release leases. Also when it was never started."""
