"""Sleeping and being woken, within one process."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from pliers_workflow.runtime.nodes.wakeups import HISTORY, TIMER, Slumber, Wakeups

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


async def slept(slumber: Slumber, seconds: float) -> float:
    """How long a sleep took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await slumber.sleep(seconds)
    return loop.time() - began


async def test_a_sleep_ends_by_itself() -> None:
    """Nobody wakes: the service looks again after the time it chose."""
    assert 0.02 <= await slept(Slumber(), 0.02) < 1


async def test_a_wake_up_ends_a_sleep_at_its_time() -> None:
    """A nearer time shortens the sleep to it; a farther one changes nothing."""
    slumber = Slumber()
    asyncio.get_running_loop().call_later(0.01, slumber.wake, 0.03)
    asyncio.get_running_loop().call_later(0.02, slumber.wake, 20.0)
    assert 0.035 <= await slept(slumber, 30) < 5


async def test_a_wake_up_during_work_is_not_lost() -> None:
    """Woken before it sleeps, a service does not sleep; once, not for ever."""
    slumber = Slumber()
    slumber.wake()
    slumber.wake()
    assert await slept(slumber, 30) < 5
    assert await slept(slumber, 0.02) >= 0.02


async def test_a_cancelled_sleep_leaves_nothing_behind() -> None:
    """A service that is stopped in its sleep may sleep again."""
    slumber = Slumber()
    sleeper = asyncio.create_task(slumber.sleep(30))
    await asyncio.sleep(0)
    sleeper.cancel()
    await asyncio.gather(sleeper, return_exceptions=True)
    slumber.wake()
    assert await slept(slumber, 30) < 5


def fold(*due_at: datetime | None, rows: int = 1) -> Any:
    """What a batch knows of an instance that it has written."""
    jobs = {f"timer/{n}": (SimpleNamespace(kind="timer", due_at=at), NOW) for n, at in enumerate(due_at)}
    return SimpleNamespace(rows=[None] * rows, jobs=jobs, now=NOW)


async def test_a_commit_tells_what_it_wrote() -> None:
    """The log has grown, and a timer is due soon: the soonest of all; paused ones and those of next week are no news."""
    wakeups = Wakeups(due_within=5)
    told: list[tuple[str, float]] = []
    carried: list[tuple[str, float]] = []
    for topic in (HISTORY, TIMER):
        wakeups.subscribe(topic, lambda delay, topic=topic: told.append((topic, delay)))
    wakeups.committed([fold(rows=0)])
    assert told == [], "a refused command writes nothing"
    wakeups.carry = lambda topic, delay: carried.append((topic, delay))
    wakeups.committed(
        [fold(None), fold(NOW + timedelta(days=7), NOW + timedelta(seconds=3)), fold(NOW + timedelta(seconds=2))]
    )
    assert told == carried == [(HISTORY, 0.0), (TIMER, 2.0)]
    wakeups.committed([fold(NOW - timedelta(seconds=2)), fold(NOW + timedelta(days=7))])
    assert told[2:] == [(HISTORY, 0.0), (TIMER, 0.0)]
    wakeups.committed([fold(NOW + timedelta(days=7))])
    assert told[4:] == [(HISTORY, 0.0)]
