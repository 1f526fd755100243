"""The eight endpoints of instances, the history and the timeline."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from tests.api.world import World

EXACT = msgspec.json.Decoder(float_hook=Decimal)


async def test_an_instance_lives_from_start_to_end(company: World) -> None:
    """Start, submit, approve: every answer is the instance as it is now, with its revision as ETag."""
    ada, mia = company.callers["ada"], company.callers["mia"]
    started = await ada("POST", "/workflows/expense/instances", {"data": {"amount": 120.5, "note": "Taxi"}}, status=201)
    body = started.json()
    at = f"/workflow-instances/{body['id']}"
    assert started.headers["location"] == f"/api/v1{at}"
    assert (body["currentState"], body["status"], body["revision"]) == ("draft", "waiting", 1)
    assert body["workflowDefinition"]["name"] == "expense"
    assert body["workflowVersion"] == "1.0.0"
    assert body["availableTriggers"] == ["submit", "withdraw"]
    submitted = await ada("POST", f"{at}/advance", {"trigger": "submit"}, headers={"If-Match": '"1"'}, status=200)
    assert submitted.json()["currentState"] == "review"
    assert submitted.headers["etag"].startswith('"2-')
    paid = (await mia("POST", f"{at}/approve", {"comments": "fine"}, status=200)).json()
    assert (paid["currentState"], paid["status"]) == ("paid", "completed")
    assert paid["completedAt"] is not None
    read = await ada("GET", at, status=200)
    assert read.json() == paid | {"revision": 3}
    assert read.headers["etag"].startswith('"3-')


async def test_numbers_come_back_exactly(company: World) -> None:
    """A decimal is the same digits after a round trip, in the answer and when read again."""
    ada = company.callers["ada"]
    content = b'{"data": {"amount": 0.10, "big": 123456789012345678901234567890, "tiny": 1.000000000000000000001}}'
    answer = await ada(
        "POST", "/workflows/expense/instances", content=content, headers={"Content-Type": "application/json"}
    )
    sent = EXACT.decode(content)["data"]
    body = EXACT.decode(answer.content)
    assert body["instanceData"] == sent
    assert str(body["instanceData"]["amount"]) == "0.10"
    read = EXACT.decode((await ada("GET", f"/workflow-instances/{body['id']}")).content)
    assert read["instanceData"] == sent
    assert str(read["instanceData"]["amount"]) == "0.10"


async def test_data_is_replaced_or_merged(company: World) -> None:
    """`data` replaces everything, `patch` is merged by RFC 7396; exactly one of them is sent."""
    ada = company.callers["ada"]
    at = f"/workflow-instances/{(await company.start('ada', {'amount': 1, 'note': 'a'}))['id']}"
    merged = (await ada("PUT", at, {"patch": {"note": None, "place": {"city": "Graz"}}}, status=200)).json()
    assert merged["instanceData"] == {"amount": 1, "place": {"city": "Graz"}}
    replaced = (await ada("PUT", at, {"data": {"amount": 2}}, status=200)).json()
    assert replaced["instanceData"] == {"amount": 2}
    for body in ({}, {"data": {}, "patch": {}}):
        await ada("PUT", at, body, status=422)
    invalid = await ada("PUT", at, {"data": {"amount": -1}}, status=422)
    assert invalid.json()["code"] == "data_invalid"
    assert (await ada("GET", at)).json()["instanceData"] == {"amount": 2}


async def test_a_target_state_is_reached_through_a_transition(company: World) -> None:
    """`targetState` finds the trigger that leads there; a state that nothing leads to is refused."""
    ada = company.callers["ada"]
    at = f"/workflow-instances/{(await company.start('ada'))['id']}"
    refused = await ada("POST", f"{at}/advance", {"targetState": "paid"}, status=409)
    assert refused.json()["code"] == "target_not_reached"
    reached = (await ada("POST", f"{at}/advance", {"targetState": "review"}, status=200)).json()
    assert reached["currentState"] == "review"
    await ada("POST", f"{at}/advance", {}, status=422)


async def test_a_guard_says_why_it_does_not_hold(company: World) -> None:
    """The refusal carries the reason and changes nothing."""
    ada = company.callers["ada"]
    at = f"/workflow-instances/{(await company.start('ada', {'amount': 0}))['id']}"
    refused = (await ada("POST", f"{at}/advance", {"trigger": "submit"}, status=409)).json()
    assert (refused["code"], refused["errorCode"]) == ("guard_failed", "STATE_TRANSITION_ERROR")
    assert "explanation" in refused["details"]
    unknown = (await ada("POST", f"{at}/advance", {"trigger": "nonsense"}, status=409)).json()
    assert unknown["code"] == "unknown_trigger"
    assert (await ada("GET", at)).json()["revision"] == 1


async def test_suspending_resuming_and_cancelling(company: World) -> None:
    """A suspended instance takes nothing but resume and cancel; a cancelled one nothing at all."""
    ada = company.callers["ada"]
    operator = await company.person("eve", ("operator",))
    at = f"/workflow-instances/{(await company.start('ada'))['id']}"
    assert (await operator("POST", f"{at}/resume", status=409)).json()["code"] == "not_suspended"
    suspended = (await operator("POST", f"{at}/suspend", {"reason": "audit"}, status=200)).json()
    assert suspended["status"] == "suspended"
    assert (await ada("POST", f"{at}/advance", {"trigger": "submit"}, status=409)).json()["code"] == "suspended"
    assert (await operator("POST", f"{at}/resume", status=200)).json()["status"] == "waiting"
    cancelled = (await ada("DELETE", at, status=200)).json()
    assert cancelled["status"] == "cancelled"
    assert (await ada("DELETE", at, status=409)).json()["code"] == "instance_ended"


async def test_only_the_fields_asked_for_are_answered(company: World) -> None:
    """`fields=` chooses top-level fields; an unknown one is refused with those there are."""
    ada = company.callers["ada"]
    instance = await company.start("ada")
    at = f"/workflow-instances/{instance['id']}"
    answer = await ada("GET", at, params={"fields": "id,status"}, status=200)
    assert answer.json() == {"id": instance["id"], "status": "waiting"}
    page = (await ada("GET", "/workflows/expense/instances", params={"fields": "id,revision"}, status=200)).json()
    assert page["items"] == [{"id": instance["id"], "revision": 1}]
    assert (await ada("GET", at, params={"fields": "id,nonsense"}, status=422)).json()["code"] == "invalid_parameter"


async def test_an_unchanged_instance_is_not_sent_again(company: World) -> None:
    """If-None-Match with the present ETag is answered 304; in a list, weakened on its way, and for anything too."""
    ada = company.callers["ada"]
    at = f"/workflow-instances/{(await company.start('ada'))['id']}"
    etag = (await ada("GET", at)).headers["etag"]
    for named in etag, f"W/{etag}", f'"1", {etag}', "*":
        unchanged = await ada("GET", at, headers={"If-None-Match": named}, status=304)
        assert (unchanged.content, unchanged.headers["etag"]) == (b"", etag)
        assert "content-length" not in unchanged.headers
    for other in '"1"', '"1-0123456789ab"', "1", "":
        await ada("GET", at, headers={"If-None-Match": other}, status=200)


async def test_if_match_hears_the_revision(company: World) -> None:
    """The ETag as it was read, by whomever, or the revision alone; what the digest says of the answer is nothing to it."""
    ada = company.callers["ada"]
    instance = await company.start("ada")
    at = f"/workflow-instances/{instance['id']}"
    etag = (await company.admin("GET", at)).headers["etag"]
    await ada("PUT", at, {"patch": {"amount": 2}}, headers={"If-Match": etag}, status=200)
    await ada("PUT", at, {"patch": {"amount": 3}}, headers={"If-Match": etag}, status=412)
    await ada("PUT", at, {"patch": {"amount": 3}}, headers={"If-Match": '"2"'}, status=200)
    for nonsense in "3", '"3-"', '"3-x"', '"3", "4"', "", '"-0123456789ab"':
        refused = await ada("PUT", at, {"patch": {"amount": 3}}, headers={"If-Match": nonsense}, status=400)
        assert refused.json()["code"] == "invalid_header", nonsense


async def test_head_is_a_get_without_its_body(company: World) -> None:
    """The same status and headers, nothing after them."""
    ada = company.callers["ada"]
    at = f"/workflow-instances/{(await company.start('ada'))['id']}"
    read, head = await ada("GET", at, status=200), await ada("HEAD", at, status=200)
    assert head.content == b""
    assert head.headers == read.headers
    assert (await ada("HEAD", "/workflow-instances/nonsense")).status_code == 404


async def test_lists_are_filtered_and_paged(company: World) -> None:
    """The newest first, by status, state, person and key, and every instance once."""
    ada = company.callers["ada"]
    ids = [(await company.start("ada", {"amount": number + 1}))["id"] for number in range(5)]
    await ada("POST", f"/workflow-instances/{ids[0]}/advance", {"trigger": "submit"}, status=200)
    keyed = await ada("POST", "/workflows/expense/instances", {"data": {}, "externalKey": "order-7"}, status=201)

    async def listed(**query: str) -> list[str]:
        page = (await ada("GET", "/workflows/expense/instances", params=query, status=200)).json()
        return [row["id"] for row in page["items"]]

    assert await listed() == [keyed.json()["id"], *reversed(ids)]
    assert await listed(state="review") == [ids[0]]
    assert await listed(externalKey="order-7") == [keyed.json()["id"]]
    assert await listed(status="completed") == []
    assert len(await listed(requester="ada")) == 6
    assert await listed(requester="mia") == []
    assert await listed(createdAfter="2999-01-01T00:00:00Z") == []
    first = (await ada("GET", "/workflows/expense/instances", params={"limit": "4"})).json()
    second = (
        await ada("GET", "/workflows/expense/instances", params={"limit": "4", "cursor": first["nextCursor"]})
    ).json()
    assert [row["id"] for row in first["items"] + second["items"]] == [keyed.json()["id"], *reversed(ids)]
    assert second["nextCursor"] is None
    again = await ada("POST", "/workflows/expense/instances", {"externalKey": "order-7"})
    assert again.status_code == 409


async def test_history_and_timeline_tell_what_happened(company: World) -> None:
    """One row for each accepted command, in order; refused commands leave none."""
    instance = await company.submitted()
    at = f"/workflow-instances/{instance['id']}"
    ada, mia = company.callers["ada"], company.callers["mia"]
    await ada("POST", f"{at}/approve", status=403)
    await mia("POST", f"{at}/reject", {"comments": "too much"}, status=200)
    page = (await ada("GET", f"{at}/history", status=200)).json()
    assert [(row["seq"], row["actionType"]) for row in page["items"]] == [(1, "start"), (2, "fire"), (3, "decide")]
    assert page["items"][1]["fromState"] == "draft"
    assert page["items"][1]["toState"] == "review"
    assert page["nextCursor"] is None
    first = (await ada("GET", f"{at}/history", params={"limit": "2"})).json()
    second = (await ada("GET", f"{at}/history", params={"limit": "2", "cursor": first["nextCursor"]})).json()
    assert [row["seq"] for row in first["items"] + second["items"]] == [1, 2, 3]
    timeline = (await ada("GET", f"{at}/timeline", status=200)).json()["items"]
    assert [entry["at"] for entry in timeline] == sorted(entry["at"] for entry in timeline)
    assert "workflow.approval.rejected" in {entry["type"] for entry in timeline}


async def test_what_one_may_not_see_is_not_there(company: World) -> None:
    """Somebody who has nothing to do with an instance gets 404, an auditor sees it."""
    instance = await company.submitted()
    at = f"/workflow-instances/{instance['id']}"
    auditor = await company.person("finn", ("auditor",))
    for path in (at, f"{at}/history", f"{at}/timeline", f"{at}/approvals"):
        await company.callers["eve"]("GET", path, status=404)
        await company.callers["mia"]("GET", path, status=200)
        await auditor("GET", path, status=200)
    assert (await company.callers["eve"]("GET", "/workflows/expense/instances")).json()["items"] == []


async def test_an_instance_runs_for_somebody_else_only_by_an_operator(company: World) -> None:
    """`requester` is another person: operators may, others get 403 and nothing is started."""
    body = {"data": {"amount": 1}, "requester": "ada"}
    refused = await company.callers["eve"]("POST", "/workflows/expense/instances", body, status=403)
    assert refused.json()["errorCode"] == "PERMISSION_DENIED"
    operator = await company.person("eve", ("operator",))
    started = (await operator("POST", "/workflows/expense/instances", body, status=201)).json()
    assert started["requesterId"] != started["createdBy"]
    assert len((await company.callers["ada"]("GET", "/workflows/expense/instances")).json()["items"]) == 1
    unknown = await operator("POST", "/workflows/expense/instances", {"requester": "nobody"}, status=422)
    assert unknown.json()["code"] == "unknown_user"
