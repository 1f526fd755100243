"""A start beyond the limit of instances, as its caller sees it."""

from __future__ import annotations

from tests.api.world import World


async def test_a_start_that_waits_for_its_turn(company: World) -> None:
    """201 and `pending`, in no state; it is listed and told apart, refuses what needs a state, and can be cancelled."""
    company.engine._limited = True  # nobody admits it here: there is no worker
    started = await company.start("ada")
    assert (started["status"], started["currentState"], started["configuration"]) == ("pending", "", [])
    assert started["startedAt"] is None
    at = f"/workflow-instances/{started['id']}"
    shown = (await company.callers["ada"]("GET", at, status=200)).json()
    assert (shown["status"], shown["availableTriggers"]) == ("pending", [])
    listed = (await company.callers["ada"]("GET", "/workflows/expense/instances?status=pending", status=200)).json()
    assert [each["id"] for each in listed["items"]] == [started["id"]]
    refused = (await company.callers["ada"]("POST", f"{at}/advance", {"trigger": "submit"}, status=409)).json()
    assert refused["code"] == "not_begun"
    (row,) = (await company.callers["ada"]("GET", f"{at}/history", status=200)).json()["items"]
    assert (row["fromState"], row["toState"]) == (None, None)
    cancelled = (await company.callers["ada"]("DELETE", at, status=200)).json()
    assert cancelled["status"] == "cancelled"


async def test_it_begins_with_the_admission(company: World) -> None:
    """When its turn has come it is where any other start is at once."""
    company.engine._limited = True
    started = await company.start("ada")
    assert await company.engine.admission.admit() == 1
    at = f"/workflow-instances/{started['id']}"
    shown = (await company.callers["ada"]("GET", at, status=200)).json()
    assert (shown["status"], shown["currentState"], shown["availableTriggers"]) == (
        "waiting",
        "draft",
        ["submit", "withdraw"],
    )
    assert shown["startedAt"] is not None
    history = (await company.callers["ada"]("GET", f"{at}/history", status=200)).json()["items"]
    assert sorted(row["actionType"] for row in history) == ["begin", "start"]
    timeline = await company.callers["ada"]("GET", f"{at}/timeline", status=200)
    assert timeline.json()
