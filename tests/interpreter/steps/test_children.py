"""Sub-workflows: started by a step, telling it how they end, cancelled with it."""

from __future__ import annotations

from typing import Any

import pytest

from pliers_workflow.interpreter.commands import CancelInstance, CompleteStep, FailStep, Parent, StartInstance
from pliers_workflow.interpreter.effects import SendOrder, StartChild
from pliers_workflow.interpreter.simulation import Simulation
from tests.interpreter.building import accepted, chart, refused
from tests.interpreter.steps.working import END, at_work, call, data, incident, status, steps_at_work


def trip(**rest: Any) -> dict[str, Any]:
    """A step that starts the workflow `trip`."""
    return {"type": "sub_workflow", "id": "travel", "workflowId": "trip", "inputMapping": {"days": "data.days"}, **rest}


def start_of(run: Simulation) -> StartChild:
    """The last start of a sub-workflow that was left to the runtime."""
    return [order for order in run.orders if isinstance(order, StartChild)][-1]


def child(run: Simulation, *steps: Any) -> Simulation:
    """The sub-workflow that a parent has ordered, started as the runtime would."""
    order = start_of(run)
    states = {"work": {"properties": {"steps": list(steps) or [call("go")]}}, "end": END}
    found = Simulation(chart(states, [{"from": "work", "to": "end"}]), instance_id=order.instance)
    accepted(
        found.give(
            StartInstance(order.instance, "trip", dict(order.data), requester=order.requester, parent=order.parent),
            None,
        )
    )
    return found


def sent(run: Simulation) -> list[Any]:
    """The orders that an instance has left for others."""
    return [order for order in run.orders if isinstance(order, SendOrder)]


def test_the_output_of_a_sub_workflow_is_how_it_ended() -> None:
    """The parent waits; the child tells it when it has completed."""
    run = at_work(trip(outputMapping={"cost": "output.data.cost", "how": "output.status"}), data={"days": 3})
    order = start_of(run)
    assert (order.workflow, order.data, order.requester) == ("trip", {"days": 3}, "ada")
    assert order.parent == Parent("simulated", run.run_of("travel").id, 1, waits=True, depth=1)
    assert (status(run), steps_at_work(run)) == ("waiting", {"travel": "waiting"})
    other = child(run, {"type": "assign", "assignments": {"cost": "data.days * 100"}})
    assert other.instance is not None
    assert (other.instance.parent, status(other)) == (order.parent, "completed")
    (told,) = sent(other)
    assert told.instance == "simulated"
    accepted(run.give(told.order, None))
    assert (status(run), data(run)) == ("completed", {"days": 3, "cost": 300, "how": "completed"})


def test_the_child_s_id_follows_from_the_parent_s() -> None:
    """So that interpreting again orders the same child; another attempt is another child."""
    step = trip(failureHandling="retry", retryPolicy={"jitter": 0, "initialDelaySeconds": 60})
    run, again = at_work(step, data={"days": 1}), at_work(step, data={"days": 1})
    first = start_of(run)
    assert first.instance == start_of(again).instance
    accepted(run.fail("travel", "SUB_WORKFLOW_FAILED"))
    assert steps_at_work(run) == {"travel": "retrying"}
    assert status(run) == "running"
    run.advance(60_000)
    second = start_of(run)
    assert second.instance != first.instance
    assert (second.parent.attempt, second.name == first.name) == (2, False)


@pytest.mark.parametrize("handling", ["fail_parent", "continue"])
def test_a_sub_workflow_that_fails_tells_its_parent(handling: str) -> None:
    """When an operator gives it up, and not while its incident is open; the parent's step says what that means to it."""
    run = at_work(trip(failureHandling=handling, outputMapping={"how": "output.status"}), data={"days": 1})
    other = child(run)
    accepted(other.fail("go", "BROKEN"))
    assert (status(other), sent(other)) == ("failed", [])
    accepted(other.resolve("give_up"))
    (told,) = sent(other)
    assert isinstance(told.order, FailStep)
    assert told.order.code == "SUB_WORKFLOW_FAILED"
    accepted(run.give(told.order, None))
    if handling == "continue":
        assert (status(run), data(run)["how"]) == ("completed", "failed")
    else:
        assert incident(run).code == "SUB_WORKFLOW_FAILED"
        assert sent(run) == [], "it has ended, so there is nothing to cancel"


def test_a_sub_workflow_that_is_cancelled_tells_its_parent() -> None:
    """With a code of its own."""
    run = at_work(trip(), data={"days": 1})
    other = child(run)
    accepted(other.cancel())
    (told,) = sent(other)
    assert told.order.code == "SUB_WORKFLOW_CANCELLED"


def test_cancelling_travels_down() -> None:
    """When the instance is cancelled, its state left, or its step takes too long."""
    run = at_work(trip(timeoutMinutes=5), data={"days": 1}, more=[{"from": "work", "to": "end", "trigger": "enough"}])
    accepted(run.cancel())
    (order,) = sent(run)
    assert (order.instance, type(order.order)) == (start_of(run).instance, CancelInstance)
    run = at_work(trip(), data={"days": 1}, more=[{"from": "work", "to": "end", "trigger": "enough"}])
    accepted(run.fire("enough", user="ada"))
    assert len(sent(run)) == 1
    run = at_work(trip(timeoutMinutes=5), data={"days": 1})
    run.advance(300_000)
    assert (len(sent(run)), incident(run).code) == (1, "TIMEOUT")


