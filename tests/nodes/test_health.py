"""What health says of several nodes."""

from __future__ import annotations

from pliers_workflow.runtime.engine import Engine
from pliers_workflow.runtime.health import Report
from tests.nodes.conftest import MakeNode, cut, until


async def calm(node: Engine) -> Report:
    """The report, once there is no alarm any more."""
    reports: list[Report] = []

    async def without_alarms() -> bool:
        reports.append(await node.health.report())
        return not reports[-1].alarms

    await until(without_alarms)
    return reports[-1]


async def test_every_node_is_told_of(make_node: MakeNode) -> None:
    """Whichever node is asked tells of all: role, release, format, last heartbeat, and the services each leads."""
    api, worker = await make_node("api"), await make_node("worker")
    report = await calm(api)
    assert report.state == "ok"
    nodes = report.details["nodes"]
    assert [(node["name"], node["role"], node["format"]) for node in nodes] == [
        (api.node, "api", 1), (worker.node, "worker", 1),
    ]  # fmt: skip
    assert all(node["silentSeconds"] < 5 for node in nodes)
    assert nodes[0]["leases"] == []
    assert set(nodes[1]["leases"]) >= {"housekeeping", "relay"}
    assert {lease["service"]: lease["owner"] for lease in report.details["leases"]}["relay"] == worker.node
    assert report.details["thisNode"]["listening"]


async def test_without_a_worker_nothing_happens_later(make_node: MakeNode) -> None:
    """An installation of nodes that only answer raises an alarm, and so does one whose only worker is about to go."""
    api = await make_node("api")
    assert "no_worker" in {alarm.alarm for alarm in (await api.health.report()).alarms}
    worker = await make_node("worker")
    await calm(api)
    await worker.registrar.drain()
    report = await api.health.report()
    assert report.state == "degraded"
    assert {alarm.alarm for alarm in report.alarms} == {"no_worker"}


async def test_a_wrong_clock_is_told(make_node: MakeNode) -> None:
    """Nothing rests on a node's clock but what others check, and they refuse what is minutes off."""
    node = await make_node()
    details = (await calm(node)).details["thisNode"]
    assert abs(details["clockOffsetSeconds"]) < 5
    strict = await make_node(monitoring={"clock_offset_max": 1e-9})
    (alarm,) = (each for each in (await strict.health.report()).alarms if each.alarm == "clock_wrong")
    assert (alarm.subject, alarm.threshold) == (strict.node, 1e-9)


async def test_a_deaf_node_says_so(make_node: MakeNode, database: str) -> None:
    """A node that cannot listen is slower to notice things, and raises an alarm while it lasts."""
    node, _ = await make_node(), await make_node()
    await calm(node)
    node.messenger._dsn = "postgresql://nobody@127.0.0.1:1/nowhere"
    await cut(database, "pliers listen")
    await until(lambda: not node.messenger.listening)
    assert "not_listening" in {alarm.alarm for alarm in (await node.health.report()).alarms}
    node.messenger._dsn = database
    await calm(node)


async def test_not_ready_where_nothing_can_be_written(make_node: MakeNode) -> None:
    """A database that answers is not enough: on a standby, or with a full disk, every command would be refused."""
    node = await make_node()
    await calm(node)
    for sqlstate, problem in (("25006", "database_read_only"), ("53100", "database_full")):
        await node.pool.execute(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END $$; "
            "CREATE OR REPLACE TRIGGER refuse BEFORE INSERT OR UPDATE ON nodes FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
        )
        node.registrar._slumber.wake()
        await until(lambda: node.registrar.unwritten is not None)
        assert await node.ready() == problem
        assert problem in {alarm.alarm for alarm in (await node.health.report()).alarms}
        await node.pool.execute("DROP TRIGGER refuse ON nodes")
        node.registrar._slumber.wake()
        await until(lambda: node.registrar.unwritten is None)
        assert await node.ready() is None
