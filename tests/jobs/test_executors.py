"""Steps of real definitions, run in the node against real servers: calls, scripts, notifications."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from pliers_workflow.runtime.catalog import unserved
from pliers_workflow.runtime.jobs.executors import calls
from pliers_workflow.runtime.outbound.signing import new_secret, sign
from pliers_workflow.runtime.rows import UserInput
from tests.outbound.server import OutsideServer, Request, outside, reply

from .conftest import MakeShop, Shop

LOCAL = {"outbound": {"allowed_hosts": ["127.0.0.1"], "response_size_max": 4096, "request_timeout": 2}}


def errand(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A document that runs these steps and ends."""
    return {
        "name": "errand", "version": "1.0.0", "title": "Errand",
        "stateMachine": {
            "initialState": "running",
            "states": {"running": {"properties": {"steps": list(steps)}}, "done": {"type": "final"}},
            "transitions": [{"from": "running", "to": "done"}, *more.pop("transitions", [])],
        },
        **more,
    }  # fmt: skip


@pytest.fixture
async def shopkeeper() -> AsyncIterator[OutsideServer]:
    async with outside() as shopkeeper:
        yield shopkeeper


@pytest.fixture
async def shop(make_shop: MakeShop) -> Shop:
    return await make_shop(**LOCAL, execution={"retry_attempts": 2})


async def run(shop: Shop, document: dict[str, Any], data: dict[str, Any] | None = None, rounds: int = 6) -> Any:
    """Start an instance, and run its steps until it has ended or nothing is due; the instance."""
    instance_id = await shop.start(await shop.publish(document), data=data or {})
    for _ in range(rounds):
        await shop.engine.pool.execute("UPDATE workflow_jobs SET due_at = now() WHERE due_at > now() AND kind = 'step'")
        shop.engine.step_claims.sweep()
        await shop.engine.step_worker.run_due()
    return await loaded(shop, instance_id)


async def loaded(shop: Shop, instance_id: str) -> Any:
    from pliers_workflow.storage import instances

    async with shop.engine.pool.acquire() as connection:
        found, _ = await instances.load(connection, [("default", instance_id)], [])
    return found["default", instance_id].instance


def incident(instance: Any) -> Any:
    (found,) = instance.machine.incidents.values()
    return found


# -- http --------------------------------------------------------------------------------------------------------------


async def test_a_call(shop: Shop, shopkeeper: OutsideServer) -> None:
    """The request is as the step says, with the attempt's id as its key; the answer's JSON is exact."""
    shopkeeper.answer = reply(201, b'{"id": 7, "price": 10.10}', Content_Type="application/json; charset=utf-8")
    step = {
        "type": "http", "id": "order", "method": "POST", "url": shopkeeper.url + "/orders/{data.name}",
        "headers": {"X-For": "{data.name}"}, "body": {"amount": "data.amount"},
        "outputMapping": {"order": "output.body.id", "price": "output.body.price", "status": "output.status"},
    }  # fmt: skip
    instance = await run(shop, errand(step), {"name": "a/b c", "amount": Decimal("1.50")})
    assert instance.status == "completed"
    assert instance.data == {
        "name": "a/b c", "amount": Decimal("1.50"), "order": 7, "price": Decimal("10.10"), "status": 201,
    }  # fmt: skip
    (request,) = shopkeeper.requests
    assert (request.method, request.target) == ("POST", "/orders/a%2Fb%20c")
    assert request.body == b'{"amount":1.50}'
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-for"] == "a/b c"
    assert request.headers["idempotency-key"] == f"{instance.id}:step/1:1"


