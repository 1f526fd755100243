"""Build small charts for tests, through the ordinary document, and look at what they did."""

from __future__ import annotations

from typing import Any

from pliers_workflow.definition.chart import Chart
from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.reading import read
from pliers_workflow.interpreter.events import StateEntered, StateExited
from pliers_workflow.interpreter.outcome import Outcome
from pliers_workflow.interpreter.rejections import Rejection
from pliers_workflow.interpreter.simulation import Simulation


def chart(states: dict[str, Any], transitions: list[dict[str, Any]], initial: Any = None, **rest: Any) -> Chart:
    """Compile a chart of these states and transitions; what else the document holds goes by its own keys."""
    machine = {"states": states, "transitions": transitions, "initialState": initial or next(iter(states))}
    machine |= {key: rest.pop(key) for key in ("guards", "actions") if key in rest}
    document = {"name": "example", "version": "1.0.0", "title": "Example", "stateMachine": machine, **rest}
    document.setdefault("access", {"advance": ["anyone"]})
    reading = read(document)
    assert reading.definition is not None, [f"{each.pointer}: {each.message}" for each in reading.findings]
    return compile_definition(reading.definition)


def simulate(states: dict[str, Any], transitions: list[dict[str, Any]], initial: Any = None, **rest: Any) -> Simulation:
    """A simulation of such a chart, not started yet."""
    return Simulation(chart(states, transitions, initial, **rest))


def started(
    states: dict[str, Any],
    transitions: list[dict[str, Any]],
    initial: Any = None,
    data: dict[str, Any] | None = None,
    **rest: Any,
) -> Simulation:
    """The same, started by `ada`."""
    simulation = simulate(states, transitions, initial, **rest)
    accepted(simulation.start(data, "ada"))
    return simulation


def accepted(answer: Outcome | Rejection) -> Outcome:
    """The outcome, which there must be."""
    assert isinstance(answer, Outcome), answer
    return answer


def refused(answer: Outcome | Rejection) -> Rejection:
    """The rejection, which there must be."""
    assert isinstance(answer, Rejection), [type(each).__name__ for each in answer.events]
    return answer


def moves(answer: Outcome | Rejection) -> str:
    """Exits and entries in their order: `-draft +review`."""
    return " ".join(
        ("+" if isinstance(each, StateEntered) else "-") + each.state
        for each in accepted(answer).events
        if isinstance(each, StateEntered | StateExited)
    )


def kinds(answer: Outcome | Rejection) -> list[str]:
    """The types of the events, in order."""
    return [type(each).__name__ for each in accepted(answer).events]
