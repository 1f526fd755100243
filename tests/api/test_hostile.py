"""Wrong and hostile requests: the right status and code, a sentence that says what to do, and nothing has changed."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from pliers_workflow.api import application, dispatcher, sending
from pliers_workflow.api.sending import compressed
from pliers_workflow.runtime.answers import Overloaded
from tests.api.world import EXPENSE, World

JSON = {"Content-Type": "application/json"}
DEEP = b'{"data":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}"
HUGE = b'{"data":{"note":"' + b"x" * 1_100_000 + b'"}}'
LARGE = b'{"data":{"amount":1,"note":"' + b"x" * 300_000 + b'"}}'


def table(at: str) -> list[tuple[str, str, dict[str, Any], int, str]]:
    """Method, path, options, status, code; `at` is an instance of ada's in the state draft, at revision 1."""
    start = "/workflows/expense/instances"
    return [
        # addresses and methods
        ("GET", "/nonsense", {}, 404, "not_found"),
        ("GET", "/", {}, 404, "not_found"),
        ("GET", "/workflows/", {}, 404, "not_found"),
        ("GET", "/workflow-instances/not-a-uuid", {}, 404, "not_found"),
        ("GET", "/workflow-instances/%00", {}, 404, "not_found"),
        ("GET", "/workflow-instances/00000000-0000-0000-0000-000000000000", {}, 404, "not_found"),
        ("POST", "/workflow-instances/00000000-0000-0000-0000-000000000000/approve", {}, 404, "not_found"),
        ("GET", "/workflows/No_Such-Name!", {}, 404, "not_found"),
        ("GET", "/workflows/nothing-here", {}, 404, "not_found"),
        ("POST", "/workflows/nothing-here/instances", {"json": {}}, 404, "not_found"),
        ("GET", "/users/%00/approvals", {}, 404, "not_found"),
        ("GET", "/users/%ed%a0%80", {}, 404, "not_found"),
        ("PATCH", at, {"json": {}}, 405, "method_not_allowed"),
        ("POST", "/workflows/health", {"json": {}}, 405, "method_not_allowed"),
        ("OPTIONS", at, {}, 405, "method_not_allowed"),
        ("BREW", at, {}, 405, "method_not_allowed"),
        # bodies
        ("POST", start, {"content": b"{", "headers": JSON}, 400, "malformed_json"),
        ("POST", start, {"content": b"\xff\xfe", "headers": JSON}, 400, "malformed_json"),
        ("POST", start, {"content": b'{"data": {"a": "\\ud800"}}', "headers": JSON}, 400, "malformed_json"),
        ("POST", start, {"content": b'{"data": {"a": "\\u0000"}}', "headers": JSON}, 422, "unstorable_value"),
        ("POST", start, {"content": b'{"data": {"\\u0000": 1}}', "headers": JSON}, 422, "unstorable_value"),
        ("POST", start, {"content": b'{"data": {"a": 1e400000}}', "headers": JSON}, 422, "unstorable_value"),
        ("POST", start, {"content": b'{"data": {"a": 1, "a": 2}}', "headers": JSON}, 422, "unstorable_value"),
        ("POST", start, {"content": DEEP, "headers": JSON}, 422, "unstorable_value"),
        ("POST", start, {"content": b"[" * 900_000, "headers": JSON}, 422, "unstorable_value"),
        ("POST", start, {"content": HUGE, "headers": JSON}, 413, "body_too_large"),
        ("POST", start, {"content": LARGE, "headers": JSON}, 413, "data_too_large"),
        ("POST", start, {"content": b"{}"}, 415, "unsupported_media_type"),
        ("POST", start, {"data": {"data": "x"}}, 415, "unsupported_media_type"),
        (
            "POST",
            start,
            {"content": b"{}", "headers": {**JSON, "Content-Encoding": "gzip"}},
            415,
            "unsupported_media_type",
        ),
        ("POST", start, {"json": {"dta": {}}}, 422, "invalid_body"),
        ("POST", start, {"json": {"data": []}}, 422, "invalid_body"),
        ("POST", start, {"json": []}, 422, "invalid_body"),
        ("POST", start, {"json": {"version": "1.x.y.z!"}}, 422, "invalid_body"),
        ("POST", start, {"json": {"submissionId": "x"}}, 422, "invalid_body"),
        ("POST", start, {"json": {"submissionId": "00000000-0000-0000-0000-000000000000"}}, 422, "invalid_body"),
        ("POST", start, {"json": {"data": {"amount": -1}}}, 422, "data_invalid"),
        ("POST", start, {"json": {"data": {"amount": "many"}}}, 422, "data_invalid"),
        ("POST", f"{at}/advance", {}, 422, "body_required"),
        ("POST", f"{at}/advance", {"json": {"trigger": ""}}, 422, "invalid_body"),
        ("POST", f"{at}/advance", {"json": {"trigger": "a b"}}, 422, "invalid_body"),
        ("POST", f"{at}/advance", {"json": {"trigger": "*"}}, 409, "unknown_trigger"),
        ("POST", f"{at}/advance", {"json": {"trigger": "submit", "sneaky": True}}, 422, "invalid_body"),
        ("POST", f"{at}/delegate", {"json": {}}, 422, "invalid_body"),
        ("POST", f"{at}/approve", {"json": {"comments": "x" * 10_001}}, 422, "invalid_body"),
        # headers
        ("PUT", at, {"json": {"data": {}}, "headers": {"If-Match": '"99"'}}, 412, "revision_conflict"),
        ("PUT", at, {"json": {"data": {}}, "headers": {"If-Match": "1"}}, 400, "invalid_header"),
        ("PUT", at, {"json": {"data": {}}, "headers": {"If-Match": '"x"'}}, 400, "invalid_header"),
        ("PUT", at, {"json": {"data": {}}, "headers": {"If-Match": 'W/"1"'}}, 412, "precondition_failed"),
        ("PUT", at, {"json": {"data": {}}, "headers": {"If-Match": f'"{"9" * 18}"'}}, 412, "revision_conflict"),
        ("PUT", at, {"json": {"data": {}}, "headers": {"Idempotency-Key": ""}}, 400, "invalid_header"),
        ("PUT", at, {"json": {"data": {}}, "headers": {"Idempotency-Key": "x" * 256}}, 400, "invalid_header"),
        ("PUT", at, {"json": {"data": {}}, "headers": {"Idempotency-Key": b"\xc3\xa4"}}, 400, "invalid_header"),
        # queries
        ("GET", start, {"params": {"limit": "0"}}, 422, "invalid_parameter"),
        ("GET", start, {"params": {"limit": "201"}}, 422, "invalid_parameter"),
        ("GET", start, {"params": {"limit": "many"}}, 422, "invalid_parameter"),
        ("GET", start, {"params": {"limt": "5"}}, 422, "invalid_parameter"),
        ("GET", start, {"params": [("limit", "1"), ("limit", "2")]}, 422, "invalid_parameter"),
        ("GET", start, {"params": {"cursor": "AAAA"}}, 422, "invalid_parameter"),
        ("GET", start, {"params": {"cursor": "\0"}}, 422, "invalid_parameter"),
        ("GET", start, {"params": {"state": "\0"}}, 422, "invalid_parameter"),
        ("GET", start, {"params": {"status": "happy"}}, 422, "invalid_parameter"),
        ("GET", start, {"params": {"status": "null"}}, 422, "invalid_parameter"),
        ("GET", "/users", {"params": {"active": "null"}}, 422, "invalid_parameter"),
        ("GET", start, {"params": {"createdAfter": "yesterday"}}, 422, "invalid_parameter"),
        ("GET", start, {"params": {"createdAfter": "0.5"}}, 422, "invalid_parameter"),
        ("GET", start, {"params": {"createdAfter": "1770000000"}}, 422, "invalid_parameter"),
        ("GET", start, {"params": {"createdAfter": "2026-01-01T00:00:00"}}, 422, "invalid_parameter"),
        ("GET", start, {"params": {"createdAfter": "0001-01-01T00:00:00+14:00"}}, 422, "invalid_parameter"),
        ("GET", start, {"params": {"createdBefore": "9999-12-31T23:59:59-14:00"}}, 422, "invalid_parameter"),
        ("GET", f"{at}/history", {"params": {"cursor": "99999999999999999999"}}, 422, "invalid_parameter"),
        # permissions
        ("POST", "/workflows", {"json": EXPENSE}, 403, "permission_missing"),
        ("POST", "/users", {"json": {"username": "mallory"}}, 403, "permission_missing"),
        ("DELETE", "/users/mia", {}, 403, "permission_missing"),
        ("PUT", "/roles/managers/members/ada", {}, 403, "permission_missing"),
        ("POST", "/tokens", {"json": {"user": "ada", "permissions": ["admin"]}}, 403, "permission_missing"),
        ("POST", "/tokens", {"json": {"user": "mia"}}, 403, "permission_missing"),
        ("POST", "/tenants", {"json": {"id": "mine", "name": "Mine"}}, 403, "permission_missing"),
        ("GET", "/audit", {}, 403, "permission_missing"),
        ("POST", f"{at}/suspend", {}, 403, "not_allowed"),
    ]


