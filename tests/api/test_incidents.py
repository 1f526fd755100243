"""Steps and incidents over REST: what went wrong is found, and set right singly or by the hundred."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.world import Caller, World

#: Its call is refused at once: nobody calls this machine without being allowed to.
ERRAND: dict[str, Any] = {
    "name": "errand", "version": "1.0.0", "title": "Errand",
    "dataSchema": {"type": "object", "properties": {"host": {"type": "string"}, "got": {}}},
    "stateMachine": {
        "initialState": "running",
        "states": {
            "running": {"properties": {"steps": [
                {"type": "http", "id": "fetch", "url": "http://{data.host}/x", "condition": "data.host != ''",
                 "outputMapping": {"got": "output.body"}},
                {"type": "assign", "id": "note", "assignments": {"done": "true"}},
            ]}},
            "done": {"type": "final"},
        },
        "transitions": [{"from": "running", "to": "done"}],
    },
}  # fmt: skip


@pytest.fixture
async def failing(company: World) -> World:
    """A company that has published the errand."""
    await company.publish(ERRAND)
    return company


async def start(world: World, who: str = "ada", host: str = "127.0.0.1") -> str:
    return str((await world.start(who, {"host": host}, workflow="errand"))["id"])


async def work(world: World) -> None:
    """Run what is due."""
    world.engine.step_claims.sweep()
    while await world.engine.step_worker.run_due():
        world.engine.step_claims.sweep()


async def operator(world: World) -> Caller:
    return await world.person("max", ("operator",))


async def test_the_steps_of_an_instance(failing: World) -> None:
    """What is at work, what was given, what came of it, with the times and the history's numbers."""
    instance = await start(failing)
    at = f"/workflow-instances/{instance}"
    ada = failing.callers["ada"]
    before = (await ada("GET", f"{at}/steps", status=200)).json()["items"]
    fetch = next(step for step in before if step["stepId"] == "fetch")
    assert (fetch["status"], fetch["type"], fetch["attempt"], fetch["endedAt"]) == ("scheduled", "http", 1, None)
    await work(failing)
    after = (await ada("GET", f"{at}/steps", status=200)).json()["items"]
    fetch = next(step for step in after if step["stepId"] == "fetch")
    assert fetch["status"] == "stuck"
    assert fetch["error"]["code"] == "HTTP_FORBIDDEN_ADDRESS"
    (incident,) = (await ada("GET", f"{at}/incidents", status=200)).json()["items"]
    body = {"action": "skip", "reason": "fetched by hand", "output": {"body": 7}}
    resolved = await (await operator(failing))("POST", f"{at}/incidents/1/resolve", body, status=200)
    assert resolved.json()["status"] == "completed"
    assert resolved.json()["instanceData"]["got"] == 7
    done = (await ada("GET", f"{at}/steps", status=200)).json()["items"]
    assert {step["stepId"]: step["status"] for step in done if step["type"] != "sequential"} == {
        "fetch": "completed", "note": "completed",
    }  # fmt: skip
    first = (await ada("GET", f"{at}/steps?limit=1", status=200)).json()
    rest = (await ada("GET", f"{at}/steps?cursor={first['nextCursor']}", status=200)).json()
    assert [*first["items"], *rest["items"]] == done
    await ada("GET", f"{at}/steps?cursor=x", status=422)
    assert incident["id"] == "incident/1"


async def test_a_skipped_step_is_told(failing: World) -> None:
    """Its condition was false: it is on record and was never begun."""
    instance = await start(failing, host="")
    steps = (await failing.callers["ada"]("GET", f"/workflow-instances/{instance}/steps", status=200)).json()["items"]
    skipped = next(step for step in steps if step["stepId"] == "fetch")
    assert (skipped["id"], skipped["status"], skipped["input"]) == (None, "skipped", None)


