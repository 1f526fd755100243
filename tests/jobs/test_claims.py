"""Claiming steps: in turns, once, flat, and within limits."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from pliers_workflow.runtime.access.audit import Audit
from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.errors import InvalidError, NotFoundError, PreconditionFailedError
from pliers_workflow.runtime.jobs.claims import ClaimedStep, StepClaims
from pliers_workflow.runtime.jobs.lanes import LaneKey
from pliers_workflow.runtime.jobs.limits import StepLimits
from pliers_workflow.settings import Settings
from pliers_workflow.storage import queries
from pliers_workflow.storage.database import after_bulk_load

STEPS = queries.load("steps")

FILL = """
INSERT INTO workflow_jobs (tenant_id, id, kind, workflow_instance_id, name, due_at, priority, queue, definition_name, payload)
SELECT $1, gen_random_uuid(), 'step', gen_random_uuid(), 'step/1', now() + $6::interval + n * interval '1 microsecond',
       $5::int, $2, $3, '{"attempt": 1, "run": {"type": "http"}}'
FROM generate_series(1, $4::int) n
"""


async def fill(
    pool: Any, count: int, *, tenant: str = "default", queue: str = "http", definition: str = "orders", priority: int = 0,
    due: float = -60,
) -> None:  # fmt: skip
    """So many steps of a lane, due so many seconds from now."""
    from datetime import timedelta

    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute(FILL, tenant, queue, definition, count, priority, timedelta(seconds=due))


class Claimer:
    """One node's claims."""

    def __init__(self, pool: Any, name: str) -> None:
        self.pool = pool
        self.claims = StepClaims(pool, Settings())
        self.name = name

    async def __call__(
        self, room: int, *queues: str, lease: float = 30, tenant: str | None = None
    ) -> list[ClaimedStep]:
        self.claims.wake()
        return await self.claims.claim(
            room, lambda _, queue: not queues or queue in queues, owner=self.name, lease=lease, tenant_id=tenant
        )

    async def patiently(self, room: int) -> list[ClaimedStep]:
        """Claim as a worker would: again as soon as that may help, for up to a second."""
        claimed: list[ClaimedStep] = []
        until = time.monotonic() + 1
        while len(claimed) < room and time.monotonic() < until:
            claimed += await self(room - len(claimed))
            if len(claimed) < room:
                await asyncio.sleep(self.claims.again_in() or 0.02)
        return claimed

    async def finish(self, step: ClaimedStep) -> None:
        await self.pool.execute("DELETE FROM workflow_jobs WHERE tenant_id = $1 AND id = $2", step.tenant_id, step.id)


@pytest.fixture
async def claimer(pool: Any) -> Claimer:
    return Claimer(pool, "one")


@pytest.fixture
async def admin(pool: Any) -> Principal:
    user = await pool.fetchval("INSERT INTO users (tenant_id, username) VALUES ('default', 'admin') RETURNING id::text")
    return Principal("default", user, "admin", frozenset({"admin"}))


async def add_tenants(pool: Any, *names: str) -> None:
    await pool.execute("INSERT INTO tenants (id, name) SELECT n, n FROM unnest($1::text[]) n", list(names))


# -- what is claimed ---------------------------------------------------------------------------------------------------


async def test_what_is_due_is_claimed_once(pool: Any, claimer: Claimer) -> None:
    """Under a lease with a token, the oldest first; what is not due, or somebody's, is left alone."""
    await fill(pool, 3)
    await fill(pool, 2, due=60)
    first = await claimer(2)
    assert len(first) == 2
    assert [step.due_at for step in first] == sorted(step.due_at for step in first)
    rest = await claimer(10)
    assert len(rest) == 1
    assert rest[0].due_at > max(step.due_at for step in first)
    assert await claimer(10) == []
    row = await pool.fetchrow("SELECT * FROM workflow_jobs WHERE id = $1", first[0].id)
    assert (row["lease_owner"], row["fencing_token"], row["attempt"]) == ("one", first[0].token, 1)
    assert row["lease_until"] is not None
    assert first[0].payload.attempt == 1