def test_one_that_has_ended_while_its_parent_was_suspended_is_not_cancelled() -> None:
    """Its result is kept; that the step is given up then is none of its business any more."""
    run = at_work(trip(), data={"days": 1})
    order = start_of(run)
    accepted(run.suspend())
    accepted(run.give(CompleteStep(order.parent.step, order.parent.attempt), None))
    accepted(run.cancel())
    assert sent(run) == []


def test_one_that_has_failed_is_not_cancelled_before_the_next_attempt() -> None:
    """Between two attempts no other workflow is at work for the step."""
    run = at_work(trip(failureHandling="retry"), data={"days": 1})
    accepted(run.fail("travel", "SUB_WORKFLOW_FAILED"))
    assert steps_at_work(run) == {"travel": "retrying"}
    accepted(run.cancel())
    assert sent(run) == []


def test_one_whose_step_took_too_long_is_cancelled_whatever_follows() -> None:
    """Where what follows from that fails, an operator hears of it, and the other workflow does not go on for nobody."""
    broken = {"type": "assign", "field": "n", "value": "data.missing"}
    late = {"from": "work", "to": "end", "trigger": "error.step.travel", "actions": [broken]}
    run = at_work(trip(timeoutMinutes=5), data={"days": 1}, more=[late])
    run.advance(300_000)
    assert incident(run).code == "execution_error"
    (order,) = sent(run)
    assert (order.instance, type(order.order)) == (start_of(run).instance, CancelInstance)


def test_an_attempt_that_cannot_begin_is_not_taken_for_one_that_took_too_long() -> None:
    """It is begun when an operator says so, and the data are mended."""
    broken = {"type": "assign", "field": "n", "value": "data.missing"}
    late = {"from": "work", "to": "end", "trigger": "error.step.travel", "actions": [broken]}
    again = trip(failureHandling="retry", workflowId="{data.trip}")
    run = at_work(again, data={"days": 1, "trip": "trip"}, more=[late])
    accepted(run.give(FailStep(run.run_of("travel").id, 1, "SUB_WORKFLOW_FAILED", "no"), None))
    accepted(run.update({"trip": None}))
    run.advance(60_000)
    assert incident(run).code == "execution_error"
    accepted(run.resolve("retry", patch={"trip": "trip"}))
    assert steps_at_work(run) == {"travel": "waiting"}
    assert len([order for order in run.orders if isinstance(order, StartChild)]) == 2


def test_one_that_nobody_waits_for_is_on_its_own() -> None:
    """The step is done as soon as the other has started; neither is cancelled with the other."""
    run = at_work(
        trip(waitForCompletion=False, outputMapping={"other": "output.instance"}), call("next"), data={"days": 1}
    )
    assert steps_at_work(run) == {"travel": "waiting"}
    other = child(run)
    (told,) = sent(other)
    assert isinstance(told.order, CompleteStep)
    accepted(run.give(told.order, None))
    assert data(run)["other"] == start_of(run).instance
    accepted(run.cancel())
    assert sent(run) == []
    accepted(other.complete("go"))
    assert len(sent(other)) == 1


def test_what_cannot_start_fails_the_step() -> None:
    """The runtime says so, as whoever runs a step does."""
    run = at_work(trip(), data={"days": 1})
    accepted(run.fail("travel", "NO_STARTABLE_VERSION", retryable=False))
    assert incident(run).code == "NO_STARTABLE_VERSION"


def test_which_workflow_may_follow_from_the_data() -> None:
    """*Dynamic choice*: the name is a text with CEL in braces."""
    run = at_work(trip(workflowId="trip_{data.days}", version="^2"), data={"days": 3})
    assert (start_of(run).workflow, start_of(run).version) == ("trip_3", "^2")


def test_recursion_is_bounded() -> None:
    """The twenty-first workflow inside another is not started."""
    states = {"work": {"properties": {"steps": [trip(inputMapping={})]}}, "end": END}
    run = Simulation(chart(states, [{"from": "work", "to": "end"}]), instance_id="deep")
    accepted(run.give(StartInstance("deep", "x", {}, parent=Parent("above", "step/1", depth=20)), None))
    assert incident(run).code == "RECURSION_TOO_DEEP"
    assert not [order for order in run.orders if isinstance(order, StartChild)]


def test_a_result_for_an_attempt_that_was_given_up_is_refused() -> None:
    """A child that ends after its parent has moved on tells nobody anything."""
    run = at_work(trip(), data={"days": 1}, more=[{"from": "work", "to": "work", "trigger": "again"}])
    late = child(run)
    accepted(run.fire("again", user="ada"))
    accepted(late.complete("go"))
    (told,) = sent(late)
    assert refused(run.give(told.order, None)).reason == "step_gone"
