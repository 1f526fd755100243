"""Triggers, lost or kept; and how a workflow ends."""

from __future__ import annotations

from tests.interpreter.building import accepted, refused, started
from tests.interpreter.steps.working import END, at_work, call, status

STATES = {"shut": {}, "open": {}, "end": END}
GATE = [{"from": "shut", "to": "open", "trigger": "unlock"}, {"from": "open", "to": "end", "trigger": "enter"}]


def test_transient_trigger() -> None:
    """WCP-23 Transient trigger: a signal that nobody waits for is lost; here it is refused, and its sender knows."""
    run = started(STATES, GATE)
    assert refused(run.fire("enter", user="ada")).reason == "unknown_trigger"
    accepted(run.fire("unlock", user="ada"))
    assert run.configuration == ["open"]


def test_persistent_trigger() -> None:
    """
    WCP-24 Persistent trigger: a signal that nobody waits for yet is kept. Inside an instance the data keep it; between
    systems the intake of events does, until its time to live is over (`tests/inbound`).
    """
    kept = {"type": "assign", "field": "entering", "value": "true"}
    transitions = [
        {"from": "shut", "trigger": "enter", "actions": [kept]},
        *GATE,
        {"from": "open", "to": "end", "condition": "has(data.entering)"},
    ]
    run = started(STATES, transitions)
    accepted(run.fire("enter", user="ada"))
    assert run.configuration == ["shut"]
    accepted(run.fire("unlock", user="ada"))
    assert run.configuration == ["end"]


def test_implicit_termination() -> None:
    """WCP-11 Implicit termination: the workflow ends by itself when no work is left, and nobody has to say so."""
    step = {
        "type": "parallel",
        "branches": [{"id": "a", "steps": [call("ask")]}, {"id": "b", "steps": [call("look"), call("note")]}],
    }
    run = at_work(step)
    accepted(run.complete("look"))
    accepted(run.complete("ask"))
    assert status(run) == "running"
    accepted(run.complete("note"))
    assert status(run) == "completed"


def test_explicit_termination() -> None:
    """WCP-43 Explicit termination: reaching a certain state ends the workflow, and all that is still at work is given up."""
    states = {
        "search": {
            "type": "parallel",
            "substates": [
                {"id": "north", "properties": {"initial": "n"}, "substates": [{"id": "n", "properties": {"steps": [call("comb")]}}]},
                {"id": "south", "properties": {"initial": "s"}, "substates": [{"id": "s", "properties": {"steps": [call("dive")]}}]},
            ],
        },
        "found": END,
    }  # fmt: skip
    run = started(states, [{"from": "search", "to": "found", "trigger": "found"}])
    assert len(run.jobs) == 2
    accepted(run.fire("found", user="ada"))
    assert (status(run), run.jobs) == ("completed", {})
