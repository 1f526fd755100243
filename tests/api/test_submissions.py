"""Submissions and the bindings by which they start workflows."""

from __future__ import annotations

from tests.api.world import World

BINDING = {
    "formId": "trip",
    "workflowId": "expense",
    "condition": "submission.total > 10",
    "dataMapping": {"submission": {"amount": "submission.total"}, "context": {"form": "'trip'"}},
}


async def test_a_submission_starts_the_workflow_bound_to_its_form(company: World) -> None:
    """The submitter is the requester, the mapping fills the data, and the submission knows its instances."""
    ada = company.callers["ada"]
    bound = (await company.admin("POST", "/submission-bindings", BINDING, status=201)).json()
    assert (bound["workflowId"], bound["triggerEvents"]) == ("expense", ["submission.created"])
    small = (await ada("POST", "/submissions", {"formId": "trip", "data": {"total": 5}}, status=201)).json()
    assert (small["instances"], small["failed"]) == ([], [])
    made = await ada("POST", "/submissions", {"formId": "trip", "data": {"total": 99.5}}, status=201)
    body = made.json()
    assert made.headers["location"] == f"/api/v1/submissions/{body['id']}"
    assert len(body["instances"]) == 1
    instance = (await ada("GET", f"/workflow-instances/{body['instances'][0]}", status=200)).json()
    assert instance["submissionId"] == body["id"]
    assert instance["instanceData"] == {"amount": 99.5}
    assert instance["contextData"] == {"form": "trip"}
    assert (await ada("GET", f"/submissions/{body['id']}", status=200)).json()["instances"] == body["instances"]
    filtered = await ada("GET", "/workflows/expense/instances", params={"submissionId": body["id"]}, status=200)
    assert [row["id"] for row in filtered.json()["items"]] == body["instances"]


async def test_a_submission_is_updated_under_its_revision(company: World) -> None:
    """A stale update is refused and leaves the content alone."""
    ada = company.callers["ada"]
    made = await ada("POST", "/submissions", {"formId": "trip", "data": {"total": 1}}, status=201)
    at = f"/submissions/{made.json()['id']}"
    changed = await ada("PUT", at, {"data": {"total": 2}}, headers={"If-Match": made.headers["etag"]}, status=200)
    assert changed.json()["revision"] == 2
    await ada("PUT", at, {"data": {"total": 3}}, headers={"If-Match": made.headers["etag"]}, status=412)
    assert (await ada("GET", at)).json()["data"] == {"total": 2}
    await company.callers["eve"]("GET", at, status=404)


async def test_bindings_are_managed_by_authors(company: World) -> None:
    """Faulty conditions are refused with findings; deleted bindings start nothing any more."""
    author = await company.person("eve", ("author",))
    await company.callers["ada"]("POST", "/submission-bindings", BINDING, status=403)
    faulty = await author("POST", "/submission-bindings", {**BINDING, "condition": "submission. >"}, status=422)
    assert faulty.json()["code"] == "invalid_body"
    await author("POST", "/submission-bindings", {**BINDING, "triggerEvents": ["nonsense"]}, status=422)
    at = f"/submission-bindings/{(await author('POST', '/submission-bindings', BINDING, status=201)).json()['id']}"
    replaced = await author("PUT", at, {**BINDING, "condition": "true", "enabled": False}, status=200)
    assert replaced.json()["enabled"] is False
    assert (await author("GET", at, status=200)).json() == replaced.json()
    listed = (await author("GET", "/submission-bindings", params={"formId": "trip"}, status=200)).json()["items"]
    assert len(listed) == 1
    await author("DELETE", at, status=204)
    await author("GET", at, status=404)


async def test_a_start_that_failed_is_kept_and_retried(company: World) -> None:
    """The submission stays; the operator sees the reason, sets it right and retries."""
    operator = await company.person("eve", ("operator", "author"))
    ada = company.callers["ada"]
    wrong = {
        **BINDING,
        "condition": "true",
        "dataMapping": {"submission": {"amount": "submission.total / submission.share"}},
    }
    await operator("POST", "/submission-bindings", wrong, status=201)
    made = (await ada("POST", "/submissions", {"formId": "trip", "data": {"total": 20, "share": 0}}, status=201)).json()
    assert (made["instances"], len(made["failed"])) == ([], 1)
    failed = (await operator("GET", "/failed-starts", status=200)).json()["items"]
    assert [row["id"] for row in failed] == [made["failed"][0]["id"]]
    await ada("PUT", f"/submissions/{made['id']}", {"data": {"total": 20, "share": 2}}, status=200)
    await ada("POST", f"/failed-starts/{failed[0]['id']}/retry", status=403)
    before = await ada("GET", f"/submissions/{made['id']}", status=200)
    retry, key = f"/failed-starts/{failed[0]['id']}/retry", {"Idempotency-Key": "k"}
    retried = (await operator("POST", retry, headers=key, status=200)).json()
    assert (len(retried["instances"]), retried["failed"]) == (1, [])
    # What it has started is shown with a submission and is no part of its revision; of its ETag it is.
    now = await ada("GET", f"/submissions/{made['id']}", headers={"If-None-Match": before.headers["etag"]}, status=200)
    assert (before.json()["instances"], now.json()["instances"]) == ([], retried["instances"])
    again = await operator("POST", retry, headers=key, status=200)
    assert again.json() == retried
    assert again.headers["idempotency-replayed"] == "true"
    await operator("POST", retry, status=404)
    assert (await operator("GET", "/failed-starts")).json()["items"] == []


async def test_an_instance_may_be_started_on_a_submission(company: World) -> None:
    """`submissionId` makes its data visible to expressions, and its submitter the requester."""
    ada = company.callers["ada"]
    made = (await ada("POST", "/submissions", {"formId": "other", "data": {"total": 1}}, status=201)).json()
    body = {"data": {"amount": 1}, "submissionId": made["id"]}
    started = (await ada("POST", "/workflows/expense/instances", body, status=201)).json()
    assert started["submissionId"] == made["id"]
    assert started["requesterId"] == made["submittedBy"]
    await company.callers["eve"]("POST", "/workflows/expense/instances", body, status=422)
