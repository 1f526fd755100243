"""Events that come too early wait for their instance: one gets them, once, and whoever dies in between loses nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
from structlog.testing import capture_logs

from pliers_workflow.interpreter.commands import FireTrigger, UpdateData
from pliers_workflow.runtime.inbound.inbox import Inbox
from pliers_workflow.runtime.inbound.waiting import Waits
from tests.inbound.office import PAID, Shop, event, order_document, outcomes


async def open_waits(shop: Shop) -> int:
    return int(await shop.engine.pool.fetchval("SELECT count(*) FROM event_waits"))


async def test_an_event_waits_for_an_instance_that_begins_later(shop: Shop) -> None:
    """The payment comes before the order; the order takes it as soon as it is there."""
    definition = await shop.publish(order_document())
    row = await shop.sent(event("e1", order="A1", amount=10))
    assert (row.status, row.results) == ("buffered", ())
    assert [(wait.workflow, wait.trigger, wait.key) for wait in row.waits] == [("order", "paid", "A1")]
    other, order = await shop.order(definition, "A2"), await shop.order(definition, "A1")
    assert (await shop.state(other), await shop.state(order)) == ("placed", "packing")
    row = await shop.event_row(row.id)
    assert (row.status, outcomes(row), row.waits) == ("matched", [("paid", "delivered")], ())
    await shop.check(order)


async def test_an_event_waits_for_a_key_and_for_a_state(shop: Shop) -> None:
    """An instance that has no such key yet, or stands where nothing waits for the trigger, takes the event later."""
    document = order_document()
    document["stateMachine"]["initialState"] = "draft"
    definition = await shop.publish(document)
    order = (await shop.start(definition, data={"amount": 10})).instance.id
    row = await shop.sent(event("e1", order="A1", amount=10))
    assert row.status == "buffered"
    await shop.do(order, "ada", UpdateData(patch={"order": "A1"}))
    assert await shop.state(order) == "draft"
    assert (await shop.event_row(row.id)).status == "buffered"
    await shop.do(order, "ada", FireTrigger("place"))
    assert await shop.state(order) == "packing"
    assert (await shop.event_row(row.id)).status == "matched"
    assert await open_waits(shop) == 0


async def test_an_event_waits_for_data_that_let_it_through(shop: Shop) -> None:
    """A guard that holds later lets the event through later."""
    definition = await shop.publish(order_document())
    order = await shop.order(definition, "A1", amount=100)
    assert (await shop.sent(event("e1", order="A1", amount=50))).status == "buffered"
    await shop.do(order, "ada", UpdateData(patch={"amount": 60}))
    assert await shop.state(order) == "placed"
    await shop.do(order, "ada", UpdateData(patch={"amount": 50}))
    assert await shop.state(order) == "packing"


async def test_of_several_one_gets_it(shop: Shop) -> None:
    """What waits is given to the first that can take it, and is gone."""
    definition = await shop.publish(order_document())
    await shop.sent(event("e1", order="A1", amount=10))
    orders = [await shop.order(definition, "A1") for _ in range(3)]
    assert [await shop.state(order) for order in orders] == ["packing", "placed", "placed"]


async def test_several_events_wait_in_the_order_of_their_arrival(shop: Shop) -> None:
    """Paid and packed come before the order: it takes both, one after the other."""
    packed = {
        **PAID,
        "id": "packed",
        "eventType": "order.packed",
        "action": {"type": "advance_state", "trigger": "packed"},
    }
    definition = await shop.publish(order_document(PAID, packed))
    await shop.sent(event("e2", "order.packed", order="A1"))
    await shop.sent(event("e1", order="A1", amount=10))
    order = await shop.order(definition, "A1")
    assert await shop.state(order) == "shipped"
    assert await open_waits(shop) == 0
    await shop.check(order)


async def test_no_time_to_live_no_waiting(shop: Shop) -> None:
    """`ttlseconds: 0` is for now or never."""
    definition = await shop.publish(order_document())
    assert (await shop.sent(event("e1", ttl=0, order="A1", amount=10))).status == "unmatched"
    assert await shop.state(await shop.order(definition, "A1")) == "placed"


async def test_an_offer_whose_node_died_is_made_to_the_same_instance(shop: Shop) -> None:
    """It had taken the event before its node died: nobody else gets it."""
    definition = await shop.publish(order_document())
    row = await shop.sent(event("e1", order="A1", amount=10))
    order = await shop.order(definition, "A1")
    assert await shop.state(order) == "packing"
    # As it stands when the node dies after the instance's commit and before saying so.
    await shop.engine.pool.execute(
        "INSERT INTO event_waits (tenant_id, event_id, workflow_name, trigger_id, name, key, priority, open_until, taken_by, "
        "taken_until) VALUES ('default', $1::text::uuid, 'order', 'paid', 'order', 'A1', 0, now() + interval '1 h', "
        "$2::text::uuid, now() - interval '1 s')",
        row.id, order,
    )  # fmt: skip
    other = await shop.order(definition, "A1")
    assert await shop.state(other) == "placed"
    await shop.engine.inbox.sweep()
    assert (await shop.state(order), await shop.state(other)) == ("packing", "placed")
    assert await open_waits(shop) == 0
    assert len(await shop.check(order)) == 2


async def test_the_sweep_finds_what_both_have_missed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node of the instance died between its commit and its look."""
    definition = await shop.publish(order_document())
    await shop.sent(event("e1", order="A1", amount=10))
    monkeypatch.setattr(Waits, "committed", lambda self, folds: None)
    order = await shop.order(definition, "A1")
    monkeypatch.undo()
    assert await shop.state(order) == "placed"
    await shop.engine.pool.execute("UPDATE event_waits SET offered_at = now() - interval '1 h'")
    await shop.engine.inbox.sweep()
    assert await shop.state(order) == "packing"


