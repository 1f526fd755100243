"""Approvals over REST: who is asked, and what a decision comes to."""

from __future__ import annotations

from tests.api.world import World


async def test_approving_through_two_stages(company: World) -> None:
    """The second stage asks when the first is granted; comments are demanded where the stage wants them."""
    instance = await company.submitted(data={"amount": 5000})
    at = f"/workflow-instances/{instance['id']}"
    mia, finn = company.callers["mia"], company.callers["finn"]
    items = (await mia("GET", f"{at}/approvals", status=200)).json()["items"]
    assert [(item["stepId"], item["approver"]["type"], item["action"]) for item in items] == [("manager", "role", None)]
    assert (await mia("POST", f"{at}/approve", status=200)).json()["currentState"] == "review"
    refused = (await finn("POST", f"{at}/approve", status=422)).json()
    assert refused["code"] == "comments_required"
    paid = (await finn("POST", f"{at}/approve", {"comments": "budget is there", "stage": "finance"}, status=200)).json()
    assert paid["status"] == "completed"
    assert (await mia("GET", f"{at}/approvals")).json()["items"] == []
    everything = (await mia("GET", f"{at}/approvals", params={"status": "all"}, status=200)).json()["items"]
    assert [(item["stepId"], item["action"]) for item in everything] == [("manager", "approve"), ("finance", "approve")]
    assert everything[1]["comments"] == "budget is there"


async def test_rejecting_and_requesting_changes(company: World) -> None:
    """A rejection ends the chain; a request for changes sends the instance back to its requester."""
    mia, ada = company.callers["mia"], company.callers["ada"]
    at = f"/workflow-instances/{(await company.submitted())['id']}"
    assert (await mia("POST", f"{at}/reject", {"comments": "no"}, status=200)).json()["currentState"] == "refused"
    at = f"/workflow-instances/{(await company.submitted())['id']}"
    back = (await mia("POST", f"{at}/request-changes", {"comments": "which taxi?"}, status=200)).json()
    assert back["currentState"] == "draft"
    await ada("PUT", at, {"patch": {"note": "airport"}}, status=200)
    assert (await ada("POST", f"{at}/advance", {"trigger": "submit"}, status=200)).json()["currentState"] == "review"


async def test_delegating_a_work_item(company: World) -> None:
    """The delegate decides in the principal's place; unknown people and circles are refused."""
    at = f"/workflow-instances/{(await company.submitted())['id']}"
    mia, eve = company.callers["mia"], company.callers["eve"]
    assert (await mia("POST", f"{at}/delegate", {"to": "nobody"}, status=422)).json()["code"] == "unknown_user"
    assert (await mia("POST", f"{at}/delegate", {"to": "mia"}, status=409)).json()["code"] == "delegation_loop"
    await eve("POST", f"{at}/approve", status=404)
    await mia("POST", f"{at}/delegate", {"to": "eve", "comments": "on holiday"}, status=200)
    items = (await eve("GET", f"{at}/approvals", status=200)).json()["items"]
    assert [item["approver"]["username"] for item in items] == ["eve"]
    assert items[0]["principalId"] is not None
    assert (await eve("POST", f"{at}/approve", status=200)).json()["status"] == "completed"


async def test_deciding_without_the_right_to(company: World) -> None:
    """Strangers find nothing; the requester and late-comers each get their own reason; and nothing is counted."""
    at = f"/workflow-instances/{(await company.submitted())['id']}"
    assert (await company.callers["eve"]("POST", f"{at}/approve", status=404)).json()["code"] == "not_found"
    assert (await company.callers["ada"]("POST", f"{at}/approve", status=403)).json()["code"] == "not_an_approver"
    own = await company.submitted("mia")
    refused = await company.callers["mia"]("POST", f"/workflow-instances/{own['id']}/approve", status=403)
    assert refused.json()["code"] == "self_approval_forbidden"
    await company.callers["mia"]("POST", f"{at}/approve", status=200)
    late = (await company.callers["max"]("POST", f"{at}/approve", status=409)).json()
    assert late["code"] == "instance_ended"
    draft = await company.start("mia")
    nothing = await company.callers["mia"]("POST", f"/workflow-instances/{draft['id']}/approve", status=409)
    assert nothing.json()["code"] == "nothing_to_decide"


async def test_the_inbox_is_one_s_own(company: World) -> None:
    """`me`, the username and the id mean the same; the inbox of others needs a permission."""
    ids = [(await company.submitted())["id"] for _ in range(3)]
    mia = company.callers["mia"]
    me = (await mia("GET", "/me", status=200)).json()
    for who in ("me", "mia", me["userId"]):
        page = (await mia("GET", f"/users/{who}/approvals", status=200)).json()
        assert [item["workflowInstanceId"] for item in page["items"]] == ids
    item = page["items"][0]
    assert item["workflowDefinition"]["name"] == "expense"
    assert item["currentState"] == "review"
    refused = await company.callers["eve"]("GET", "/users/mia/approvals", status=403)
    assert refused.json()["code"] == "permission_missing"
    operator = await company.person("eve", ("operator",))
    assert len((await operator("GET", "/users/mia/approvals", status=200)).json()["items"]) == 3
    await operator("GET", "/users/nobody/approvals", status=404)
    first = (await mia("GET", "/users/me/approvals", params={"limit": "2"})).json()
    second = (await mia("GET", "/users/me/approvals", params={"limit": "2", "cursor": first["nextCursor"]})).json()
    assert [item["workflowInstanceId"] for item in first["items"] + second["items"]] == ids
    other = (await mia("GET", "/users/me/approvals", params={"workflow": "other"})).json()
    assert other["items"] == []
    await mia("POST", f"/workflow-instances/{ids[0]}/approve", status=200)
    assert len((await mia("GET", "/users/me/approvals")).json()["items"]) == 2
