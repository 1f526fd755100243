"""Hot statements keep their indexes: at size, and also when they were prepared while the tables were still empty."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pliers_workflow.storage import queries
from pliers_workflow.storage.database import (
    LOOK_EVERY,
    LOOK_EVERY_YOUNG,
    EngineConnection,
    after_bulk_load,
    discard_stale_plans,
    open_pool,
)
from pliers_workflow.storage.parts import integers, texts
from pliers_workflow.storage.read_model.viewer import ROWS, VISIBLE_TO
from tests.databases import Server
from tests.storage.filling import fill, number_id

if TYPE_CHECKING:
    from asyncpg.pool import Pool

#: 20,000 instances: 100,000 rows in the hot tables
N = 20_000
SEQUENTIAL = re.compile(r"Seq Scan on (workflow_(?:instances|approvals|execution_history|jobs)\w*|idempotency_records)")

INSTANCES = queries.load("read_instances", visible_to=VISIBLE_TO, filters="", rows="51")
WAITING = queries.load("read_instances", visible_to=VISIBLE_TO, filters=" AND i.status IN ('waiting')", rows="51")
APPROVALS = queries.load("read_approvals", visible_to=VISIBLE_TO, filters="", rows="51")
HISTORY = queries.load("read_history", visible_to=VISIBLE_TO)
BATCH = queries.load("instances")
FEED = queries.load("feed")
assert ROWS not in APPROVALS.inbox

TOP = "ffffffff-ffff-ffff-ffff-ffffffffffff"
LOWEST = "00000000-0000-0000-0000-000000000000"
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def large(server: Server) -> Iterator[str]:
    """The DSN of a database of some size, with statistics."""
    name, dsn = server.clone()

    async def make() -> None:
        connection = await asyncpg.connect(dsn)
        await fill(connection, N)
        await connection.execute("VACUUM ANALYZE")
        await connection.close()

    server.run(make())
    yield dsn
    server.drop(name)


@pytest.fixture
async def pool(large: str) -> AsyncIterator[Pool[Any]]:
    """One connection to the large database."""
    pool = await open_pool(large, min_size=1, max_size=1)
    yield pool
    pool.terminate()


async def plan(connection: Any, statement: str, *parameters: Any) -> str:
    """The plan of a statement with these parameters."""
    return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN (COSTS OFF) {statement}", *parameters))


def batch_of(ids: list[str], *keys: list[str]) -> list[str]:
    """The parameters of a batch's read: these instances, known at no revision, and the columns of idempotency keys."""
    return [texts(["default"] * len(ids)), texts(ids), integers([0] * len(ids)), *("\x1f".join(key) for key in keys)]


async def test_hot_reads_use_their_indexes(pool: Pool[Any]) -> None:
    """No hot statement reads a table of instances, work items, history or jobs from end to end, for any kind of viewer."""
    async with pool.acquire() as connection:
        manager = ("default", await number_id(connection, "u", 5), ["managers"], ["board"], False)
        requester = ("default", await number_id(connection, "u", 100), [], [], False)
        one = await number_id(connection, "i", 50)
        ids = [await number_id(connection, "i", n) for n in range(1, 200)]
        keys = [["default"] * 5, ["user"] * 5, ["route"] * 5, [f"key{n}" for n in range(5)]]
        cases: list[tuple[str, tuple[Any, ...], str]] = [
            (INSTANCES.list_all, ("default", True, TOP), "workflow_instances_pkey"),
            (WAITING.list_all, ("default", True, TOP), "idx_workflow_instances_status"),
            (
                INSTANCES.list_of_workflow,
                ("default", True, TOP, "workflow_11"),
                "idx_workflow_instances_workflow_id",
            ),
            (FEED.tail, (100, 600, 500), "workflow_execution_history_default_position_idx"),
            (
                FEED.lane_of_tenant,
                (100, 20_100, 500, 4, 1, "default"),
                "workflow_execution_history_default_position_idx",
            ),
            (BATCH.load_batch, batch_of(ids, *keys), "workflow_instances_pkey"),
        ]
        for viewer in (manager, requester):
            cases += [
                (INSTANCES.get_instance, (*viewer, one), "workflow_instances_pkey"),
                (INSTANCES.list_visible, (*viewer, TOP), "idx_workflow_instances_requester"),
                (INSTANCES.list_visible, (*viewer, TOP), "workflow_approvals_asked_idx"),
                (WAITING.list_visible, (*viewer, TOP), "workflow_approvals_asked_idx"),
                (INSTANCES.list_visible_live, (*viewer, TOP, ["waiting"]), "idx_workflow_instances_status"),
                (APPROVALS.of_instance, (*viewer, one, False), "workflow_approvals"),
                (
                    APPROVALS.inbox,
                    (*viewer, viewer[1], LONG_AGO, LOWEST, []),
                    "idx_workflow_approvals_approver",
                ),
                (HISTORY.page, (*viewer, one, 0, 101), "workflow_execution_history_default_pkey"),
            ]
        for statement, parameters, index in cases:
            found = await plan(connection, statement, *parameters)
            assert index in found, found
            assert not SEQUENTIAL.search(found), found


