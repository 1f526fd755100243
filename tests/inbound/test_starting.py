"""Events start workflows: once, with what the definition says, and only the active version does."""

from __future__ import annotations

import asyncio
import json

from pliers_workflow.interpreter.commands import CancelInstance
from tests.inbound.office import PLACED, STARTS, Shop, event, only, order_document, outcomes


async def test_an_event_starts_a_workflow(shop: Shop) -> None:
    """The parameters become the instance's data; the answer names the instance."""
    await shop.publish(order_document(PLACED, **STARTS))
    row = await shop.sent(event("e1", "order.placed", order="A1", amount=12.5, other=1))
    assert row.status == "matched"
    assert outcomes(row) == [("placed", "started")]
    (order,) = await shop.orders()
    assert order["id"] == only(row).instance
    assert json.loads(order["data"]) == {"order": "A1", "amount": 12.5}
    assert order["requester"] is None
    await shop.check(order["id"])


async def test_the_same_event_again_is_a_duplicate(shop: Shop) -> None:
    """Source and id name an event; whatever else comes with them, it starts nothing, and the first answer comes again."""
    await shop.publish(order_document(PLACED, **STARTS))
    first = await shop.sent(event("e1", "order.placed", order="A1", amount=1))
    (again,) = await shop.send(event("e1", "order.placed", order="A2", amount=2))
    assert again.duplicate
    assert again.row == first
    (other,) = await shop.send(event("e1", "order.placed", source="/other", order="A1", amount=1))
    assert not other.duplicate
    assert len(await shop.orders()) == 2


async def test_the_same_event_at_once_starts_once(shop: Shop) -> None:
    """Twenty senders at the same moment, two of them in one batch: one is the first, and one instance runs."""
    await shop.publish(order_document(PLACED, **STARTS))
    one = event("e1", "order.placed", order="A1", amount=1)
    answers = await asyncio.gather(*(shop.send(one, one) for _ in range(10)))
    assert sum(not answer.duplicate for each in answers for answer in each) == 1
    assert len(await shop.orders()) == 1


async def test_only_the_active_version_starts(shop: Shop) -> None:
    """A newer version takes the triggers over; a workflow that is put away starts nothing more."""
    await shop.publish(order_document(PLACED, **STARTS))
    later = order_document({**PLACED, "id": "again"}, version="1.1.0", **STARTS)
    await shop.engine.catalog.replace(shop.admin, "order", later)
    await shop.engine.catalog.publish(shop.admin, "order")
    row = await shop.sent(event("e1", "order.placed", order="A1", amount=1))
    assert outcomes(row) == [("again", "started")]
    (order,) = await shop.orders()
    assert order["version"] == "1.1.0"
    await shop.do(order["id"], None, CancelInstance())
    await shop.engine.catalog.archive(shop.admin, "order")
    row = await shop.sent(event("e2", "order.placed", order="A1", amount=1))
    assert row.status == "unmatched"
    assert row.results == ()


async def test_a_type_is_matched_whole_or_by_its_beginning(shop: Shop) -> None:
    """`order.*` stands for `order` and everything below it, `*` for everything; an event acts on all that match."""
    kinds = {
        "exact": "order.placed",
        "below": "order.*",
        "all": "*",
        "longer": "order.placed.late",
        "other": "orders.*",
    }
    triggers = [{"id": id, "eventType": kind, "action": {"type": "start_workflow"}} for id, kind in kinds.items()]
    await shop.publish(order_document(*triggers, **STARTS))
    matched = {}
    for number, kind in enumerate(["order", "order.placed", "order.placed.late", "orders", "invoice"]):
        row = await shop.sent(event(f"e{number}", kind))
        matched[kind] = sorted(trigger for trigger, _ in outcomes(row))
    assert matched == {
        "order": ["all", "below"],
        "order.placed": ["all", "below", "exact"],
        "order.placed.late": ["all", "below", "longer"],
        "orders": ["all", "other"],
        "invoice": ["all"],
    }


async def test_conditions_and_filters_must_hold(shop: Shop) -> None:
    """Every filter stands before every trigger; a condition that cannot be evaluated is a failure, not false."""
    await shop.publish(
        order_document(
            {**PLACED, "condition": "event.data.amount > 100"},
            filters=[{"source": "/shop*"}, {"condition": "event.data.live"}],
            **STARTS,
        )
    )
    sent = {
        "good": event("1", "order.placed", order="A", amount=101, live=True),
        "cheap": event("2", "order.placed", order="A", amount=1, live=True),
        "test": event("3", "order.placed", order="A", amount=101, live=False),
        "stranger": event("4", "order.placed", source="/other", order="A", amount=101, live=True),
        "broken": event("5", "order.placed", order="A", live=True),
    }
    rows = {name: await shop.sent(each) for name, each in sent.items()}
    assert {name: row.status for name, row in rows.items()} == {
        "good": "matched", "cheap": "unmatched", "test": "unmatched", "stranger": "unmatched", "broken": "failed",
    }  # fmt: skip
    assert only(rows["broken"]).code == "condition_error"
    assert "amount" in str(only(rows["broken"]).message)


async def test_another_workflow_and_another_person(shop: Shop) -> None:
    """A trigger may start another workflow, by a range of versions, in somebody's name, under a key of its own."""
    await shop.publish(order_document(name="delivery", triggers=[], correlation=[]))
    starts = {
        **PLACED,
        "action": {
            "type": "start_workflow",
            "workflowId": "delivery",
            "version": "^1.0",
            "requester": "event.data.who",
            "externalKey": "event.data.order",
        },
    }
    await shop.publish(order_document(starts, **STARTS))
    row = await shop.sent(event("e1", "order.placed", order="A1", who="ada"))
    (delivery,) = await shop.orders("delivery")
    assert (delivery["id"], delivery["requester"]) == (only(row).instance, shop.users["ada"])
    # Without parameters the event's data are the instance's.
    assert json.loads(delivery["data"]) == {"order": "A1", "who": "ada"}
    again = await shop.sent(event("e2", "order.placed", order="A1", who="ada"))
    assert (only(again).outcome, only(again).code) == ("refused", "instance_exists")
    stranger = await shop.sent(event("e3", "order.placed", order="A2", who="nobody"))
    assert (only(stranger).outcome, only(stranger).code) == ("failed", "unknown_user")
    assert len(await shop.orders("delivery")) == 1


async def test_what_failed_is_done_again_when_its_cause_is_gone(shop: Shop) -> None:
    """An operator retries an event: what failed is done, what was done is not done again."""
    missing = {
        "id": "other",
        "eventType": "order.placed",
        "action": {"type": "start_workflow", "workflowId": "delivery"},
    }
    await shop.publish(order_document(PLACED, missing, **STARTS))
    row = await shop.sent(event("e1", "order.placed", order="A1", amount=1))
    assert row.status == "failed"
    assert sorted(outcomes(row)) == [("other", "failed"), ("placed", "started")]
    await shop.publish(order_document(name="delivery", triggers=[], correlation=[]))
    row = await shop.engine.inbox.retry(shop.admin, row.id)
    assert row.status == "matched"
    assert sorted(outcomes(row)) == [("other", "started"), ("placed", "started")]
    assert len(await shop.orders()) == len(await shop.orders("delivery")) == 1
