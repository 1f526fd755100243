"""Events from outside on the bare interpreter: keys follow the instance, and what cannot be taken changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.reading import read
from pliers_workflow.interpreter.commands import (
    Actor,
    CancelInstance,
    Command,
    DeliverEvent,
    InboundEvent,
    Order,
    StartInstance,
    SuspendInstance,
    UpdateData,
)
from pliers_workflow.interpreter.effects import SetCorrelationKeys
from pliers_workflow.interpreter.folding import fold
from pliers_workflow.interpreter.interpret import interpret
from pliers_workflow.interpreter.outcome import Outcome
from pliers_workflow.interpreter.rejections import Reason, Rejection

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
EVENT = InboundEvent("e1", "/shop", "order.paid", subject="A1", data={"amount": 10}, attributes={"shop": "berlin"})

DOCUMENT: dict[str, Any] = {
    "name": "order",
    "version": "1.0.0",
    "title": "Order",
    "stateMachine": {
        "initialState": "placed",
        "states": {"placed": {}, "packing": {}, "late": {}, "done": {"type": "final"}},
        "transitions": [
            {
                "from": "placed", "to": "packing", "trigger": "order.paid", "condition": "event.data.amount > 5",
                "actions": [{"type": "assign", "field": "by", "value": "event.attributes.shop + ' ' + event.source"}],
            },
            {"from": "packing", "to": "done", "trigger": "packed"},
            {"from": "placed", "to": "late", "trigger": "escalation.slow"},
            {"from": "late", "to": "done", "trigger": "packed"},
        ],
    },
    "eventHooks": {
        "correlation": [{"name": "order", "key": "data.order"}, {"name": "place", "key": "instance.current_state"}],
        "handlers": [
            {
                "id": "noted", "eventType": "*", "correlation": "order", "correlationKey": "event.subject",
                "actions": [{"type": "assign", "field": "note", "value": "event.type"}],
            }
        ],
        "triggers": [
            {
                "id": "slow", "eventType": "order.slow", "correlation": "place", "correlationKey": "event.subject",
                "action": {"type": "escalate"},
            }
        ],
    },
}  # fmt: skip


class Bare:
    """One instance on the bare interpreter."""

    def __init__(self, data: dict[str, Any] | None = None) -> None:
        definition = read(DOCUMENT).definition
        assert definition is not None
        self.chart = compile_definition(definition)
        self.instance: Any = None
        self.keys: dict[str, str] = {}
        self.give(StartInstance("019cabd8-3800-7bc6-8000-000000000000", "d", {"order": "A1"} if data is None else data))

    def give(self, order: Order) -> Any:
        command = Command(id="c", actor=Actor(), order=order)
        answer = interpret(self.chart, self.instance, command, {}, AT)
        if isinstance(answer, Outcome):
            before, after = self.instance, answer.instance
            assert fold(before, answer.events, seq=after.revision, at=AT, instance_id=after.id) == after
            self.instance = after
            for effect in answer.effects:
                if isinstance(effect, SetCorrelationKeys):
                    self.keys = effect.keys
            assert self.keys == after.machine.correlation
        return answer

    def refused(self, order: Order) -> Reason:
        answer = self.give(order)
        assert isinstance(answer, Rejection)
        return answer.reason


def test_an_instance_has_its_keys_from_its_first_commit() -> None:
    """They follow data and place, and are gone with the end."""
    bare = Bare()
    assert bare.keys == {"order": "A1", "place": "placed"}
    bare.give(UpdateData(patch={"order": 7}))
    assert bare.keys == {"order": "7", "place": "placed"}
    bare.give(UpdateData(patch={"order": None}))
    assert bare.keys == {"place": "placed"}
    bare.give(DeliverEvent(EVENT, action="advance"))
    assert bare.keys == {"place": "packing"}
    bare.give(CancelInstance())
    assert bare.keys == {}


def test_a_key_that_cannot_be_worked_out_is_none() -> None:
    """Missing, null or empty: there is no key, and that is no mistake."""
    for data in ({}, {"order": None}, {"order": ""}):
        assert Bare(data).keys == {"place": "placed"}


def test_an_event_is_seen_whole() -> None:
    """Guards and actions see its data, its source, and what its sender has added."""
    bare = Bare()
    bare.give(DeliverEvent(EVENT, action="advance"))
    assert (bare.instance.current_state, bare.instance.data["by"]) == ("packing", "berlin /shop")


def test_what_an_instance_cannot_take_changes_nothing() -> None:
    """It is refused with its reason, so that it can be offered again."""
    bare = Bare()
    before = bare.instance
    poor = InboundEvent("e2", "/shop", "order.paid", data={"amount": 1})
    cases = [
        (DeliverEvent(poor, action="advance"), Reason.GUARD_FAILED),
        (DeliverEvent(EVENT, action="advance", trigger="packed"), Reason.UNKNOWN_TRIGGER),
        (DeliverEvent(EVENT, action="advance", target="done"), Reason.TARGET_NOT_REACHED),
        (DeliverEvent(EVENT, action="advance", trigger="approved"), Reason.NOT_ALLOWED),
        (DeliverEvent(EVENT, action="advance", trigger="timeout.placed"), Reason.NOT_ALLOWED),
        (DeliverEvent(EVENT, action="handle", matched="nothing"), Reason.NOT_AWAITED),
        (DeliverEvent(EVENT, action="execute", step="nothing"), Reason.UNKNOWN_STEP),
        (DeliverEvent(EVENT, action="receive", steps=("step/1",)), Reason.NOT_AWAITED),
    ]
    for order, reason in cases:
        assert bare.refused(order) == reason
    assert bare.instance is before
    bare.give(SuspendInstance())
    assert bare.refused(DeliverEvent(EVENT, action="advance")) == Reason.SUSPENDED
    bare.give(CancelInstance())
    assert bare.refused(DeliverEvent(EVENT, action="advance")) == Reason.INSTANCE_ENDED


def test_a_handler_runs_where_the_instance_stands() -> None:
    """Its actions see the event; nothing is entered or left."""
    bare = Bare()
    bare.give(DeliverEvent(EVENT, action="handle", matched="noted", parameters={"x": 1}))
    assert (bare.instance.data["note"], bare.instance.current_state) == ("order.paid", "placed")


def test_an_escalation_is_a_status_and_a_trigger() -> None:
    """The instance is escalated, and a transition may take `escalation.ID`."""
    bare = Bare()
    bare.give(DeliverEvent(EVENT, action="escalate", matched="slow"))
    assert (str(bare.instance.status), bare.instance.current_state) == ("escalated", "late")


@pytest.mark.parametrize("target", ["packing", None])
def test_a_target_is_a_condition(target: str | None) -> None:
    """Where the transition leads there, or none is asked for, it is taken."""
    bare = Bare()
    bare.give(DeliverEvent(EVENT, action="advance", target=target))
    assert bare.instance.current_state == "packing"
