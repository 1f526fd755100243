"""An engine whose log is read: the world of the pipeline tests, and readers that remember what they were given."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pliers_workflow.runtime.feed import Envelope, Reader
from tests.pipeline.conftest import World, example, make_world, people_of_expenses, world

__all__ = ["Remembering", "World", "example", "make_world", "people_of_expenses", "turnstile", "until", "world"]


class Remembering(Reader):
    """A reader that keeps what it was given, and fails when it is told to."""

    name = "remembering"
    lanes = 4
    retry_delay_min = 0.01
    retry_delay_max = 0.05

    def __init__(self, **options: Any) -> None:
        for name, value in options.items():
            setattr(self, name, value)
        self.given: list[Envelope] = []
        self.batches: list[int] = []
        #: raises for these, in turn
        self.trouble: Callable[[Sequence[Envelope]], None] = lambda _: None
        self.closed = False

    async def handle(self, batch: Sequence[Envelope]) -> None:
        await asyncio.sleep(0)
        self.trouble(batch)
        self.batches.append(len(batch))
        self.given += batch

    async def close(self) -> None:
        self.closed = True

    @property
    def ids(self) -> list[str]:
        return [envelope.id for envelope in self.given]

    def of(self, instance_id: str) -> list[tuple[int, int]]:
        """Seq and index of one instance's events, as they were given."""
        return [(each.row.seq, each.index) for each in self.given if each.instance_id == instance_id]


TURNSTILE: dict[str, Any] = {
    "name": "turnstile",
    "version": "1.0.0",
    "title": "Turnstile",
    "stateMachine": {
        "initialState": "locked",
        "states": {"locked": {}, "unlocked": {}, "gone": {"type": "final"}},
        "transitions": [
            {"from": "locked", "to": "unlocked", "trigger": "coin"},
            {"from": "unlocked", "to": "locked", "trigger": "push"},
            {"from": "locked", "to": "gone", "trigger": "remove"},
        ],
    },
}


@pytest.fixture
def turnstile() -> dict[str, Any]:
    """A chart that goes on for as long as one pushes."""
    return TURNSTILE


async def until(true: Callable[[], Any], seconds: float = 30) -> None:
    """Wait until something is so."""
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, "it has not come to that"
        await asyncio.sleep(0.005)
