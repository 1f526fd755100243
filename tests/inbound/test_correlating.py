"""Events find the instances they belong to: by keys, in every live version, and once for each trigger."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pliers_workflow.interpreter.commands import (
    CancelInstance,
    FireTrigger,
    ResumeInstance,
    SuspendInstance,
    UpdateData,
)
from pliers_workflow.runtime.answers import EngineError, OutcomeUnknown
from tests.inbound.office import PAID, PLACED, Shop, event, only, order_document, outcomes


async def keys(shop: Shop, instance_id: str) -> dict[str, str]:
    rows = await shop.engine.pool.fetch(
        "SELECT name, key FROM correlation_keys WHERE tenant_id = 'default' AND workflow_instance_id = $1", instance_id
    )
    return {row["name"]: row["key"] for row in rows}


async def test_an_event_advances_the_instance_with_its_key(shop: Shop) -> None:
    """`order.paid` with the order's number takes that order through a transition, and no other."""
    definition = await shop.publish(order_document())
    mine, other = await shop.order(definition, "A1"), await shop.order(definition, "A2")
    row = await shop.sent(event("e1", order="A1", amount=10))
    assert (row.status, only(row).outcome, only(row).instance) == ("matched", "delivered", mine)
    assert (await shop.state(mine), await shop.state(other)) == ("packing", "placed")
    rows = await shop.check(mine)
    assert '"id":"e1"' in rows[-1]["record"]
    assert '"source":"/shop"' in rows[-1]["record"]


async def test_a_number_and_its_text_are_one_key(shop: Shop) -> None:
    """The order is 4711 in one system and "4711" in the other."""
    definition = await shop.publish(order_document())
    order = await shop.order(definition, 4711)
    assert await keys(shop, order) == {"order": "4711"}
    assert (await shop.sent(event("e1", order="4711", amount=10))).status == "matched"
    assert await shop.state(order) == "packing"


async def test_keys_follow_the_data_and_end_with_the_instance(shop: Shop) -> None:
    """A key is there from the commit that makes it true: it comes, changes and goes with the data, and with the instance."""
    definition = await shop.publish(order_document())
    order = (await shop.start(definition, data={"amount": 10})).instance.id
    assert await keys(shop, order) == {}
    await shop.do(order, "ada", UpdateData(patch={"order": "A1"}))
    assert await keys(shop, order) == {"order": "A1"}
    await shop.do(order, "ada", UpdateData(patch={"order": "A2", "note": "x"}))
    assert await keys(shop, order) == {"order": "A2"}
    await shop.do(order, "ada", UpdateData(patch={"note": "y"}))
    assert await keys(shop, order) == {"order": "A2"}
    assert (await shop.sent(event("e1", ttl=0, order="A1", amount=10))).status == "unmatched"
    await shop.do(order, "ada", CancelInstance())
    assert await keys(shop, order) == {}
    assert (await shop.sent(event("e2", ttl=0, order="A2", amount=10))).status == "unmatched"
    await shop.check(order)


async def test_every_instance_that_has_the_key_is_told(shop: Shop) -> None:
    """Two instances wait for one payment: both get it."""
    definition = await shop.publish(order_document())
    orders = [await shop.order(definition, "A1") for _ in range(3)]
    row = await shop.sent(event("e1", order="A1", amount=10))
    assert sorted(str(each.instance) for each in row.results) == sorted(orders)
    assert [await shop.state(order) for order in orders] == ["packing"] * 3


async def test_live_instances_keep_the_triggers_of_their_version(shop: Shop) -> None:
    """A newer version listens for something else; an instance of the old one still gets what its own listens for."""
    first = await shop.publish(order_document())
    old = await shop.order(first, "A1")
    changed = {**PAID, "eventType": "payment.received"}
    await shop.engine.catalog.replace(shop.admin, "order", order_document(changed, version="2.0.0"))
    second = await shop.engine.catalog.publish(shop.admin, "order")
    new = await shop.order(second, "A1")
    row = await shop.sent(event("e1", order="A1", amount=10))
    assert [each.instance for each in row.results] == [old]
    row = await shop.sent(event("e2", "payment.received", order="A1", amount=10))
    assert [each.instance for each in row.results] == [new]
    assert (await shop.state(old), await shop.state(new)) == ("packing", "packing")


async def test_two_workflows_with_the_same_key_are_two(shop: Shop) -> None:
    """Keys belong to a workflow and have names: what is order 5 here is not invoice 5 there."""
    order = await shop.publish(order_document())
    invoice = await shop.publish(order_document({**PAID, "eventType": "invoice.paid"}, name="invoice"))
    one, other = await shop.order(order, "5"), await shop.order(invoice, "5")
    await shop.sent(event("e1", "invoice.paid", order="5", amount=10))
    assert (await shop.state(one), await shop.state(other)) == ("placed", "packing")


