"""Readers: in order per instance, at least once, whoever dies; lanes that are shared out and never read twice at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from pliers_workflow.interpreter.commands import FireTrigger
from pliers_workflow.interpreter.events import StateEntered
from pliers_workflow.runtime.feed import Envelope, Feed, Stuck
from pliers_workflow.settings import FeedSettings
from tests.pipeline.conftest import terminate_backends

from .conftest import Remembering, World, until

FAST = FeedSettings(poll=0.05, lease=5)


class Nodes:
    """Feeds of several nodes on one database."""

    def __init__(self, world: World) -> None:
        self._pool = world.engine.pool
        self._wakeups = world.engine.wakeups
        self._count = 0
        self.feeds: list[Feed] = []

    async def start(self, *readers: Remembering, settings: FeedSettings = FAST) -> Feed:
        self._count += 1
        feed = Feed(self._pool, self._pool, settings, self._wakeups, owner=f"node-{self._count}")
        for reader in readers:
            feed.register(reader)
        for service in (feed.log, feed.relay, feed.lanes):
            await service.start()
        self.feeds.append(feed)
        return feed

    async def stop(self, feed: Feed) -> None:
        """The node goes in good order."""
        for service in (feed.lanes, feed.relay, feed.log):
            await service.close()
        self.feeds.remove(feed)

    async def kill(self, feed: Feed) -> None:
        """The node dies: nothing is written down, nothing given back."""
        for service in (feed.lanes, feed.relay, feed.log):
            task = service._task  # type: ignore[attr-defined]
            service._task = None  # type: ignore[attr-defined]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for lane in feed.lanes._lanes.values():
            await lane.stop()
        self.feeds.remove(feed)
        # Its leases lapse: here the clock is moved instead.
        await self._pool.execute(
            "UPDATE feed_lanes SET lease_until = now() - interval '1 s' WHERE lease_owner = $1", feed.cursors._owner
        )
        await self._pool.execute(
            "UPDATE service_leases SET until = now() - interval '1 s' WHERE owner = $1", feed.cursors._owner
        )


@pytest.fixture
async def nodes(world: World) -> AsyncIterator[Nodes]:
    nodes = Nodes(world)
    yield nodes
    for feed in list(nodes.feeds):
        await nodes.stop(feed)


async def push(world: World, definition: Any, instances: int, times: int) -> list[str]:
    """Instances that each take so many steps, at the same time."""
    started = await asyncio.gather(*(world.start(definition, data={}) for _ in range(instances)))
    ids = [answer.instance.id for answer in started]

    async def steps(instance_id: str) -> None:
        for number in range(times):
            await world.do(instance_id, "ada", FireTrigger("push" if number % 2 else "coin"))

    await asyncio.gather(*map(steps, ids))
    return ids


async def expected(world: World, instance_id: str) -> list[tuple[int, int]]:
    from pliers_workflow.runtime.commit.history import decode_record

    rows = await world.rows(instance_id)
    return [(row["seq"], index) for row in rows for index, _ in enumerate(decode_record(row["record"]).events)]


async def test_every_event_once_and_in_order(world: World, nodes: Nodes, turnstile: dict[str, Any]) -> None:
    """While nobody dies a reader is given each event exactly once, an instance's in their order, with its definition's name."""
    definition = await world.publish(turnstile)
    reader = Remembering(begins="beginning")
    before = await push(world, definition, 5, 3)
    await nodes.start(reader)
    during = await push(world, definition, 20, 5)
    total = sum([len(await expected(world, each)) for each in before + during])
    await until(lambda: len(reader.given) >= total)
    for instance_id in before + during:
        assert reader.of(instance_id) == await expected(world, instance_id)
    assert {each.row.definition_name for each in reader.given} == {"turnstile"}
    assert len(set(reader.ids)) == total


async def test_a_new_reader_begins_now(world: World, nodes: Nodes, turnstile: dict[str, Any]) -> None:
    """What happened before a reader was first seen is not its concern; what happens while it is away is."""
    definition = await world.publish(turnstile)
    await push(world, definition, 3, 1)
    feed = await nodes.start(Remembering())
    await until(lambda: len(feed.lanes.held) == 4)
    await nodes.stop(feed)
    (instance_id,) = await push(world, definition, 1, 2)
    reader = Remembering()
    await nodes.start(reader)
    wanted = await expected(world, instance_id)
    await until(lambda: reader.of(instance_id) == wanted)
    assert {each.instance_id for each in reader.given} == {instance_id}


async def test_a_reader_gets_what_it_wants_and_passes_over_the_rest(
    world: World, nodes: Nodes, turnstile: dict[str, Any]
) -> None:
    """Events that it does not want are not given to it, and do not hold its cursor."""

    class OfStates(Remembering):
        name = "of-states"

        def wants(self, envelope: Envelope) -> bool:
            return isinstance(envelope.event, StateEntered) and envelope.event.state == "unlocked"

    definition = await world.publish(turnstile)
    reader = OfStates()
    feed = await nodes.start(reader)
    await until(lambda: len(feed.lanes.held) == 4)
    await push(world, definition, 4, 3)
    await until(lambda: len(reader.given) == 8)
    await until(lambda: all(lane.position == feed.log.high for lane in feed.lanes._lanes.values()))


async def test_failing_holds_the_lane_and_keeps_the_order(
    world: World, nodes: Nodes, turnstile: dict[str, Any]
) -> None:
    """A batch that fails comes again, from where the reader said it got stuck; nothing overtakes it, nothing is lost."""
    definition = await world.publish(turnstile)
    reader = Remembering(lanes=2, batch_size_max=5)
    attempts: dict[str, int] = {}

    def trouble(batch: Sequence[Envelope]) -> None:
        for done, envelope in enumerate(batch):
            attempts[envelope.id] = attempts.get(envelope.id, 0) + 1
            if envelope.row.seq == 2 and attempts[envelope.id] < 3:
                reader.given += batch[:done]
                raise Stuck("not now", done=done)

    reader.trouble = trouble
    feed = await nodes.start(reader)
    await until(lambda: len(feed.lanes.held) == 2)
    ids = await push(world, definition, 6, 4)
    wanted = {each: await expected(world, each) for each in ids}
    await until(lambda: len(reader.given) >= sum(map(len, wanted.values())))
    assert {each: reader.of(each) for each in ids} == wanted
    await nodes.stop(feed)
    rows = await world.engine.pool.fetch("SELECT failures, failing_since FROM feed_lanes")
    assert {tuple(row) for row in rows} == {(0, None)}


async def test_lanes_do_not_wait_for_each_other(world: World, nodes: Nodes, turnstile: dict[str, Any]) -> None:
    """One instance that cannot be handled stops its own lane and no other."""
    definition = await world.publish(turnstile)
    reader = Remembering(lanes=16)
    feed = await nodes.start(reader)
    await until(lambda: len(feed.lanes.held) == 16)
    (stuck,) = await push(world, definition, 1, 0)
    reader.given.clear()

    def trouble(batch: Sequence[Envelope]) -> None:
        if any(each.instance_id == stuck for each in batch):
            raise RuntimeError("poison")

    reader.trouble = trouble
    await world.do(stuck, "ada", FireTrigger("coin"))
    ids = await push(world, definition, 20, 1)
    free = [each for each in ids if each[-1] != stuck[-1]]
    await until(lambda: all(reader.of(each) for each in free))
    rows: list[Any] = []
    async with asyncio.timeout(30):  # the failure is written down after the reader has raised
        while not rows:
            rows = await world.engine.pool.fetch("SELECT lane, failures FROM feed_lanes WHERE failures > 0")
    assert [row["lane"] for row in rows] == [int(stuck[-1], 16)]
    assert reader.of(stuck) == []


async def test_lanes_are_shared_out(nodes: Nodes, world: World) -> None:
    """A node that comes later gets its share, and one that goes leaves its lanes to the others; no lane has two holders."""
    one = await nodes.start(Remembering(lanes=12))
    await until(lambda: len(one.lanes.held) == 12)
    two, three = await nodes.start(Remembering(lanes=12)), await nodes.start(Remembering(lanes=12))
    await until(lambda: [len(feed.lanes.held) for feed in (one, two, three)] == [4, 4, 4])
    every = one.lanes.held + two.lanes.held + three.lanes.held
    assert len(set(every)) == 12
    await nodes.stop(three)
    await until(lambda: len(one.lanes.held) + len(two.lanes.held) == 12)
    await nodes.kill(one)
    await until(lambda: len(two.lanes.held) == 12)


async def test_who_dies_is_followed_by_another(world: World, nodes: Nodes, turnstile: dict[str, Any]) -> None:
    """
    Nodes die while they read: every event is given all the same, an instance's in order, and what is given again carries
    the key it had before.
    """
    definition = await world.publish(turnstile)
    acted: list[tuple[str, str]] = []

    class Acting(Remembering):
        name = "acting"
        lanes = 4
        batch_size_max = 3

        async def handle(self, batch: Sequence[Envelope]) -> None:
            for envelope in batch:
                acted.append((envelope.key(self.name), envelope.id))
                await asyncio.sleep(0.001)

    feed = await nodes.start(Acting(begins="beginning"))
    pushing = asyncio.create_task(push(world, definition, 12, 6))
    for _ in range(4):
        before = len(acted)
        await until(lambda: len(acted) > before + 10)  # noqa: B023
        await nodes.kill(feed)
        feed = await nodes.start(Acting(begins="beginning"))
    ids = await pushing
    wanted = {f"{each}/{seq}/{index}" for each in ids for seq, index in await expected(world, each)}
    await until(lambda: {event for _, event in acted} == wanted)
    assert {key for key, _ in acted} == {f"{event}/acting" for event in wanted}
    for instance_id in ids:
        first: list[str] = []
        for _, event in acted:
            if event.startswith(instance_id) and event not in first:
                first.append(event)
        assert first == [f"{instance_id}/{seq}/{index}" for seq, index in await expected(world, instance_id)]


async def test_cut_connections_lose_nothing(
    world: World, nodes: Nodes, turnstile: dict[str, Any], database: str
) -> None:
    """PostgreSQL cuts every connection while events are read: they are all given."""
    definition = await world.publish(turnstile)
    reader = Remembering(begins="beginning")
    await nodes.start(reader)
    for _ in range(3):
        await push(world, definition, 5, 2)
        await terminate_backends(database, "pliers%")
    ids = await push(world, definition, 5, 2)
    last = {each: await expected(world, each) for each in ids}
    await until(lambda: all(set(wanted) <= set(reader.of(each)) for each, wanted in last.items()), 20)


async def test_seeking_reads_again(world: World, nodes: Nodes, turnstile: dict[str, Any]) -> None:
    """A reader set to an earlier position is given everything from there again, whoever held its lanes."""
    from pliers_workflow.storage import queries

    definition = await world.publish(turnstile)
    reader = Remembering(begins="beginning")
    feed = await nodes.start(reader)
    ids = await push(world, definition, 3, 1)
    total = sum([len(await expected(world, each)) for each in ids])
    await until(lambda: len(reader.given) == total)
    await world.engine.pool.execute(queries.load("feed").seek, reader.name, 0)
    feed.lanes.wake()
    await until(lambda: len(reader.given) == 2 * total)
    assert sorted(reader.ids[:total]) == sorted(reader.ids[total:])


async def test_a_row_of_a_newer_release_waits_for_a_node_that_reads_it(
    world: World, nodes: Nodes, turnstile: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lane with a row that this node cannot read is given back, again and again, until somebody can; nothing overtakes."""
    from pliers_workflow.runtime.feed import envelope as module

    definition = await world.publish(turnstile)
    reader = Remembering(lanes=1)
    feed = await nodes.start(reader)
    await until(lambda: len(feed.lanes.held) == 1)
    monkeypatch.setattr(module, "decode_record", lambda _: msgspec.json.decode(b"no"))
    (instance_id,) = await push(world, definition, 1, 1)
    failures = 0
    while failures < 2:
        failures = await world.engine.pool.fetchval("SELECT failures FROM feed_lanes")
        await asyncio.sleep(0.02)
    assert await world.engine.pool.fetchval("SELECT fencing_token FROM feed_lanes") > 1
    assert reader.given == []
    monkeypatch.undo()
    wanted = await expected(world, instance_id)
    await until(lambda: reader.of(instance_id) == wanted)