async def test_hostile_requests_are_refused_and_change_nothing(company: World) -> None:
    """Every row of the table: its status and code, a whole problem, and the instance is as it was."""
    ada = company.callers["ada"]
    instance = await company.start("ada")
    at = f"/workflow-instances/{instance['id']}"
    count = "SELECT (SELECT count(*) FROM workflow_execution_history) + (SELECT count(*) FROM workflow_definitions)"
    count += " + (SELECT count(*) FROM users) + (SELECT count(*) FROM api_tokens) + (SELECT count(*) FROM tenants)"
    before = await company.engine.pool.fetchval(count)
    wrong: list[str] = []
    for method, path, options, status, code in table(at):
        response = await ada(method, path, **options)
        problem = response.json()
        if (response.status_code, problem.get("code")) != (status, code):
            wrong.append(f"{method} {path} {str(options)[:80]}: {response.status_code} {response.text[:300]}")
            continue
        assert response.headers["content-type"] == "application/problem+json"
        assert problem["status"] == status
        assert problem["type"] == f"/api/v1/problems/{code}"
        assert problem["detail"].endswith("."), problem["detail"]
        assert problem["errorCode"]
        if status == 405:
            assert response.headers["allow"]
    assert not wrong, "\n".join(wrong)
    assert (await ada("GET", at)).json() == instance
    assert await company.engine.pool.fetchval(count) == before