async def test_a_lapsed_lease_is_not_claimed_again(pool: Any, claimer: Claimer) -> None:
    """Nobody knows whether that step ran: its fate is the rescuer's to ask."""
    await fill(pool, 1)
    assert len(await claimer(1, lease=0.01)) == 1
    await asyncio.sleep(0.05)
    claimer.claims.sweep()
    assert await claimer(1) == []


async def test_what_becomes_due_is_found(pool: Any, claimer: Claimer) -> None:
    """A retry that waited for its time is claimed when it has come, without a sweep."""
    assert await claimer(1) == []
    await fill(pool, 1, due=0.2)
    assert await claimer(1) == []
    assert 0 < (await claimer.claims.next_due() or 0) <= 0.2
    await asyncio.sleep(0.2)
    assert len(await claimer.patiently(1)) == 1


async def test_two_claimers_share(pool: Any, claimer: Claimer) -> None:
    """Nothing is claimed twice, nothing is left."""
    await fill(pool, 200)
    other = Claimer(pool, "two")
    rounds = await asyncio.gather(*(one(7) for _ in range(15) for one in (claimer, other)))
    ids = [step.id for steps in rounds for step in steps]
    assert len(ids) == len(set(ids)) == 200


async def test_a_clock_moved_by_hand(pool: Any, claimer: Claimer) -> None:
    """Of such a tenant everything is claimed that is due by its own clock, however far that has leapt."""
    await pool.execute("INSERT INTO tenants (id, name, virtual_now) VALUES ('replay', 'Replay', '2020-01-01')")
    await fill(pool, 5, tenant="replay", due=-86_400)
    assert await claimer(10) == []
    await pool.execute("UPDATE tenants SET virtual_now = now() WHERE id = 'replay'")
    claimed = await claimer.patiently(5)
    assert len(claimed) == 5
    assert all(step.virtual for step in claimed)


# -- fairness ----------------------------------------------------------------------------------------------------------


async def test_a_backlog_starves_nobody(pool: Any, claimer: Claimer) -> None:
    """
    One definition has 100,000 steps that have been due for long, another a single one that is due just now: a second later,
    when every node knows of it, the first claim of ten has it, by the index of lanes, and reads next to nothing.
    """
    await fill(pool, 100_000, definition="busy", due=-3600)
    await after_bulk_load(pool)
    await claimer(1)  # connects and looks at everything once
    await fill(pool, 1, definition="quiet", due=0)
    await asyncio.sleep(1.05)
    claimed = await claimer(10)
    assert Counter(step.definition for step in claimed) == {"busy": 9, "quiet": 1}
    async with pool.acquire() as connection:
        now = await connection.fetchval("SELECT now()")
        transaction = connection.transaction()
        await transaction.start()
        rows = await connection.fetch(
            f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, FORMAT JSON) {STEPS.claim}",
            "default", ["http", "http"], ["busy", "quiet"], [0, 0], [now.replace(year=2000)] * 2,
            ["00000000-0000-0000-0000-000000000000"] * 2, [5, 5], "x", asyncpg_seconds(30),
        )  # fmt: skip
        await transaction.rollback()
        plan = rows[0][0][0]["Plan"]
        text = str(plan)
        assert "workflow_jobs_lane_idx" in text
        assert not re.search(r"'Seq Scan'[^}]*'workflow_jobs'", text), text
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 300
        for statement, arguments, index in (
            (STEPS.fresh_lanes, (now,), "workflow_jobs_kind_idx"),
            (STEPS.all_lanes, (), "workflow_jobs_lane_idx"),
            (STEPS.next_due, (), "workflow_jobs_kind_idx"),
            (
                STEPS.leased,
                ("default", "http", "busy", 0, now, "00000000-0000-0000-0000-000000000000", 500),
                "lane_idx",
            ),
        ):
            found = "\n".join(r[0] for r in await connection.fetch(f"EXPLAIN (COSTS OFF) {statement}", *arguments))
            assert index in found, found
            assert "Seq Scan on workflow_jobs" not in found, found


