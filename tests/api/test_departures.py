"""Approvers who leave: whatever way the directory says so, the instances that ask them ask others."""

from __future__ import annotations

from typing import Any

import pytest

from pliers_workflow.runtime.answers import EngineError, Overloaded
from pliers_workflow.runtime.jobs import departures
from pliers_workflow.runtime.rows import UserInput
from tests.api.world import EXPENSE, World

#: mia decides, or managers where she is not there; then nobody else
DESK: dict[str, Any] = {
    **EXPENSE,
    "name": "desk",
    "approvalChains": [
        {
            "id": "approval",
            "steps": [
                {
                    "id": "manager",
                    "approvers": [
                        {
                            "type": "user",
                            "identifier": "mia",
                            "fallback": [{"type": "role", "identifier": "finance"}],
                        }
                    ],
                }
            ],
        }
    ],
}


@pytest.fixture
async def desk(company: World) -> World:
    await company.publish(DESK)
    return company


async def asks_mia(world: World) -> str:
    """The path of an instance that asks mia."""
    started = await world.start("ada", workflow="desk")
    path = f"/workflow-instances/{started['id']}"
    await world.callers["ada"]("POST", f"{path}/advance", {"trigger": "submit"}, status=200)
    assert await asked(world, path) == [("user", "mia")]
    return path


async def asked(world: World, path: str) -> list[tuple[str, str | None]]:
    """Who is asked now."""
    items = (await world.admin("GET", f"{path}/approvals", status=200)).json()["items"]
    return [
        (each["approver"]["type"], each["approver"]["username"] or each["approver"]["identifier"]) for each in items
    ]


async def imported(world: World, user: UserInput) -> None:
    assert world.admin.token is not None
    principal = await world.engine.tokens.authenticate(world.admin.token)
    assert principal is not None
    await world.engine.directory.put_users(principal, [user])


async def look(world: World) -> None:
    """What workers do with the jobs that changes of the directory have left."""
    while await world.engine.departures.sweep():
        pass


async def waiting(world: World) -> list[str]:
    """The jobs that are left, earliest first."""
    rows = await world.engine.pool.fetch("SELECT due_at > now() AS later FROM workflow_jobs WHERE kind = 'departure'")
    return ["later" if row["later"] else "now" for row in rows]


async def test_who_is_made_inactive_is_replaced(desk: World) -> None:
    """The fallback finds it in the inbox, the history says what happened, and the one who left on no item."""
    path = await asks_mia(desk)
    await desk.admin("DELETE", "/users/mia", status=200)
    await look(desk)
    assert await asked(desk, path) == [("role", "finance")]
    history = (await desk.admin("GET", f"{path}/history", status=200)).json()["items"]
    newest = max(history, key=lambda each: each["seq"])
    assert (newest["actionType"], newest["executedBy"]) == ("replace_approvers", None)
    everything = (await desk.admin("GET", f"{path}/approvals", params={"status": "all"}, status=200)).json()["items"]
    assert [each["action"] for each in everything] == ["withdraw", None]
    assert (await desk.callers["finn"]("POST", f"{path}/approve", status=200)).json()["status"] == "completed"


@pytest.mark.parametrize("how", ["user", "members", "removed", "set", "import", "imported inactive"])
async def test_who_loses_a_role_is_replaced(desk: World, how: str) -> None:
    """Whichever endpoint takes it away. Of `expense` the role of managers is asked, and has no fallback."""
    instance = await desk.submitted()
    path = f"/workflow-instances/{instance['id']}"
    for username in ("mia", "max"):
        match how:
            case "user":
                await desk.admin("PATCH", f"/users/{username}", {"roles": []}, status=200)
            case "removed":
                await desk.admin("DELETE", f"/roles/managers/members/{username}", status=200)
            case "import":
                await imported(desk, UserInput(username=username, roles=()))
            case "imported inactive":
                await imported(desk, UserInput(username=username, active=False))
    if how == "members":
        await desk.admin("PUT", "/roles/managers/members", {"users": ["eve"]}, status=200)
    if how == "set":
        await desk.admin("DELETE", "/roles/managers", status=204)
    await look(desk)
    assert await asked(desk, path) == []
    incidents = (await desk.admin("GET", "/incidents", status=200)).json()["items"]
    assert [each["code"] for each in incidents] == ["result_impossible"]
    if how != "set":
        # Somebody has come: the operator has the stage asked again.
        await desk.admin("PUT", "/roles/managers/members/eve", status=200)
        number = incidents[0]["id"].removeprefix("incident/")
        retry = {"action": "retry", "reason": "eve is there"}
        await desk.admin("POST", f"{path}/incidents/{number}/resolve", retry, status=200)
        assert await asked(desk, path) == [("role", "managers")]


async def test_one_of_a_role_may_leave(desk: World) -> None:
    """Nothing changes, no row of history: max is there."""
    instance = await desk.submitted()
    await desk.admin("DELETE", "/users/mia", status=200)
    await look(desk)
    after = (await desk.admin("GET", f"/workflow-instances/{instance['id']}", status=200)).json()
    assert after["revision"] == instance["revision"]