async def test_an_incident_is_resolved_with_data_set_right(failing: World) -> None:
    """An operator says what and why; it is in the instance's history and in the incident itself."""
    instance = await start(failing)
    await work(failing)
    at = f"/workflow-instances/{instance}"
    assert (await failing.admin("GET", at, status=200)).json()["status"] == "failed"
    max_ = await operator(failing)
    await max_("POST", f"{at}/incidents/1/resolve", {"action": "retry"}, status=422)
    await max_("POST", f"{at}/incidents/1/resolve", {"action": "retry", "reason": ""}, status=422)
    await max_("POST", f"{at}/incidents/9/resolve", {"action": "retry", "reason": "x"}, status=409)
    stale = {"If-Match": '"1"'}
    body = {"action": "retry", "reason": "wrong host", "patch": {"host": "example.invalid"}}
    await max_("POST", f"{at}/incidents/1/resolve", body, headers=stale, status=412)
    key = {"Idempotency-Key": "once"}
    resolved = await max_("POST", f"{at}/incidents/1/resolve", body, headers=key, status=200)
    assert resolved.json()["status"] == "running"
    assert resolved.json()["instanceData"]["host"] == "example.invalid"
    again = await max_("POST", f"{at}/incidents/1/resolve", body, headers=key, status=200)
    assert again.headers["idempotency-replayed"] == "true"
    (incident,) = (await max_("GET", f"{at}/incidents", status=200)).json()["items"]
    assert (incident["action"], incident["reason"]) == ("retry", "wrong host")
    me = (await max_("GET", "/me")).json()["userId"]
    assert incident["resolvedBy"] == me
    last = (await max_("GET", f"{at}/history", status=200)).json()["items"][-1]
    assert (last["actionType"], last["executedBy"]) == ("resolve_incident", me)
    assert last["executionData"]["command"]["order"]["reason"] == "wrong host"


async def test_only_operators_resolve(failing: World) -> None:
    """Whoever sees the instance sees its incidents; resolving them, and lists over all instances, are for operators."""
    instance = await start(failing)
    await work(failing)
    at = f"/workflow-instances/{instance}"
    ada, eve = failing.callers["ada"], failing.callers["eve"]
    await ada("POST", f"{at}/incidents/1/resolve", {"action": "skip", "reason": "x"}, status=403)
    for path in (f"{at}/incidents", f"{at}/steps"):
        await ada("GET", path, status=200)
        await eve("GET", path, status=404)
    await ada("GET", "/incidents", status=403)
    await ada("POST", "/incidents/resolve", {"action": "skip", "reason": "x", "fingerprint": "x"}, status=403)
    auditor = await failing.person("eve", ("auditor",))
    await auditor("GET", "/incidents", status=200)
    await auditor("POST", "/incidents/resolve", {"action": "skip", "reason": "x", "fingerprint": "x"}, status=403)


async def test_incidents_are_found_and_counted(failing: World) -> None:
    """Newest first, by what fits, page by page; by cause, the most frequent first."""
    other = {**ERRAND, "name": "other_errand"}
    await failing.publish(other)
    for _ in range(3):
        await start(failing)
    await failing.start("ada", {"host": "10.0.0.1"}, workflow="other_errand")
    await work(failing)
    max_ = await operator(failing)
    listed = (await max_("GET", "/incidents?limit=3", status=200)).json()
    rest = (await max_("GET", f"/incidents?limit=3&cursor={listed['nextCursor']}", status=200)).json()
    everything = [*listed["items"], *rest["items"]]
    assert [len(listed["items"]), len(rest["items"]), rest["nextCursor"]] == [3, 1, None]
    assert [one["raisedAt"] for one in everything] == sorted((one["raisedAt"] for one in everything), reverse=True)
    groups = (await max_("GET", "/incidents/groups", status=200)).json()["items"]
    assert [(group["workflow"], group["count"]) for group in groups] == [("errand", 3), ("other_errand", 1)]
    assert groups[0]["code"] == "HTTP_FORBIDDEN_ADDRESS"
    assert groups[0]["stepId"] == "fetch"
    for query, count in (
        (f"fingerprint={groups[0]['fingerprint']}", 3), ("workflow=other_errand", 1), ("code=HTTP_404", 0),
        ("stepId=fetch", 4), ("stepId=fetch&workflow=errand", 3),
    ):  # fmt: skip
        assert len((await max_("GET", f"/incidents?{query}", status=200)).json()["items"]) == count, query
    instance = everything[0]["workflowInstanceId"]
    await max_(
        "POST", f"/workflow-instances/{instance}/incidents/1/resolve", {"action": "give_up", "reason": "no use"},
        status=200,
    )  # fmt: skip
    assert len((await max_("GET", "/incidents", status=200)).json()["items"]) == 3
    assert len((await max_("GET", "/incidents?open=false", status=200)).json()["items"]) == 4
    await max_("GET", "/incidents?cursor=rubbish", status=422)


