"""What changed between two versions of a definition, and how much that matters to those who rely on it.

By the specification's change types: *major* breaks what runs or calls (states and transitions gone or leading elsewhere,
stages removed, data refused that was accepted); *minor* adds or improves (new states, transitions, stages, other
conditions, actions, approvers, timeouts); *patch* changes only what people read (titles, texts, layout, metadata).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from .document import ApprovalChain, ApprovalStep, Document, WorkflowDefinition
from .findings import pointer
from .listening import type_matches
from .schema_diff import compare_schemas
from .step_diff import compare_steps
from .tree import Edge, Node, Tree, targets_of

Change: TypeAlias = Literal["major", "minor", "patch"]

_RANK: Final = {"none": 0, "patch": 1, "minor": 2, "major": 3}


class DiffEntry(Struct, frozen=True):
    """One difference."""

    #: in the new document; of what is gone: in the old one
    pointer: str
    change: Change
    message: str


class Diff(Struct, frozen=True):
    """All differences; `change` is the greatest of them."""

    change: Literal["major", "minor", "patch", "none"]
    entries: tuple[DiffEntry, ...]


def compare(old: WorkflowDefinition, new: WorkflowDefinition) -> Diff:
    """Compare two definitions. The version number itself and `$schema` are no difference."""
    entries: list[DiffEntry] = []

    def note(at: str, change: Change, message: str) -> None:
        entries.append(DiffEntry(at, change, message))

    _texts(old, new, note)
    trees = Tree(old.state_machine), Tree(new.state_machine)
    _states(*trees, note)
    _transitions(*trees, note)
    _chains(old, new, note)
    for at, change, message in compare_steps(old, new, trees):
        note(at, change, message)
    _hooks(old, new, note)
    _logic(old, new, note)
    for at, change, message in compare_schemas(old.data_schema, new.data_schema):
        note("/dataSchema" + at, change, message)
    changes: list[Literal["major", "minor", "patch", "none"]] = ["none", *(entry.change for entry in entries)]
    greatest = max(changes, key=_RANK.__getitem__)
    return Diff(greatest, tuple(entries))


_Note: TypeAlias = "Callable[[str, Change, str], None]"


def _texts(old: WorkflowDefinition, new: WorkflowDefinition, note: _Note) -> None:
    if old.name != new.name:
        note("/name", "major", f"The name `{old.name}` became `{new.name}`.")
    for key in ("title", "description", "metadata", "display", "layout"):
        if getattr(old, key) != getattr(new, key):
            note(f"/{key}", "patch", f"`{key}` changed.")


# -- states ------------------------------------------------------------------------------------------------------------


def _states(old: Tree, new: Tree, note: _Note) -> None:
    for id, node in old.by_id.items():
        if id not in new.by_id:
            note(node.pointer, "major", f"The state `{id}` was removed or renamed.")
    for id, node in new.by_id.items():
        before = old.by_id.get(id)
        if before is None:
            note(node.pointer, "minor", f"The state `{id}` is new.")
        else:
            _state(before, node, (old, new), note)
    if set(targets_of(old.machine.initial_state)) != set(targets_of(new.machine.initial_state)):
        note("/stateMachine/initialState", "minor", "The machine begins elsewhere.")
    elif old.machine.initial_state != new.machine.initial_state:
        note("/stateMachine/initialState", "minor", "The actions at the start changed.")


def _state(old: Node, new: Node, trees: tuple[Tree, Tree], note: _Note) -> None:
    at, id = new.pointer, new.id
    if (old.parent.id if old.parent else None) != (new.parent.id if new.parent else None):
        note(at, "major", f"The state `{id}` moved into another state.")
    if old.kind != new.kind or (old.state.type == "choice") != (new.state.type == "choice"):
        note(at + "/type", "major", f"The state `{id}` is of another kind: {old.kind} became {new.kind}.")
    elif old.state.type != new.state.type:
        note(at + "/type", "patch", f"The type of `{id}` changed without effect on its kind.")
    if old.state.name != new.state.name:
        note(at + "/name", "patch", f"The state `{id}` is called something else.")
    before, after = old.state.properties, new.state.properties
    if before.description != after.description:
        note(at + "/properties/description", "patch", f"The description of `{id}` changed.")
    if before.approval_chain != after.approval_chain:
        change: Change = "minor" if before.approval_chain is None else "major"
        note(at + "/properties/approvalChain", change, f"The state `{id}` starts another approval chain.")
    for key in ("initial", "history", "done_data", "editable_by"):
        if getattr(before, key) != getattr(after, key):
            note(f"{at}/properties/{_key(after, key)}", "minor", f"`{_key(after, key)}` of `{id}` changed.")
    for key in ("entry_actions", "exit_actions", "timeouts"):
        if getattr(old.state, key) != getattr(new.state, key):
            note(f"{at}/{_key(new.state, key)}", "minor", f"`{_key(new.state, key)}` of `{id}` changed.")
    before_default = [node.id for node in trees[0].default(old)]
    after_default = [node.id for node in trees[1].default(new)]
    if before.initial == after.initial and new.kind == "compound" and before_default != after_default:
        note(at + "/substates", "minor", f"`{id}` begins elsewhere by default.")
    elif [child.id for child in old.children if child.id in trees[1].by_id] != [
        child.id for child in new.children if child.id in trees[0].by_id
    ]:
        note(at + "/substates", "patch", f"The substates of `{id}` stand in another order.")


# -- transitions -------------------------------------------------------------------------------------------------------


def _transitions(old: Tree, new: Tree, note: _Note) -> None:
    before, after = _keyed(old.edges), _keyed(new.edges)
    for key, edge in before.items():
        if key not in after:
            note(edge.pointer, "major", f"{_called(edge)} was removed or renamed.")
    for key, edge in after.items():
        previous = before.get(key)
        if previous is None:
            note(edge.pointer, "minor", f"{_called(edge)} is new.")
        else:
            _transition(previous, edge, note)
    shared = [key for key in before if key in after]
    if shared != [key for key in after if key in before] and _asked_differently(old, new):
        note("/stateMachine/transitions", "minor", "Transitions of a state are asked in another order.")


def _keyed(edges: Iterable[Edge]) -> dict[tuple[object, ...], Edge]:
    """Transitions by id; without one, by what they connect, and by their number among their like."""
    found: dict[tuple[object, ...], Edge] = {}
    for edge in edges:
        if edge.transition.id is not None:
            found["id", edge.transition.id] = edge
            continue
        number = 0
        key = (edge.transition.from_, edge.triggers, targets_of(edge.transition.to))
        while (*key, number) in found:
            number += 1
        found[(*key, number)] = edge
    return found


def _called(edge: Edge) -> str:
    if edge.transition.id is not None:
        return f"The transition `{edge.transition.id}`"
    on = f" on `{edge.transition.trigger}`" if edge.transition.trigger else ""
    to = ", ".join(f"`{id}`" for id in targets_of(edge.transition.to)) or "nowhere"
    return f"The transition from `{edge.transition.from_}` to {to}{on}"


def _transition(old: Edge, new: Edge, note: _Note) -> None:
    before, after = old.transition, new.transition
    if before.from_ != after.from_:
        note(new.pointer + "/from", "major", f"{_called(new)} starts elsewhere.")
    if targets_of(before.to) != targets_of(after.to):
        note(new.pointer + "/to", "major", f"{_called(new)} leads elsewhere.")
    if set(old.triggers) != set(new.triggers):
        # what was waited for before must still work; more may be added
        gone = (set(old.triggers) - set(new.triggers)) or (old.eventless != new.eventless)
        note(new.pointer + "/trigger", "major" if gone else "minor", f"{_called(new)} waits for another trigger.")
    for key in ("condition", "guards", "actions", "priority", "type", "access"):
        if getattr(before, key) != getattr(after, key):
            note(f"{new.pointer}/{key}", "minor", f"`{key}` of {_called(new)[0].lower()}{_called(new)[1:]} changed.")


def _asked_differently(old: Tree, new: Tree) -> bool:
    for id, node in new.by_id.items():
        before = old.by_id.get(id)
        if before is None:
            continue
        one, other = list(_keyed(before.transitions)), list(_keyed(node.transitions))
        if [key for key in one if key in other] != [key for key in other if key in one]:
            return True
    return False


# -- approval chains ---------------------------------------------------------------------------------------------------


def _chains(old: WorkflowDefinition, new: WorkflowDefinition, note: _Note) -> None:
    before = {chain.id: (index, chain) for index, chain in enumerate(old.approval_chains)}
    after = {chain.id: (index, chain) for index, chain in enumerate(new.approval_chains)}
    for id, (index, _) in before.items():
        if id not in after:
            note(f"/approvalChains/{index}", "major", f"The approval chain `{id}` was removed or renamed.")
    for id, (index, chain) in after.items():
        at = f"/approvalChains/{index}"
        if id not in before:
            note(at, "minor", f"The approval chain `{id}` is new.")
            continue
        _chain(before[id][1], chain, at, note)


def _chain(old: ApprovalChain, new: ApprovalChain, at: str, note: _Note) -> None:
    if (old.name, old.description) != (new.name, new.description):
        note(at, "patch", f"Texts of the approval chain `{new.id}` changed.")
    if old.configuration != new.configuration:
        note(at + "/configuration", "minor", f"The configuration of `{new.id}` changed.")
    before, after = {stage.id: stage for stage in old.steps}, {stage.id: stage for stage in new.steps}
    for id in before:
        if id not in after:
            note(at + "/steps", "major", f"The stage `{id}` of `{new.id}` was removed or renamed.")
    for index, stage in enumerate(new.steps):
        if stage.id not in before:
            note(f"{at}/steps/{index}", "minor", f"The stage `{stage.id}` of `{new.id}` is new.")
        else:
            _stage(before[stage.id], stage, f"{at}/steps/{index}", note)
    if [id for id in before if id in after] != [id for id in after if id in before]:
        note(at + "/steps", "minor", f"The stages of `{new.id}` are asked in another order.")


def _stage(old: ApprovalStep, new: ApprovalStep, at: str, note: _Note) -> None:
    for key in type(new).model_fields:
        if getattr(old, key) != getattr(new, key):
            change: Change = "patch" if key == "name" else "minor"
            note(f"{at}/{_key(new, key)}", change, f"`{_key(new, key)}` of the stage `{new.id}` changed.")


# -- event hooks -------------------------------------------------------------------------------------------------------


def _hooks(old: WorkflowDefinition, new: WorkflowDefinition, note: _Note) -> None:
    """Who sends events relies on what they did before; who is found by a key, on the key."""
    before, after = old.event_hooks, new.event_hooks
    for key, what in (("triggers", "event trigger"), ("handlers", "event handler")):
        gone = {one.id: (index, one) for index, one in enumerate(getattr(before, key))}
        for index, one in enumerate(getattr(after, key)):
            at = f"/eventHooks/{key}/{index}"
            if one.id not in gone:
                note(at, "minor", f"The {what} `{one.id}` is new.")
                continue
            _, was = gone.pop(one.id)
            if one.event_type != was.event_type:
                change: Change = "minor" if type_matches(one.event_type, was.event_type) else "major"
                note(f"{at}/eventType", change, f"The {what} `{one.id}` waits for other events.")
            for field in type(one).model_fields:
                if field != "event_type" and getattr(one, field) != getattr(was, field):
                    note(f"{at}/{_key(one, field)}", "minor", f"`{_key(one, field)}` of the {what} `{one.id}` changed.")
        for id, (index, _) in gone.items():
            note(f"/eventHooks/{key}/{index}", "major", f"The {what} `{id}` was removed or renamed.")
    keys = {key.name: key.key for key in after.correlation}
    for index, one in enumerate(before.correlation):
        if one.name not in keys:
            note(
                f"/eventHooks/correlation/{index}", "major", f"The correlation key `{one.name}` was removed or renamed."
            )
        elif keys[one.name] != one.key:
            note(f"/eventHooks/correlation/{index}", "minor", f"The correlation key `{one.name}` changed.")
    known = {key.name for key in before.correlation}
    for index, one in enumerate(after.correlation):
        if one.name not in known:
            note(f"/eventHooks/correlation/{index}", "minor", f"The correlation key `{one.name}` is new.")
    if before.filters != after.filters:
        note("/eventHooks/filters", "minor", "The filters before all triggers changed.")


# -- the rest ----------------------------------------------------------------------------------------------------------


def _logic(old: WorkflowDefinition, new: WorkflowDefinition, note: _Note) -> None:
    machines = old.state_machine, new.state_machine
    for place, before, after in (
        (("stateMachine", "guards"), machines[0].guards, machines[1].guards),
        (("stateMachine", "actions"), machines[0].actions, machines[1].actions),
        (("conditions",), old.conditions, new.conditions),
    ):
        _map(place, before, after, note)
    for key in ("timeout_config", "access"):
        if getattr(old, key) != getattr(new, key):
            note(f"/{_key(new, key)}", "minor", f"`{_key(new, key)}` changed.")


def _map(place: tuple[str, ...], old: Mapping[str, Any], new: Mapping[str, Any], note: _Note) -> None:
    for name in old.keys() | new.keys():
        if old.get(name) != new.get(name):
            what = "is new" if name not in old else "was removed" if name not in new else "changed"
            note(pointer(*place, name), "minor", f"`{name}` in `{place[-1]}` {what}.")


def _key(part: Document, field: str) -> str:
    return type(part).model_fields[field].alias or field
