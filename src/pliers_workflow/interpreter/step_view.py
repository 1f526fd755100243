"""What expressions see of steps: `steps`, and the elements and positions of the loops around.

Expressions that belong to a step see it from where the step stands: `steps.fetch` is what became of the step of that
id in the same state, or in the same pass of a loop. Elsewhere `steps` is what finished steps of all active states gave.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pliers_workflow.definition.expressions import ExpressionError
from pliers_workflow.definition.step_chart import ForEach

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pliers_workflow.definition.chart import Chart

    from .draft import Draft
    from .instance import Machine
    from .step_runs import Ended, StepRun


class View:
    """From where expressions look: inside a run, and what else has a name there."""

    __slots__ = ("names", "run", "state")

    def __init__(self, run: StepRun | None, state: str | None, names: Mapping[str, Any]) -> None:
        self.run = run
        self.state = state
        self.names = names


@contextmanager
def seen_from(
    draft: Draft, run: StepRun | None, state: str | None, names: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Let expressions look from inside a run (None: from its state), with these names besides."""
    before = draft.view
    draft.view = View(run, state, names or {})
    try:
        yield
    finally:
        draft.view = before


def named(draft: Draft, name: str) -> Any:
    """What a name means that is no root: an element or position of a loop, `output`, `input` … Raises `ExpressionError`."""
    view = draft.view
    if view is not None:
        if name in view.names:
            return view.names[name]
        found = variables(draft.chart, draft.instance.machine, view.run)
        if name in found:
            return found[name]
    raise ExpressionError(f"`{name}` means nothing here")


def event(draft: Draft, view: View) -> Any:
    """
    The root `event` inside a step: what began it, where an event did; else null.

    The trigger that is being worked off is none of a step's business: another attempt would see another one.
    """
    if "event" in view.names:
        return view.names["event"]
    return variables(draft.chart, draft.instance.machine, view.run).get("event")


def steps(draft: Draft) -> dict[str, Any]:
    """The root `steps`: by id, what became of the steps that can be seen."""
    machine, view = draft.instance.machine, draft.view
    if not machine.outputs:
        return {}
    if view is None:
        places = list(draft.instance.configuration)
    else:
        places = scopes(machine, view.run)[::-1]
        if view.state is not None:
            places.insert(0, view.state)
    return {id: shown(ended) for place in places for id, ended in machine.outputs.get(place, {}).items()}


def shown(ended: Ended) -> dict[str, Any]:
    """What became of a step, as expressions see it: `status`, `output`, `error`."""
    error = None
    if ended.failure is not None:
        failure = ended.failure
        error = {"code": failure.code, "message": failure.message, "details": failure.details}
    return {"status": ended.status, "output": ended.output, "error": error}


def lineage(machine: Machine, run: StepRun | None) -> Iterator[StepRun]:
    """A run and those it stands in, nearest first."""
    while run is not None:
        yield run
        run = None if run.parent is None else machine.steps[run.parent]


def scopes(machine: Machine, run: StepRun | None) -> list[str]:
    """Where outputs are kept that a run sees, nearest first: the loops' passes it stands in, or what an event began."""
    return [each.id for each in lineage(machine, run) if each.index is not None or _begun_by_event(each)]


def scope_of(machine: Machine, run: StepRun) -> str:
    """Where the output of a run is kept."""
    for each in lineage(machine, None if run.parent is None else machine.steps[run.parent]):
        if each.index is not None or _begun_by_event(each):
            return each.id
    return run.state or run.id


def _begun_by_event(run: StepRun) -> bool:
    return run.parent is None and run.state is None


def variables(chart: Chart, machine: Machine, run: StepRun | None) -> dict[str, Any]:
    """
    Elements and positions of the loops around a run, by the names their authors gave them; the nearest wins.

    Inside a compensation also `output`: that of what it undoes; in what an event began, `event`.
    """
    found: dict[str, Any] = {}
    for each in lineage(machine, run):
        if each.names:
            found.update({name: value for name, value in each.names.items() if name not in found})
        if each.index is not None and each.parent is not None:
            loop = chart.steps[machine.steps[each.parent].path].work
            assert isinstance(loop, ForEach)
            found.setdefault(loop.item, each.item)
            found.setdefault(loop.index, each.index)
        if each.undoes is not None:
            undone = machine.undo[str(each.undoes)]
            found.setdefault("output", undone.output)
            for name, value in undone.variables.items():
                found.setdefault(name, value)
    return found