async def test_many_are_resolved_at_once(failing: World) -> None:
    """All of one cause, each with its own history row, the whole in the audit log; once for each key."""
    instances = [await start(failing) for _ in range(5)]
    await work(failing)
    max_ = await operator(failing)
    (group,) = (await max_("GET", "/incidents/groups", status=200)).json()["items"]
    await max_("POST", "/incidents/resolve", {"action": "skip", "reason": "x"}, status=422)
    await max_("POST", "/incidents/resolve", {"action": "skip", "fingerprint": group["fingerprint"]}, status=422)
    body = {
        "action": "skip",
        "reason": "the shop is closed",
        "fingerprint": group["fingerprint"],
        "output": {"body": 0},
    }
    key = {"Idempotency-Key": "all"}
    made = await max_("POST", "/incidents/resolve", body, headers=key, status=200)
    told = made.json()
    assert (told["status"], told["handled"], told["resolved"], told["refused"]) == ("done", 5, 5, 0)
    for instance in instances:
        history = (await max_("GET", f"/workflow-instances/{instance}/history", status=200)).json()["items"]
        assert history[-1]["executionData"]["command"]["order"]["reason"] == "the shop is closed"
        assert history[-1]["executedBy"] == told["createdBy"]
    again = await max_("POST", "/incidents/resolve", body, headers=key, status=200)
    assert again.json() == told
    assert again.headers["idempotency-replayed"] == "true"
    assert (await max_("GET", f"/incidents/resolutions/{told['id']}", status=200)).json() == told
    audit = (await failing.admin("GET", "/audit?action=incidents.resolved", status=200)).json()["items"]
    assert [entry["details"]["reason"] for entry in audit] == ["the shop is closed"]
    assert await failing.engine.pool.fetchval("SELECT count(*) FROM workflow_jobs") == 0


async def test_what_is_refused_is_told(failing: World) -> None:
    """A patch that does not fit an instance's data is refused there; the others are resolved."""
    await start(failing)
    await work(failing)
    max_ = await operator(failing)
    body = {"action": "retry", "reason": "x", "filter": {"workflow": "errand"}, "patch": {"host": 7}}
    told = (await max_("POST", "/incidents/resolve", body, status=200)).json()
    assert (told["handled"], told["resolved"], told["refused"]) == (1, 0, 1)
    assert told["refusals"][0]["code"] == "data_invalid"


async def test_more_than_a_moments_worth(failing: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is a job's, which another node may finish; what is retried and fails again is not retried for ever."""
    monkeypatch.setattr("pliers_workflow.runtime.jobs.incidents._PAGE", 2)
    monkeypatch.setattr("pliers_workflow.runtime.jobs.incidents._AT_ONCE", 0.0)
    for _ in range(5):
        await start(failing)
    await work(failing)
    max_ = await operator(failing)
    body = {"action": "retry", "reason": "try", "filter": {"code": "HTTP_FORBIDDEN_ADDRESS"}}
    made = await max_("POST", "/incidents/resolve", body, status=202)
    assert (made.json()["status"], made.json()["handled"]) == ("running", 2)
    await work(failing)
    assert len((await max_("GET", "/incidents", status=200)).json()["items"]) == 5, "two have failed again"
    for _ in range(3):
        await asyncio.sleep(0.01)
        await failing.engine.resolver.sweep()
    told = (await max_("GET", made.headers["location"].removeprefix("/api/v1"), status=200)).json()
    assert (told["status"], told["handled"], told["resolved"]) == ("done", 5, 5)
    await work(failing)
    assert len((await max_("GET", "/incidents", status=200)).json()["items"]) == 5
    assert await failing.engine.resolver.sweep() == 0