async def test_tenants_take_turns(pool: Any, claimer: Claimer) -> None:
    """A tenant with many definitions and much to do does not keep another's single step waiting."""
    await add_tenants(pool, "large", "small")
    for number in range(30):
        await fill(pool, 20, tenant="large", definition=f"d{number}", due=-600)
    await fill(pool, 1, tenant="small", due=0)
    claimed = await claimer(8)  # the first one reads all lanes
    assert Counter(step.tenant_id for step in claimed) == {"large": 7, "small": 1}


async def test_priority_goes_first_within_a_definition(pool: Any, claimer: Claimer) -> None:
    """The urgent step is claimed before those that have been due for longer, not before another definition's."""
    await fill(pool, 50, priority=0)
    await fill(pool, 2, priority=-1, due=-1)
    await fill(pool, 2, definition="other", priority=5, due=-1)
    claimed = await claimer(4)
    assert Counter((step.definition, step.queue) for step in claimed) == {("orders", "http"): 2, ("other", "http"): 2}
    priorities = await pool.fetch("SELECT priority FROM workflow_jobs WHERE lease_owner IS NOT NULL")
    assert sorted(row[0] for row in priorities) == [-1, -1, 5, 5]


def asyncpg_seconds(seconds: float) -> Any:
    from datetime import timedelta

    return timedelta(seconds=seconds)


# -- flat under churn --------------------------------------------------------------------------------------------------


@pytest.fixture
async def old_snapshot(database: str) -> AsyncIterator[None]:
    """Somebody's long report: no row that is done from here on can be cleaned away."""
    connection = await asyncpg.connect(database)
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    await connection.fetch("SELECT count(*) FROM workflow_jobs")
    yield
    await transaction.rollback()
    await connection.close()


async def _claim_reads(pool: Any, claimer: Claimer, number: int) -> int:
    """Claim a hundred more steps of a backlog and finish them; how many index entries and rows the claims have read."""
    await fill(pool, 100, due=-7200 + number)
    claimer.claims._lanes.add(LaneKey("default", "http", "orders", 0))  # as what this node commits is known
    await pool.execute("SELECT pg_stat_force_next_flush()")
    before = await pool.fetchval(_TOUCHED)
    claimed = [*await claimer(50), *await claimer(50)]
    await pool.execute("SELECT pg_stat_force_next_flush()")
    touched = await pool.fetchval(_TOUCHED) - before
    assert len(claimed) == 100
    await pool.execute("DELETE FROM workflow_jobs WHERE id = ANY ($1::uuid[])", [step.id for step in claimed])
    return int(touched)


_TOUCHED = """
SELECT (idx_tup_read + (SELECT sum(idx_tup_fetch) FROM pg_stat_user_tables WHERE relname = 'workflow_jobs'))::bigint
FROM pg_stat_user_indexes WHERE indexrelname = 'workflow_jobs_lane_idx'
"""


async def test_claims_stay_flat_while_a_snapshot_is_held(pool: Any, claimer: Claimer, old_snapshot: None) -> None:
    """
    Ten thousand steps are claimed and done while an old snapshot keeps every one of their rows: a claim reads no more at
    the end than at the beginning, because it begins at its mark. From the beginning it would read them all.
    """
    reads = []
    for number in range(100):
        touched = await _claim_reads(pool, claimer, number)
        if number in (3, 4, 5, 97, 98, 99):
            reads.append(touched)
    assert max(reads[3:]) <= max(reads[:3]) + 100, reads
    everything = await pool.fetch(
        "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, FORMAT JSON) SELECT id FROM workflow_jobs WHERE tenant_id = "
        "'default' AND kind = 'step' AND status <> 'dead' AND queue = 'http' AND definition_name = 'orders' AND "
        "priority = 0 ORDER BY due_at, id LIMIT 1"
    )
    plan = everything[0][0][0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] > 300, "nothing was kept: this test proves nothing"


