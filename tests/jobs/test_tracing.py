"""A trace goes along with everything that a request leads to (W3C Trace Context)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from pliers_workflow.app import create_app
from pliers_workflow.interpreter.commands import CancelInstance, ResumeInstance, SuspendInstance, Trace
from pliers_workflow.runtime import tracing
from pliers_workflow.runtime.answers import Overloaded
from pliers_workflow.runtime.engine import Engine
from pliers_workflow.runtime.rows import BindingInput
from pliers_workflow.runtime.submissions import Submissions
from tests.api.world import World
from tests.nodes.conftest import until
from tests.outbound.server import OutsideServer, outside, reply

from .conftest import MakeShop, Shop
from .families import calls, workflow

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-00"
TRACE = Trace(PARENT, "vendor=1")


@pytest.fixture
async def web() -> AsyncIterator[OutsideServer]:
    async with outside() as web:
        web.answer = reply(200, b"{}", Content_Type="application/json")
        yield web


@pytest.fixture
async def shop(make_shop: MakeShop) -> Shop:
    return await make_shop(outbound={"allow_private_networks": True})


@pytest.fixture
async def world(shop: Shop) -> AsyncIterator[World]:
    """The shop's API."""
    transport = httpx.ASGITransport(app=create_app(shop.engine, owns_engine=False))
    _, secret = await shop.engine.tokens.create(shop.admin, "admin", ["admin"])
    async with httpx.AsyncClient(transport=transport, base_url="http://e") as http:
        yield World(shop.engine, http, secret or "")


async def traces(engine: Engine, instance_id: str) -> list[Any]:
    """What each of an instance's commands belongs to, in their order."""
    rows = await engine.pool.fetch(
        "SELECT execution_data -> 'command' -> 'trace' FROM workflow_execution_history WHERE tenant_id = 'default' "
        "AND workflow_instance_id = $1 ORDER BY seq",
        instance_id,
    )
    return [row[0] for row in rows]


KEPT = {"parent": PARENT, "state": "vendor=1"}
HEADERS = {"traceparent": PARENT, "tracestate": "vendor=1"}


def call(web: OutsideServer, id: str = "call", **rest: Any) -> dict[str, Any]:
    """A step that calls the test's server."""
    retry = {"maxAttempts": 2, "initialDelaySeconds": 0, "jitter": 0}
    return {"type": "http", "id": id, "url": f"{web.url}/{id}", "retryPolicy": retry, **rest}


async def test_from_a_request_to_calls_and_back(shop: Shop, world: World, web: OutsideServer) -> None:
    """The request's trace is in its history row, in the step's call, in the result's row, and in the next steps' calls."""
    own = {"TraceParent": OTHER}
    tell = {"type": "notification", "id": "tell", "template": "x", "recipients": [f"{web.url}/tell"]}
    await shop.publish(workflow("errand", call(web, "one"), call(web, "two", headers=own), tell))
    made = await world.admin("POST", "/workflows/errand/instances", {"data": {}}, status=201, headers=HEADERS)
    instance = made.json()["id"]
    for _ in range(3):
        await shop.engine.step_worker.run_due()
    first, second, third = web.requests
    for request in (first, third):
        assert (request.headers["traceparent"], request.headers["tracestate"]) == (PARENT, "vendor=1")
    assert second.headers["traceparent"] == OTHER, "what the step says itself is left alone"
    assert "tracestate" not in second.headers
    assert await traces(shop.engine, instance) == [KEPT] * 4
    shown = (await world.admin("GET", f"/workflow-instances/{instance}/history", status=200)).json()["items"]
    assert shown[0]["executionData"]["command"]["trace"] == KEPT


async def test_without_a_trace_nothing_is_said(shop: Shop, world: World, web: OutsideServer) -> None:
    """Not in the rows, not in the calls; and one request's trace is no other's."""
    await shop.publish(workflow("errand", call(web)))
    await world.admin("GET", "/workflows/errand", status=200, headers=HEADERS)
    assert tracing.current() is None
    made = await world.admin("POST", "/workflows/errand/instances", {"data": {}}, status=201)
    await shop.engine.step_worker.run_due()
    assert "traceparent" not in web.requests[0].headers
    assert await traces(shop.engine, made.json()["id"]) == [None, None]


