"""Workflows that follow each other: one starts, or goes on, because of what another did; and all of it comes to an end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pliers_workflow.interpreter.commands import DeliverEvent, FireTrigger
from pliers_workflow.runtime.answers import Overloaded
from pliers_workflow.runtime.commit.history import decode_record
from tests.inbound.office import PAID, Shop, order_document

AFTER: dict[str, Any] = {
    "id": "after",
    "eventType": "workflow.completed",
    "condition": "event.attributes.workflowname == 'order'",
    "action": {
        "type": "start_workflow",
        "parameters": {"order": "event.data.instanceData.order", "note": "event.data.state"},
    },
}


def delivery(*triggers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return order_document(*triggers, name="delivery", **({"correlation": []} | more))


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """What the condition gives, as soon as it gives something."""
    for _ in range(400):
        found = await condition()
        if found:
            return found
        await asyncio.sleep(0.025)
    raise AssertionError("it did not happen")


async def ship(shop: Shop, order: str) -> None:
    for trigger in ("paid", "packed"):
        await shop.do(order, None, FireTrigger(trigger, {"amount": 100}))


async def test_the_end_of_one_starts_another(make_shop: Callable[..., Awaitable[Shop]]) -> None:
    """With the data that the first ended with; once, though two nodes are at work."""
    shop, _ = await make_shop(services=True), await make_shop(services=True)
    orders = await shop.publish(order_document(PAID))
    await shop.publish(delivery(AFTER))
    mine = [await shop.order(orders, number) for number in range(5)]
    await asyncio.gather(*(ship(shop, order) for order in mine))

    async def all_five() -> list[Any] | None:
        rows = await shop.orders("delivery")
        return rows if len(rows) >= 5 else None

    rows = await until(all_five)
    await asyncio.sleep(0.2)
    assert len(await shop.orders("delivery")) == 5
    assert sorted(json.loads(row["data"])["order"] for row in rows) == list(range(5))
    assert {json.loads(row["data"])["note"] for row in rows} == {"shipped"}


async def test_what_a_step_emits_reaches_others(make_shop: Callable[..., Awaitable[Shop]]) -> None:
    """An `emit` step speaks to the other workflows, too: by its own type, key and data."""
    shop = await make_shop(services=True)
    waiting = await shop.publish(order_document(PAID))
    order = await shop.order(waiting, "A1")
    cashier = delivery()
    cashier["eventHooks"] = {}
    emit = {"type": "emit", "eventType": "order.paid", "data": {"order": "data.order", "amount": "data.amount"}}
    cashier["stateMachine"]["states"]["placed"] = {"properties": {"steps": [emit]}}
    await shop.order(await shop.publish(cashier), "A1")

    async def packing() -> bool:
        return await shop.state(order) == "packing"

    await until(packing)


async def test_workflows_that_start_each_other_come_to_an_end(make_shop: Callable[..., Awaitable[Shop]]) -> None:
    """Each start of `ping` starts `pong` and the other way round: after some the engine says no, and says why."""
    shop = await make_shop(services=True, depth_max=3)
    for name, other in (("ping", "pong"), ("pong", "ping")):
        trigger = {
            "id": "go",
            "eventType": "workflow.started",
            "condition": f"event.attributes.workflowname == '{other}'",
            "action": {"type": "start_workflow", "parameters": {}},
        }
        await shop.publish(order_document(trigger, name=name, correlation=[]))
    definition = await shop.engine.catalog.resolve("default", "ping")
    assert definition is not None
    await shop.start(definition, data={})

    async def refused() -> list[Any]:
        return list((await shop.engine.inbox.list(shop.admin, status="failed")).items)

    (row,) = await until(refused)
    assert (row.depth, row.results[0].code) == (4, "depth_exceeded")
    assert (len(await shop.orders("ping")), len(await shop.orders("pong"))) == (2, 2)


async def test_a_trigger_for_everything_is_for_events_from_outside(make_shop: Callable[..., Awaitable[Shop]]) -> None:
    """`*` does not act on what the engine itself tells."""
    shop = await make_shop(services=True)
    orders = await shop.publish(order_document(PAID))
    await shop.publish(delivery({"id": "all", "eventType": "*", "action": {"type": "start_workflow"}}, AFTER))
    await ship(shop, await shop.order(orders, 1))

    async def one() -> list[Any]:
        return await shop.orders("delivery")

    await until(one)
    await asyncio.sleep(0.3)
    assert len(await shop.orders("delivery")) == 1


async def test_what_happened_before_anybody_listened_is_past(make_shop: Callable[..., Awaitable[Shop]]) -> None:
    """A workflow that is published now does not start for what was completed before."""
    shop = await make_shop(services=True)
    orders = await shop.publish(order_document(PAID))
    first, second = await shop.order(orders, 1), await shop.order(orders, 2)
    await ship(shop, first)
    await asyncio.sleep(1.5)
    await shop.publish(delivery(AFTER))
    await ship(shop, second)

    async def one() -> list[Any]:
        return await shop.orders("delivery")

    (row,) = await until(one)
    assert json.loads(row["data"])["order"] == 2


def reporting(*steps: dict[str, Any]) -> dict[str, Any]:
    """A workflow that tells orders something, step by step, as soon as it is started."""
    document = delivery()
    document["eventHooks"] = {}
    document["stateMachine"]["states"]["placed"] = {"properties": {"steps": list(steps)}}
    return document


def emit(event_type: str) -> dict[str, Any]:
    return {"type": "emit", "eventType": event_type, "data": {"order": "data.order", "amount": "data.amount"}}


async def test_what_one_instance_tells_acts_in_its_order(
    make_shop: Callable[..., Awaitable[Shop]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node with too much to do leaves an event for later: those after it wait, and do not overtake it."""
    shop = await make_shop(services=True)
    packed = {**PAID, "id": "packed", "eventType": "order.packed"}
    packed["action"] = {"type": "advance_state", "trigger": "packed"}
    refunded = {**PAID, "id": "refunded", "eventType": "order.refunded"}
    refunded["action"] = {"type": "advance_state", "trigger": "refunded"}
    order = await shop.order(await shop.publish(order_document(PAID, packed, refunded)), "A1")
    deliverer = shop.engine.inbox._actor._deliverer
    execute, tried = deliverer._execute, 0

    async def busy(*args: Any, **options: Any) -> Any:
        nonlocal tried
        tried += 1
        if tried <= 3:
            raise Overloaded(0.1)
        return await execute(*args, **options)

    monkeypatch.setattr(deliverer, "_execute", busy)
    # Paid, refunded, paid, packed: in any other order it does not come to be shipped by these four alone.
    told = [emit(f"order.{what}") for what in ("paid", "refunded", "paid", "packed")]
    await shop.order(await shop.publish(reporting(*told)), "A1")

    async def shipped() -> bool:
        return await shop.state(order) == "shipped"

    await until(shipped)
    orders = [decode_record(row["record"]).command.order for row in await shop.check(order)]
    taken = [each.matched for each in orders if isinstance(each, DeliverEvent)]
    assert taken == ["paid", "refunded", "paid", "packed"]
