"""`GET /api/v1/workflows/health`: what an operator is told, and when there is cause for alarm."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pliers_workflow.runtime.health import Alarm, Reading
from pliers_workflow.storage import identity
from pliers_workflow.storage.read_model import JOB_KINDS
from tests.api.world import World

#: without services: nobody moves the horizon, nobody fires timers
QUIET = {"no_worker", "partitions_missing", "horizon_old"}


async def details(world: World) -> dict[str, Any]:
    """What an operator is told."""
    answer = (await world.admin("GET", "/workflows/health", status=200)).json()
    assert answer["status"] == "up"
    return dict(answer["details"])


async def alarms(world: World) -> dict[str, dict[str, Any]]:
    """Alarms beyond those of a node without services, by name."""
    return {alarm["alarm"]: alarm for alarm in (await details(world))["alarms"] if alarm["alarm"] not in QUIET}


async def add_job(
    world: World, name: str, *, kind: str = "timer", due: str = "0 s", status: str = "ready", leased: bool = False
) -> None:
    await world.engine.pool.execute(
        "INSERT INTO workflow_jobs (tenant_id, id, kind, name, due_at, status, lease_owner, lease_until) VALUES "
        "('default', gen_random_uuid(), $1, $2, now() - $3::text::interval, $4, CASE WHEN $5 THEN 'somebody' END, "
        "CASE WHEN $5 THEN now() + interval '1 minute' END)",
        kind, name, due, status, leased,
    )  # fmt: skip


async def test_the_first_numbers_stay_where_they_were(world: World) -> None:
    """What the first release told stands where it stood."""
    told = await details(world)
    assert told.keys() >= {
        "node", "retryAfter", "serverVersion", "now", "schema", "databaseBytes", "strayHistoryRows", "lastPartition",
        "logHorizon", "oldestDueJobSeconds", "connections", "connectionsMax",
    }  # fmt: skip
    assert told.keys() >= {"state", "alarms", "database", "log", "jobs", "nodes", "leases", "thisNode"}
    assert told["database"]["latencyMs"] > 0
    assert told["jobs"] == {"due": 0, "held": 0, "dead": 0, "oldestDueSeconds": None, "kinds": {}}


async def test_jobs_are_counted(world: World) -> None:
    """Due, held and dead jobs are told apart; what comes later is none of them. Alarms name what is beyond its threshold."""
    assert await alarms(world) == {}
    await add_job(world, "timer/1", due="90 s")
    await add_job(world, "timer/2", due="30 s", leased=True)
    await add_job(world, "timer/3", due="-30 s")
    await add_job(world, "mail/1", kind="notification", due="10 s")
    await add_job(world, "mail/2", kind="notification", due="1 day", status="dead")
    told = await details(world)
    jobs = told["jobs"]
    assert (jobs["due"], jobs["held"], jobs["dead"]) == (2, 1, 1)
    assert jobs["oldestDueSeconds"] == jobs["kinds"]["timer"]["oldestDueSeconds"] == told["oldestDueJobSeconds"]
    assert 90 <= jobs["oldestDueSeconds"] < 120
    assert (jobs["kinds"]["notification"]["due"], jobs["kinds"]["notification"]["held"]) == (1, 0)
    raised = await alarms(world)
    assert raised.keys() == {"jobs_late", "jobs_dead"}
    assert (raised["jobs_late"]["subject"], raised["jobs_late"]["threshold"]) == ("timer", 60)
    assert (raised["jobs_dead"]["value"], raised["jobs_dead"]["threshold"]) == (1, 0)
    assert told["state"] == "degraded"


async def test_a_virtual_clock_is_never_late(world: World) -> None:
    """A tenant whose clock stands still has due jobs, and none that is late."""
    from datetime import UTC, datetime

    await world.engine.tenants.create(None, "lab", "Laboratory", virtual_now=datetime(2030, 1, 1, tzinfo=UTC))
    await world.engine.pool.execute(
        "INSERT INTO workflow_jobs (tenant_id, id, kind, name, due_at) "
        "VALUES ('lab', gen_random_uuid(), 'timer', 'timer/1', '2029-12-31Z')"
    )
    told = await details(world)
    assert told["jobs"]["due"] == 1
    assert told["oldestDueJobSeconds"] is None


async def test_a_reader_that_is_behind(world: World) -> None:
    """A lane that has not handled all there is raises an alarm with its reader's name."""
    await world.engine.pool.execute(
        "INSERT INTO feed_lanes (reader, lane, lanes, position, caught_up_at) "
        "VALUES ('mirror', 0, 1, 3, now() - interval '2 minutes'), ('ledger', 0, 1, 9, now() - interval '1 hour')"
    )
    await world.engine.pool.execute("UPDATE log_horizon SET horizon = 9, moved_at = now()")
    told = await details(world)
    assert [(each["name"], each["lag"], each["lanesHeld"]) for each in told["log"]["readers"]] == [
        ("ledger", 0, 0), ("mirror", 6, 0),
    ]  # fmt: skip
    raised = await alarms(world)
    assert raised.keys() == {"reader_behind"}
    assert raised["reader_behind"]["subject"] == "mirror"
    assert 120 <= raised["reader_behind"]["value"] < 180


async def test_thresholds_are_settings(world: World) -> None:
    """What is slow, scarce or too many is for the operator to say."""
    monitoring = world.engine.settings.monitoring
    monitoring.database_latency_max = 0.000_001
    monitoring.connections_share_max = 0.000_001
    assert (await alarms(world)).keys() == {"database_slow", "connections_scarce"}


