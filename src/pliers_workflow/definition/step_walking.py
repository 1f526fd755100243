"""Walk through the steps of a document, in every place where each of them stands.

A named step stands in the document once and may be used in many places, where its expressions see different things; it
is given once for each place, with the pointer of where it is written. A name that leads nowhere is left out here, and a
step that contains itself is followed once; the checks report both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from .document import (
    ApprovalTask,
    AssignStep,
    Condition,
    ConditionalExecution,
    EmitStep,
    ForEachExecution,
    HttpStep,
    NotificationStep,
    ParallelExecution,
    ReceiveStep,
    SequentialExecution,
    Step,
    SubWorkflowStep,
    WaitStep,
    WorkflowDefinition,
)
from .findings import pointer
from .templates import expressions_in
from .tree import Tree
from .walking import Placed

#: Steps inside steps, names followed.
DEPTH_MAX: Final = 50
#: Steps of one definition, each counted in every place where it stands.
STEPS_MAX: Final = 5_000


class Place(NamedTuple):
    """What surrounds a step."""

    #: id of the state; None: a named step by itself, as an event runs it
    state: str | None
    #: in that case its name
    root: str = ""
    #: the loops around it, each by a number of its own, and what they call their elements and positions
    loops: tuple[int, ...] = ()
    variables: frozenset[str] = frozenset()
    #: it stands inside a `sequential` with `rollbackOnFailure`
    rolled_back: bool = False
    #: it may be skipped, or another way taken
    conditional: bool = False


class PlacedStep(NamedTuple):
    """A step in its place."""

    #: where it is written
    pointer: str
    step: Step
    #: what it is known by; None: by its place
    id: str | None
    place: Place
    #: it undoes another step
    undoes: bool = False


class StepWalk:
    """All steps of a definition in their places, and the names that were met on the way."""

    def __init__(self, definition: WorkflowDefinition, tree: Tree) -> None:
        self._named: Mapping[str, Step] = definition.steps
        self._loops = 0
        self._visible: dict[tuple[str | None, str, tuple[int, ...]], frozenset[str]] = {}
        self.all: list[PlacedStep] = []
        #: (pointer, name) of every use of a name
        self.uses: list[tuple[str, str]] = []
        self.too_many = False
        #: pointer of a name by which steps would be nested too deeply
        self.too_deep: str | None = None
        for node in tree.nodes:
            place = Place(node.id)
            for index, given in enumerate(node.state.properties.steps):
                self._walk(f"{node.pointer}/properties/steps/{index}", given, place, ())
        used = {name for _, name in self.uses}
        #: names that no state leads to, so that only an event can run them
        self.unused = [name for name in definition.steps if name not in used]
        for name in self.unused:
            self._walk(pointer("steps", name), definition.steps[name], Place(None, name), (name,), name)

    def _walk(
        self,
        at: str,
        given: str | Step,
        place: Place,
        names: tuple[str, ...],
        id: str | None = None,
        undoes: bool = False,
        depth: int = 0,
    ) -> None:
        if depth > DEPTH_MAX:
            self.too_deep = at
            return
        if isinstance(given, str):
            self.uses.append((at, given))
            step = self._named.get(given)
            if step is None or given in names:
                return
            at, id, names = pointer("steps", given), id or given, (*names, given)
            given = step
        if len(self.all) >= STEPS_MAX:
            self.too_many = True
            return
        id = given.id or id
        self.all.append(PlacedStep(at, given, id, place, undoes))
        if given.condition is not None:
            place = place._replace(conditional=True)
        inner = place
        if isinstance(given, SequentialExecution) and given.rollback_on_failure:
            inner = place._replace(rolled_back=True)
        elif isinstance(given, ForEachExecution):
            self._loops += 1
            variables = place.variables | {given.item_name, given.index_name}
            inner = place._replace(loops=(*place.loops, self._loops), variables=variables)
        for way, below in _inside(given):
            self._walk(at + way, below, inner, names, depth=depth + 1)
        if given.compensation is not None:
            undo = f"{id}-undo" if id is not None else None
            outside = place._replace(variables=place.variables | {"output"})
            self._walk(at + "/compensation", given.compensation, outside, names, undo, undoes=True, depth=depth + 1)

    def visible(self, placed: PlacedStep) -> frozenset[str]:
        """Ids that `steps` has where a step stands: those of its state that are in no loop but those around it."""
        state, loops = placed.place.state, placed.place.loops
        key = (state, placed.place.root, loops)
        found = self._visible.get(key)
        if found is None:
            found = self._visible[key] = frozenset(
                [
                    other.id
                    for other in self.all
                    if other.id is not None
                    and (other.place.state, other.place.root) == key[:2]
                    and other.place.loops == loops[: len(other.place.loops)]
                    and not other.undoes
                ]
            )
        return found

    @property
    def seen_outside(self) -> frozenset[str]:
        """Ids that `steps` has in guards and actions: those that are in no loop."""
        return frozenset(
            other.id for other in self.all if other.id is not None and not other.place.loops and not other.undoes
        )


def _inside(step: Step) -> Iterator[tuple[str, str | Step]]:
    """The steps directly inside one, with the way there."""
    match step:
        case SequentialExecution() | ForEachExecution():
            lists = [("/steps", step.steps)]
        case ParallelExecution():
            lists = [(f"/branches/{index}/steps", branch.steps) for index, branch in enumerate(step.branches)]
        case ConditionalExecution():
            ways = (
                ("/trueBranch/steps", step.true_branch),
                ("/falseBranch/steps", step.false_branch),
                ("/defaultBranch/steps", step.default_branch),
            )
            lists = [(way, path.steps) for way, path in ways if path is not None]
        case _:
            return
    for way, steps in lists:
        for index, inner in enumerate(steps):
            yield f"{way}/{index}", inner


# -- expressions -------------------------------------------------------------------------------------------------------


def step_conditions(placed: PlacedStep) -> Iterator[tuple[str, Condition]]:
    """Give the conditions of a step, in whichever form they are written."""
    step, at = placed.step, placed.pointer
    if step.condition is not None:
        yield at + "/condition", step.condition
    if isinstance(step, ParallelExecution):
        for index, branch in enumerate(step.branches):
            if branch.condition is not None:
                yield f"{at}/branches/{index}/condition", branch.condition


def step_expressions(placed: PlacedStep) -> Iterator[tuple[Placed, frozenset[str]]]:
    """Give the other expressions of a step, each with the names it may use besides those of the place."""
    step, at = placed.step, placed.pointer
    nothing: frozenset[str] = frozenset()
    for path, source in step.output_mapping.items():
        yield Placed(at + pointer("outputMapping", path), source), frozenset({"output"})
    for name, source in getattr(step, "input_mapping", {}).items():
        yield Placed(at + pointer("inputMapping", name), source), nothing
    with_input = frozenset({"input"}) if hasattr(step, "input_mapping") else nothing
    for found in _own(step, at):
        done = isinstance(step, ParallelExecution)
        yield found, frozenset({"branches", "counts"}) if done else with_input


def _own(step: Step, at: str) -> Iterator[Placed]:
    match step:
        case AssignStep():
            for path, source in step.assignments.items():
                yield Placed(at + pointer("assignments", path), source)
        case WaitStep():
            if isinstance(step.duration_minutes, str):
                yield Placed(at + "/durationMinutes", step.duration_minutes, "any")
            if step.until is not None:
                yield Placed(at + "/until", step.until, "timestamp")
        case EmitStep():
            if step.subject is not None:
                yield Placed(at + "/subject", step.subject, "string")
            yield from _payload(at + "/data", step.data)
        case ReceiveStep():
            yield Placed(at + "/correlationKey", step.correlation_key, "any")
        case HttpStep():
            yield from _template(at + "/url", step.url)
            for name, text in step.headers.items():
                yield from _template(at + pointer("headers", name), text)
            yield from _payload(at + "/body", step.body)
        case NotificationStep():
            yield from _template(at + "/template", step.template)
            for index, text in enumerate(step.recipients):
                yield from _template(f"{at}/recipients/{index}", text)
            for name, source in step.variables.items():
                yield Placed(at + pointer("variables", name), source)
        case SubWorkflowStep():
            yield from _template(at + "/workflowId", step.workflow_id)
        case ParallelExecution(completion_condition=str() as source):
            yield Placed(at + "/completionCondition", source, "bool")
        case ForEachExecution():
            yield Placed(at + "/items", step.items, "list")
        case _:
            return


def fields_written(placed: PlacedStep) -> Iterator[tuple[str, str]]:
    """Give the paths of the data that a step writes: pointer, path."""
    for path in placed.step.output_mapping:
        yield placed.pointer + pointer("outputMapping", path), path
    if isinstance(placed.step, AssignStep):
        for path in placed.step.assignments:
            yield placed.pointer + pointer("assignments", path), path


def templates(step: Step, at: str) -> Iterator[tuple[str, str]]:
    """Give the texts of a step that hold expressions in braces."""
    match step:
        case HttpStep():
            yield at + "/url", step.url
            yield from ((at + pointer("headers", name), text) for name, text in step.headers.items())
        case NotificationStep():
            yield at + "/template", step.template
            yield from ((f"{at}/recipients/{index}", text) for index, text in enumerate(step.recipients))
        case SubWorkflowStep():
            yield at + "/workflowId", step.workflow_id


def _template(at: str, template: str) -> Iterator[Placed]:
    try:
        sources = list(expressions_in(template))
    except ValueError:
        return  # a finding of its own
    yield from (Placed(at, source) for source in sources)


def _payload(at: str, data: Mapping[str, str] | str | None) -> Iterator[Placed]:
    if isinstance(data, str):
        yield Placed(at, data)
    elif data is not None:
        for key, source in data.items():
            yield Placed(at + pointer(key), source)


def chains_asked(walk: StepWalk) -> Iterator[tuple[str, str]]:
    """Give the approval chains that steps ask: pointer of the key, id."""
    for placed in walk.all:
        if isinstance(placed.step, ApprovalTask):
            yield placed.pointer + "/chainId", placed.step.chain_id
