"""What changed between the steps of two versions.

A step that an instance may stand in, or a transition may name, must not disappear: its removal is *major*, as is another
type under the same id. Everything else that changes what is done is *minor*; names and descriptions are *patch*.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from .document import ExecutionBranch, ParallelExecution, Step, WorkflowDefinition
from .findings import pointer
from .step_walking import PlacedStep, StepWalk
from .tree import Tree

#: (pointer, change, message), as in `diff.DiffEntry`
Entry: TypeAlias = tuple[str, Any, str]

_TEXTS: Final = frozenset({"name", "description"})
#: What holds other steps, which are compared by themselves.
_HOLDING: Final = frozenset(
    {"id", "type", "steps", "branches", "true_branch", "false_branch", "default_branch", "compensation"}
)


def compare_steps(old: WorkflowDefinition, new: WorkflowDefinition, trees: tuple[Tree, Tree]) -> Iterator[Entry]:
    """Compare all steps of two versions, each where it stands; those of states that are gone are gone with them."""
    found: dict[Entry, None] = {}
    before, after = (_places(definition, tree) for definition, tree in zip((old, new), trees, strict=True))
    for place, steps in after.items():
        # the steps of a new state are new with it, and a named step that no state used before may be used by one now
        if place in before:
            found.update(dict.fromkeys(_place(place, before[place], steps)))
    for name in old.steps.keys() - new.steps.keys():
        found[pointer("steps", name), "major", f"The step `{name}` was removed or renamed."] = None
    for name in new.steps.keys() - old.steps.keys():
        found[pointer("steps", name), "minor", f"The step `{name}` is new."] = None
    yield from found


def _places(definition: WorkflowDefinition, tree: Tree) -> dict[str, list[PlacedStep]]:
    """Steps by what they stand in: a state's id, or a slash and the name of what only an event runs."""
    found: dict[str, list[PlacedStep]] = {node.id: [] for node in tree.nodes}
    for placed in StepWalk(definition, tree).all:
        found.setdefault(placed.place.state or "/" + placed.place.root, []).append(placed)
    return found


def _place(place: str, old: list[PlacedStep], new: list[PlacedStep]) -> Iterator[Entry]:
    before = {placed.id: placed for placed in old if placed.id is not None}
    after = {placed.id: placed for placed in new if placed.id is not None}
    for id, placed in before.items():
        if id not in after:
            yield placed.pointer, "major", f"The step `{id}` of `{place}` was removed or renamed."
    for id, placed in after.items():
        if id not in before:
            yield placed.pointer, "minor", f"The step `{id}` of `{place}` is new."
        else:
            yield from _step(id, before[id].step, placed)
    if [id for id in before if id in after] != [id for id in after if id in before]:
        first = next(placed for id, placed in after.items() if id in before)
        yield first.pointer, "minor", f"The steps of `{place}` stand in another order."
    anonymous = [Counter(_dump(placed.step) for placed in each if placed.id is None) for each in (old, new)]
    if anonymous[0] != anonymous[1]:
        at = next((placed.pointer for placed in (*new, *old) if placed.id is None), "")
        yield at, "minor", f"Steps without id of `{place}` changed."


def _step(id: str, old: Step, placed: PlacedStep) -> Iterator[Entry]:
    new, at = placed.step, placed.pointer
    if old.type != new.type:
        yield at + "/type", "major", f"The step `{id}` is of another type: `{old.type}` became `{new.type}`."
        return
    for key, field in type(new).model_fields.items():
        if key not in _HOLDING and getattr(old, key) != getattr(new, key):
            shown = field.alias or key
            yield f"{at}/{shown}", "patch" if key in _TEXTS else "minor", f"`{shown}` of the step `{id}` changed."
    if (old.compensation is None) != (new.compensation is None):
        yield at + "/compensation", "minor", f"`compensation` of the step `{id}` changed."
    if isinstance(old, ParallelExecution) and isinstance(new, ParallelExecution):
        yield from _branches(id, old, new, at)


def _branches(id: str, old: ParallelExecution, new: ParallelExecution, at: str) -> Iterator[Entry]:
    before = {branch.id: branch for branch in old.branches}
    for branch in old.branches:
        if branch.id not in {each.id for each in new.branches}:
            yield at + "/branches", "major", f"The branch `{branch.id}` of the step `{id}` was removed or renamed."
    for index, branch in enumerate(new.branches):
        if branch.id not in before:
            yield f"{at}/branches/{index}", "minor", f"The branch `{branch.id}` of the step `{id}` is new."
        elif _own(branch) != _own(before[branch.id]):
            yield f"{at}/branches/{index}", "minor", f"The branch `{branch.id}` of the step `{id}` changed."


def _own(branch: ExecutionBranch) -> object:
    return branch.weight, branch.condition, branch.timeout_minutes


def _dump(step: Step) -> str:
    return step.model_dump_json(exclude={"name", "description"})
