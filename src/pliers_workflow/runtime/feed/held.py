"""A lane that this node holds: what reads in it, until it is stopped.

Most lanes read the log (`lanes.Lane`). Who reads something else, a broker, has the same need to be on one node at a time,
to be taken over when that dies, and to be fenced off when it comes back late: so it has a lane as well.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from ..nodes.services import stop

if TYPE_CHECKING:
    from .cursors import Claimed, LaneKey, Move
    from .reader import Reader


class HeldLane(ABC):
    """One lane of one reader, held by this node under a token."""

    def __init__(self, reader: Reader, claimed: Claimed) -> None:
        self.reader = reader
        self.key: LaneKey = claimed.key
        self.token = claimed.token
        self.task: asyncio.Task[None]

    def begin(self) -> None:
        """Begin to read; the last thing that a lane's making does."""
        self.task = asyncio.create_task(self._run(), name=f"reader-{self.reader.name}-{self.key[1]}")

    @abstractmethod
    async def _run(self) -> None:
        """Read until the lane is lost, or the task is cancelled."""

    async def stop(self) -> None:
        """Stop reading; what is being handled is broken off, and comes again elsewhere."""
        await stop(self.task)

    def idle_move(self) -> Move | None:
        """What to write down of a lane that has passed over what was not for it."""
        return None

    def kept(self, move: Move) -> None:  # noqa: B027 - most have nothing to remember
        """That was written down."""
