"""Iteration: cycles, loops, and workflows that start themselves."""

from __future__ import annotations

from pliers_workflow.interpreter.commands import CompleteStep, Parent, StartInstance
from pliers_workflow.interpreter.effects import StartChild
from pliers_workflow.interpreter.outcome import Outcome
from pliers_workflow.interpreter.simulation import Simulation
from tests.interpreter.building import accepted, chart, started
from tests.interpreter.steps.working import END, data, incident, status


def test_arbitrary_cycles() -> None:
    """WCP-10 Arbitrary cycles: a cycle may be entered and left at more than one point."""
    states = {"draft": {}, "check": {}, "amend": {}, "end": END}
    transitions = [
        {"from": "draft", "to": "check", "trigger": "hand_in"},
        {"from": "draft", "to": "amend", "trigger": "note"},
        {"from": "check", "to": "amend", "trigger": "mark"},
        {"from": "amend", "to": "check", "trigger": "hand_in"},
        {"from": "check", "to": "end", "trigger": "accept"},
        {"from": "amend", "to": "end", "trigger": "drop"},
    ]
    run = started(states, transitions)
    for trigger in ("note", "hand_in", "mark", "hand_in", "mark", "drop"):
        accepted(run.fire(trigger, user="ada"))
    assert run.configuration == ["end"]


def test_structured_loop() -> None:
    """WCP-21 Structured loop: something is repeated until a condition holds, which is asked before or after."""
    states = {
        "try": {
            "entryActions": [{"type": "assign", "field": "tries", "value": "has(data.tries) ? data.tries + 1 : 1"}]
        },
        "end": END,
    }
    transitions = [
        {"from": "try", "to": "end", "condition": "data.tries >= 5", "priority": 1},
        {"from": "try", "to": "try", "condition": "data.tries < 5"},
    ]
    run = started(states, transitions)
    assert (data(run)["tries"], status(run)) == (5, "completed")


RECURSIVE = {
    "states": {
        "count": {
            "properties": {
                "steps": [
                    {
                        "type": "conditional",
                        "condition": "data.n > 0",
                        "trueBranch": {
                            "steps": [
                                {
                                    "type": "sub_workflow",
                                    "id": "smaller",
                                    "workflowId": "example",
                                    "inputMapping": {"n": "data.n - 1"},
                                    "outputMapping": {"depth": "output.data.depth + 1"},
                                }
                            ]
                        },
                        "falseBranch": {"steps": [{"type": "assign", "assignments": {"depth": "0"}}]},
                    }
                ]
            }
        },
        "end": END,
    },
    "transitions": [{"from": "count", "to": "end"}],
}


def test_recursion() -> None:
    """WCP-22 Recursion: a workflow starts itself, and what the inner one came to becomes part of the outer one."""
    compiled = chart(RECURSIVE["states"], RECURSIVE["transitions"])  # type: ignore[arg-type]  # two shapes in one dict

    def answer(n: int, parent: Parent | None) -> dict[str, object]:
        run = Simulation(compiled)
        order = StartInstance("simulated", "example", {"n": n}, parent=parent)
        accepted(run.give(order, None))
        for child in [each for each in run.orders if isinstance(each, StartChild)]:
            inner = answer(child.data["n"], child.parent)
            accepted(run.give(CompleteStep(child.parent.step, child.parent.attempt, inner), None))
        return {"status": status(run), "data": data(run)}

    assert answer(4, None) == {"status": "completed", "data": {"n": 4, "depth": 4}}


def test_recursion_is_bounded() -> None:
    """WCP-22 without end: the twenty-first workflow inside another is an incident, and not a fire that spreads."""
    compiled = chart(RECURSIVE["states"], RECURSIVE["transitions"])  # type: ignore[arg-type]  # two shapes in one dict
    run = Simulation(compiled)
    order = StartInstance("simulated", "example", {"n": 99}, parent=Parent("outer", "step/1", depth=20))
    outcome = run.give(order, None)
    assert isinstance(outcome, Outcome)
    assert incident(run).code == "RECURSION_TOO_DEEP"
    assert not any(isinstance(order, StartChild) for order in run.orders)
