"""A business trip: what its definition does, and the rule by which its reminders are counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from pliers_workflow import examples
from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.reading import read
from pliers_workflow.interpreter.commands import CompleteStep
from pliers_workflow.interpreter.effects import StartChild
from pliers_workflow.interpreter.outcome import Outcome
from pliers_workflow.interpreter.simulation import SimulatedDirectory, Simulation
from pliers_workflow.replay.trip import trip_definition
from pliers_workflow.replay.whole import Moment, Trip

EXAMPLE = examples.load("business_trip")
DAY = 86_400_000
START = datetime(2017, 1, 9, tzinfo=UTC)


def simulation() -> Simulation:
    chart = compile_definition(read(EXAMPLE).definition)  # type: ignore[arg-type]  # valid, see below
    roles = ("employee", "supervisor", "administration", "pre_approver", "budget_owner", "director")
    running = Simulation(chart, directory=SimulatedDirectory(roles={role: [role] for role in roles}), start=START)
    running.start({"case": "1", "amount": 14}, "employee")
    return running


def trip(ended: float, declared: float | None) -> Trip:
    """A trip that ended, and of which something was declared, so many days after the beginning."""
    moments = [Moment(START + timedelta(days=ended), "End trip", "End trip", "", None)]
    if declared is not None:
        at = START + timedelta(days=declared)
        moments.append(Moment(at, "Declaration SAVED by EMPLOYEE", "SAVED", "EMPLOYEE", "Declaration"))
    return Trip("1", {}, tuple(moments))


def test_the_example_is_made_from_its_own_table() -> None:
    """The shipped document is what `trip_definition` makes of the table in its metadata, and has no findings."""
    table, start = EXAMPLE["metadata"]["table"], EXAMPLE["metadata"]["start"]
    assert json.loads(json.dumps(trip_definition(table, start))) == EXAMPLE
    assert read(EXAMPLE).findings == ()


def test_who_declares_nothing_is_reminded_every_thirty_days_until_they_do() -> None:
    """The clock begins when the trip ends, begins anew with each reminder, and stops with the first declaration."""
    running = simulation()
    running.fire("start_trip", user="employee")
    running.advance(2 * DAY)
    running.fire("end_trip", user="employee")
    running.advance(61 * DAY)
    assert running.instance is not None
    assert running.instance.data["reminders"] == 2
    running.fire("declare", user="employee")
    running.advance(400 * DAY)
    assert running.instance.data["reminders"] == 2


def test_who_declares_before_the_trip_has_ended_is_never_reminded() -> None:
    """The trip remembers that something was declared."""
    running = simulation()
    running.fire("declare", user="employee")
    running.fire("start_trip", user="employee")
    running.fire("end_trip", user="employee")
    running.advance(100 * DAY)
    assert running.instance is not None
    assert "reminders" not in running.instance.data
    assert "over" in running.configuration


def test_the_declaration_is_another_instance_whose_end_the_trip_hears_of() -> None:
    """Declaring starts the sub-workflow with case and amount; its last state becomes the trip's outcome."""
    running = simulation()
    outcome = running.fire("declare", user="employee")
    assert isinstance(outcome, Outcome)
    (started,) = [effect for effect in outcome.effects if isinstance(effect, StartChild)]
    assert (started.workflow, started.data) == ("travel_declaration", {"case": "1", "amount": 14})
    output = {"instance": started.instance, "status": "completed", "state": "paid", "data": {}}
    running.give(CompleteStep(started.parent.step, started.parent.attempt, output), None)
    assert running.instance is not None
    assert running.instance.data["outcome"] == "paid"
    assert "settled" in running.configuration


def test_reminders_by_the_rule() -> None:
    """One for every thirty days between the trip's end and the declaration; a declaration at that very instant is too late."""
    until = START + timedelta(days=400)
    assert len(trip(10, 39.9).reminders(until)) == 0
    assert len(trip(10, 40).reminders(until)) == 1
    assert len(trip(10, 100.5).reminders(until)) == 3
    assert trip(10, 5).reminders(until) == []
    assert len(trip(10, None).reminders(until)) == 13
