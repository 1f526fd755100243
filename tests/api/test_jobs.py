"""Limits of queues and dead jobs, over REST."""

from __future__ import annotations

from typing import Any

from tests.api.world import World

DEAD = """
INSERT INTO workflow_jobs (tenant_id, id, kind, workflow_instance_id, name, due_at, queue, definition_name, status, last_error,
                           attempt)
VALUES ('default', gen_random_uuid(), $1, gen_random_uuid(), 'order/1', now() - interval '1 hour',
        CASE WHEN $1 = 'step' THEN 'http' END, 'expense', 'dead', 'no such version', 12)
RETURNING id::text
"""


async def dead(world: World, kind: str) -> str:
    job: str = await world.engine.pool.fetchval(DEAD, kind)
    return job


async def test_a_limit_is_set_read_and_lifted(world: World) -> None:
    """By its queue, with an ETag; what makes no sense is refused."""
    limit = {"maxRunning": 3, "rate": 10, "perSeconds": 60}
    made = await world.admin("PUT", "/step-limits/plugin:erp", limit, status=200)
    assert {name: made.json()[name] for name in limit} == limit
    assert made.json()["running"] == 0
    stale = {"If-Match": '"99"'}
    await world.admin("PUT", "/step-limits/plugin:erp", limit, headers=stale, status=412)
    await world.admin("PUT", "/step-limits/plugin:erp", {}, status=422)
    await world.admin("PUT", "/step-limits/plugin:erp", {"rate": 1}, status=422)
    await world.admin("PUT", "/step-limits/Not%20A%20Queue", limit, status=404)
    (item,) = (await world.admin("GET", "/step-limits", status=200)).json()["items"]
    assert item["queue"] == "plugin:erp"
    await world.admin("DELETE", "/step-limits/plugin:erp", status=204)
    await world.admin("GET", "/step-limits/plugin:erp", status=404)


async def test_a_dead_job_is_retried_once(world: World) -> None:
    """It is claimed again as if it had never been tried; on record, and once for each key."""
    job = await dead(world, "child")
    (item,) = (await world.admin("GET", "/dead-jobs", status=200)).json()["items"]
    assert {name: item[name] for name in ("id", "kind", "name", "workflow", "attempts", "error")} == {
        "id": job, "kind": "child", "name": "order/1", "workflow": "expense", "attempts": 12, "error": "no such version",
    }  # fmt: skip
    for query, count in (
        ("kind=step", 0), ("kind=child", 1), (f"workflowInstanceId={item['workflowInstanceId']}", 1),
        (f"workflowInstanceId={job}", 0),
    ):  # fmt: skip
        assert len((await world.admin("GET", f"/dead-jobs?{query}", status=200)).json()["items"]) == count, query
    key = {"Idempotency-Key": "again"}
    await world.admin("POST", f"/dead-jobs/{job}/retry", headers=key, status=200)
    row = await world.engine.pool.fetchrow(
        "SELECT status, attempt, due_at > now() - interval '1 minute' FROM workflow_jobs"
    )
    assert tuple(row) == ("ready", 0, True)
    again = await world.admin("POST", f"/dead-jobs/{job}/retry", headers=key, status=200)
    assert again.headers["idempotency-replayed"] == "true"
    await world.admin("POST", f"/dead-jobs/{job}/retry", status=404)
    actions = [row["action"] for row in await world.engine.pool.fetch("SELECT action FROM audit_log ORDER BY seq")]
    assert actions.count("job.retried") == 1


async def test_a_dead_job_is_given_up_for_a_reason(world: World) -> None:
    """Unless its instance waits for it."""
    child, step = await dead(world, "child"), await dead(world, "step")
    await world.admin("POST", f"/dead-jobs/{child}/discard", {}, status=422)
    await world.admin("POST", f"/dead-jobs/{child}/discard", {"reason": "not needed"}, status=204)
    refused = await world.admin("POST", f"/dead-jobs/{step}/discard", {"reason": "not needed"}, status=409)
    assert refused.json()["details"]["reason"] == "awaited"
    left: Any = await world.engine.pool.fetch("SELECT id::text FROM workflow_jobs")
    assert [row["id"] for row in left] == [step]


async def test_only_operators_may(company: World) -> None:
    """Reading is for operators and auditors, the rest for operators."""
    auditor = await company.person("eve", ("auditor",))
    await auditor("GET", "/step-limits", status=200)
    await auditor("PUT", "/step-limits/http", {"maxRunning": 1}, status=403)
    for method, path in (("GET", "/step-limits"), ("GET", "/dead-jobs")):
        await company.callers["ada"](method, path, status=403)
