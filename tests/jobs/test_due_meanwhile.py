"""Jobs that become due while their service is looking: after its claim, and before it has decided how long to sleep."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.jobs.conftest import MakeShop, Shop
from tests.nodes.conftest import until

#: so long that nothing is found in time because of it
NEVER: dict[str, Any] = {"execution": {"timer_poll": 600}}


def timed(name: str, seconds: float) -> dict[str, Any]:
    """A document whose only state times out."""
    return {
        "name": name, "version": "1.0.0", "title": name,
        "stateMachine": {
            "initialState": "waiting",
            "states": {"waiting": {"timeouts": [{"id": "over", "afterMinutes": seconds / 60}]}, "done": {"type": "final"}},
            "transitions": [{"from": "waiting", "to": "done", "trigger": "timeout"}],
        },
    }  # fmt: skip


async def test_a_timer_that_is_due_right_after_a_claim(make_shop: MakeShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Two timers; the dispatcher wakes for the first, and a wake-up for a later one is forgotten. The second becomes due when
    there was nothing more to claim, before anybody has asked when to wake next: it is not left for the next poll.
    """
    shop = await make_shop(services=True, **NEVER)
    soon, later = await shop.publish(timed("soon", 0.2)), await shop.publish(timed("later", 0.5))
    timers = shop.engine.timers
    claim = timers._claim

    async def slow(room: int) -> Any:
        claimed = await claim(room)
        if not claimed:
            await asyncio.sleep(0.6)
        return claimed

    monkeypatch.setattr(timers, "_claim", slow)
    for instance in [await shop.start(soon), await shop.start(later)]:
        await _fired(shop, instance)


async def _fired(shop: Shop, instance: str) -> None:
    async def fired() -> bool:
        return "fire_timer" in await shop.history(instance)

    await until(fired, seconds=20)
