"""Live subscribers: from now on or from a cursor, told when they were too slow, and missing nothing all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pliers_workflow.interpreter.commands import FireTrigger
from pliers_workflow.runtime.feed import Envelope, Feed, LiveSubscriber, Missed
from pliers_workflow.settings import FeedSettings
from pliers_workflow.storage.paging import BadCursor

from .conftest import World, until
from .test_lanes import Nodes, nodes, push

__all__ = ["nodes"]


async def take(subscriber: LiveSubscriber, count: int) -> list[Any]:
    return [await asyncio.wait_for(anext(subscriber), 5) for _ in range(count)]


async def test_from_now_on_and_from_a_cursor(world: World, nodes: Nodes, turnstile: dict[str, Any]) -> None:
    """A subscriber sees what happens from now on; with the cursor it had it goes on exactly there, on any node."""
    definition = await world.publish(turnstile)
    await push(world, definition, 2, 1)
    feed = await nodes.start()
    await until(lambda: feed.log.high >= 4)
    async with await feed.subscribe(tenant_id="default") as subscriber:
        (instance_id,) = await push(world, definition, 1, 1)
        first = await take(subscriber, 1)
        assert first[0].instance_id == instance_id
        assert first[0].row.seq == 1
        seen = first
        while seen[-1].row.seq == 1:
            seen += await take(subscriber, 1)
        cursor = subscriber.cursor
    other = await nodes.start()
    async with await other.subscribe(tenant_id="default", cursor=cursor) as again:
        resumed = await take(again, 1)
        assert (resumed[0].row.seq, resumed[0].index) == (2, 0), "within a command it begins with the command"
    with pytest.raises(BadCursor):
        await feed.subscribe(tenant_id="default", cursor="x")


async def test_a_tenants_events_and_a_filter(world: World, nodes: Nodes, turnstile: dict[str, Any]) -> None:
    """Nothing of another tenant, and nothing that was not wanted; the cursor moves on all the same."""
    definition = await world.publish(turnstile)
    feed = await nodes.start()
    async with (
        await feed.subscribe(tenant_id="other") as strange,
        await feed.subscribe(tenant_id="default", wants=lambda each: each.row.seq == 2) as some,
    ):
        await push(world, definition, 2, 1)
        told = await take(some, 2)
        assert {each.row.seq for each in told} == {2}
        waiting = asyncio.ensure_future(anext(strange))
        await until(lambda: strange._read >= 4)
        assert not waiting.done()
        waiting.cancel()


async def test_a_slow_subscriber_is_told_and_misses_nothing(
    world: World, nodes: Nodes, turnstile: dict[str, Any]
) -> None:
    """Who falls out of the window is told so, once, and then given all of it in order."""
    definition = await world.publish(turnstile)
    feed = await nodes.start(settings=FeedSettings(poll=0.05, window_rows_max=100))
    async with await feed.subscribe(tenant_id="default") as slow, await feed.subscribe(tenant_id="default") as quick:
        (instance_id,) = await push(world, definition, 1, 1)
        begun = await take(slow, 1)
        seen: list[Envelope] = []

        async def follow() -> None:
            async for each in quick:
                assert isinstance(each, Envelope), "one that keeps up is never told that it missed something"
                seen.append(each)

        following = asyncio.create_task(follow())
        for number in range(150):
            await world.do(instance_id, "ada", FireTrigger("coin" if number % 2 else "push"))
        await until(lambda: seen and seen[-1].row.seq == 152)
        following.cancel()
        assert feed.log.low > 0
        got: list[Envelope] = list(begun)
        missed = 0
        while len(got) < len(seen):
            each = await asyncio.wait_for(anext(slow), 5)
            if isinstance(each, Missed):
                missed += 1
                assert await feed.log.position_of(each.cursor) <= feed.log.low
            else:
                got.append(each)
    assert [each.id for each in got] == [each.id for each in seen]
    assert missed == 1


async def test_a_row_is_read_and_decoded_once(world: World, nodes: Nodes, turnstile: dict[str, Any]) -> None:
    """Subscribers of a node share one envelope, and what is made of it is made once."""
    definition = await world.publish(turnstile)
    feed: Feed = await nodes.start()
    made: list[str] = []

    def make(envelope: Envelope) -> str:
        made.append(envelope.id)
        return envelope.id

    many = [await feed.subscribe(tenant_id="default") for _ in range(20)]
    await push(world, definition, 1, 0)
    told = [(await take(each, 1))[0] for each in many]
    assert len({id(each) for each in told}) == 1
    assert {each.made("text", make) for each in told} == set(made)
    assert len(made) == 1
    for each in many:
        await each.close()