async def test_priorities_decide_what_comes_first(shop: Shop) -> None:
    """Of two triggers for one event the higher acts first, and both act."""
    low = {**PAID, "id": "low", "action": {"type": "advance_state", "trigger": "packed"}, "priority": -1}
    definition = await shop.publish(order_document(low, PAID))
    order = await shop.order(definition, "A1")
    row = await shop.sent(event("e1", order="A1", amount=10))
    assert outcomes(row) == [("paid", "delivered"), ("low", "delivered")]
    assert await shop.state(order) == "shipped"


async def test_only_through_a_transition_that_leads_there(shop: Shop) -> None:
    """`targetState` is a condition on the way, never a jump; parameters are what the transition sees."""
    trigger = {
        **PAID,
        "action": {
            "type": "advance_state", "trigger": "paid", "targetState": "packing",
            "parameters": {"amount": "event.data.cents / 100"},
        },
    }  # fmt: skip
    definition = await shop.publish(order_document(trigger))
    order = await shop.order(definition, "A1")
    row = await shop.sent(event("e1", ttl=0, order="A1", cents=900))
    assert (only(row).outcome, only(row).code) == ("refused", "guard_failed")
    assert await shop.state(order) == "placed"
    assert only(await shop.sent(event("e2", order="A1", cents=1000))).outcome == "delivered"
    assert await shop.state(order) == "packing"


async def test_without_a_trigger_the_type_is_fired(shop: Shop) -> None:
    """By default the event's own type is the trigger, matched as transitions match theirs."""
    document = order_document({**PAID, "action": {"type": "advance_state"}})
    document["stateMachine"]["transitions"][1] |= {"trigger": "order"}
    del document["stateMachine"]["transitions"][1]["condition"]
    definition = await shop.publish(document)
    order = await shop.order(definition, "A1")
    await shop.sent(event("e1", order="A1"))
    assert await shop.state(order) == "packing"


async def test_a_handler_runs_actions_and_moves_nothing(shop: Shop) -> None:
    """What happened outside is written into the data; expressions see the event with source, type, subject and time."""
    handler = {
        "id": "noted",
        "eventType": "order.*",
        "correlationKey": "event.data.order",
        "actions": [{"type": "assign", "field": "note", "value": "event.type + ' from ' + event.source"}],
    }
    definition = await shop.publish(order_document(handlers=[handler], triggers=[]))
    order = await shop.order(definition, "A1")
    row = await shop.sent(event("e1", "order.moved", order="A1"))
    assert (only(row).action, only(row).outcome) == ("handle", "delivered")
    instance = await shop.look(order)
    assert (instance.data["note"], instance.current_state) == ("order.moved from /shop", "placed")
    await shop.check(order)


async def test_an_escalation_asks_for_attention(shop: Shop) -> None:
    """The instance is `escalated`, and a transition may wait for `escalation.ID`."""
    escalate = {**PAID, "id": "late", "eventType": "order.late", "action": {"type": "escalate"}}
    document = order_document(escalate)
    definition = await shop.publish(document)
    order = await shop.order(definition, "A1")
    await shop.sent(event("e1", "order.late", order="A1"))
    instance = await shop.look(order)
    assert (instance.status, instance.current_state) == ("escalated", "placed")
    document["version"] = "1.1.0"
    document["stateMachine"]["transitions"].append({"from": "placed", "to": "lost", "trigger": "escalation.late"})
    await shop.engine.catalog.replace(shop.admin, "order", document)
    other = await shop.order(await shop.engine.catalog.publish(shop.admin, "order"), "A2")
    await shop.sent(event("e2", "order.late", order="A2"))
    assert (await shop.look(other)).status == "completed"
    await shop.check(order)
    await shop.check(other)


async def test_nobody_outside_raises_what_the_engine_raises(shop: Shop) -> None:
    """An event called `approved` is no vote."""
    document = order_document({**PAID, "eventType": "approved", "action": {"type": "advance_state"}})
    document["stateMachine"]["transitions"].append({"from": "placed", "to": "packing", "trigger": "approved"})
    definition = await shop.publish(document)
    order = await shop.order(definition, "A1")
    row = await shop.sent(event("e1", "approved", ttl=0, order="A1"))
    assert (only(row).outcome, only(row).code) == ("failed", "not_allowed")
    assert await shop.state(order) == "placed"


async def test_a_suspended_instance_gets_its_event_when_it_is_resumed(shop: Shop) -> None:
    """Suspended is not the same as deaf: the event waits until the instance can take it."""
    definition = await shop.publish(order_document())
    order = await shop.order(definition, "A1")
    await shop.do(order, None, SuspendInstance())
    row = await shop.sent(event("e1", order="A1", amount=10))
    assert row.status == "buffered"
    await shop.do(order, None, ResumeInstance())
    assert await shop.state(order) == "packing"
    assert (await shop.event_row(row.id)).status == "matched"