async def test_claiming_and_holding_are_hot(pool: Any, claimer: Claimer) -> None:
    """No claim and no heartbeat changes an indexed column: none of the row's versions needs a new index entry."""
    await fill(pool, 200)
    await pool.execute("SELECT pg_stat_force_next_flush()")
    before = await pool.fetchrow(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'workflow_jobs'"
    )
    claimed = await claimer(200)
    await pool.execute("VACUUM workflow_jobs")  # else there may be no room beside the two versions there are
    rows = await pool.fetch(
        STEPS.hold, [s.tenant_id for s in claimed], [s.id for s in claimed], [s.token for s in claimed], "one",
        asyncpg_seconds(30), [],
    )  # fmt: skip
    assert len(rows) == 200
    await pool.execute("SELECT pg_stat_force_next_flush()")
    after = await pool.fetchrow(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'workflow_jobs'"
    )
    updates, hot = after[0] - before[0], after[1] - before[1]
    assert updates == 400
    assert hot >= 0.9 * updates, f"{hot} of {updates} updates were heap-only"


# -- holding and giving back -------------------------------------------------------------------------------------------


async def test_only_the_holder_prolongs(pool: Any, claimer: Claimer) -> None:
    """A heartbeat reaches what is still ours: not what was given back, begun anew, or is somebody else's."""
    await fill(pool, 4)
    mine, gone, again, theirs = await claimer(4)
    await pool.execute("DELETE FROM workflow_jobs WHERE id = $1", gone.id)
    await pool.execute("UPDATE workflow_jobs SET fencing_token = fencing_token + 1 WHERE id = $1", again.id)
    await pool.execute("UPDATE workflow_jobs SET lease_owner = 'two' WHERE id = $1", theirs.id)
    steps = (mine, gone, again, theirs)
    rows = await pool.fetch(
        STEPS.hold, ["default"] * 4, [s.id for s in steps], [s.token for s in steps], "one", asyncpg_seconds(600), []
    )
    assert [row["id"] for row in rows] == [mine.id]
    lease = await pool.fetchval(
        "SELECT lease_until > now() + interval '9 minutes' FROM workflow_jobs WHERE id = $1", mine.id
    )
    assert lease


async def test_a_heartbeat_waits_for_nobody(pool: Any, claimer: Claimer) -> None:
    """A row that a commit is about to drop is not waited for, and counts as ours until it is gone."""
    await fill(pool, 2)
    steps = await claimer(2)
    async with pool.acquire() as other, other.transaction():
        await other.execute("DELETE FROM workflow_jobs WHERE id = $1", steps[0].id)
        rows = await asyncio.wait_for(
            pool.fetch(
                STEPS.hold, ["default"] * 2, [s.id for s in steps], [s.token for s in steps], "one",
                asyncpg_seconds(30), [],
            ), 5,
        )  # fmt: skip
    assert len(rows) == 2


async def test_what_is_given_back_is_claimed_at_once(pool: Any, claimer: Claimer) -> None:
    """Another node need not wait for a sweep, although its mark has passed the job; and no attempt was used up."""
    await fill(pool, 50)
    other = Claimer(pool, "two")
    steps = await claimer(50)
    assert await other(10) == []
    await pool.execute(STEPS.give_back, "default", [s.id for s in steps], [s.token for s in steps], [0.0] * 50, "one")
    again = await other.patiently(50)
    assert {step.id for step in again} == {step.id for step in steps}
    assert all(step.token == 2 for step in again)
    assert await pool.fetchval("SELECT max(attempt) FROM workflow_jobs") == 1


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def limits(pool: Any) -> StepLimits:
    return StepLimits(pool, Audit(pool))


