"""Repeating safely: the same Idempotency-Key takes effect once, whatever the client does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.world import EXPENSE, Caller, World


async def test_a_double_click_decides_once(company: World) -> None:
    """Ten identical requests at once: one history row, ten equal answers, nine of them marked as replayed."""
    at = f"/workflow-instances/{(await company.start('ada'))['id']}"
    ada = company.callers["ada"]
    headers = {"Idempotency-Key": "click-1"}
    answers = await asyncio.gather(
        *(ada("POST", f"{at}/advance", {"trigger": "submit"}, headers=headers) for _ in range(10))
    )
    assert [answer.status_code for answer in answers] == [200] * 10
    assert {answer.json()["revision"] for answer in answers} == {2}
    assert [answer.headers.get("idempotency-replayed") for answer in answers].count("true") == 9
    assert len((await ada("GET", f"{at}/history")).json()["items"]) == 2


async def test_a_double_click_without_key_is_refused_once(company: World) -> None:
    """Without a key the second approval is a second decision, and is told that it came too late."""
    at = f"/workflow-instances/{(await company.submitted(data={'amount': 5000}))['id']}"
    mia = company.callers["mia"]
    answers = await asyncio.gather(*(mia("POST", f"{at}/approve") for _ in range(5)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes[0] == 200
    assert all(code in (403, 409) for code in codes[1:])
    history = (await mia("GET", f"{at}/history")).json()["items"]
    assert len([row for row in history if row["actionType"] == "decide"]) == 1


async def test_starting_twice_with_one_key_starts_once(company: World) -> None:
    """A client that lost the answer repeats its start and is told about the same instance."""
    ada = company.callers["ada"]
    headers = {"Idempotency-Key": "start-1"}
    body = {"data": {"amount": 7}}
    first = await ada("POST", "/workflows/expense/instances", body, headers=headers, status=201)
    second = await ada("POST", "/workflows/expense/instances", {"data": {"amount": 7.0e0}}, headers=headers)
    assert second.status_code in (201, 422)
    second = await ada("POST", "/workflows/expense/instances", body, headers=headers, status=201)
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["idempotency-replayed"] == "true"
    assert len((await ada("GET", "/workflows/expense/instances")).json()["items"]) == 1


async def test_a_key_with_another_body_is_refused(company: World) -> None:
    """The key belongs to one request; the instance stays as it is."""
    ada = company.callers["ada"]
    at = f"/workflow-instances/{(await company.start('ada'))['id']}"
    headers = {"Idempotency-Key": "once"}
    await ada("PUT", at, {"patch": {"note": "a"}}, headers=headers, status=200)
    refused = await ada("PUT", at, {"patch": {"note": "b"}}, headers=headers, status=422)
    assert refused.json()["code"] == "idempotency_key_reused"
    assert (await ada("GET", at)).json()["instanceData"]["note"] == "a"


async def test_a_refusal_keeps_no_key(company: World) -> None:
    """What was refused may be accepted later under its key, with another body even; what was accepted is given again."""
    ada, mia = company.callers["ada"], company.callers["mia"]
    at = f"/workflow-instances/{(await company.start('ada', {'amount': 0}))['id']}"
    key = {"Idempotency-Key": "k"}
    for _ in range(2):
        refused = await ada("POST", f"{at}/advance", {"trigger": "submit"}, headers=key, status=409)
        assert refused.json()["code"] == "guard_failed"
    await mia("POST", f"{at}/approve", headers=key, status=404)
    await ada("PUT", at, {"patch": {"amount": 5}}, status=200)
    accepted = await ada("POST", f"{at}/advance", {"trigger": "submit"}, headers=key, status=200)
    await mia("POST", f"{at}/approve", headers=key, status=200)
    again = await ada("POST", f"{at}/advance", {"trigger": "submit"}, headers=key, status=200)
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.json()["revision"], again.json()["currentState"]) == (accepted.json()["revision"], "review")
    await ada("PUT", at, {"patch": {"amount": -1}}, headers=key, status=409)
    await company.admin("PUT", "/workflows/expense", {**EXPENSE, "version": "x"}, headers=key, status=422)
    await company.admin("PUT", "/workflows/expense", {**EXPENSE, "version": "1.0.1"}, headers=key, status=200)


async def test_a_late_copy_is_kept_out_by_the_revision(company: World) -> None:
    """A refusal is final for who sends If-Match: once anything has happened, a copy that comes late is 412."""
    ada = company.callers["ada"]
    at = f"/workflow-instances/{(await company.start('ada', {'amount': 0}))['id']}"
    headers = {"Idempotency-Key": "k", "If-Match": (await ada("GET", at)).headers["etag"]}
    await ada("POST", f"{at}/advance", {"trigger": "submit"}, headers=headers, status=409)
    await ada("PUT", at, {"patch": {"amount": 5}}, status=200)
    await ada("POST", f"{at}/advance", {"trigger": "submit"}, headers=headers, status=412)
    headers["If-Match"] = (await ada("GET", at)).headers["etag"]
    for replayed in None, "true":
        accepted = await ada("POST", f"{at}/advance", {"trigger": "submit"}, headers=headers, status=200)
        assert accepted.headers.get("idempotency-replayed") == replayed


async def test_the_order_of_keys_in_a_body_does_not_matter(company: World) -> None:
    """The same body written differently is the same request."""
    ada = company.callers["ada"]
    at = f"/workflow-instances/{(await company.start('ada'))['id']}"
    headers = {"Idempotency-Key": "same", "Content-Type": "application/json"}
    one = await ada("PUT", at, content=b'{"patch":{"a":1,"b":2}}', headers=headers, status=200)
    two = await ada("PUT", at, content=b' {"patch": {"b": 2, "a": 1} } ', headers=headers, status=200)
    assert two.json() == one.json()
    assert two.headers["idempotency-replayed"] == "true"


async def test_services_keep_keys_too(world: World) -> None:
    """Definitions, people, roles and submissions are made once under one key."""
    key = {"Idempotency-Key": "k"}
    first = await world.admin("POST", "/workflows", EXPENSE, headers=key, status=201)
    again = await world.admin("POST", "/workflows", EXPENSE, headers=key, status=201)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    await world.admin("POST", "/workflows", {**EXPENSE, "title": "Other"}, headers=key, status=422)
    ada = await world.admin("POST", "/users", {"username": "ada"}, headers=key, status=201)
    assert (await world.admin("POST", "/users", {"username": "ada"}, headers=key, status=201)).json() == ada.json()
    form = {"formId": "trip", "data": {}}
    first = await world.admin("POST", "/submissions", form, headers=key, status=201)
    again = await world.admin("POST", "/submissions", form, headers=key, status=201)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert len((await world.admin("GET", "/submissions")).json()["items"]) == 1


async def test_what_was_made_is_made_in_the_repeated_answer_too(world: World) -> None:
    """A role that the first request made is 201 again under its key; a renamed one is 200 both times."""
    for key, body, status in (("one", {"name": "Clerks"}, 201), ("two", {"name": "Clerk"}, 200)):
        for _ in range(2):
            await world.admin("PUT", "/roles/clerks", body, headers={"Idempotency-Key": key}, status=status)


async def test_a_secret_is_in_the_first_answer_only(world: World) -> None:
    """A repeated request for a token or a tenant describes what was made, and says that the secret is withheld."""
    key = {"Idempotency-Key": "k"}
    for path, body, secret in (
        ("/tokens", {"user": "admin", "name": "second"}, "secret"),
        ("/tenants", {"id": "acme", "name": "Acme"}, "adminToken"),
    ):
        first = await world.admin("POST", path, body, headers=key, status=201)
        again = await world.admin("POST", path, body, headers=key, status=201)
        assert first.json()[secret].startswith("pliers_")
        assert first.json()["secretWithheld"] is False
        assert again.json() == {**first.json(), secret: None, "secretWithheld": True}
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["location"] == first.headers["location"]
        refused = await world.admin("POST", path, {**body, "name": "other"}, headers=key, status=422)
        assert refused.json()["code"] == "idempotency_key_reused"
    await Caller(world.http, first.json()["adminToken"])("GET", "/me", status=200)


async def test_a_caller_that_goes_away_does_not_take_its_command_along(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks after the command was sent: it is applied all the same."""
    ada = company.callers["ada"]
    at = f"/workflow-instances/{(await company.start('ada'))['id']}"
    sent = asyncio.Event()
    submit = company.engine.pipeline.submit

    async def submit_and_tell(*arguments: Any, **options: Any) -> Any:
        sent.set()
        return await submit(*arguments, **options)

    monkeypatch.setattr(company.engine.pipeline, "submit", submit_and_tell)
    request = asyncio.create_task(ada("POST", f"{at}/advance", {"trigger": "submit"}, headers={"Idempotency-Key": "x"}))
    await sent.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    again = await ada("POST", f"{at}/advance", {"trigger": "submit"}, headers={"Idempotency-Key": "x"}, status=200)
    assert again.json()["revision"] == 2
    assert len((await ada("GET", f"{at}/history")).json()["items"]) == 2
