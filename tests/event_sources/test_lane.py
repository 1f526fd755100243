"""How a source is read: committed before it is acknowledged, in order, bounded, under a token, whatever fails."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import asyncpg
import pytest

from pliers_workflow.runtime.answers import Overloaded
from pliers_workflow.runtime.event_sources import serving
from pliers_workflow.runtime.event_sources.readers.port import BrokerError
from tests.feed.conftest import until
from tests.pipeline.conftest import terminate_backends

from .memory import ADDRESS, Post, once
from .office import Office, office_on, tell

PARCELS = ["P-0", "P-1", "P-2"]


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Post:
    made = Post()
    monkeypatch.setattr(serving, "open_reader", made.open)
    return made


async def test_an_acknowledgement_is_lost(office: Office, post: Post) -> None:
    """The messages come again, and are known: each acts once. The source tells of it, and then that it is well."""
    await office.publish()
    post.acknowledging = once(BrokerError("cut"))
    await tell(post.publish, PARCELS, range(4))
    source = await office.source(ADDRESS)
    await office.parcels(dict.fromkeys(PARCELS, 4))
    seen = await office.until(lambda seen: seen["received"] == 15 and seen["failingSince"] is None, source)
    assert seen["lastError"] == "cut"
    assert post.given[:6] == ["m/0", "m/1", "m/2", "m/0", "m/1", "m/2"]
    assert post.acknowledged == 12


async def test_a_batch_is_on_disk_before_it_is_acknowledged(office: Office, post: Post) -> None:
    """At every acknowledgement the inbox has it; and nothing more is read while a batch is under way."""
    await office.publish()
    kept: list[tuple[int, int]] = []

    async def look(messages: Any) -> None:
        count = await office.engine.pool.fetchval("SELECT count(*) FROM inbound_events")
        kept.append((messages[-1].handle + 1, count))

    async def nothing_owed(_: Any) -> None:
        owed = await office.engine.pool.fetchval("SELECT count(*) FROM inbound_events WHERE status = 'received'")
        assert owed == 0

    post.acknowledging, post.giving = look, nothing_owed
    await tell(post.publish, PARCELS, range(5))
    source = await office.source(ADDRESS)
    await office.parcels(dict.fromkeys(PARCELS, 5))
    assert kept == [(place, place) for place in range(3, 16, 3)]
    assert (await office.look(source))["lastError"] is None


async def test_poison_is_in_nobodys_way(office: Office, post: Post) -> None:
    """What is no event is kept, with its reason, and acknowledged; those before and behind it go on."""
    await office.publish()
    await post.publish("P-0", 0)
    post.put(b"\x00\xff" * 50_000, content_type="application/json", headers={"nul": "a\0b", "half": "\ud800"})
    post.put(b"[" * 200_000)
    await post.publish("P-0", 1)
    source = await office.source(ADDRESS)
    await office.parcels({"P-0": 2})
    await office.until(lambda seen: (seen["received"], seen["rejected"]) == (2, 2), source)
    deep, nul = await office.rejects(source)
    assert (deep["message"], deep["size"], deep["whole"]) == ("m/2", 200_000, False)
    assert nul["headers"] == {"nul": "a\ufffdb", "half": "?"}
    assert len(nul["body"]) == 65_536
    await office.admin("POST", f"/event-sources/{source}/rejects/{nul['id']}/retry", status=409)


class _Unfit(asyncpg.InterfaceError, ValueError):
    """As asyncpg itself refuses a value, before the database sees it."""


@pytest.mark.parametrize("error", [asyncpg.DataError, _Unfit])
async def test_what_the_database_cannot_hold(
    office: Office, post: Post, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Should a value come through that the database or its driver refuses, it alone is rejected."""
    await office.publish()
    keep = office.engine.inbox.keep

    async def refuse(connection: Any, tenant: str, events: Any, **options: Any) -> Any:
        if any(each.event.id == "P-1/0" for each in events):
            raise error("no such value")
        return await keep(connection, tenant, events, **options)

    monkeypatch.setattr(office.engine.inbox, "keep", refuse)
    await tell(post.publish, PARCELS, range(1))
    source = await office.source(ADDRESS)
    await office.parcels({"P-0": 1, "P-2": 1})
    await office.until(lambda seen: (seen["received"], seen["rejected"]) == (2, 1), source)
    (reject,) = await office.rejects(source)
    assert reject["reason"] == "The database cannot hold it: no such value"