async def test_the_same_event_acts_once_on_an_instance(shop: Shop) -> None:
    """Whatever happens in between, an event that an instance has taken is never given to it again."""
    definition = await shop.publish(order_document())
    order = await shop.order(definition, "A1")
    row = await shop.sent(event("e1", order="A1", amount=10))
    await shop.do(order, None, FireTrigger("refunded"))
    assert await shop.state(order) == "placed"
    # As if the node had died before it could say what became of the event.
    await shop.engine.pool.execute(
        "UPDATE inbound_events SET status = 'received', lease_until = now() - interval '1 s', results = '[]'"
    )
    assert await shop.engine.inbox.sweep() > 0
    assert await shop.state(order) == "placed"
    again = await shop.event_row(row.id)
    assert (again.status, outcomes(again)) == ("matched", [("paid", "delivered")])
    await shop.check(order)


async def test_a_key_that_no_database_holds(shop: Shop) -> None:
    """An expression may put a NUL into it: the two are told by its hash, and the event is not owed for ever."""
    trigger = {**PAID, "correlationKey": "event.data.order + '\\u0000'"}
    keyed = [{"name": "order", "key": "string(data.order) + '\\u0000'"}]
    order = await shop.order(await shop.publish(order_document(trigger, correlation=keyed)), "A1")
    assert (await keys(shop, order))["order"].startswith("sha256:")
    row = await shop.sent(event("e1", order="A1", amount=10))
    assert (row.status, only(row).instance) == ("matched", order)


async def test_events_of_one_request_act_in_its_order(shop: Shop) -> None:
    """A batch is an order of things: what comes later in it finds the instance as what came before has left it."""
    packed = {**PAID, "id": "packed", "eventType": "order.packed"}
    packed["action"] = {"type": "advance_state", "trigger": "packed"}
    await shop.publish(order_document(PLACED, PAID, packed))
    for order in range(20):
        await shop.send(
            event(f"a{order}", "order.placed", order=order, amount=1),
            event(f"b{order}", "order.paid", ttl=0, order=order, amount=1),
            event(f"c{order}", "order.packed", ttl=0, order=order),
        )
    assert [row["current_state"] for row in await shop.orders()] == ["shipped"] * 20


async def test_an_event_left_for_later_is_known_to_have_acted(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A connection broke as an instance took it, and the instance has lost its key by that: the event is not for another one.
    """
    cancel = {**PAID, "action": {"type": "advance_state", "trigger": "cancel"}}
    definition = await shop.publish(order_document(cancel))
    order = await shop.order(definition, "A1")
    deliverer = shop.engine.inbox._actor._deliverer
    execute = deliverer._execute

    async def breaks(*args: Any, **options: Any) -> Any:
        await execute(*args, **options)
        monkeypatch.undo()
        raise OutcomeUnknown("x")

    monkeypatch.setattr(deliverer, "_execute", breaks)
    kept = await shop.engine.inbox.keep(shop.engine.pool, "default", [event("e1", order="A1", amount=1)])
    await shop.engine.inbox.carry_out_all("default", kept)
    assert await shop.state(order) == "lost"
    row = await shop.event_row(kept[0].id)
    assert (row.status, outcomes(row), only(row).instance) == ("matched", [("paid", "delivered")], order)
    assert await shop.state(await shop.order(definition, "A1")) == "placed"


async def test_an_event_on_which_the_engine_fails_is_in_nobodys_way(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that carries events out goes on behind it; it stays owed, and acts when the cause is gone."""
    definition = await shop.publish(order_document())
    orders = [await shop.order(definition, "A1"), await shop.order(definition, "A2")]
    deliverer = shop.engine.inbox._actor._deliverer
    execute = deliverer._execute

    async def fails(tenant_id: str, instance_id: str, *args: Any, **options: Any) -> Any:
        if instance_id == orders[0]:
            raise EngineError("the engine failed on this command")
        return await execute(tenant_id, instance_id, *args, **options)

    monkeypatch.setattr(deliverer, "_execute", fails)
    events = [event("e1", order="A1", amount=10), event("e2", order="A2", amount=10)]
    kept = await shop.engine.inbox.keep(shop.engine.pool, "default", events)
    async with asyncio.timeout(10):
        await shop.engine.inbox.carry_out_all("default", kept)
    assert [await shop.state(order) for order in orders] == ["placed", "packing"]
    assert (await shop.event_row(kept[0].id)).status == "received"
    monkeypatch.undo()
    await shop.engine.pool.execute("UPDATE inbound_events SET lease_until = now() WHERE status = 'received'")
    await shop.engine.inbox.sweep()
    assert await shop.state(orders[0]) == "packing"