@pytest.mark.parametrize("seed", range(4))
async def test_event_and_instance_at_the_same_moment(make_shop: Callable[..., Awaitable[Shop]], seed: int) -> None:
    """Forty orders and their payments, in any order and at once, on two nodes: every order is paid, once."""
    chance = random.Random(seed)
    shops = [await make_shop(), await make_shop()]
    definition = await shops[0].publish(order_document())
    orders: dict[int, str] = {}

    async def pay(number: int) -> None:
        await asyncio.sleep(chance.random() * 0.05)
        await chance.choice(shops).send(event(f"e{number}", order=number, amount=10))

    async def place(number: int) -> None:
        await asyncio.sleep(chance.random() * 0.05)
        orders[number] = await chance.choice(shops).order(definition, number)

    steps = [step(number) for number in range(40) for step in (pay, place)]
    chance.shuffle(steps)
    await asyncio.gather(*steps)
    for shop in shops:
        await shop.engine.inbox.waits.settle()
    assert {await shops[0].state(order) for order in orders.values()} == {"packing"}
    assert await open_waits(shops[0]) == 0
    for order in orders.values():
        assert len(await shops[0].check(order)) == 2


@pytest.mark.parametrize("seed", range(4))
async def test_many_instances_race_for_one_event(make_shop: Callable[..., Awaitable[Shop]], seed: int) -> None:
    """Of many that begin to wait at one moment for an event that waits, on two nodes, exactly one gets it."""
    chance = random.Random(seed)
    shops = [await make_shop(), await make_shop()]
    document = order_document()
    document["stateMachine"]["initialState"] = "draft"
    definition = await shops[0].publish(document)
    orders = [await shops[0].order(definition, "A1") for _ in range(12)]
    row = await shops[0].sent(event("e1", order="A1", amount=10))
    assert row.status == "buffered"

    async def place(order: str) -> None:
        await asyncio.sleep(chance.random() * 0.01)
        await chance.choice(shops).do(order, "ada", FireTrigger("place"))

    await asyncio.gather(*(place(order) for order in orders))
    for shop in shops:
        await shop.engine.inbox.waits.settle()
    states = [await shops[0].state(order) for order in orders]
    assert sorted(states) == ["packing", *["placed"] * 11]
    row = await shops[0].event_row(row.id)
    assert (row.status, outcomes(row)) == ("matched", [("paid", "delivered")])


async def test_an_event_whose_connection_breaks_is_left_for_the_sweep(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the driver calls a broken connection, it is told as one; the event stays `received`, and is carried out."""

    async def breaks(*_: object) -> bool:
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")

    definition = await shop.publish(order_document())
    order = await shop.order(definition, "A1")
    monkeypatch.setattr(Inbox, "_settle", breaks)
    with capture_logs() as logs:
        row = await shop.sent(event("e1", order="A1", amount=10))
    assert row.status == "received"
    assert [(entry["event"], entry["id"]) for entry in logs] == [("event_left_for_later", row.id)]
    monkeypatch.undo()
    await shop.engine.pool.execute("UPDATE inbound_events SET lease_until = now() - interval '1 s'")
    await shop.engine.inbox.sweep()
    assert (await shop.event_row(row.id)).status == "matched"
    assert await shop.state(order) == "packing"
