"""People, roles, groups, tokens and tenants over REST."""

from __future__ import annotations

from tests.api.world import World


async def test_a_person_is_made_changed_and_deactivated(world: World) -> None:
    """Creation is 201 with an ETag, a stale change 412, and an inactive person's token stops working."""
    missing = await world.admin("POST", "/users", {"username": "ada", "roles": ["staff"]}, status=422)
    assert missing.json()["details"]["reason"] == "unknown_role"
    await world.admin("PUT", "/roles/staff", status=201)
    created = await world.admin(
        "POST", "/users", {"username": "ada", "name": "Ada", "roles": ["staff"], "attributes": {"level": 3}}, status=201
    )
    ada = created.json()
    assert (ada["roles"], ada["attributes"]) == (["staff"], {"level": 3})
    caller = await world.person("ada")
    etag = created.headers["etag"]
    changed = await world.admin(
        "PATCH", "/users/ada", {"email": "ada@example.org"}, headers={"If-Match": etag}, status=200
    )
    assert (changed.json()["email"], changed.json()["name"]) == ("ada@example.org", "Ada")
    await world.admin("PATCH", "/users/ada", {"name": "X"}, headers={"If-Match": etag}, status=412)
    assert (await world.admin("PATCH", "/users/ada", {"email": None})).json()["email"] is None
    assert (await caller("GET", "/users/me", status=200)).json()["id"] == ada["id"]
    assert (await world.admin("POST", "/users", {"username": "ada"}, status=409)).json()["code"] == "conflict"
    assert (await world.admin("DELETE", "/users/ada", status=200)).json()["active"] is False
    await caller("GET", "/me", status=401)
    listed = (await world.admin("GET", "/users", params={"active": "true"})).json()["items"]
    assert [row["username"] for row in listed] == ["admin"]


async def test_roles_and_groups_have_members(world: World) -> None:
    """Both work alike: put, read, add, set, remove, delete."""
    for username in ("ada", "mia", "max"):
        await world.admin("POST", "/users", {"username": username}, status=201)
    for kind in ("roles", "groups"):
        at = f"/{kind}/board"
        await world.admin("GET", at, status=404)
        await world.admin("PUT", at, {"name": "The board"}, status=201)
        assert (await world.admin("PUT", at, {"name": "Board"}, status=200)).json()["name"] == "Board"
        await world.admin("PUT", f"{at}/members/ada", status=200)
        await world.admin("PUT", f"{at}/members", {"users": ["mia", "max"]}, status=200)
        assert (await world.admin("DELETE", f"{at}/members/max", status=200)).json()["memberCount"] == 1
        members = (await world.admin("GET", f"{at}/members", status=200)).json()["items"]
        assert [row["username"] for row in members] == ["mia"]
        await world.admin("PUT", f"{at}/members", {"users": ["nobody"]}, status=422)
        assert [row["key"] for row in (await world.admin("GET", f"/{kind}", status=200)).json()["items"]] == ["board"]
        gone = await world.admin("DELETE", at, status=204)
        assert gone.content == b""
        await world.admin("GET", f"{at}/members", status=404)


async def test_tokens_are_made_listed_and_revoked(company: World) -> None:
    """Everybody handles their own, with no more permissions than they have; the secret is shown once."""
    ada = company.callers["ada"]
    made = (await ada("POST", "/tokens", {"user": "ada", "name": "laptop"}, status=201)).json()
    assert made["secret"].startswith("pliers_")
    laptop = type(ada)(company.http, made["secret"])
    assert (await laptop("GET", "/me", status=200)).json()["permissions"] == []
    listed = (await ada("GET", "/tokens", status=200)).json()["items"]
    assert made["id"] in {row["id"] for row in listed}
    assert all("secret" not in row and row["username"] == "ada" for row in listed)
    await company.callers["eve"]("DELETE", f"/tokens/{made['id']}", status=404)
    assert (await ada("DELETE", f"/tokens/{made['id']}", status=200)).json()["revokedAt"] is not None
    await laptop("GET", "/me", status=401)
    everybody = (await company.admin("GET", "/tokens", params={"user": "mia"}, status=200)).json()["items"]
    assert {row["username"] for row in everybody} == {"mia"}
    past = await ada("POST", "/tokens", {"user": "ada", "expiresAt": "2001-01-01T00:00:00Z"}, status=422)
    assert past.json()["code"] == "invalid_body"


async def test_a_virtual_tenant_has_a_clock_that_is_moved(world: World) -> None:
    """It only goes forwards, and only by its own operators; real time cannot be moved."""
    body = {"id": "replay", "name": "Replay", "virtualNow": "2020-01-01T00:00:00Z"}
    made = (await world.admin("POST", "/tenants", body, status=201)).json()
    assert made["virtualNow"] == "2020-01-01T00:00:00Z"
    await world.admin("POST", "/tenants", body, status=409)
    own = type(world.admin)(world.http, made["adminToken"])
    moved = await own("PUT", "/tenants/replay/clock", {"virtualNow": "2020-02-01T00:00:00Z"}, status=200)
    assert moved.json()["virtualNow"] == "2020-02-01T00:00:00Z"
    await own("PUT", "/tenants/replay/clock", {"virtualNow": "2020-01-15T00:00:00Z"}, status=409)
    await own("PUT", "/tenants/replay/clock", {"virtualNow": "2020-03-01T00:00:00"}, status=422)
    await world.admin("PUT", "/tenants/default/clock", {"virtualNow": "2030-01-01T00:00:00Z"}, status=409)
    assert [row["id"] for row in (await own("GET", "/tenants", status=200)).json()["items"]] == ["replay"]
    assert {row["id"] for row in (await world.admin("GET", "/tenants")).json()["items"]} == {"default", "replay"}
    assert (await own("GET", "/tenants/replay", status=200)).json()["name"] == "Replay"


async def test_health_is_open_and_its_details_are_not(company: World) -> None:
    """Load balancers learn up or down; operators learn how it is doing."""
    health = (await company.nobody("GET", "/workflows/health", status=200)).json()
    assert health == {"status": "up", "details": None}
    assert (await company.callers["ada"]("GET", "/workflows/health", status=200)).json()["details"] is None
    assert (await company.admin("GET", "/workflows/health", status=200)).json()["details"]
    await company.nobody("GET", "/workflows/health", headers={"Authorization": "Bearer wrong"}, status=401)


async def test_problems_explain_themselves(world: World) -> None:
    """A problem's `type` is an address that can be read."""
    refused = (await world.nobody("GET", "/me", status=401)).json()
    explained = (await world.http.get(refused["type"])).json()
    assert (explained["code"], explained["status"]) == ("unauthenticated", 401)
    await world.nobody("GET", "/problems/nothing_known", status=404)