async def test_no_more_than_the_limit_run(pool: Any, claimer: Claimer, limits: StepLimits, admin: Principal) -> None:
    """Two claimers together never have more than the limit says, whatever they ask for; other queues are not bounded."""
    await limits.put(admin, "http", max_running=5, rate=None, per_seconds=None)
    await fill(pool, 100)
    await fill(pool, 10, queue="script")
    other = Claimer(pool, "two")
    rounds = await asyncio.gather(*(one(9, "http") for _ in range(5) for one in (claimer, other)))
    held = [step for steps in rounds for step in steps]
    assert len(held) == 5
    assert all(step.limited for step in held)
    assert (await limits.get("default", "http")).running == 5
    assert len(await claimer(20, "script")) == 10
    from pliers_workflow.runtime.jobs.limits import release

    for step in held[:2]:
        await claimer.finish(step)
        await release(pool, "default", step.queue, step.id, step.token)
    for one in (claimer, other):
        one.claims.reopen("default", "http")
    rounds = await asyncio.gather(claimer(9, "http"), other(9, "http"))
    assert sum(map(len, rounds)) == 2


async def test_a_silent_workers_slots_are_free_again(
    pool: Any, claimer: Claimer, limits: StepLimits, admin: Principal
) -> None:
    """A slot ends with its lease; heartbeats prolong both."""
    await limits.put(admin, "http", max_running=1, rate=None, per_seconds=None)
    await fill(pool, 3)
    (step,) = await claimer(3, lease=30)
    await pool.fetch(STEPS.hold, ["default"], [step.id], [step.token], "one", asyncpg_seconds(600), ["http"])
    assert await pool.fetchval("SELECT bool_and(until > now() + interval '9 minutes') FROM step_slots")
    assert await Claimer(pool, "two")(3) == []
    await pool.execute("UPDATE step_slots SET until = now() - interval '1 s'")
    assert len(await Claimer(pool, "three")(3)) == 1


async def test_whoever_is_late_keeps_the_place_of_the_next(
    pool: Any, claimer: Claimer, limits: StepLimits, admin: Principal
) -> None:
    """The next attempt of a step is the same job: its place is not given back by the attempt before."""
    from pliers_workflow.runtime.jobs.limits import release

    await limits.put(admin, "http", max_running=2, rate=None, per_seconds=None)
    await fill(pool, 1)
    (late,) = await claimer(1)
    await pool.execute(  # it has failed, and is written anew
        "UPDATE workflow_jobs SET lease_owner = NULL, lease_until = NULL, fencing_token = fencing_token + 1"
    )
    (step,) = await Claimer(pool, "two")(1)
    assert step.id == late.id
    await release(pool, "default", late.queue, late.id, late.token)
    assert (await limits.get("default", "http")).running == 1
    await release(pool, "default", step.queue, step.id, step.token)
    assert (await limits.get("default", "http")).running == 0


