"""An event that an instance does not take says why: it waits where that may change by itself, and has failed where not."""

from __future__ import annotations

from typing import Any

import pytest

from pliers_workflow.interpreter.commands import CancelInstance, FireTrigger, UpdateData
from pliers_workflow.runtime.inbound.rows import EventRow
from tests.inbound.office import PAID, Shop, event, only, order_document, outcomes
from tests.inbound.test_steps import RECEIVE, receiving


def noting(expression: str, **schema: Any) -> dict[str, Any]:
    """An order that writes a note when it is paid; the schema of the note."""
    document = order_document()
    document["stateMachine"]["transitions"][1] = {
        "from": "placed", "to": "packing", "trigger": "paid",
        "actions": [{"type": "assign", "field": "note", "value": expression}],
    }  # fmt: skip
    document["dataSchema"]["properties"]["note"] = schema
    return document


async def open_waits(shop: Shop) -> int:
    return int(await shop.engine.pool.fetchval("SELECT count(*) FROM event_waits"))


def refusals(row: EventRow) -> list[tuple[str, str | None]]:
    return [(each.outcome, each.code) for each in row.results]


async def test_data_that_do_not_fit_are_a_failure(shop: Shop) -> None:
    """The instance listened and could not do it: the event has failed, says where, and waits for nobody."""
    definition = await shop.publish(noting("event.data.note", type="string"))
    order = await shop.order(definition, "A1")
    row = await shop.sent(event("e1", order="A1", note=["secret"]))
    assert (row.status, row.waits, only(row).instance) == ("failed", (), order)
    assert (only(row).outcome, only(row).code) == ("failed", "data_invalid")
    assert only(row).details["findings"] == [{"pointer": "/note"}]
    assert "secret" not in str(only(row))
    assert await open_waits(shop) == 0
    assert await shop.state(order) == "placed"


@pytest.mark.parametrize(
    ("expression", "code"),
    [("event.data.nothing", "execution_error"), ("event.data.note * 0", "execution_error")],
)
async def test_an_action_that_fails_is_a_failure(shop: Shop, expression: str, code: str) -> None:
    """So is an action with an error, which the details name."""
    definition = await shop.publish(noting(expression, type="string"))
    await shop.order(definition, "A1")
    row = await shop.sent(event("e1", order="A1", note="x"))
    assert (row.status, refusals(row)) == ("failed", [("failed", code)])
    assert set(only(row).details) == {"source", "error"}


async def test_data_too_large_are_a_failure(shop: Shop) -> None:
    """An event that fits by itself may not fit beside what the instance has."""
    definition = await shop.publish(noting("data.note + event.data.note", type="string"))
    order = (await shop.start(definition, data={"order": "A1", "amount": 10, "note": "x" * 200_000})).instance.id
    row = await shop.sent(event("e1", order="A1", note="y" * 100_000))
    assert (row.status, refusals(row)) == ("failed", [("failed", "data_too_large")])
    assert await shop.state(order) == "placed"


async def test_a_retry_gives_it_to_those_that_failed(shop: Shop) -> None:
    """Of two orders one has taken it: the retry is for the other one, and for nobody who came later."""
    definition = await shop.publish(noting("string(event.data.n / data.amount)", type="string"))
    fine, broken = await shop.order(definition, "A1"), await shop.order(definition, "A1", amount=0)
    row = await shop.sent(event("e1", order="A1", n=10))
    assert sorted((each.instance, each.outcome) for each in row.results) == sorted(
        [(fine, "delivered"), (broken, "failed")]
    )
    row = await shop.engine.inbox.retry(shop.admin, row.id)
    assert (row.status, len(row.results)) == ("failed", 2)
    await shop.do(broken, "ada", UpdateData(patch={"amount": 5}))
    assert await shop.state(broken) == "placed"
    later = await shop.order(definition, "A1")
    row = await shop.engine.inbox.retry(shop.admin, row.id)
    assert (row.status, outcomes(row)) == ("matched", [("paid", "delivered")] * 2)
    assert [await shop.state(each) for each in (fine, broken, later)] == ["packing", "packing", "placed"]
    for each in (fine, broken, later):
        await shop.check(each)


async def test_an_early_event_fails_when_its_instance_cannot_do_it(shop: Shop) -> None:
    """What waited and comes to nothing is settled, with the reason, and not offered for ever; a retry offers it again."""
    definition = await shop.publish(noting("string(event.data.n / data.amount)", type="string"))
    row = await shop.sent(event("e1", order="A1", n=10))
    assert (row.status, row.results) == ("buffered", ())
    order = await shop.order(definition, "A1", amount=0)
    assert await shop.state(order) == "placed"
    row = await shop.event_row(row.id)
    assert (row.status, row.waits, refusals(row)) == ("failed", (), [("failed", "execution_error")])
    assert only(row).instance == order
    assert await open_waits(shop) == 0
    await shop.do(order, "ada", UpdateData(patch={"amount": 5}))
    assert await shop.state(order) == "placed"
    row = await shop.engine.inbox.retry(shop.admin, row.id)
    assert (row.status, refusals(row)) == ("matched", [("delivered", None)])
    assert await shop.state(order) == "packing"