async def test_each_attempt_has_its_own_key(shop: Shop, shopkeeper: OutsideServer) -> None:
    """A server that is busy is asked again, in another attempt; then the step goes on."""

    async def busy_once(request: Request, writer: asyncio.StreamWriter) -> None:
        await reply(503 if len(shopkeeper.requests) == 1 else 200, b"{}", Retry_After="1")(request, writer)

    shopkeeper.answer = busy_once
    instance = await run(shop, errand({"type": "http", "id": "ask", "url": shopkeeper.url}))
    assert instance.status == "completed"
    assert [request.headers["idempotency-key"].rpartition(":")[2] for request in shopkeeper.requests] == ["1", "2"]
    assert await shop.history(instance.id) == ["start", "fail_step", "complete_step"]


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (302, 1), (400, 1), (500, 2), (429, 2)])
async def test_what_an_unexpected_status_means(
    shop: Shop, shopkeeper: OutsideServer, status: int, attempts: int
) -> None:
    """What may go better is tried as often as allowed; then, or at once, it is an incident that says what came."""
    shopkeeper.answer = reply(status, b"no such order", Location="http://169.254.169.254/")
    instance = await run(shop, errand({"type": "http", "id": "ask", "url": shopkeeper.url}))
    found = incident(instance)
    assert found.code == f"HTTP_{status}"
    assert len(shopkeeper.requests) == attempts
    assert found.details["body"] == "no such order"
    assert f"127.0.0.1:{shopkeeper.port}" in found.message


async def test_expected_statuses(shop: Shop, shopkeeper: OutsideServer) -> None:
    """A step may expect what others take for a failure."""
    shopkeeper.answer = reply(404)
    step = {"type": "http", "id": "ask", "url": shopkeeper.url, "expectedStatus": [200, 404], "outputMapping": {"s": "output.status"}}  # fmt: skip
    assert (await run(shop, errand(step))).data == {"s": 404}


@pytest.mark.parametrize(
    ("body", "headers", "seen"),
    [
        (b"", {}, None),
        (b"plain \xc3\xa9", {"Content_Type": "text/plain"}, "plain é"),
        (b"caf\xe9", {"Content_Type": "text/plain; charset=latin-1"}, "café"),
        (b"{broken", {"Content_Type": "application/json"}, "{broken"),
        (b"\x00\xff", {"Content_Type": "application/octet-stream"}, "\ufffd\ufffd"),
        (b"x", {"Content_Type": "text/plain; charset=no-such"}, "x"),
        (b"a..b", {"Content_Type": "text/plain; charset=idna"}, "a..b"),
        (rb"a\ud800", {"Content_Type": "text/plain; charset=unicode-escape"}, "a?"),
    ],
)
async def test_bodies_of_all_kinds(
    shop: Shop, shopkeeper: OutsideServer, body: bytes, headers: dict[str, str], seen: Any
) -> None:
    """Whatever comes can be kept, or is told."""
    shopkeeper.answer = reply(200, body, **headers)
    step = {"type": "http", "id": "ask", "url": shopkeeper.url, "outputMapping": {"seen": "output.body"}}
    assert (await run(shop, errand(step))).data == {"seen": seen}


async def test_a_forbidden_address_is_an_incident_at_once(make_shop: MakeShop, shopkeeper: OutsideServer) -> None:
    """The guard's refusal is final: nobody calls inside because a definition says so."""
    shop = await make_shop()
    instance = await run(shop, errand({"type": "http", "id": "ask", "url": shopkeeper.url}))
    assert incident(instance).code == "HTTP_FORBIDDEN_ADDRESS"
    assert shopkeeper.requests == []


async def test_an_answer_that_is_too_large(shop: Shop, shopkeeper: OutsideServer) -> None:
    """More than the engine keeps is not read; trying again does not help."""
    shopkeeper.answer = reply(200, b"x" * 5000)
    instance = await run(shop, errand({"type": "http", "id": "ask", "url": shopkeeper.url}))
    assert incident(instance).code == "HTTP_RESPONSE_TOO_LARGE"
    assert len(shopkeeper.requests) == 1


def test_examples_in_the_docstrings() -> None:
    """What the docstrings show is so."""
    import doctest

    from pliers_workflow.runtime.jobs import limits, outputs

    for module in (calls, outputs, limits):
        results = doctest.testmod(module)
        assert results.attempted > 0
        assert results.failed == 0


# -- script ------------------------------------------------------------------------------------------------------------


async def test_a_script(shop: Shop) -> None:
    """It sees its input, and the value of its last line is the output."""
    step = {
        "type": "script", "id": "sum", "inputMapping": {"lines": "data.lines"},
        "script": "total = sum(line['price'] for line in input['lines'])\n{'total': total}",
        "outputMapping": {"total": "output.total"},
    }  # fmt: skip
    data = {"lines": [{"price": Decimal("1.10")}, {"price": Decimal("2.20")}]}
    assert (await run(shop, errand(step), data)).data["total"] == Decimal("3.30")