async def test_what_is_left_for_later_is_not_overtaken(
    office: Office, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an event cannot be carried out, those of the same instance wait, and so does the next batch."""
    await office.publish()
    act = office.engine.inbox._actor.act
    failures = {"P-0/1": 3, "P-0/5": 1}

    async def sometimes(stored: Any, matches: Any, **options: Any) -> Any:
        if failures.get(stored.event.id, 0) > 0:
            failures[stored.event.id] -= 1
            raise Overloaded(0.1)
        return await act(stored, matches, **options)

    monkeypatch.setattr(office.engine.inbox._actor, "act", sometimes)
    post.batch = 10
    await tell(post.publish, ["P-0", "P-1"], range(10))
    await office.source(ADDRESS)
    await office.parcels({"P-0": 10, "P-1": 10})
    assert set(failures.values()) == {0}


async def test_the_database_goes_away(database: str, post: Post) -> None:
    """Connections break again and again while messages come: all are taken in once and in order."""
    async with office_on(database) as office:
        await office.publish()
        await office.source(ADDRESS)
        for start in range(0, 20, 4):
            await tell(post.publish, PARCELS, range(start, start + 4))
            await until(lambda least=3 * start: post.acknowledged > least)
            await terminate_backends(database, "pliers%")
        await office.parcels(dict.fromkeys(PARCELS, 20), seconds=60)
        assert post.acknowledged == 20 * len(PARCELS)


async def test_a_lane_that_was_lost_writes_nothing(office: Office, post: Post) -> None:
    """Whoever holds the lane now reads the same messages; who held it before is fenced off, and gives up."""
    await office.publish()
    source = await office.source(ADDRESS)
    await until(lambda: post.opened == 1)
    stale = asyncio.Event()
    passed: list[int] = []

    async def hold(messages: Any) -> None:
        passed.append(len(messages))
        if len(passed) == 1:
            await stale.wait()

    post.giving = hold
    await post.publish("P-0", 0)
    await until(lambda: passed)
    # Somebody else takes the lane while this node believes to hold it.
    await office.engine.pool.execute(
        "UPDATE feed_lanes SET fencing_token = fencing_token + 1, lease_owner = 'other', "
        "lease_until = now() + interval '1 second' WHERE reader = $1",
        f"source/{source}",
    )
    stale.set()
    await asyncio.sleep(0.3)
    assert await office.engine.pool.fetchval("SELECT count(*) FROM inbound_events") == 0
    assert post.acknowledged == 0
    # The other one has died: its lease lapses, and this node reads again.
    await office.parcels({"P-0": 1})


async def test_two_nodes_and_one_source(database: str, post: Post) -> None:
    """One of them reads; when it goes, the other one does, from where it was."""
    async with office_on(database) as first:
        await first.publish()
        async with office_on(database) as second:
            await first.source(ADDRESS)
            await tell(post.publish, PARCELS, range(6))
            await first.parcels(dict.fromkeys(PARCELS, 6))
            assert len(post.given) == len(set(post.given)) == 18
            held = [
                each
                for each in (first, second)
                if [k for k in each.engine.feed.lanes.held if k[0].startswith("source/")]
            ]
            assert len(held) == 1
            await held[0].engine.close()
            await tell(post.publish, PARCELS, range(6, 9))
            (left,) = {first, second} - set(held)
            await left.parcels(dict.fromkeys(PARCELS, 9))
            assert len(post.given) == len(set(post.given)) == 27


async def test_what_the_reader_before_has_left(database: str, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed and acknowledged, and not carried out when the node died: whoever takes the lane does that first."""
    async with office_on(database) as first:
        await first.publish()

        async def never(*_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(first.engine.inbox._actor, "act", never)
        await tell(post.publish, ["P-0"], range(3))
        await first.source(ADDRESS)
        await until(lambda: post.acknowledged == 3)
        # It goes as if it had died: what it has begun is not finished.
        await first.engine.feed.lanes.close()
        for task in first.engine.inbox._tasks:
            task.cancel()
        async with office_on(database) as second:
            await tell(post.publish, ["P-0"], range(3, 5))
            await second.parcels({"P-0": 5})


async def test_while_the_broker_is_away_nothing_spins(office: Office, post: Post) -> None:
    """Each attempt waits longer than the one before."""
    tries: list[float] = []

    async def refuse(_: Any) -> None:
        tries.append(asyncio.get_running_loop().time())
        raise BrokerError("not today")

    post.giving = refuse
    post.put(b"{}")
    source = await office.source(ADDRESS)
    await until(lambda: len(tries) >= 6)
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert all(wait >= 0.5 * min(0.02 * 2**number, 0.2) for number, wait in enumerate(waits))
    seen = await office.look(source)
    assert (seen["lastError"], seen["received"]) == ("not today", 0)
    health = (await office.admin("GET", "/workflows/health", status=200)).json()
    assert health["details"]["eventSources"]["failing"] == 1
    assert f"source/{source}" not in [each["name"] for each in health["details"]["log"]["readers"]]


async def test_a_source_that_this_release_cannot_read(office: Office, post: Post) -> None:
    """It stops nobody else: the node's other readers go on."""
    await office.publish()
    broken = await office.source(ADDRESS, name="broken", enabled=False)
    changed = '{"broker": {"type": "redis", "url": "redis://127.0.0.1:1", "stream": "s", "newer": 1}, "mapping": null, "batchSize": 1}'
    await office.engine.pool.execute(
        "UPDATE event_sources SET enabled = true, configuration = $2::text::jsonb WHERE id = $1::text::uuid",
        broken,
        changed,
    )
    await office.source(ADDRESS)
    await tell(post.publish, PARCELS, range(3))
    await office.parcels(dict.fromkeys(PARCELS, 3))
    await office.engine.pool.execute(
        "UPDATE event_sources SET updated_at = now() - interval '1 hour' WHERE id = $1::text::uuid", broken
    )
    health = (await office.admin("GET", "/workflows/health", status=200)).json()
    assert health["details"]["eventSources"]["unread"] == 1
    assert "event_source_unread" in str(health)


async def test_disabled_and_enabled(office: Office, post: Post) -> None:
    """What comes meanwhile waits in the broker."""
    await office.publish()
    source = await office.source(ADDRESS, enabled=False)
    await tell(post.publish, ["P-0"], range(2))
    await office.admin("POST", f"/event-sources/{source}/enable", status=200)
    await office.parcels({"P-0": 2})
    await office.admin("POST", f"/event-sources/{source}/disable", status=200)
    await until(lambda: not [key for key in office.engine.feed.lanes.held if key[0].startswith("source/")])
    opened = post.opened
    await tell(post.publish, ["P-0"], range(2, 4))
    await asyncio.sleep(0.5)
    assert (post.opened, post.acknowledged) == (opened, 2)
    await office.admin("POST", f"/event-sources/{source}/enable", status=200)
    await office.parcels({"P-0": 4})