class Broken:
    """A probe with a defect."""

    name = "broken"

    async def read(self, connection: Any) -> Reading:
        await connection.execute("SELECT no_such_column")
        raise AssertionError


class Extra:
    """A probe of a service."""

    name = "extra"

    async def read(self, connection: Any) -> Reading:
        return Reading(
            {"things": await connection.fetchval("SELECT 41 + 1")}, (Alarm("extra_full", "Empty it.", 42, 40),)
        )


async def test_services_add_probes_and_a_broken_one_hides_nothing(world: World) -> None:
    """What a service adds is told with the rest; a probe that fails is an alarm of its own."""
    world.engine.health.add(Broken())
    world.engine.health.add(Extra())
    told = await details(world)
    assert told["broken"] is None
    assert told["extra"] == {"things": 42}
    raised = await alarms(world)
    assert raised["probe_failed"]["subject"] == "broken"
    assert raised["extra_full"] == {"alarm": "extra_full", "message": "Empty it.", "value": 42, "threshold": 40}


@pytest.mark.parametrize("token", [True, False])
async def test_without_the_database_nothing_works(world: World, token: bool) -> None:
    """503 and `down`, for everybody; who may know is told why."""
    await details(world)  # the token is known from now on
    world.engine.readers.terminate()
    answer = await (world.admin if token else world.nobody)("GET", "/workflows/health", status=503)
    told = answer.json()
    assert told["status"] == "down"
    if token:
        assert told["details"]["state"] == "failing"
        assert [alarm["alarm"] for alarm in told["details"]["alarms"]] == ["database_unreachable"]


async def test_every_kind_of_job_is_counted(world: World) -> None:
    """The kinds that health knows are those of the table."""
    check = await world.engine.pool.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'workflow_jobs_kind_check'"
    )
    assert sorted(re.findall(r"'(\w+)'::text", check)) == sorted(JOB_KINDS)


async def test_running_steps_are_counted(world: World) -> None:
    """By their type, on every node and outside, while their lease lasts; what waits for a worker is not among them."""
    assert (await details(world))["steps"] == {
        "running": {}, "oldestSeconds": {}, "thisNode": {"running": 0, "fetchesWaiting": 0},
    }  # fmt: skip
    for name, queue, lease in (
        ("step/1", "http", "1 minute"), ("step/2", "http", "1 minute"), ("step/3", "http", None),
        ("step/4", "http", "-1 s"), ("step/5", "external:print", "1 minute"), ("step/6", "external:send", "1 minute"),
    ):  # fmt: skip
        await world.engine.pool.execute(
            "INSERT INTO workflow_jobs (tenant_id, id, kind, name, due_at, queue, definition_name, lease_owner, lease_until) "
            "VALUES ('default', gen_random_uuid(), 'step', $1, now(), $2, 'd', CASE WHEN $3::text IS NOT NULL THEN 'somebody' END, "
            "now() + $3::text::interval)",
            name, queue, lease,
        )  # fmt: skip
    assert (await details(world))["steps"]["running"] == {"external": 2, "http": 2}


async def test_open_circuits_are_told(world: World) -> None:
    """Whom this node leaves alone, and for how long; one's own tenant's only."""
    breakers = world.engine.step_worker.breakers
    for tenant, target, failures in (
        ("default", "down:443", 6),
        ("default", "shaky:443", 4),
        ("acme", "theirs:443", 5),
    ):
        for _ in range(failures):
            breakers.failed(tenant, target)
    told = await details(world)
    (circuit,) = told["circuits"]
    assert (circuit["target"], circuit["state"], circuit["failures"]) == ("down:443", "open", 6)
    assert 0 < circuit["retryInSeconds"] <= 30
    assert told["circuitsOpen"] == 1
    breakers.succeeded("default", "down:443")
    told = await details(world)
    assert (told["circuits"], told["circuitsOpen"]) == ([], 0)


async def test_of_many_circuits_the_worst_are_told(world: World) -> None:
    """The longest list is one that can be read; the others are counted."""
    breakers = world.engine.step_worker.breakers
    for n in range(150):
        for _ in range(5 + n % 2):
            breakers.failed("default", f"host{n}:443")
    told = await details(world)
    assert (len(told["circuits"]), told["circuitsOpen"]) == (100, 150)
    assert [circuit["failures"] for circuit in told["circuits"]] == [6] * 75 + [5] * 25


async def test_events_that_nobody_carries_out(world: World) -> None:
    """An event that stays owed, because the engine fails on it or nobody is there, raises an alarm by its real age."""
    assert (await details(world))["events"] == {"owed": 0, "oldestOwedSeconds": None}
    for seconds in (10, 200):
        born = datetime.now(UTC) - timedelta(seconds=seconds)
        await world.engine.pool.execute(
            "INSERT INTO inbound_events (tenant_id, id, fingerprint, type, event, received_at, open_until, forget_at, "
            "lease_until) VALUES ('default', $1::text::uuid, sha256($1::text::bytea), 't', '{}', now(), now(), now(), now())",
            identity.new_instance_id(born),
        )  # fmt: skip
        raised = await alarms(world)
        assert ("events_owed" in raised) is (seconds == 200)
    told = (await details(world))["events"]
    assert told["owed"] == 2
    assert 200 <= told["oldestOwedSeconds"] < 260
    assert raised["events_owed"]["threshold"] == 180
