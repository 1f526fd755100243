"""Instances that wait for their turn: started, and begun later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pliers_workflow.definition.chart import Chart
from pliers_workflow.interpreter.commands import (
    Actor,
    BeginInstance,
    CancelInstance,
    Command,
    FireTrigger,
    Order,
    StartInstance,
    SuspendInstance,
    UpdateData,
)
from pliers_workflow.interpreter.facts import Fact, User
from pliers_workflow.interpreter.folding import fold
from pliers_workflow.interpreter.instance import Instance
from pliers_workflow.interpreter.interpret import interpret
from pliers_workflow.interpreter.outcome import Outcome
from pliers_workflow.interpreter.rejections import Reason, Rejection
from tests.interpreter.building import chart, kinds, refused

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
ADA = Actor("ada")
ENGINE = Actor()
FACTS: dict[str, Fact] = {f"user:{name}": User(name, name, active=True) for name in ("ada", "eve")}


def small(**rest: Any) -> Chart:
    """One state with a clock, and a way out."""
    return chart(
        {"open": {"timeouts": [{"afterMinutes": 60, "trigger": "timeout.open"}]}, "done": {"type": "final"}},
        [
            {"from": "open", "to": "done", "trigger": "finish"},
            {"from": "open", "to": "done", "trigger": "timeout.open"},
        ],
        **rest,
    )


def give(
    made: Chart, instance: Instance | None, order: Order, actor: Actor = ENGINE, *, minutes: int = 0
) -> Outcome | Rejection:
    answer = interpret(
        made, instance, Command("c", actor, order), FACTS, NOW + timedelta(minutes=minutes), budget_steps=2_000_000
    )
    assert isinstance(answer, Outcome | Rejection), answer
    return answer


def queued(made: Chart, data: dict[str, Any] | None = None) -> Instance:
    answer = give(made, None, StartInstance(instance_id="i", definition_id="d", data=data or {}, queued=True), ADA)
    assert isinstance(answer, Outcome), answer
    return answer.instance


def test_a_queued_start_enters_no_state() -> None:
    """It is on record with its data and its requester, in no state, with no clock; it has not started."""
    made = small()
    answer = give(made, None, StartInstance(instance_id="i", definition_id="d", data={"n": 1}, queued=True), ADA)
    assert kinds(answer) == ["WorkflowStarted"]
    assert isinstance(answer, Outcome)
    waiting = answer.instance
    assert (waiting.status, waiting.current_state, waiting.configuration) == ("pending", "", ())
    assert (waiting.created_at, waiting.started_at, waiting.timeout_at) == (NOW, None, None)
    assert waiting.data == {"n": 1}
    assert answer.effects == ()


def test_it_begins_when_it_is_told_to() -> None:
    """Its clocks run from then on, and folding both rows gives the instance."""
    made = small()
    first = give(made, None, StartInstance(instance_id="i", definition_id="d", data={}, queued=True), ADA)
    assert isinstance(first, Outcome)
    second = give(made, first.instance, BeginInstance(), minutes=30)
    assert kinds(second)[:2] == ["WorkflowBegun", "StateEntered"]
    assert isinstance(second, Outcome)
    begun = second.instance
    assert (begun.status, begun.current_state, begun.previous_state) == ("waiting", "open", None)
    assert begun.started_at == NOW + timedelta(minutes=30)
    assert begun.timeout_at == NOW + timedelta(minutes=90)
    folded = fold(None, first.events, seq=1, at=NOW, instance_id="i")
    assert fold(folded, second.events, seq=2, at=NOW + timedelta(minutes=30), instance_id="i") == begun


@pytest.mark.parametrize("order", [FireTrigger("finish"), UpdateData({"n": 2}), SuspendInstance()])
def test_nothing_else_can_be_done_with_it(order: Order) -> None:
    """Whatever else is ordered is refused, and says that it begins by itself."""
    assert refused(give(small(), queued(small()), order)).reason is Reason.NOT_BEGUN


def test_it_can_be_cancelled() -> None:
    """Who started it may think better of it; then there is nothing left to begin."""
    made = small()
    answer = give(made, queued(made), CancelInstance("no need"), ADA)
    assert kinds(answer) == ["WorkflowCancelled"]
    assert isinstance(answer, Outcome)
    assert refused(give(made, answer.instance, BeginInstance())).reason is Reason.INSTANCE_ENDED


def test_it_begins_once_and_not_by_anybody() -> None:
    """A second time is refused, and so is a person who would like to be next."""
    made = small()
    waiting = queued(made)
    assert refused(give(made, waiting, BeginInstance(), Actor("eve"))).reason is Reason.NOT_ALLOWED
    begun = give(made, waiting, BeginInstance())
    assert isinstance(begun, Outcome)
    assert refused(give(made, begun.instance, BeginInstance())).reason is Reason.INSTANCE_EXISTS


def test_data_are_checked_when_it_is_started() -> None:
    """Who starts it hears at once what is wrong with the data, not nobody later."""
    made = small(dataSchema={"type": "object", "properties": {"n": {"type": "integer"}}})
    order = StartInstance(instance_id="i", definition_id="d", data={"n": "three"}, queued=True)
    assert refused(give(made, None, order, ADA)).reason is Reason.DATA_INVALID


def test_one_that_cannot_begin_has_failed() -> None:
    """Nobody is there to be told that its first state cannot be entered: it fails for good, on record."""
    made = chart(
        {"open": {}, "again": {}},
        [
            {"from": "open", "to": "again", "condition": "data.n == 1"},
            {"from": "again", "to": "open", "condition": "data.n == 1"},
        ],
    )
    answer = give(made, queued(made, {"n": 1}), BeginInstance())
    assert kinds(answer) == ["WorkflowBegun", "WorkflowFailed"]
    assert isinstance(answer, Outcome)
    assert (answer.instance.status, answer.instance.ended) == ("failed", True)
