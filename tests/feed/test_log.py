"""The horizon: nothing appears at or below it any more, and it moves on; and the log as a node reads it up to there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pliers_workflow.interpreter.commands import FireTrigger
from pliers_workflow.runtime.feed import LoggedRow, lane_of
from pliers_workflow.runtime.feed.log import Log
from pliers_workflow.runtime.feed.relay import Relay
from pliers_workflow.storage import identity, queries
from pliers_workflow.storage.paging import BadCursor

from .conftest import World, until

if TYPE_CHECKING:
    from asyncpg.pool import Pool

_sql = queries.load("feed")


async def add_row(connection: Any, instance_id: str, seq: int = 1, tenant_id: str = "default") -> int:
    """A history row, written as `save_batch` does: announced first, positions after that."""
    await connection.execute("SELECT pg_advisory_xact_lock_shared(7254031)")
    position = await connection.fetchval(
        "INSERT INTO workflow_execution_history (tenant_id, workflow_instance_id, seq, id, command_id, action_type, "
        "execution_data, executed_at, previous_hash, hash) "
        "VALUES ($1, $2, $3, $4, 'c', 'start', '{}', now(), '', sha256('')) RETURNING position",
        tenant_id,
        instance_id,
        seq,
        identity.history_id(instance_id, seq),
    )
    return int(position)


def instance(number: int) -> str:
    return f"019cabd8-3800-7bc6-8000-{number:012x}"


@pytest.fixture
async def other(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection of somebody else."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


def make_log(pool: Pool[Any], **options: Any) -> Log:
    return Log(pool, **{"poll": 0.05, "rows_max": 1000, "size_max": 1_000_000, **options})


async def horizon_of(pool: Pool[Any]) -> int:
    row = await pool.fetchrow(_sql.horizon)
    return int(row["horizon"])


async def test_the_horizon_waits_for_those_who_may_have_taken_a_position(
    pool: Pool[Any], other: asyncpg.Connection[Any]
) -> None:
    """A writer that has a position and has not committed holds the horizon below it; one that comes later does not."""
    relay = Relay(pool, owner="one", poll=1)
    slow = other.transaction()
    await slow.start()
    early = await add_row(other, instance(1))
    async with pool.acquire() as connection:
        late = await add_row(connection, instance(2))
    moving = asyncio.create_task(relay.tick())
    await asyncio.sleep(0.1)
    assert await horizon_of(pool) == 0, "a row below would appear later"
    async with pool.acquire() as connection, connection.transaction():
        await add_row(connection, instance(3))
        await slow.commit()
        await asyncio.wait_for(moving, 5)
    assert (early, late, await horizon_of(pool)) == (1, 2, 2)


async def test_a_writer_that_fails_leaves_a_gap(pool: Pool[Any], other: asyncpg.Connection[Any]) -> None:
    """Positions of transactions that were rolled back are passed over."""
    relay = Relay(pool, owner="one", poll=1)
    failing = other.transaction()
    await failing.start()
    await add_row(other, instance(1))
    async with pool.acquire() as connection:
        kept = await add_row(connection, instance(2))
    await failing.rollback()
    await relay.tick()
    log = make_log(pool)
    await log.refresh()
    assert log.high == kept == 2
    assert [row.position for row in (await log._from_database(0, 10, None, 0, 1)).rows] == [kept]


async def test_one_relay_at_a_time(pool: Pool[Any]) -> None:
    """Of two relays one moves the horizon; when it goes, the other takes over."""
    one, two = Relay(pool, owner="one", poll=1), Relay(pool, owner="two", poll=1)
    assert await one.tick()
    assert not await two.tick()
    await one.start()
    await one.close()
    assert await two.tick()
    assert (one.leads, two.leads) == (False, True)


async def test_the_engines_own_role_can_do_it(database: str) -> None:
    """Relay, log and lanes work with the rights of `pliers_engine`, which does not own the tables."""
    from pliers_workflow.runtime.feed.cursors import Cursors, Move
    from pliers_workflow.runtime.feed.reader import Reader
    from pliers_workflow.storage.database import open_pool

    class One(Reader):
        name = "one"
        lanes = 2

    pool = await open_pool(database, role="pliers_engine")
    assert await Relay(pool, owner="one", poll=1).tick()
    log = make_log(pool)
    await log.refresh()
    cursors = Cursors(pool, owner="one")
    await cursors.add(One())
    claimed = await cursors.claim(["one"], 10)
    assert len(claimed) == 2
    await cursors.advance(Move(claimed[0].key, claimed[0].token, 5, True, True))
    assert (await cursors.renew(10)).keys() == {each.key for each in claimed}
    await cursors.release((each.key, each.token) for each in claimed)
    await pool.fetch(_sql.readers, None)
    pool.terminate()


async def test_the_horizon_never_goes_back(pool: Pool[Any]) -> None:
    """A relay that was slow and writes what it found long ago changes nothing."""
    await pool.execute(_sql.move_horizon, 50, 0.0)
    await pool.execute(_sql.move_horizon, 40, 0.0)
    assert await horizon_of(pool) == 50


async def test_a_restored_log_is_another_era(pool: Pool[Any]) -> None:
    """On another server than before the era changes, and cursors of the one before are refused; the first server is none."""
    log = make_log(pool)
    relay = Relay(pool, owner="one", poll=1)
    before = (await pool.fetchrow(_sql.horizon))["era"]
    await relay.tick()
    await log.refresh()
    assert log.era == before
    cursor = log.cursor(0)
    assert await log.position_of(cursor) == 0
    await pool.execute("UPDATE log_horizon SET server = 'elsewhere/1/1'")
    await Relay(pool, owner="one", poll=1).tick()
    await log.refresh()
    assert log.era != before
    with pytest.raises(BadCursor, match="earlier era"):
        await log.position_of(cursor)
    with pytest.raises(BadCursor, match="none of ours"):
        await log.position_of("nonsense")
    with pytest.raises(BadCursor, match="beyond"):
        await log.position_of(log.cursor(10**6))


async def test_window_and_database_say_the_same(pool: Pool[Any]) -> None:
    """Whatever a reader's position, lane and tenant, the window and the database give it the same rows in the same order."""
    await pool.execute("INSERT INTO tenants (id, name) VALUES ('other', 'Other')")
    log = make_log(pool)
    log.follow()
    await log.refresh()
    async with pool.acquire() as connection:
        for number in range(60):
            tenant_id = "other" if number % 5 == 0 else "default"
            await add_row(connection, instance(number * 37), tenant_id=tenant_id)
    await Relay(pool, owner="one", poll=1).tick()
    await log.refresh()
    assert (log.low, log.high) == (0, 60)

    def told(rows: Any) -> list[tuple[int, str]]:
        return [(row.position, row.tenant_id) for row in rows]

    for after in (0, 13, 59, 60):
        for tenant_id in (None, "default", "other"):
            for lane, lanes in ((0, 1), (1, 3), (2, 3), (7, 256)):
                near = await log.read(after, 7, tenant_id=tenant_id, lane=lane, lanes=lanes)
                far = await log._from_database(after, 7, tenant_id, lane, lanes)
                assert told(near.rows) == told(far.rows)
                assert near.upto == far.upto
                assert all(lane_of(row.instance_id, lanes) == lane for row in near.rows)
    whole: list[LoggedRow] = []
    for lane in range(4):
        whole += (await log.read(0, lane=lane, lanes=4)).rows
    assert sorted(told(whole)) == told((await log.read(0)).rows)