async def test_the_window_is_kept_while_somebody_reads(world: World, nodes: Nodes, turnstile: dict[str, Any]) -> None:
    """A node without readers fetches no rows, and what is made of rows is kept for the newest only."""
    from pliers_workflow.runtime.feed import log as module

    definition = await world.publish(turnstile)
    idle = await nodes.start()
    reader = Remembering()
    busy = await nodes.start(reader)
    await until(lambda: len(busy.lanes.held) == 4)
    (instance_id,) = await push(world, definition, 1, 20)
    await until(lambda: len(reader.of(instance_id)) > 20 and busy.log.high == idle.log.high)
    assert idle.log._rows == []
    rows = busy.log._rows
    assert any(row._envelopes for row in rows)
    busy.log._keep([], busy.log.high)
    assert all(row._envelopes is None for row in rows[: -module.FRESH])
    rows[0].forget()
    assert reader.given[0].at == rows[0].record.at


async def test_readers_that_change_are_replaced(world: World, nodes: Nodes) -> None:
    """A source's reader that is another object than before is closed, and the new one reads in its lanes."""
    one, two = Remembering(name="coming", lanes=2), Remembering(name="coming", lanes=2)
    present = [one]

    async def source() -> list[Remembering]:
        return list(present)

    feed = await nodes.start()
    feed.lanes.add_source(source)  # type: ignore[arg-type]  # a list of readers is a sequence of readers
    await until(lambda: len(feed.lanes.held) == 2)
    present[:] = [two]
    await until(lambda: one.closed and len(feed.lanes.held) == 2)
    present.clear()
    await until(lambda: two.closed and not feed.lanes.held)


async def test_a_lane_stops_although_a_library_swallows_the_cancellation(
    world: World, nodes: Nodes, turnstile: dict[str, Any]
) -> None:
    """`asyncio.wait_for` may lose a cancellation; a node that closes is not kept from it."""

    class Deaf(Remembering):
        name = "deaf"
        lanes = 1
        entered = False
        swallowed = 0

        async def handle(self, batch: Sequence[Envelope]) -> None:
            self.entered = True
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                self.swallowed += 1
                if self.swallowed > 1:
                    raise

    definition = await world.publish(turnstile)
    reader = Deaf()
    feed = await nodes.start(reader)
    await until(lambda: len(feed.lanes.held) == 1)
    await push(world, definition, 2, 1)
    await until(lambda: reader.entered)
    await asyncio.wait_for(nodes.stop(feed), 5)
    assert reader.swallowed > 0
