"""The nine endpoints of definitions."""

from __future__ import annotations

from copy import deepcopy

from tests.api.world import EXPENSE, World


def version(number: str) -> dict[str, object]:
    """The expense workflow under another version number."""
    return {**deepcopy(EXPENSE), "version": number}


async def test_a_draft_is_created_read_and_published(world: World) -> None:
    """POST keeps a draft under 201 with its address; publishing makes it the active version."""
    created = await world.admin("POST", "/workflows", EXPENSE, status=201)
    body = created.json()
    assert body["status"] == "draft"
    assert body["definition"] == EXPENSE
    assert body["stateMachine"] == EXPENSE["stateMachine"]
    assert created.headers["location"] == f"/api/v1/workflows/{body['id']}"
    assert created.headers["etag"].startswith(f'"{body["revision"]}-')
    for ref in (body["id"], "expense"):
        assert (await world.admin("GET", f"/workflows/{ref}", status=200)).json()["id"] == body["id"]
    published = (await world.admin("POST", "/workflows/expense/publish", status=200)).json()
    assert (published["status"], published["id"]) == ("active", body["id"])
    assert published["publishedAt"] is not None


async def test_a_change_of_a_published_workflow_opens_the_next_draft(world: World) -> None:
    """PUT on a published workflow keeps a new draft; publishing it deprecates the version before."""
    first = await world.publish(EXPENSE)
    draft = (await world.admin("PUT", "/workflows/expense", version("1.1.0"), status=200)).json()
    assert (draft["status"], draft["version"]) == ("draft", "1.1.0")
    again = {**version("1.1.0"), "title": "Expenses"}
    draft = await world.admin("PUT", f"/workflows/{draft['id']}", again, headers={"If-Match": f'"{draft["revision"]}"'})
    assert draft.json()["title"] == "Expenses"
    await world.admin("POST", "/workflows/expense/publish", {"version": "1.1.0"}, status=200)
    versions = (await world.admin("GET", "/workflows/expense/versions", status=200)).json()["items"]
    assert [(row["version"], row["status"]) for row in versions] == [("1.1.0", "active"), ("1.0.0", "deprecated")]
    old = (await world.admin("GET", "/workflows/expense/versions/1.0.0", status=200)).json()
    assert old["id"] == first["id"]
    await world.admin("GET", "/workflows/expense/versions/9.9.9", status=404)


async def test_a_stale_draft_is_not_overwritten(world: World) -> None:
    """Two authors: the second one's If-Match is stale, gets 412, and the first one's work stays."""
    created = await world.admin("POST", "/workflows", EXPENSE, status=201)
    etag = created.headers["etag"]
    await world.admin(
        "PUT", "/workflows/expense", {**EXPENSE, "title": "First"}, headers={"If-Match": etag}, status=200
    )
    stale = await world.admin(
        "PUT", "/workflows/expense", {**EXPENSE, "title": "Second"}, headers={"If-Match": etag}, status=412
    )
    assert stale.json()["code"] == "precondition_failed"
    assert (await world.admin("GET", "/workflows/expense")).json()["title"] == "First"


async def test_all_findings_come_at_once(world: World) -> None:
    """A document with several faults is refused once, with a pointer for each, and nothing is kept."""
    broken = deepcopy(EXPENSE)
    broken["stateMachine"]["transitions"][0]["to"] = "nowhere"
    broken["stateMachine"]["initialState"] = "missing"
    refused = await world.admin("POST", "/workflows", broken, status=422)
    problem = refused.json()
    assert problem["code"] == "invalid_definition"
    assert problem["errorCode"] == "VALIDATION_ERROR"
    assert len(problem["findings"]) >= 2
    assert all(finding["pointer"].startswith("/") or finding["pointer"] == "" for finding in problem["findings"])
    await world.admin("GET", "/workflows/expense", status=404)


async def test_a_document_is_validated_without_being_kept(world: World) -> None:
    """`validate` takes a document, or without one the stored one."""
    answer = (await world.admin("POST", "/workflows/expense/validate", EXPENSE, status=200)).json()
    assert answer["valid"] is True
    answer = (await world.admin("POST", "/workflows/expense/validate", {"name": "expense"}, status=200)).json()
    assert answer["valid"] is False
    assert answer["findings"]
    await world.admin("POST", "/workflows/expense/validate", status=404)
    await world.admin("POST", "/workflows", EXPENSE, status=201)
    assert (await world.admin("POST", "/workflows/expense/validate", status=200)).json()["valid"] is True


async def test_a_workflow_in_use_is_not_archived(company: World) -> None:
    """DELETE is refused while an instance lives, and archives afterwards; archived versions stay readable."""
    instance = await company.start("ada")
    refused = await company.admin("DELETE", "/workflows/expense", status=409)
    assert refused.json()["code"] == "conflict"
    await company.callers["ada"]("DELETE", f"/workflow-instances/{instance['id']}", status=200)
    archived = (await company.admin("DELETE", "/workflows/expense", status=200)).json()["archived"]
    assert [row["status"] for row in archived] == ["archived"]
    assert (await company.admin("GET", f"/workflows/{archived[0]['id']}")).json()["status"] == "archived"
    await company.callers["ada"]("POST", "/workflows/expense/instances", {}, status=409)


async def test_lists_are_paged_without_gaps(world: World) -> None:
    """Following `nextCursor` gives every workflow once; filters hold on every page."""
    for number in range(5):
        await world.admin("POST", "/workflows", {**EXPENSE, "name": f"flow-{number}"}, status=201)
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(10):
        query = {"limit": "2", "status": "draft", "name": "flow-", **({"cursor": cursor} if cursor else {})}
        page = (await world.admin("GET", "/workflows", params=query, status=200)).json()
        seen += [row["name"] for row in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert seen == [f"flow-{number}" for number in range(5)]
    bad = await world.admin("GET", "/workflows", params={"cursor": "nonsense"}, status=422)
    assert bad.json()["code"] == "invalid_parameter"


async def test_writing_takes_the_right_permission(company: World) -> None:
    """Authors write, publishers publish; reading needs only a token."""
    ada = company.callers["ada"]
    author = await company.person("ada", ("author",))
    publisher = await company.person("ada", ("publisher",))
    assert (await ada("POST", "/workflows", version("2.0.0"), status=403)).json()["details"]["anyOf"] == [
        "author",
        "admin",
    ]
    await ada("POST", "/workflows/expense/publish", status=403)
    await author("PUT", "/workflows/expense", version("1.1.0"), status=200)
    await author("POST", "/workflows/expense/publish", status=403)
    await publisher("POST", "/workflows/expense/publish", status=200)
    await author("DELETE", "/workflows/expense", status=403)
    assert (await ada("GET", "/workflows/expense")).json()["version"] == "1.1.0"


async def test_the_definition_schema_is_published(world: World) -> None:
    """Editors read it without a token."""
    schema = (await world.nobody("GET", "/schemas/workflow-definition.json", status=200)).json()
    assert "stateMachine" in schema["properties"]