async def test_an_inbox_reads_little(pool: Pool[Any]) -> None:
    """What an inbox reads does not grow with what is done: a page of it touches a few hundred pages of memory, no disk."""
    async with pool.acquire() as connection:
        person = await number_id(connection, "u", 5)
        viewer = ("default", person, ["managers"], ["board"], True)
        rows = await connection.fetch(
            f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, FORMAT JSON) {APPROVALS.inbox}",
            *viewer, person, LONG_AGO, LOWEST, [],
        )  # fmt: skip
    touched = rows[0][0][0]["Plan"]
    assert touched["Actual Rows"] == 51
    assert touched["Shared Hit Blocks"] + touched["Shared Read Blocks"] < 2_000


async def test_lists_read_little_without_statistics(server: Server) -> None:
    """Lists of 20,000 instances that nobody analysed: a page of an inbox, and of a workflow's, touches few pages."""
    name, dsn = server.clone()
    connection = await asyncpg.connect(dsn)
    try:
        for table in ("workflow_instances", "workflow_approvals", "workflow_definitions", "users", "directory_members"):
            await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        await fill(connection, N)
        person = await number_id(connection, "u", 5)
        viewer = ("default", person, ["managers"], ["board"], False)
        for statement, parameters, rows in (
            (APPROVALS.inbox, (*viewer, person, LONG_AGO, LOWEST, []), 51),
            (INSTANCES.list_of_workflow, ("default", True, TOP, "workflow_11"), 51),
        ):
            explained = await connection.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, FORMAT JSON) {statement}", *parameters
            )
            touched = json.loads(explained)[0]["Plan"]
            assert touched["Actual Rows"] == rows
            assert touched["Shared Hit Blocks"] + touched["Shared Read Blocks"] < 2_000, explained
    finally:
        await connection.close()
        server.drop(name)


async def test_a_claim_reads_what_is_due_and_not_what_is_due_some_day(server: Server) -> None:
    """Ten of 20,000 timers are due, fewer than may be claimed, and no statistics tell: a few pages are read all the same."""
    name, dsn = server.clone()
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("ALTER TABLE workflow_jobs SET (autovacuum_enabled = false)")
        await connection.execute(
            "INSERT INTO workflow_jobs (tenant_id, id, kind, workflow_instance_id, name, due_at)"
            " SELECT 'default', gen_random_uuid(), 'timer', gen_random_uuid(), 'timer/1', now() + (n - 10) * interval '1 minute'"
            " FROM generate_series(1, 20000) n"
        )
        claim = queries.load("jobs").claim_due
        parameters = ("default", LONG_AGO, 500, "me", timedelta(seconds=30), "timer", LOWEST)
        rows = await connection.fetch(
            f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, FORMAT JSON) {claim}", *parameters
        )
        touched = json.loads(rows[0][0])[0]["Plan"]
        assert touched["Actual Rows"] == 10
        assert touched["Shared Hit Blocks"] + touched["Shared Read Blocks"] < 200
    finally:
        await connection.close()
        server.drop(name)


async def test_plans_made_on_empty_tables_are_thrown_away(server: Server) -> None:
    """
    The rule of plans: prepared on empty tables, then loaded without ANALYZE, a statement gets a new plan in the same
    connection as soon as the rule is asked, and reads by its index.
    """
    name, dsn = server.clone()
    pool = await open_pool(dsn, min_size=1, max_size=1)
    try:
        async with pool.acquire() as connection:
            # Nobody else brings statistics up to date meanwhile.
            for table in ("workflow_instances", "workflow_approvals", "tenants", "idempotency_records"):
                await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
            await connection.execute(f"PREPARE hot AS {BATCH.load_batch}")
            empty = ", ".join(["''"] * 7)
            for _ in range(12):
                await connection.execute(f"EXECUTE hot ({empty})")
            other = await asyncpg.connect(dsn)
            await fill(other, N)
            await other.close()
            ids = [await number_id(connection, "i", n) for n in range(1, 257)]
            parameters = ", ".join([f"'{column}'" for column in batch_of(ids, [], [], [], [])])
            call = f"EXECUTE hot ({parameters})"
            stale = await plan(connection, call)
            assert SEQUENTIAL.search(stale), (
                "the plan from the empty tables is good by itself: this test proves nothing"
            )

            held = connection._con  # type: ignore[union-attr]
            assert isinstance(held, EngineConnection)
            # Young tables are looked at every second, and loading took longer.
            assert held.sizes.look_every == LOOK_EVERY_YOUNG
            assert await discard_stale_plans(connection)
            fresh = await plan(connection, call)
            assert "workflow_instances_pkey" in fresh
            assert not SEQUENTIAL.search(fresh), fresh
            assert not await discard_stale_plans(connection), "it throws away what it has just planned"
            assert held.sizes.look_every == LOOK_EVERY, "it asks more than once a minute"
    finally:
        pool.terminate()
        server.drop(name)


async def test_every_connection_plans_anew_after_a_bulk_load(database: str) -> None:
    """`after_bulk_load` reaches the connections that are idle in the pool, when they are taken next."""
    pool = await open_pool(database, min_size=2, max_size=2)
    async with pool.acquire() as one, pool.acquire() as two:
        for connection in (one, two):
            await connection.execute("PREPARE kept AS SELECT 1")
            await connection.execute("EXECUTE kept")
    await after_bulk_load(pool)
    generations = []
    async with pool.acquire() as one, pool.acquire() as two:
        for connection in (one, two):
            held = connection._con  # type: ignore[union-attr]
            generations.append(held.generation)
            await connection.execute("EXECUTE kept")  # prepared statements themselves are kept
    assert generations == [1, 1]
    pool.terminate()