async def test_what_was_claimed_before_the_database_went_away_is_run(
    pool: Any, claimer: Claimer, limits: StepLimits, admin: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is this node's already: thrown away, its leases would lapse and each would have lost an attempt."""
    from pliers_workflow.runtime.jobs import limits as module

    await limits.put(admin, "script", max_running=5, rate=None, per_seconds=None)
    await fill(pool, 10)
    await fill(pool, 10, queue="script")

    async def away(*_: Any) -> Any:
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    with monkeypatch.context() as broken:
        broken.setattr(module, "hold", away)
        steps = await claimer(30)
        assert Counter(step.queue for step in steps) == {"http": 10}
        with pytest.raises(asyncpg.ConnectionDoesNotExistError):
            await claimer(30)
    assert Counter(step.queue for step in await claimer(30)) == {"script": 5}


async def test_a_type_bounds_all_its_queues(pool: Any, claimer: Claimer, limits: StepLimits, admin: Principal) -> None:
    """A limit for `plugin` is about all plugins together, beside one plugin's own."""
    await limits.put(admin, "plugin", max_running=4, rate=None, per_seconds=None)
    await limits.put(admin, "plugin:erp", max_running=1, rate=None, per_seconds=None)
    for name in ("erp", "crm", "mail"):
        await fill(pool, 10, queue=f"plugin:{name}")
    claimed = await claimer(30)
    counts = Counter(step.queue for step in claimed)
    assert sum(counts.values()) == 4
    assert counts["plugin:erp"] <= 1


@pytest.mark.parametrize(
    ("key", "lanes"),
    [
        ("http", [("http", "orders"), ("http", "letters"), ("http", "bills")]),
        ("plugin", [("plugin:erp", "orders"), ("plugin:crm", "orders"), ("plugin:crm", "bills")]),
    ],
)
@pytest.mark.parametrize("room", [1, 16])
async def test_turns_within_a_limit(
    pool: Any, claimer: Claimer, limits: StepLimits, admin: Principal, room: int, key: str, lanes: list[tuple[str, str]]
) -> None:
    """Where a limit lets fewer begin than wait, definitions and queues take turns, however much the first of them has."""
    from pliers_workflow.runtime.jobs.limits import release

    await limits.put(admin, key, max_running=2, rate=None, per_seconds=None)
    for queue, definition in lanes:
        await fill(pool, 50, queue=queue, definition=definition)
    seen: Counter[tuple[str, str]] = Counter()
    running: list[ClaimedStep] = []
    for _ in range(18):
        running += await claimer(room)
        step = running.pop(0)
        seen[step.queue, step.definition] += 1
        await claimer.finish(step)
        await release(pool, "default", step.queue, step.id, step.token)
        for queue, _ in lanes:
            claimer.claims.reopen("default", queue)
    assert set(seen) == set(lanes)
    assert min(seen.values()) >= 3, seen


async def test_a_rate(pool: Any, claimer: Claimer, limits: StepLimits, admin: Principal) -> None:
    """So many begin at once, then so many in a time, two claimers together."""
    await limits.put(admin, "http", max_running=None, rate=10, per_seconds=1.0)
    await fill(pool, 100)
    other = Claimer(pool, "two")
    began = time.monotonic()
    claimed = sum(map(len, await asyncio.gather(claimer(50), other(50))))
    assert claimed == 10
    while claimed < 20:
        await asyncio.sleep(0.05)
        claimed += sum(map(len, await asyncio.gather(claimer(50), other(50))))
        assert claimed <= 10 + 10 * (time.monotonic() - began) + 1
    assert time.monotonic() - began > 0.8


async def test_a_limit_of_nothing_pauses_a_queue(
    pool: Any, claimer: Claimer, limits: StepLimits, admin: Principal
) -> None:
    """`max_running` 0 begins nothing; lifting it lets them go on, within a second."""
    await limits.put(admin, "http", max_running=0, rate=None, per_seconds=None)
    await fill(pool, 3)
    assert await claimer(3) == []
    await limits.delete(admin, "http")
    await asyncio.sleep(1.05)
    claimer.claims.sweep()
    assert len(await claimer(3)) == 3


async def test_limits_are_set_by_revision_and_on_record(limits: StepLimits, admin: Principal, pool: Any) -> None:
    """A limit makes sense or is refused; a change that rests on an old reading too."""
    made = await limits.put(admin, "http", max_running=5, rate=None, per_seconds=None)
    changed = await limits.put(admin, "http", max_running=6, rate=2, per_seconds=1, if_match=made.revision)
    assert (changed.max_running, changed.rate, changed.revision) == (6, 2, made.revision + 1)
    with pytest.raises(PreconditionFailedError):
        await limits.put(admin, "http", max_running=7, rate=None, per_seconds=None, if_match=made.revision)
    for wrong in (
        {},
        {"rate": 1},
        {"max_running": -1},
        {"rate": 0, "per_seconds": 1.0},
        {"rate": 1, "per_seconds": 0.0},
    ):
        with pytest.raises(InvalidError):
            await limits.put(admin, "http", **{"max_running": None, "rate": None, "per_seconds": None, **wrong})  # type: ignore[arg-type]
    await limits.delete(admin, "http")
    with pytest.raises(NotFoundError):
        await limits.delete(admin, "http")
    actions = [row["action"] for row in await pool.fetch("SELECT action FROM audit_log ORDER BY seq")]
    assert actions == ["step_limit.put", "step_limit.put", "step_limit.deleted"]
