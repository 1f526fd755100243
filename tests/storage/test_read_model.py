"""Reading: who sees what, in which order, a page at a time."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pliers_workflow.storage import identity, read_model
from pliers_workflow.storage.database import open_pool
from pliers_workflow.storage.migrations import migrations
from pliers_workflow.storage.read_model import BadCursor, Viewer
from tests.databases import Server
from tests.storage.filling import fill, number_id

if TYPE_CHECKING:
    from asyncpg.pool import Pool

N = 600


@pytest.fixture(scope="module")
def filled(server: Server) -> Iterator[str]:
    """The name of a database with 600 instances, of which every fiftieth waits for somebody."""
    name, dsn = server.clone()

    async def make() -> None:
        connection = await asyncpg.connect(dsn)
        await fill(connection, N)
        await connection.close()

    server.run(make())
    yield name
    server.drop(name)


@pytest.fixture
async def pool(server: Server, filled: str) -> AsyncIterator[Pool[Any]]:
    """A pool on a copy of `filled`."""
    name = f"{filled}_copy"
    pool = await open_pool(server.create(name, template=filled), max_size=2)
    yield pool
    pool.terminate()
    server.drop(name)


async def user(pool: Pool[Any], n: int) -> str:
    """The id of the n-th person."""
    async with pool.acquire() as connection:
        return await number_id(connection, "u", n)


async def viewers(pool: Pool[Any]) -> list[Viewer]:
    """A manager, a requester, an auditor (who may view workflow 3), somebody unconcerned, and an operator."""
    return [
        Viewer("default", await user(pool, 5), ("managers",), ("board",)),
        Viewer("default", await user(pool, 100)),
        Viewer("default", await user(pool, 150), ("auditors",)),
        Viewer("default", "00000000-0000-4000-8000-000000000000"),
        Viewer("default", await user(pool, 100), sees_all=True),
    ]


async def all_pages(pool: Pool[Any], viewer: Viewer, limit: int, **filters: Any) -> list[str]:
    """Every id of a list, page by page."""
    ids: list[str] = []
    cursor = None
    while True:
        page = await read_model.list_instances(pool, viewer, limit=limit, cursor=cursor, **filters)
        ids.extend(instance.id for instance in page.items)
        if (cursor := page.next_cursor) is None:
            return ids


async def test_lists_agree_with_the_predicate(pool: Pool[Any]) -> None:
    """A list finds exactly the instances that the predicate lets through one by one, for every kind of viewer."""
    everything = [row["id"] for row in await pool.fetch("SELECT id::text FROM workflow_instances ORDER BY id DESC")]
    sizes = []
    for viewer in await viewers(pool):
        seen = [one for one in everything if await read_model.is_visible(pool, viewer, one)]
        assert await all_pages(pool, viewer, 37) == seen
        sizes.append(len(seen))
    # A manager was asked about all; a requester sees their own; an auditor those and one workflow in twenty.
    assert sizes[0] == N
    assert 0 < sizes[1] < sizes[2] < N
    assert sizes[3:] == [0, N]


async def test_filters_narrow(pool: Pool[Any]) -> None:
    """Every filter keeps what it says and nothing else, alone and together with others, for those who see some or all."""
    kept: dict[str, Any] = {
        "definition_name": "workflow_3",
        "status": "waiting",
        "state": "review",
        "version": "1.0.0",
        "created_after": datetime(2026, 1, 1, 3, tzinfo=UTC),
        "created_before": datetime(2026, 1, 1, 9, tzinfo=UTC),
        "requester": await user(pool, 51),
    }
    manager, *_, operator = await viewers(pool)
    for viewer in (manager, operator):
        whole = {one: await read_model.get_instance(pool, operator, one) for one in await all_pages(pool, viewer, 200)}
        for names in itertools.chain(((name,) for name in kept), (("status", "state", "created_before"),)):
            filters = {name: kept[name] for name in names}
            expected = [one for one, instance in whole.items() if instance and _passes(instance, filters)]
            assert await all_pages(pool, viewer, 50, **filters) == expected, filters
            assert expected or names == ("requester",), filters


async def test_live_instances_are_those_one_sees_and_that_are_live(pool: Pool[Any]) -> None:
    """Lists of live statuses go another way than the list of everything; for every kind of viewer they agree."""
    operator = (await viewers(pool))[-1]
    live = {"running", "waiting", "suspended"}
    statuses = {
        one.id: one.status.value
        for status in live
        for one in [
            await read_model.get_instance(pool, operator, each)
            for each in await all_pages(pool, operator, 200, status=status)
        ]
        if one is not None
    }
    found = 0
    for viewer in await viewers(pool):
        seen = await all_pages(pool, viewer, 200)
        for wanted in ({"waiting"}, live):
            expected = [one for one in seen if statuses.get(one) in wanted]
            assert await all_pages(pool, viewer, 60, status=sorted(wanted)) == expected
            found += len(expected)
    assert found


def _passes(instance: read_model.InstanceView, filters: dict[str, Any]) -> bool:
    checks = {
        "definition_name": lambda value: instance.definition_name == value,
        "status": lambda value: instance.status == value,
        "state": lambda value: instance.current_state == value,
        "version": lambda value: instance.version == value,
        "created_after": lambda value: instance.created_at >= value,
        "created_before": lambda value: instance.created_at < value,
        "requester": lambda value: instance.requester == value,
    }
    return all(checks[name](value) for name, value in filters.items())


async def test_paging_is_complete_under_inserts(pool: Pool[Any]) -> None:
    """Instances that are started while one pages move nothing: what was there is given once, in order."""
    *_, operator = await viewers(pool)
    before = await all_pages(pool, operator, 500)
    ids: list[str] = []
    cursor = None
    for extra in itertools.count(1):
        page = await read_model.list_instances(pool, operator, limit=70, cursor=cursor)
        ids.extend(instance.id for instance in page.items)
        if (cursor := page.next_cursor) is None:
            break
        await pool.execute(
            "INSERT INTO workflow_instances (tenant_id, id, workflow_definition_id, workflow_name, workflow_version, "
            "current_state, configuration, machine, revision, history_hash, last_activity_at, created_at, updated_at) "
            "SELECT tenant_id, number_id('i', $1), workflow_definition_id, workflow_name, workflow_version, current_state, "
            "configuration, machine, 1, history_hash, now(), now(), now() FROM workflow_instances LIMIT 1",
            N + extra,
        )
    assert ids == before


async def test_another_tenant_sees_nothing(pool: Pool[Any]) -> None:
    """Not even an operator of another tenant finds an instance, its work items or its history, by list or by id."""
    await pool.execute("INSERT INTO tenants (id, name) VALUES ('other', 'Other')")
    *_, operator = await viewers(pool)
    stranger = Viewer("other", operator.user_id, ("managers",), ("board",), sees_all=True)
    one = (await read_model.list_instances(pool, operator, limit=1)).items[0].id
    assert (await read_model.list_instances(pool, stranger)).items == ()
    assert await read_model.get_instance(pool, stranger, one) is None
    assert await read_model.pending_approvals(pool, stranger, one) is None
    assert await read_model.history(pool, stranger, one) is None
    assert await read_model.timeline(pool, stranger, one) is None
    assert (await read_model.inbox(pool, stranger, operator.user_id)).items == ()


async def test_inbox_shows_a_stage_once_longest_waiting_first(pool: Pool[Any]) -> None:
    """A person who is asked by name and by role finds the stage once, by name; pages give everything in order."""
    manager = (await viewers(pool))[0]
    items: list[read_model.InboxItem] = []
    cursor = None
    while True:
        page = await read_model.inbox(
            pool, manager, manager.user_id, limit=5, cursor=cursor, fields=("amount", "nothing")
        )
        items.extend(page.items)
        if (cursor := page.next_cursor) is None:
            break
    waiting = await all_pages(pool, manager, 100, status="waiting")
    assert [item.instance_id for item in items] == sorted(waiting)
    assert [item.created_at for item in items] == sorted(item.created_at for item in items)
    by_name = {item.instance_id for item in items if item.approver_type == "user"}
    asked = await pool.fetch(
        "SELECT workflow_instance_id::text AS id FROM workflow_approvals WHERE approver_key = $1 AND action IS NULL",
        manager.user_id,
    )
    assert by_name == {row["id"] for row in asked} != set()
    assert items[0].data == {"amount": 50}
    assert (items[0].definition_title, items[0].requester_username) == ("Workflow 11", "user51")


async def test_inbox_forgets_a_stage_one_has_voted_in(pool: Pool[Any]) -> None:
    """Of a role that must decide twice, whoever has voted is not asked again; the others are."""
    manager = (await viewers(pool))[0]
    other = Viewer("default", await user(pool, 6), ("managers",))
    first = (await read_model.inbox(pool, manager, manager.user_id, limit=1)).items[0]
    await pool.execute(
        "UPDATE workflow_approvals SET action = 'approve', decided_by = $2, decided_at = now() "
        "WHERE workflow_instance_id = $1 AND approver_type = 'user'",
        first.instance_id,
        manager.user_id,
    )
    mine = await read_model.inbox(pool, manager, manager.user_id)
    theirs = await read_model.inbox(pool, other, other.user_id)
    assert first.instance_id not in {item.instance_id for item in mine.items}
    assert first.instance_id in {item.instance_id for item in theirs.items}


async def test_inbox_of_one_workflow(pool: Pool[Any]) -> None:
    """An inbox can be narrowed to a workflow."""
    manager = (await viewers(pool))[0]
    page = await read_model.inbox(pool, manager, manager.user_id, definition="workflow_11")
    assert {item.definition_name for item in page.items} == {"workflow_11"}


async def test_work_items_of_an_instance(pool: Pool[Any]) -> None:
    """Open items are given to whoever sees the instance, settled ones on demand, and nothing to the others."""
    manager, _, _, nobody, _ = await viewers(pool)
    done, waiting = await number_id_of(pool, 49), await number_id_of(pool, 50)
    opened = await read_model.pending_approvals(pool, manager, waiting)
    assert opened is not None
    assert [item.item for item in opened] == ["item/1", "item/2"]
    assert await read_model.pending_approvals(pool, manager, done) == ()
    settled = await read_model.pending_approvals(pool, manager, done, everything=True)
    assert settled is not None
    assert {item.action for item in settled} == {"approve"}
    assert await read_model.pending_approvals(pool, nobody, waiting) is None
    assert await read_model.pending_approvals(pool, manager, "no-uuid") is None


async def number_id_of(pool: Pool[Any], n: int) -> str:
    """The id of the n-th instance."""
    async with pool.acquire() as connection:
        return await number_id(connection, "i", n)


async def test_history_pages(pool: Pool[Any]) -> None:
    """History is given in order, after a seq or a cursor, and only to whoever sees the instance."""
    manager, _, _, nobody, _ = await viewers(pool)
    one = await number_id_of(pool, 7)
    first = await read_model.history(pool, manager, one, limit=1)
    assert first is not None
    assert first.next_cursor is not None
    second = await read_model.history(pool, manager, one, limit=1, cursor=first.next_cursor)
    assert second is not None
    assert [entry.seq for entry in (*first.items, *second.items)] == [1, 2]
    assert second.next_cursor is None
    after = await read_model.history(pool, manager, one, after_seq=2)
    assert after is not None
    assert after.items == ()
    assert await read_model.history(pool, nobody, one) is None


async def test_timeline_tells_names_and_durations(pool: Pool[Any]) -> None:
    """A timeline says who did what in which state, by their names, and how long each state took."""
    manager = (await viewers(pool))[0]
    someone = manager.user_id
    one = identity.new_instance_id(datetime(2026, 5, 1, tzinfo=UTC))
    await pool.execute(
        "INSERT INTO workflow_instances (tenant_id, id, workflow_definition_id, workflow_name, workflow_version, "
        "current_state, configuration, machine, revision, history_hash, last_activity_at, created_at, updated_at, "
        "requester_id) SELECT tenant_id, $1, workflow_definition_id, workflow_name, workflow_version, 'done', "
        "'{done}', machine, 2, history_hash, now(), now(), now(), $2 FROM workflow_instances LIMIT 1",
        one,
        someone,
    )
    rows: list[tuple[int, datetime, list[dict[str, Any]]]] = [
        (
            1,
            datetime(2026, 5, 1, 9, tzinfo=UTC),
            [
                {"type": "workflow.started", "definition_name": "workflow_1", "version": "1.0.0", "data": {"big": 1}},
                {"type": "workflow.state.entered", "state": "review"},
                {
                    "type": "workflow.approval.requested",
                    "state": "review",
                    "stage": "manager",
                    "item": {"id": "item/1", "seat": 0, "approver_type": "role", "approver": "managers"},
                },
                {"type": "workflow.timer.scheduled", "timer": {}},
            ],
        ),
        (
            2,
            datetime(2026, 5, 1, 11, 30, tzinfo=UTC),
            [
                {
                    "type": "workflow.approval.granted",
                    "state": "review",
                    "stage": "manager",
                    "item": "item/1",
                    "user": someone,
                    "principal": await user(pool, 9),
                },
                {"type": "workflow.state.exited", "state": "review"},
                {"type": "workflow.state.entered", "state": "done"},
                {"type": "workflow.completed", "state": "done"},
            ],
        ),
    ]
    for seq, at, events in rows:
        await pool.execute(
            "INSERT INTO workflow_execution_history (tenant_id, workflow_instance_id, seq, id, command_id, action_type, "
            "execution_data, executed_at, executed_by, previous_hash, hash) "
            "VALUES ('default', $1, $2, gen_random_uuid(), 'command', 'start', $3, $4, $5, '', sha256(''))",
            one,
            seq,
            {"format": 1, "events": events},
            at,
            someone,
        )
    told = await read_model.timeline(pool, manager, one)
    assert told is not None
    assert [entry.summary for entry in told.items] == [
        "User 5 started workflow_1 1.0.0",
        "“Review” began",
        "The role managers was asked to decide “Manager review”",
        "User 5 for User 9 approved “Manager review”",
        "“Review” ended",
        "“done” began",
        "It was completed in “done”",
    ]
    assert told.durations_ms == {"review": 9_000_000, "done": 0}
    assert told.items[1].duration_ms == 9_000_000
    assert "data" not in told.items[0].details


async def test_an_instance_is_read_whole(pool: Pool[Any]) -> None:
    """What the interpreter keeps comes back as it was, with exact numbers."""
    manager = (await viewers(pool))[0]
    one = await number_id_of(pool, 50)
    await pool.execute(
        "UPDATE workflow_instances SET instance_data = $2 WHERE id = $1", one, {"amount": Decimal("1.50")}
    )
    instance = await read_model.get_instance(pool, manager, one)
    assert instance is not None
    assert str(instance.data["amount"]) == "1.50"
    assert instance.configuration == ("review",)
    assert instance.machine.format == 1
    assert instance.revision == 2


@pytest.mark.parametrize("cursor", ["nonsense", "ä", "W10", "WyJ4Il0", ""])
async def test_a_foreign_cursor_is_refused(pool: Pool[Any], cursor: str) -> None:
    """A cursor that is none of ours is told from an empty page."""
    *_, operator = await viewers(pool)
    with pytest.raises(BadCursor):
        await read_model.list_instances(pool, operator, cursor=cursor)
    with pytest.raises(BadCursor):
        await read_model.inbox(pool, operator, operator.user_id, cursor=cursor)


async def test_health_tells_of_stray_rows(pool: Pool[Any], server: Server) -> None:
    """Health says what operations asks first: the schema, the horizon, rows in the default partition."""
    report = await read_model.health(pool)
    assert report["stray_history_rows"] == 2 * N  # the filling was born before the first partition
    assert report["schema"] == migrations()[-1].name
    assert await read_model.due_jobs(pool) == []