async def test_of_those_who_wait_another_may_take_it(shop: Shop) -> None:
    """An instance that fails over an event keeps it from nobody else who has the key."""
    document = noting("string(event.data.n / data.amount)", type="string")
    document["stateMachine"]["initialState"] = "draft"
    definition = await shop.publish(document)
    orders = [await shop.order(definition, "A1", amount=amount) for amount in (0, 5)]
    row = await shop.sent(event("e1", order="A1", n=10))
    assert (row.status, refusals(row)) == ("buffered", [("refused", "unknown_trigger")] * 2)
    await shop.engine.pool.execute(
        "UPDATE event_waits SET taken_by = $1, taken_until = now() + interval '1 h'", orders[0]
    )
    for order in orders:
        await shop.do(order, "ada", FireTrigger("place"))
    await shop.engine.inbox.waits.settle()
    await shop.engine.pool.execute("UPDATE event_waits SET taken_until = now() - interval '1 s'")
    await shop.engine.inbox.sweep()
    assert [await shop.state(order) for order in orders] == ["placed", "packing"]
    row = await shop.event_row(row.id)
    assert (row.status, refusals(row)) == ("matched", [("delivered", None)])


async def test_what_may_change_waits_and_says_why(shop: Shop) -> None:
    """A guard that does not hold: the event waits, and its results tell what it waits for, the newest reason of each."""
    document = order_document()
    document["stateMachine"]["transitions"][1]["condition"] = "event.data.amount >= data.amount && data.note == 'go'"
    definition = await shop.publish(document)
    order = await shop.order(definition, "A1", amount=100)
    row = await shop.sent(event("e1", order="A1", amount=50))
    assert (row.status, len(row.waits), refusals(row)) == ("buffered", 1, [("refused", "guard_failed")])
    assert only(row).instance == order
    assert only(row).details["explanation"]["expression"].startswith("event.data.amount")
    assert "100" not in str(only(row).details)
    await shop.do(order, "ada", UpdateData(patch={"amount": 50}))
    assert await shop.state(order) == "placed"
    row = await shop.event_row(row.id)
    assert (row.status, refusals(row)) == ("buffered", [("refused", "guard_error")])
    await shop.do(order, "ada", UpdateData(patch={"note": "go"}))
    assert await shop.state(order) == "packing"
    row = await shop.event_row(row.id)
    assert (row.status, refusals(row)) == ("matched", [("delivered", None)])


async def test_when_the_time_is_up_the_reason_stays(shop: Shop) -> None:
    """`unmatched` says who could not take it, and why."""
    definition = await shop.publish(order_document())
    await shop.order(definition, "A1", amount=100)
    row = await shop.sent(event("e1", order="A1", amount=50))
    await shop.engine.pool.execute("UPDATE event_waits SET open_until = now() - interval '1 s'")
    await shop.engine.inbox.sweep()
    row = await shop.event_row(row.id)
    assert (row.status, refusals(row)) == ("unmatched", [("refused", "guard_failed")])


async def test_who_took_it_and_who_did_not(shop: Shop) -> None:
    """Of several that have the key when it arrives, those that could not take it are told beside those that did."""
    definition = await shop.publish(order_document())
    await shop.order(definition, "A1", amount=10)
    await shop.order(definition, "A1", amount=100)
    row = await shop.sent(event("e1", order="A1", amount=50))
    assert (row.status, row.waits) == ("matched", ())
    assert sorted(refusals(row)) == [("delivered", None), ("refused", "guard_failed")]


async def test_a_step_waits_on_when_its_event_failed(shop: Shop) -> None:
    """The output of a `receive` step that does not fit: the event has failed, and the next one completes the step."""
    document = receiving(RECEIVE)
    document["dataSchema"]["properties"]["paid"] = {"type": "number"}
    definition = await shop.publish(document)
    order = await shop.order(definition, "A1")
    row = await shop.sent(event("e1", order="A1", amount="ten"))
    assert (row.status, refusals(row)) == ("failed", [("failed", "data_invalid")])
    row = await shop.sent(event("e2", order="A1", amount=10))
    assert (row.status, await shop.state(order)) == ("matched", "packing")


async def test_a_retry_whose_instance_has_gone_waits_for_another(shop: Shop) -> None:
    """What failed is done for the one that failed; where that has ended, the event waits as any other."""
    definition = await shop.publish(noting("event.data.note", type="string"))
    order = await shop.order(definition, "A1")
    row = await shop.sent(event("e1", order="A1", note=1))
    await shop.do(order, "ada", CancelInstance())
    row = await shop.engine.inbox.retry(shop.admin, row.id)
    assert (row.status, row.results, [wait.key for wait in row.waits]) == ("buffered", (), ["A1"])


async def test_an_error_that_no_database_holds(shop: Shop) -> None:
    """The text of an error may hold a NUL that an expression has put there: the event is settled all the same."""
    trigger = {**PAID, "condition": "event.data['a\\u0000'] == 1"}
    await shop.publish(order_document(trigger))
    row = await shop.sent(event("e1", order="A1", amount=1))
    assert (row.status, only(row).code) == ("failed", "condition_error")
