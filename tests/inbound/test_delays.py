"""Delayed triggers act when their time has come, by the tenant's clock, once, and as the world is then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.rows import DefinitionRow
from tests.inbound.office import PAID, PLACED, STARTS, Shop, event, only, order_document, outcomes

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)


class Lab:
    """A shop in a tenant whose clock is moved by hand."""

    def __init__(self, shop: Shop, admin: Principal) -> None:
        self.shop = shop
        self.admin = admin
        self.now = MONDAY

    async def publish(self, document: dict[str, Any]) -> DefinitionRow:
        created = await self.shop.engine.catalog.create(self.admin, document)
        assert isinstance(created, DefinitionRow), created
        published = await self.shop.engine.catalog.publish(self.admin, created.id)
        assert isinstance(published, DefinitionRow), published
        return published

    async def after(self, **time: float) -> None:
        """Move the clock, and let everything due happen."""
        self.now += timedelta(**time)
        await self.shop.engine.tenants.set_clock(self.admin, self.now)
        await self.shop.engine.inbox.sweep(delayed=True)
        await self.shop.engine.inbox.waits.settle()

    async def send(self, *arguments: Any, **data: Any) -> Any:
        return (await self.shop.send(event(*arguments, **data), tenant="lab"))[0].row

    async def row(self, event_id: str) -> Any:
        return await self.shop.engine.inbox.get(self.admin, event_id)

    async def states(self) -> list[str]:
        rows = await self.shop.engine.pool.fetch(
            "SELECT current_state FROM workflow_instances WHERE tenant_id = 'lab' ORDER BY id"
        )
        return [row[0] for row in rows]

    async def start(self, definition: DefinitionRow, **data: Any) -> str:
        answer = await self.shop.engine.start_instance(self.admin, definition, data=data)
        return str(answer.instance.id)  # type: ignore[union-attr]  # accepted


@pytest.fixture
async def lab(shop: Shop) -> Lab:
    """A tenant in which it is Monday morning."""
    await shop.engine.tenants.create(shop.admin, "lab", "Lab", virtual_now=MONDAY)
    await shop.engine.tokens.bootstrap("lab")
    user = await shop.engine.directory.user_by_name("lab", "admin")
    assert user is not None
    return Lab(shop, Principal("lab", user.id, "admin", frozenset({"admin"})))


async def test_a_start_is_delayed(lab: Lab) -> None:
    """Nothing runs before the time is up; then it does, once, and the event says so."""
    await lab.publish(order_document({**PLACED, "delayMinutes": 90}, **STARTS))
    row = await lab.send("e1", "order.placed", order="A1", amount=1)
    assert (row.status, only(row).outcome, only(row).due_at) == ("matched", "scheduled", MONDAY + timedelta(minutes=90))
    await lab.after(minutes=89)
    assert await lab.states() == []
    await lab.after(minutes=1)
    assert await lab.states() == ["placed"]
    await lab.after(days=1)
    assert await lab.states() == ["placed"]
    assert outcomes(await lab.row(row.id)) == [("placed", "scheduled"), ("placed", "started")]


async def test_a_delay_may_come_from_the_event(lab: Lab) -> None:
    """CEL over the event gives minutes; none or fewer is at once."""
    await lab.publish(order_document({**PLACED, "delayMinutes": "event.data.hours * 60"}, **STARTS))
    await lab.send("e0", "order.placed", order="A0", amount=1, hours=0)
    await lab.send("e1", "order.placed", order="A1", amount=1, hours=-3)
    assert len(await lab.states()) == 2
    await lab.send("e2", "order.placed", order="A2", amount=1, hours=24)
    wrong = await lab.send("e3", "order.placed", order="A3", amount=1, hours="x")
    assert (wrong.status, only(wrong).code) == ("failed", "mapping_error")
    await lab.after(hours=24)
    assert len(await lab.states()) == 3


async def test_a_delayed_advance_finds_whom_it_finds_then(lab: Lab) -> None:
    """The instance need not be there when the event comes; if it is not there when it acts, the event waits for it."""
    definition = await lab.publish(order_document({**PAID, "delayMinutes": 60}))
    row = await lab.send("e1", order="A1", amount=10)
    await lab.start(definition, order="A1", amount=10)
    assert await lab.states() == ["placed"]
    await lab.after(minutes=60)
    assert await lab.states() == ["packing"]
    late = await lab.send("e2", order="A2", amount=10)
    await lab.after(minutes=60)
    assert (await lab.row(late.id)).status == "buffered"
    await lab.start(definition, order="A2", amount=10)
    await lab.shop.engine.inbox.waits.settle()
    assert await lab.states() == ["packing", "packing"]
    assert (await lab.row(late.id)).status == (await lab.row(row.id)).status == "matched"


async def test_the_version_that_is_active_then_starts(lab: Lab) -> None:
    """A newer version with the same trigger takes the delayed start over; without it, nothing is started."""
    await lab.publish(order_document({**PLACED, "delayMinutes": 60}, **STARTS))
    await lab.send("e1", "order.placed", order="A1", amount=1)
    catalog = lab.shop.engine.catalog
    await catalog.replace(lab.admin, "order", order_document({**PLACED, "delayMinutes": 5}, version="1.1.0", **STARTS))
    await catalog.publish(lab.admin, "order")
    await lab.after(minutes=60)
    row = await lab.shop.engine.pool.fetchrow("SELECT workflow_version::text AS version FROM workflow_instances")
    assert row is not None
    assert row["version"] == "1.1.0"
    last = await lab.send("e2", "order.placed", order="A2", amount=1)
    await catalog.replace(lab.admin, "order", order_document({**PLACED, "id": "other"}, version="2.0.0", **STARTS))
    await catalog.publish(lab.admin, "order")
    await lab.after(minutes=60)
    assert outcomes(await lab.row(last.id)) == [("placed", "scheduled"), ("placed", "refused")]
    assert len(await lab.states()) == 1


async def test_waiting_ends_with_the_time_to_live(lab: Lab) -> None:
    """By the tenant's clock: a minute before, the event is taken; after, it is gone."""
    definition = await lab.publish(order_document())
    await lab.send("e1", order="A1", amount=10)
    row = await lab.send("e2", order="A2", amount=10)
    await lab.send("e3", order="A3", amount=10, ttl=7200)
    await lab.after(minutes=59)
    await lab.start(definition, order="A1", amount=10)
    await lab.shop.engine.inbox.waits.settle()
    await lab.after(minutes=1)
    for order in ("A2", "A3"):
        await lab.start(definition, order=order, amount=10)
    await lab.shop.engine.inbox.waits.settle()
    assert await lab.states() == ["packing", "placed", "packing"]
    assert (await lab.row(row.id)).status == "unmatched"