@pytest.mark.parametrize(
    ("headers", "code", "challenge"),
    [
        ({}, "unauthenticated", 'Bearer realm="pliers"'),
        ({"Authorization": "Basic YWRhOmFkYQ=="}, "unauthenticated", 'Bearer realm="pliers"'),
        ({"Authorization": "Bearer"}, "invalid_token", 'error="invalid_token"'),
        ({"Authorization": "Bearer wrong"}, "invalid_token", 'error="invalid_token"'),
        ({"Authorization": "Bearer pliers_" + "A" * 43}, "invalid_token", 'error="invalid_token"'),
        ({"Authorization": b"Bearer \xff\xfe"}, "invalid_token", 'error="invalid_token"'),
    ],
)
async def test_nothing_is_answered_without_a_token(
    world: World, headers: dict[str, Any], code: str, challenge: str
) -> None:
    """401 with the challenge that RFC 6750 wants, before anything is looked up."""
    for method, path in (
        ("GET", "/workflows"),
        ("POST", "/workflows"),
        ("GET", "/workflow-instances/x"),
        ("GET", "/me"),
    ):
        refused = await world.nobody(method, path, headers=headers, status=401)
        assert refused.json()["code"] == code
        assert challenge in refused.headers["www-authenticate"]


async def test_a_page_that_is_there_says_what_it_takes(world: World) -> None:
    """Outside the REST API, too, 405 is not told as if nothing were there."""
    for path in ("/docs", "/openapi.json", "/health/live"):
        response = await world.http.post(path)
        assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")
        assert response.json()["detail"] == "This address takes GET and HEAD, but not POST."
    assert (await world.http.post("/nonsense")).json()["code"] == "not_found"