async def test_the_window_is_bounded(pool: Pool[Any]) -> None:
    """It keeps the newest rows, and whoever is further back reads from the database."""
    log = make_log(pool, rows_max=100)
    log.follow()
    await log.refresh()
    async with pool.acquire() as connection:
        for round_ in range(3):
            for number in range(80):
                await add_row(connection, instance(round_ * 80 + number))
            await Relay(pool, owner="one", poll=1).tick()
            await log.refresh()
            assert len(log._rows) <= 110
    assert 0 < log.low < log.high == 240
    old = await log.read(0, 500)
    assert [row.position for row in old.rows] == list(range(1, 241))
    log.unfollow()
    assert log.low == log.high


async def test_commands_move_the_horizon_by_themselves(make_world: Any, turnstile: dict[str, Any]) -> None:
    """With everything at work a command is readable within a moment, and health knows how old the horizon is."""
    world: World = await make_world(services=True)
    definition = await world.publish(turnstile)
    await world.people(ada={})
    started = await world.start(definition, data={})
    await until(lambda: world.engine.feed.log.high >= 1, 2)
    await world.do(started.instance.id, "ada", FireTrigger("coin"))
    await until(lambda: world.engine.feed.log.high >= 2, 2)
    age = world.engine.feed.log.horizon_age
    assert age is not None
    assert age < 3
