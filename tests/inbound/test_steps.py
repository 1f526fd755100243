"""Steps and events: a step waits for one, or an event runs a step beside the others."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from pliers_workflow.interpreter.commands import FireTrigger
from pliers_workflow.runtime.inbound.cloudevents import Incoming
from tests.inbound.office import Shop, event, only, order_document, outcomes


def receiving(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An order that waits in `placed` until its steps are done, and is then packed."""
    document = order_document(triggers=[], correlation=[])
    machine = document["stateMachine"]
    machine["states"]["placed"] = {"properties": {"steps": list(steps)}}
    machine["transitions"][1] = {"from": "placed", "to": "packing"}
    document["dataSchema"]["properties"]["paid"] = {}
    return document | more


RECEIVE: dict[str, Any] = {
    "type": "receive",
    "id": "payment",
    "eventType": "order.paid",
    "correlationKey": "data.order",
    "eventKey": "event.data.order",
    "outputMapping": {"paid": "output.data.amount"},
}


async def test_a_step_waits_for_its_event(shop: Shop) -> None:
    """The event with the step's key completes it; its output is the event."""
    definition = await shop.publish(receiving(RECEIVE))
    mine, other = await shop.order(definition, "A1"), await shop.order(definition, "A2")
    row = await shop.sent(event("e1", order="A1", amount=10))
    assert (only(row).action, only(row).outcome, only(row).instance) == ("receive", "delivered", mine)
    assert (await shop.state(mine), await shop.state(other)) == ("packing", "placed")
    assert (await shop.look(mine)).data["paid"] == 10
    await shop.check(mine)


async def test_by_default_the_subject_is_the_key(shop: Shop) -> None:
    """Or the extension `correlationkey`, which wins where an event has it."""
    step = {key: value for key, value in RECEIVE.items() if key != "eventKey"}
    definition = await shop.publish(receiving(step))
    first, second = await shop.order(definition, "A1"), await shop.order(definition, 2)
    await shop.send(changed(event("e1", amount=1), subject="A1"))
    await shop.send(changed(event("e2", amount=2), subject="A1", attributes={"correlationkey": "2"}))
    assert [(await shop.look(order)).data["paid"] for order in (first, second)] == [1, 2]


def changed(incoming: Incoming, **attributes: Any) -> Incoming:
    """The same event with other attributes."""
    return replace(incoming, event=replace(incoming.event, **attributes))


async def test_an_early_event_completes_the_step_when_it_begins(shop: Shop) -> None:
    """The payment came first; the order waits for it no moment."""
    definition = await shop.publish(receiving(RECEIVE))
    row = await shop.sent(event("e1", order="A1", amount=10))
    assert (row.status, [wait.name for wait in row.waits]) == ("buffered", ["receive"])
    order = await shop.order(definition, "A1")
    assert await shop.state(order) == "packing"
    assert outcomes(await shop.event_row(row.id))[0][1] == "delivered"
    other = await shop.order(definition, "A1")
    assert await shop.state(other) == "placed"


async def test_one_event_is_for_one_wait(shop: Shop) -> None:
    """Two steps one after the other wait for two payments: one event completes one of them."""
    definition = await shop.publish(receiving(RECEIVE, {**RECEIVE, "id": "rest"}))
    order = await shop.order(definition, "A1")
    await shop.send(event("e1", order="A1", amount=10))
    assert (await shop.look(order)).data["paid"] == 10
    assert await shop.state(order) == "placed"
    await shop.send(event("e2", order="A1", amount=5))
    assert (await shop.look(order)).data["paid"] == 5
    assert await shop.state(order) == "packing"
    await shop.check(order)


async def test_steps_side_by_side_take_the_same_event(shop: Shop) -> None:
    """What waits at the same moment for the same, by type or by its beginning, is completed together."""
    branches = [
        {"id": "a", "steps": [{**RECEIVE, "id": "whole"}]},
        {"id": "b", "steps": [{**RECEIVE, "id": "below", "eventType": "order.*"}]},
        {"id": "c", "steps": [{**RECEIVE, "id": "other", "eventType": "order.packed"}]},
    ]
    definition = await shop.publish(receiving({"type": "parallel", "branches": branches}))
    order = await shop.order(definition, "A1")
    row = await shop.sent(event("e1", order="A1", amount=10))
    assert len(row.results) == 1
    steps = (await shop.look(order)).machine.steps
    assert sorted(run.step_id for run in steps.values() if run.type == "receive") == ["other"]
    await shop.send(event("e2", "order.packed", order="A1", amount=10))
    assert await shop.state(order) == "packing"
    await shop.check(order)


async def test_who_leaves_the_state_waits_no_more(shop: Shop) -> None:
    """The rows by which events find a step go with it."""
    definition = await shop.publish(receiving(RECEIVE))
    order = await shop.order(definition, "A1")
    count = "SELECT count(*) FROM correlation_keys"
    assert await shop.engine.pool.fetchval(count) == 1
    await shop.do(order, "ada", FireTrigger("cancel"))
    assert await shop.engine.pool.fetchval(count) == 0
    assert (await shop.sent(event("e1", ttl=0, order="A1", amount=1))).status == "unmatched"


async def test_an_event_runs_a_step_beside_the_others(shop: Shop) -> None:
    """A named step that belongs to no state; the instance goes on where it is."""
    trigger = {
        "id": "note",
        "eventType": "order.noted",
        "correlationKey": "event.data.order",
        "action": {"type": "execute_step", "stepId": "write", "parameters": {"text": "event.data.text + '!'"}},
    }
    document = order_document(trigger)
    document["steps"] = {"write": {"type": "assign", "assignments": {"note": "event.data.text"}}}
    definition = await shop.publish(document)
    order = await shop.order(definition, "A1")
    row = await shop.sent(event("e1", "order.noted", order="A1", text="fragile"))
    assert (only(row).action, only(row).outcome) == ("execute_step", "delivered")
    instance = await shop.look(order)
    assert (instance.data["note"], instance.current_state, instance.machine.steps) == ("fragile!", "placed", {})
    await shop.check(order)