def forged(*key: object) -> str:
    """A cursor that nobody was given, in the form of ours."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
async def test_a_forged_cursor_is_refused(company: World, number: int) -> None:
    """A cursor whose number no row can have is none of ours, in every list that continues by a number."""
    auditor = await company.person("finn", ("auditor",))
    instance = await company.start("ada")
    nobody = "00000000-0000-0000-0000-000000000000"
    for path, cursor in (
        ("/audit", forged(number)),
        (f"/workflow-instances/{instance['id']}/history", forged(number)),
        ("/incidents", forged(number, nobody, "incident/1")),
        ("/users/me/approvals", forged(number, nobody)),
    ):
        problem = (await auditor("GET", path, params={"cursor": cursor}, status=422)).json()
        assert problem["code"] == "invalid_parameter", path
        assert "begin the list anew" in problem["detail"]


async def test_a_forged_instant_is_refused(company: World) -> None:
    """One that no calendar has, in every list that continues by an instant."""
    auditor = await company.person("finn", ("auditor",))
    nobody = "00000000-0000-0000-0000-000000000000"
    for number in (2**58 - 1, 2**57, -1):
        for path, cursor in (
            ("/incidents", forged(number, nobody, "incident/1")),
            ("/users/me/approvals", forged(number, nobody)),
            ("/steps", forged(number, nobody)),
        ):
            await auditor("GET", path, params={"cursor": cursor}, status=422)


async def test_what_has_one_value_is_not_given_twice(company: World) -> None:
    """Of two tokens, keys, tags or types none is chosen: a proxy may have heeded the other one."""
    at = f"/api/v1/workflow-instances/{(await company.start('ada'))['id']}"
    token = ("Authorization", f"Bearer {company.callers['ada'].token}")
    kind = ("Content-Type", "application/json")
    for headers, status in (
        ([token, ("Authorization", "Bearer other")], 401),
        ([("Authorization", "Bearer other"), token], 401),
        ([token, kind, ("Idempotency-Key", "a"), ("Idempotency-Key", "b")], 400),
        ([token, kind, ("If-Match", '"1"'), ("If-Match", '"2"')], 400),
        ([token, kind, ("If-Match", '"9"'), ("If-Match", "*")], 400),
        ([token, kind, ("Content-Type", "text/plain")], 415),
        ([token, kind, ("Content-Encoding", "identity"), ("Content-Encoding", "gzip")], 415),
    ):
        refused = await company.http.put(at, headers=headers, content=b'{"patch": {"amount": 2}}')
        assert refused.status_code == status, headers
    several = [token, ("If-None-Match", '"1"'), ("If-None-Match", "*"), ("Accept-Encoding", "br"), ("Accept", "a/b")]
    assert (await company.http.get(at, headers=several)).status_code == 304
    assert (await company.admin("GET", at.removeprefix("/api/v1"), status=200)).json()["revision"] == 1


@pytest.mark.parametrize("sqlstate", ["53100", "53200", "40P01", "40001", "55P03", "57014", "25006"])
async def test_what_the_database_cannot_do_now_is_to_be_repeated(world: World, sqlstate: str) -> None:
    """A full disk, a deadlock, a lock, a time limit: 503 with `Retry-After`, and nothing was kept; then it is done once."""
    pool = world.engine.pool
    await pool.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END $$; "
        "CREATE TRIGGER refuse AFTER INSERT ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
    )
    key = {"Idempotency-Key": "once"}
    answer = await world.admin("POST", "/users", {"username": "zoe"}, headers=key, status=503)
    assert (answer.json()["code"], answer.headers["retry-after"]) == ("unavailable", "2")
    await pool.execute("DROP TRIGGER refuse ON audit_log")
    await world.admin("POST", "/users", {"username": "zoe"}, headers=key, status=201)


async def test_a_token_s_end_is_refused_by_its_name_in_the_body(world: World) -> None:
    """Whoever asks for a token that has expired already is told which field of the body to set right."""
    body = {"user": "admin", "expiresAt": "2020-01-01T00:00:00Z"}
    problem = (await world.admin("POST", "/tokens", json=body, status=422)).json()
    assert "`expiresAt` must lie in the future" in problem["detail"]


async def test_a_revoked_token_is_useless(company: World) -> None:
    """Revoking is felt at once on this node."""
    caller = await company.person("eve")
    me = (await caller("GET", "/me", status=200)).json()
    await company.admin("DELETE", f"/tokens/{me['tokenId']}", status=200)
    await caller("GET", "/me", status=401)


@pytest.mark.parametrize("how", ["token", "user"])
async def test_who_is_put_out_while_their_body_comes(company: World, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """A body may come for half an hour: its sender is asked for again when it is there, and nothing is done for nobody."""
    monkeypatch.setattr(dispatcher, "_SLOW", -1)
    at = f"/workflow-instances/{(await company.start('ada'))['id']}"
    ada = company.callers["ada"]
    token_id = (await ada("GET", "/me", status=200)).json()["tokenId"]

    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"trigger": '
        await company.admin("DELETE", f"/tokens/{token_id}" if how == "token" else "/users/ada", status=200)
        yield b'"submit"}'

    refused = await ada("POST", f"{at}/advance", content=slowly(), headers=JSON, status=401)
    assert refused.json()["code"] == "invalid_token"
    assert (await company.admin("GET", at, status=200)).json()["revision"] == 1


async def test_another_tenant_s_ids_are_not_there(company: World) -> None:
    """An administrator of one tenant finds nothing of another: 404 everywhere, never 403, and nothing changes."""
    made = (await company.admin("POST", "/tenants", {"id": "other", "name": "Other"}, status=201)).json()
    stranger = type(company.admin)(company.http, made["adminToken"])
    assert (await stranger("GET", "/me")).json()["tenantId"] == "other"
    instance = await company.submitted()
    at = f"/workflow-instances/{instance['id']}"
    definition = (await company.admin("GET", "/workflows/expense")).json()["id"]
    user = (await company.admin("GET", "/users/ada")).json()["id"]
    form = (await company.callers["ada"]("POST", "/submissions", {"formId": "trip", "data": {}}, status=201)).json()[
        "id"
    ]
    binding_body = {"formId": "trip", "workflowId": "expense"}
    binding = (await company.admin("POST", "/submission-bindings", binding_body, status=201)).json()["id"]
    token = (await company.callers["ada"]("GET", "/me")).json()["tokenId"]
    requests: list[tuple[str, str, Any]] = [
        ("GET", at, None),
        ("PUT", at, {"data": {}}),
        ("DELETE", at, None),
        *(("POST", f"{at}/{verb}", {}) for verb in ("suspend", "resume", "approve", "reject", "request-changes")),
        ("POST", f"{at}/advance", {"trigger": "submit"}),
        ("GET", f"{at}/history", None),
        ("GET", f"{at}/timeline", None),
        ("GET", f"{at}/approvals", None),
        *(("GET", f"/workflows/{ref}{rest}", None) for ref in (definition, "expense") for rest in ("", "/versions")),
        ("PUT", f"/workflows/{definition}", {**EXPENSE, "version": "3.0.0"}),
        ("DELETE", f"/workflows/{definition}", None),
        ("POST", f"/workflows/{definition}/publish", None),
        ("POST", f"/workflows/{definition}/instances", {}),
        ("GET", f"/users/{user}", None),
        ("GET", f"/users/{user}/approvals", None),
        ("PATCH", f"/users/{user}", {"name": "x"}),
        ("DELETE", f"/users/{user}", None),
        ("GET", "/roles/managers/members", None),
        ("DELETE", "/roles/managers", None),
        ("GET", f"/submissions/{form}", None),
        ("PUT", f"/submissions/{form}", {"data": {}}),
        ("GET", f"/submission-bindings/{binding}", None),
        ("DELETE", f"/submission-bindings/{binding}", None),
        ("DELETE", f"/tokens/{token}", None),
        ("GET", "/tenants/default", None),
        ("PUT", "/tenants/default/clock", {"virtualNow": "2030-01-01T00:00:00Z"}),
    ]
    wrong = []
    for method, path, body in requests:
        response = await stranger(method, path, body)
        if response.status_code != 404:
            wrong.append(f"{method} {path}: {response.status_code} {response.text[:200]}")
    assert not wrong, "\n".join(wrong)
    for path in ("/workflows", "/submissions", "/submission-bindings", "/roles", "/workflows/expense/instances"):
        response = await stranger("GET", path)
        assert response.status_code == 404 or response.json()["items"] == [], path
    assert [row["username"] for row in (await stranger("GET", "/users")).json()["items"]] == ["admin"]
    refused = await stranger("POST", "/tenants", {"id": "third", "name": "Third"}, status=403)
    assert refused.json()["errorCode"] == "PERMISSION_DENIED"
    assert (await company.callers["ada"]("GET", at)).json() == instance


async def test_a_full_queue_is_said_before_the_body_is_read(company: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with Retry-After, although the body would have been refused."""
    instance = await company.start("ada")
    monkeypatch.setattr(company.engine, "overloaded", lambda: 2.4)
    refused = await company.callers["ada"](
        "POST", f"/workflow-instances/{instance['id']}/advance", content=b"{", headers=JSON, status=503
    )
    assert refused.json()["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 2
    await company.callers["ada"]("GET", f"/workflow-instances/{instance['id']}", status=200)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Overloaded(1), 503, "overloaded"),
        (ConnectionRefusedError("no"), 503, "unavailable"),
        (TimeoutError(), 503, "unavailable"),
        (asyncpg.AdminShutdownError("terminating connection due to administrator command"), 503, "unavailable"),
        (asyncpg.InternalClientError("cannot switch to state 12"), 503, "unavailable"),
        (RuntimeError("a bug with a secret in it"), 500, "internal_error"),
    ],
)
async def test_what_nobody_foresaw_is_a_problem_without_its_inside(
    company: World, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    """The caller gets an incident id to report; what went wrong stands in the log only."""

    async def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(company.engine, "execute", fail)
    at = "/workflow-instances/00000000-0000-7000-8000-000000000000"
    response = await company.callers["ada"]("POST", f"{at}/advance", {"trigger": "submit"}, status=status)
    assert response.json()["code"] == code
    assert "secret" not in response.text
    if code == "internal_error":
        assert len(response.json()["details"]["incident"]) == 16


async def test_denied_attempts_are_on_record(company: World) -> None:
    """Who tried what they may not do stands in the audit log, and its chain is whole."""
    await company.callers["eve"]("DELETE", "/users/mia", status=403)
    auditor = await company.person("finn", ("auditor",))
    rows = (await auditor("GET", "/audit", params={"action": "denied"}, status=200)).json()["items"]
    assert rows[0]["details"]["needed"] == ["admin"]
    assert (await auditor("GET", "/audit/verification", status=200)).json()["intact"] is True


async def test_every_answer_has_its_security_headers(world: World) -> None:
    """Answers are not cached, not sniffed, not framed; errors neither."""
    for path in ("/api/v1/me", "/api/v1/nonsense", "/docs", "/openapi.json"):
        response = await world.http.get(path)
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in response.headers["content-security-policy"]


async def test_an_answer_without_content_has_no_length(world: World) -> None:
    """204 never has one, and a cache would take that of a 304 for the length of what it keeps (RFC 9110 section 8.6)."""
    await world.admin("PUT", "/roles/clerks", status=201)
    assert "content-length" not in (await world.admin("DELETE", "/roles/clerks", status=204)).headers


async def test_large_answers_are_compressed_for_those_who_can_read_it(world: World) -> None:
    """gzip where it is accepted, plain where it is not or where `q=0` refuses it."""
    for accept, encoding in (("gzip", "gzip"), ("br, gzip;q=0.5", "gzip"), ("gzip;q=0", None), ("identity", None)):
        response = await world.nobody("GET", "/problems", headers={"Accept-Encoding": accept}, status=200)
        assert response.headers.get("content-encoding") == encoding
        assert response.json()["items"]


async def test_compressing_keeps_nobody_waiting(company: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large is compressed beside the loop, and what needs no token once for all who ask for it."""
    threads: list[threading.Thread] = []

    def told(body: bytes) -> bytes:
        threads.append(threading.current_thread())
        return compressed(body)

    monkeypatch.setattr(sending, "compressed", told)
    monkeypatch.setattr(application, "compressed", told)
    note = {"amount": 1, "note": "x" * 50_000}
    for _ in range(4):
        await company.start("ada", note)
    threads.clear()
    listed = await company.admin("GET", "/workflows/expense/instances", headers={"Accept-Encoding": "gzip"}, status=200)
    assert listed.headers["content-encoding"] == "gzip"
    assert len(listed.json()["items"]) == 4
    assert threads
    assert threading.main_thread() not in threads
    for path in ("/docs", "/openapi.json"):
        first = await company.http.get(path, headers={"Accept-Encoding": "gzip"})
        count = len(threads)
        again = await company.http.get(path, headers={"Accept-Encoding": "gzip"})
        assert (again.content, len(threads)) == (first.content, count)