async def test_an_event_is_forgotten_when_it_need_not_be_known(lab: Lab) -> None:
    """Its id counts as known for a week, and longer while a delayed trigger of it is to come."""
    await lab.publish(
        order_document(
            PLACED, {**PLACED, "id": "later", "eventType": "order.late", "delayMinutes": 60 * 24 * 20}, **STARTS
        )
    )
    await lab.send("e1", "order.placed", order="A1", amount=1)
    await lab.send("e2", "order.late", order="A2", amount=1)
    await lab.after(days=6)
    (again,) = await lab.shop.send(event("e1", "order.placed", order="A1", amount=1), tenant="lab")
    assert again.duplicate
    await lab.after(days=2)
    (again,) = await lab.shop.send(event("e1", "order.placed", order="A1", amount=1), tenant="lab")
    assert not again.duplicate
    await lab.after(days=13)
    assert len(await lab.states()) == 3
    await lab.after(days=30)
    assert await lab.shop.engine.pool.fetchval("SELECT count(*) FROM inbound_events") == 0


async def test_a_running_node_does_it_by_itself(make_shop: Callable[..., Awaitable[Shop]]) -> None:
    """With its services at work nobody has to ask: the trigger acts within a moment of its time."""
    shop = await make_shop(services=True, delayed_poll=0.05)
    await shop.publish(order_document({**PLACED, "delayMinutes": 0.002}, **STARTS))
    await shop.sent(event("e1", "order.placed", order="A1", amount=1))
    for _ in range(200):
        if await shop.orders():
            break
        await asyncio.sleep(0.02)
    assert len(await shop.orders()) == 1