async def test_changes_by_which_nobody_leaves_leave_no_job(desk: World) -> None:
    await asks_mia(desk)
    await desk.admin("PATCH", "/users/mia", {"name": "Mia", "roles": ["managers", "finance"]}, status=200)
    await desk.admin("PUT", "/roles/managers/members/eve", status=200)
    await desk.admin("PUT", "/roles/managers/members", {"users": ["mia", "max", "eve", "finn"]}, status=200)
    assert await waiting(desk) == []


async def test_a_commit_on_older_facts_is_found_by_the_second_look(desk: World) -> None:
    """An item that appears after the first look: there is another one, later than any commit may take."""
    await desk.admin("DELETE", "/users/mia", status=200)
    await look(desk)
    assert await waiting(desk) == ["later"]
    await desk.admin("PATCH", "/users/mia", {"active": True}, status=200)
    path = await asks_mia(desk)
    # Behind the engine's back, as if the item had been on its way when she left.
    await desk.engine.pool.execute("UPDATE users SET active = false WHERE username = 'mia'")
    await desk.engine.pool.execute("UPDATE tenants SET directory_revision = directory_revision + 1")
    await desk.engine.pool.execute("UPDATE workflow_jobs SET due_at = now() WHERE kind = 'departure'")
    await look(desk)
    assert await asked(desk, path) == [("role", "finance")]
    assert await waiting(desk) == []


async def test_many_instances_are_told_page_by_page(desk: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "_PAGE", 2)
    paths = [await asks_mia(desk) for _ in range(5)]
    await desk.admin("DELETE", "/users/mia", status=200)
    await look(desk)
    assert {(await asked(desk, path))[0] for path in paths} == {("role", "finance")}
    assert await waiting(desk) == ["later"]
    told = await desk.engine.pool.fetch(
        "SELECT command_id FROM workflow_execution_history WHERE action_type = 'replace_approvers'"
    )
    assert len({row["command_id"] for row in told}) == len(told) == 5, "a command has an id of its own"


async def test_suspended_and_ended_instances_do_not_hold_it_up(desk: World) -> None:
    """What is suspended looks when it is resumed."""
    suspended, ended, other = [await asks_mia(desk) for _ in range(3)]
    await desk.admin("POST", f"{suspended}/suspend", status=200)
    await desk.admin("DELETE", ended, status=200)
    await desk.admin("DELETE", "/users/mia", status=200)
    await look(desk)
    assert await asked(desk, other) == [("role", "finance")]
    assert await asked(desk, suspended) == [("user", "mia")]
    await desk.admin("POST", f"{suspended}/resume", status=200)
    assert await asked(desk, suspended) == [("role", "finance")]
    assert await waiting(desk) == ["later"]


async def test_what_somebody_who_has_left_has_begun_is_still_found(desk: World) -> None:
    """By name or id: operators look for just that. Only what somebody is to do from now on wants somebody who is there."""
    started = await desk.start("ada", workflow="desk")
    ada = (await desk.admin("DELETE", "/users/ada", status=200)).json()["id"]
    for person in ("ada", ada):
        page = await desk.admin("GET", "/workflows/desk/instances", params={"requester": person}, status=200)
        assert [each["id"] for each in page.json()["items"]] == [started["id"]]
        tokens = (await desk.admin("GET", "/tokens", params={"user": person}, status=200)).json()["items"]
        assert len(tokens) == 1
        await desk.admin("GET", "/submissions", params={"submittedBy": person}, status=200)
        await desk.admin("GET", "/workflows/desk/instances", params={"assignedTo": person}, status=200)
        body = {"data": {"amount": 1}, "requester": person}
        refused = await desk.admin("POST", "/workflows/desk/instances", body, status=422)
        assert refused.json()["code"] == "unknown_user"


async def test_one_that_cannot_be_told_is_in_nobodys_way(desk: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a moment in which the engine is busy: that counts as no attempt, and the page is told again."""
    monkeypatch.setattr(departures, "_PAGE", 2)
    paths = [await asks_mia(desk) for _ in range(4)]
    broken, busy = paths[0].rpartition("/")[2], 1
    execute = desk.engine.departures._execute

    async def failing(tenant_id: str, instance_id: str, *rest: Any, **options: Any) -> Any:
        nonlocal busy
        if busy:
            busy -= 1
            raise Overloaded(1.0)
        if instance_id == broken:
            raise EngineError("a defect")
        return await execute(tenant_id, instance_id, *rest, **options)

    monkeypatch.setattr(desk.engine.departures, "_execute", failing)
    await desk.admin("DELETE", "/users/mia", status=200)
    await look(desk)
    await desk.engine.pool.execute("UPDATE workflow_jobs SET due_at = now() WHERE due_at < now() + interval '5 s'")
    await look(desk)
    assert [await asked(desk, path) for path in paths] == [[("user", "mia")], *[[("role", "finance")]] * 3]
    assert await waiting(desk) == ["later"]