#: headers, and what is kept of them
READ: list[tuple[dict[str, str], dict[str, str] | None]] = [
    ({"traceparent": PARENT}, {"parent": PARENT}),
    ({"traceparent": PARENT, "tracestate": "\xe4"}, {"parent": PARENT}),
    ({"traceparent": PARENT, "tracestate": "x" * 513}, {"parent": PARENT}),
    ({"traceparent": PARENT.upper()}, None),
    ({"traceparent": PARENT + "-more"}, None),
    ({"traceparent": "cc" + PARENT[2:] + "-more"}, {"parent": PARENT}),
    ({"traceparent": "cc" + PARENT[2:-2] + "ff"}, {"parent": PARENT}),
    ({"traceparent": "ff" + PARENT[2:]}, None),
    ({"traceparent": "00-" + "0" * 32 + "-b7ad6b7169203331-01"}, None),
    ({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01"}, None),
    ({"traceparent": "\x7f\xff" * 40}, None),
    ({"traceparent": ""}, None),
    ({"tracestate": "vendor=1"}, None),
]


async def test_what_is_no_trace_is_passed_over(shop: Shop, world: World) -> None:
    """As the standard wants it: nothing is refused for it, and later versions are read as far as we know them."""
    await shop.publish(workflow("errand"))
    for headers, kept in READ:
        raw = {name: value.encode("latin-1") for name, value in headers.items()}
        made = await world.admin("POST", "/workflows/errand/instances", {"data": {}}, status=201, headers=raw)
        assert await traces(shop.engine, made.json()["id"]) == [kept], headers


async def test_another_attempt_belongs_to_the_same_trace(shop: Shop, world: World, web: OutsideServer) -> None:
    """After a failure, and after a worker has fallen silent."""
    await shop.publish(
        workflow("errand", call(web, retryPolicy={"maxAttempts": 3, "initialDelaySeconds": 0, "jitter": 0}))
    )
    web.answer = reply(503)
    made = await world.admin("POST", "/workflows/errand/instances", {"data": {}}, status=201, headers=HEADERS)
    await shop.engine.step_worker.run_due()
    (claimed,) = await shop.engine.step_claims.claim(1, lambda *_: True, owner="somebody", lease=60)
    assert claimed.payload.trace == TRACE
    await shop.engine.pool.execute("UPDATE workflow_jobs SET lease_until = now() - interval '1 s'")
    assert await shop.engine.rescuer.rescue() == 1
    await shop.engine.step_worker.run_due()
    assert [request.headers["traceparent"] for request in web.requests] == [PARENT] * 2
    assert await traces(shop.engine, made.json()["id"]) == [KEPT] * 4


async def test_sub_workflows_belong_to_it(shop: Shop, world: World, web: OutsideServer) -> None:
    """Their start, what they do, and what they tell their parent; so does the order that cancels them."""
    await shop.publish(workflow("inner", call(web)))
    await shop.publish(workflow("outer", calls("inner")))
    made = await world.admin("POST", "/workflows/outer/instances", {"data": {}}, status=201, headers=HEADERS)
    await shop.engine.children.run_due()
    await shop.engine.step_worker.run_due()
    await shop.engine.orders.run_due()
    assert web.requests[0].headers["traceparent"] == PARENT
    (inner,) = await shop.engine.pool.fetch("SELECT id::text FROM workflow_instances WHERE workflow_name = 'inner'")
    assert await traces(shop.engine, inner["id"]) == [KEPT] * 2
    assert await traces(shop.engine, made.json()["id"]) == [KEPT] * 2

    other = await world.admin("POST", "/workflows/outer/instances", {"data": {}}, status=201)
    await shop.engine.children.run_due()
    with tracing.within(TRACE):
        await shop.do(other.json()["id"], CancelInstance())
    await shop.engine.orders.run_due()
    (inner,) = await shop.engine.pool.fetch(
        "SELECT id::text FROM workflow_instances WHERE status = 'cancelled' AND workflow_name = 'inner'"
    )
    assert await traces(shop.engine, inner["id"]) == [None, KEPT]


async def test_external_workers_continue_it(shop: Shop, world: World) -> None:
    """A task says to what trace it belongs; its result belongs to the worker's own, or else to that."""
    await shop.publish(workflow("printing", {"type": "external", "id": "print", "topic": "printing"}))
    for own, kept in (({}, KEPT), ({"traceparent": OTHER}, {"parent": OTHER})):
        made = await world.admin("POST", "/workflows/printing/instances", {"data": {}}, status=201, headers=HEADERS)
        body = {"topics": ["printing"], "workerId": "one"}
        (task,) = (await world.admin("POST", "/external-tasks/fetch", body, status=200)).json()["tasks"]
        assert (task["traceparent"], task["tracestate"]) == (PARENT, "vendor=1")
        done = {"leaseToken": task["leaseToken"]}
        await world.admin("POST", f"/external-tasks/{task['id']}/complete", done, status=204, headers=own)
        assert await traces(shop.engine, made.json()["id"]) == [KEPT, kept]
    await world.admin("POST", "/workflows/printing/instances", {"data": {}}, status=201)
    (task,) = (await world.admin("POST", "/external-tasks/fetch", body, status=200)).json()["tasks"]
    assert (task["traceparent"], task["tracestate"]) == (None, None)


async def test_events_say_it(make_shop: MakeShop, web: OutsideServer) -> None:
    """In the CloudEvent (extension for distributed tracing), and in the headers of the webhook's call."""
    shop = await make_shop(
        services=True, outbound={"allow_private_networks": True}, subscriptions={"webhook_schemes": ["http"]}
    )
    transport = httpx.ASGITransport(app=create_app(shop.engine, owns_engine=False))
    _, secret = await shop.engine.tokens.create(shop.admin, "admin", ["admin"])
    async with httpx.AsyncClient(transport=transport, base_url="http://e") as http:
        world = World(shop.engine, http, secret or "")
        wanted = {"name": "hook", "sink": {"type": "webhook", "url": web.url}, "eventTypes": ["workflow.started"]}
        await world.admin("POST", "/event-subscriptions", wanted, status=201)
        await shop.publish(workflow("errand"))
        for headers in (HEADERS, {}):
            await world.admin("POST", "/workflows/errand/instances", {"data": {}}, status=201, headers=headers)
        await until(lambda: len(web.requests) == 2)
    traced, plain = sorted(web.requests, key=lambda request: "traceparent" not in request.headers)
    event = json.loads(traced.body)
    assert (event["traceparent"], event["tracestate"]) == (PARENT, "vendor=1")
    assert (traced.headers["traceparent"], traced.headers["tracestate"]) == (PARENT, "vendor=1")
    assert not {"traceparent", "tracestate"} & (json.loads(plain.body).keys() | plain.headers.keys())


# -- what happens later ------------------------------------------------------------------------------------------------


async def test_what_a_clock_begins_belongs_to_it(shop: Shop, world: World, web: OutsideServer) -> None:
    """A wait that is over, and a timeout: the trace of the command that started the clock, also when it was moved since."""
    await shop.publish(workflow("errand", {"type": "wait", "durationMinutes": 60}, call(web)))
    timed = workflow("timed", transitions=[{"to": "done", "trigger": "late"}])
    timed["stateMachine"]["states"]["work"]["timeouts"] = [{"afterMinutes": 60, "trigger": "late"}]
    await shop.publish(timed)
    await shop.engine.pool.execute("UPDATE tenants SET virtual_now = now()")
    waits, plain, out = [
        (await world.admin("POST", f"/workflows/{name}/instances", {"data": {}}, status=201, headers=headers)).json()[
            "id"
        ]
        for name, headers in (("errand", HEADERS), ("errand", {}), ("timed", HEADERS))
    ]
    await shop.do(waits, SuspendInstance("wait"))
    await shop.do(waits, ResumeInstance("go on"))
    await later(shop)
    await shop.engine.step_worker.run_due()
    assert sorted(str(request.headers.get("traceparent")) for request in web.requests) == [PARENT, "None"]
    assert await shop.history(waits) == ["start", "suspend", "resume", "fire_timer", "complete_step"]
    assert await traces(shop.engine, waits) == [KEPT, None, None, KEPT, KEPT]
    assert await traces(shop.engine, plain) == [None, None, None]
    assert await traces(shop.engine, out) == [KEPT, KEPT]


async def test_a_timer_whose_trace_cannot_be_read_fires_all_the_same(shop: Shop) -> None:
    """And it is in the way of no other that is due."""
    definition = await shop.publish(workflow("errand", {"type": "wait", "durationMinutes": 60}))
    await shop.engine.pool.execute("UPDATE tenants SET virtual_now = now()")
    instances = [await shop.start(definition) for _ in range(3)]
    await shop.engine.pool.execute(
        "UPDATE workflow_jobs SET payload = '{\"trace\": 1}' WHERE workflow_instance_id = $1", instances[0]
    )
    await later(shop)
    assert [await shop.history(instance) for instance in instances] == [["start", "fire_timer"]] * 3


async def later(shop: Shop) -> None:
    """An hour passes, and what is due then is done."""
    await shop.engine.pool.execute("UPDATE tenants SET virtual_now = coalesce(virtual_now, now()) + interval '1 hour'")
    await shop.engine.timers.run_due()


async def test_who_waits_for_their_turn_belongs_to_it(make_shop: MakeShop, web: OutsideServer) -> None:
    """Whoever lets them begin."""
    shop = await make_shop(outbound={"allow_private_networks": True}, execution={"max_concurrent_instances": 1})
    definition = await shop.publish(workflow("errand", call(web)))
    with tracing.within(TRACE):
        traced = await shop.start(definition)
    plain = await shop.start(definition)
    assert await shop.engine.admission.admit() == 1
    await shop.engine.step_worker.run_due()
    assert await shop.engine.admission.admit() == 1
    await shop.engine.step_worker.run_due()
    assert [request.headers.get("traceparent") for request in web.requests] == [PARENT, None]
    assert await traces(shop.engine, traced) == [KEPT] * 3
    assert await traces(shop.engine, plain) == [None] * 3


async def test_what_an_event_leads_to_belongs_to_it(shop: Shop, world: World) -> None:
    """To the trace that it names, or to that of the request: at once, after it has waited for its instance, and delayed."""
    document = {
        **workflow("order", transitions=[{"to": "work", "trigger": "paid"}]),
        "eventHooks": {
            "correlation": [{"name": "order", "key": "data.order"}],
            "triggers": [
                {"id": "paid", "eventType": "order.paid", "correlationKey": "event.data.order",
                 "action": {"type": "advance_state", "trigger": "paid"}},
                {"id": "slow", "eventType": "order.slow", "correlationKey": "event.data.order", "delayMinutes": 1,
                 "action": {"type": "advance_state", "trigger": "paid"}},
            ],
        },
    }  # fmt: skip
    await shop.publish(document)

    async def send(id: str, headers: dict[str, str], **attributes: Any) -> None:
        body = {"specversion": "1.0", "id": id, "source": "/shop", "type": "order.paid", "data": {"order": "A"}}
        headers = {**headers, "Content-Type": "application/cloudevents+json"}
        await world.admin("POST", "/events", {**body, **attributes}, headers=headers, status=202)

    named = {"traceparent": OTHER}
    await send("early", HEADERS)
    made = await world.admin("POST", "/workflows/order/instances", {"data": {"order": "A"}}, status=201)
    instance = made.json()["id"]
    await shop.engine.inbox.waits.settle()
    await send("named", HEADERS, **named)
    await send("delayed", HEADERS, type="order.slow")
    await shop.engine.pool.execute("UPDATE workflow_jobs SET due_at = now() WHERE kind = 'trigger'")
    await shop.engine.inbox.delayed.run_due()
    await send("plain", {})
    await send("wrong", HEADERS, traceparent="wrong")
    assert await traces(shop.engine, instance) == [None, KEPT, {"parent": OTHER}, KEPT, None, KEPT]


async def test_a_start_that_is_owed_belongs_to_the_request_that_owes_it(shop: Shop) -> None:
    """Also where a crash came between, and another node makes it."""
    await shop.publish(workflow("errand"))
    await shop.engine.submissions.put_binding(shop.admin, BindingInput(form_id="f", workflow="errand"))
    overloaded = Submissions(shop.engine.pool, shop.engine.catalog, shop.engine.audit, _nobody)
    with tracing.within(TRACE):
        answer = await overloaded.create(shop.admin, "f", {})
    (pending,) = answer.pending
    await shop.engine.pool.execute("UPDATE workflow_jobs SET due_at = now(), lease_until = NULL, lease_owner = NULL")
    assert await shop.engine.submissions.run_pending_starts() == 1
    assert await traces(shop.engine, pending) == [KEPT]
    assert tracing.current() is None


async def _nobody(*_: Any, **__: Any) -> Any:
    raise Overloaded(1)