@pytest.mark.parametrize("script", ["1 / 0", "input[missing]", "[0] * 100_000_000", "{}[chr(0)]"])
async def test_a_script_that_fails_is_not_run_again(shop: Shop, script: str) -> None:
    """The same script on the same input fails the same way: an incident, and nobody else is harmed."""
    instance = await run(shop, errand({"type": "script", "id": "sum", "script": script}), rounds=2)
    assert incident(instance).code == "SCRIPT_FAILED"
    assert incident(instance).attempts == 1


async def test_a_script_that_does_not_end(shop: Shop) -> None:
    """It is stopped, and the step has taken too long."""
    step = {"type": "script", "id": "sum", "script": "while True:\n    pass\n1", "timeoutMinutes": 0.005}
    assert incident(await run(shop, errand(step), rounds=3)).code == "TIMEOUT"


# -- notification ------------------------------------------------------------------------------------------------------


async def test_people_are_told_once_each(make_shop: MakeShop, shopkeeper: OutsideServer) -> None:
    """Roles and people are resolved by the directory; the message is signed, and has one id for all attempts."""
    secret = new_secret()
    shop = await make_shop(**LOCAL, notifications={"webhook_url": f"{shopkeeper.url}/told", "webhook_secret": secret})
    await shop.engine.directory.put_users(
        shop.admin,
        [
            UserInput(username="ada", name="Ada", email="ada@example.com", roles=("managers",)),
            UserInput(username="bob", roles=("managers",), groups=("board",)),
            UserInput(username="gone", roles=("managers",), active=False),
        ],
    )
    shopkeeper.answer = reply(204)
    step = {
        "type": "notification", "id": "tell", "template": "Order {data.order} is on its way",
        "recipients": ["requester", "user:ada", "role:managers", "group:board"], "variables": {"order": "data.order"},
        "outputMapping": {"told": "output.recipients"},
    }  # fmt: skip
    instance = await run(shop, errand(step), {"order": 7})
    assert set(instance.data["told"]) == {"admin", "ada", "bob"}
    (request,) = shopkeeper.requests
    message = json.loads(request.body)
    assert message["type"] == "workflow.notification"
    told = message["data"]
    assert (told["template"], told["variables"]) == ("Order 7 is on its way", {"order": 7})
    assert {person["username"] for person in told["recipients"]} == {"admin", "ada", "bob"}
    assert (told["workflow"], told["instanceId"], told["stepId"]) == ("errand", instance.id, "tell")
    assert request.headers["webhook-id"] == f"{instance.id}:step/1"
    stamp = int(request.headers["webhook-timestamp"])
    assert request.headers["webhook-signature"] == sign([secret], request.headers["webhook-id"], stamp, request.body)


async def test_an_address_is_told_directly(shop: Shop, shopkeeper: OutsideServer) -> None:
    """A recipient that is an address needs no directory and no service."""
    shopkeeper.answer = reply(200)
    step = {"type": "notification", "id": "tell", "template": "hello", "recipients": [f"{shopkeeper.url}/hook"]}
    assert (await run(shop, errand(step))).status == "completed"
    assert [request.target for request in shopkeeper.requests] == ["/hook"]


@pytest.mark.parametrize(
    ("recipients", "channels", "code"),
    [
        (["user:nobody"], ["webhook"], "NO_RECIPIENTS"),
        (["carrier:pigeon"], ["webhook"], "RECIPIENT_UNKNOWN"),
        (["requester"], ["pigeon"], "CHANNEL_UNKNOWN"),
        (["requester"], ["webhook"], "CHANNEL_NOT_CONFIGURED"),
    ],
)
async def test_what_keeps_people_from_being_told(
    shop: Shop, recipients: list[str], channels: list[str], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence is no answer: each is an incident with its reason; also a channel that another release had published."""
    monkeypatch.setattr(unserved, "CHANNELS", frozenset({"webhook", "pigeon"}))
    step = {"type": "notification", "id": "tell", "template": "x", "recipients": recipients, "channels": channels}
    assert incident(await run(shop, errand(step))).code == code
