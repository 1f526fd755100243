"""Walk through a document: every action, condition and expression in it, with its JSON Pointer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias

from .document import (
    Action,
    ApproverDefinition,
    AssignAction,
    Condition,
    ForeachAction,
    IfAction,
    Initial,
    LogAction,
    RaiseAction,
    SendAction,
    WorkflowDefinition,
)
from .findings import pointer
from .tree import Tree

Expected: TypeAlias = Literal["any", "bool", "number", "string", "list", "timestamp"]


class Placed(NamedTuple):
    """An expression and where it stands."""

    pointer: str
    source: str
    expected: Expected = "any"


def action_lists(definition: WorkflowDefinition, tree: Tree) -> Iterator[tuple[str, tuple[str | Action, ...]]]:
    """Give every list of actions, those inside other actions not included."""
    machine = definition.state_machine
    for node in tree.nodes:
        yield node.pointer + "/entryActions", node.state.entry_actions
        yield node.pointer + "/exitActions", node.state.exit_actions
        if isinstance(node.state.properties.initial, Initial):
            yield node.pointer + "/properties/initial/actions", node.state.properties.initial.actions
    for index, transition in enumerate(machine.transitions):
        yield f"/stateMachine/transitions/{index}/actions", transition.actions
    if isinstance(machine.initial_state, Initial):
        yield "/stateMachine/initialState/actions", machine.initial_state.actions
    for index, handler in enumerate(definition.event_hooks.handlers):
        yield f"/eventHooks/handlers/{index}/actions", handler.actions


def named_actions(definition: WorkflowDefinition) -> Iterator[tuple[str, str, tuple[Action, ...]]]:
    """Give the named actions: name, pointer, actions."""
    for name, given in definition.state_machine.actions.items():
        yield name, pointer("stateMachine", "actions", name), given if isinstance(given, tuple) else (given,)


def actions(definition: WorkflowDefinition, tree: Tree) -> Iterator[tuple[str, str | Action]]:
    """Give every action and every name of one, those inside other actions included, each once."""
    for at, listed in action_lists(definition, tree):
        for index, action in enumerate(listed):
            yield from inside(f"{at}/{index}", action)
    for name, at, listed in named_actions(definition):
        single = not isinstance(definition.state_machine.actions[name], tuple)
        for index, action in enumerate(listed):
            yield from inside(at if single else f"{at}/{index}", action)


def inside(at: str, action: str | Action) -> Iterator[tuple[str, str | Action]]:
    """Give an action and all that it contains."""
    yield at, action
    if isinstance(action, ForeachAction):
        for index, inner in enumerate(action.actions):
            yield from inside(f"{at}/actions/{index}", inner)
    elif isinstance(action, IfAction):
        for position, branch in enumerate(action.branches):
            for index, inner in enumerate(branch.actions):
                yield from inside(f"{at}/branches/{position}/actions/{index}", inner)


def conditions(definition: WorkflowDefinition, tree: Tree) -> Iterator[tuple[str, Condition]]:
    """Give every condition in whichever form it is written."""
    machine = definition.state_machine
    for index, transition in enumerate(machine.transitions):
        if transition.condition is not None:
            yield f"/stateMachine/transitions/{index}/condition", transition.condition
    for name, guard in machine.guards.items():
        yield pointer("stateMachine", "guards", name, "condition"), guard.condition
    for name, condition in definition.conditions.items():
        yield pointer("conditions", name), condition
    for chain_index, chain in enumerate(definition.approval_chains):
        for index, stage in enumerate(chain.steps):
            if stage.condition is not None:
                yield f"/approvalChains/{chain_index}/steps/{index}/condition", stage.condition
    for at, action in actions(definition, tree):
        if isinstance(action, IfAction):
            for position, branch in enumerate(action.branches):
                if branch.condition is not None:
                    yield f"{at}/branches/{position}/condition", branch.condition


def expressions(definition: WorkflowDefinition, tree: Tree) -> Iterator[Placed]:
    """Give every expression that is no condition."""
    for node in tree.nodes:
        yield from _payload(node.pointer + "/properties/doneData", node.state.properties.done_data)
        for index, timeout in enumerate(node.state.timeouts):
            if isinstance(timeout.after_minutes, str):
                yield Placed(f"{node.pointer}/timeouts/{index}/afterMinutes", timeout.after_minutes, "number")
    for at, action in actions(definition, tree):
        if isinstance(action, AssignAction):
            yield Placed(at + "/value", action.value)
        elif isinstance(action, RaiseAction | SendAction):
            yield from _payload(at + "/data", action.data)
            if isinstance(action, SendAction) and isinstance(action.delay_minutes, str):
                yield Placed(at + "/delayMinutes", action.delay_minutes, "number")
        elif isinstance(action, LogAction) and action.value is not None:
            yield Placed(at + "/value", action.value)
        elif isinstance(action, ForeachAction):
            yield Placed(at + "/array", action.array, "list")
    for at, approver in approvers(definition):
        if approver.type == "dynamic":
            yield Placed(at + "/identifier", approver.identifier)


def approvers(definition: WorkflowDefinition) -> Iterator[tuple[str, ApproverDefinition]]:
    """Give every approver, fallbacks and administrators included."""
    for chain_index, chain in enumerate(definition.approval_chains):
        for index, stage in enumerate(chain.steps):
            yield from _approvers(f"/approvalChains/{chain_index}/steps/{index}/approvers", stage.approvers)
    yield from _approvers("/access/administrators", definition.access.administrators)


def _approvers(at: str, listed: tuple[ApproverDefinition, ...]) -> Iterator[tuple[str, ApproverDefinition]]:
    for index, approver in enumerate(listed):
        yield f"{at}/{index}", approver
        yield from _approvers(f"{at}/{index}/fallback", approver.fallback)


def _payload(at: str, data: Mapping[str, str] | str | None) -> Iterator[Placed]:
    if isinstance(data, str):
        yield Placed(at, data)
    elif data is not None:
        for key, source in data.items():
            yield Placed(at + pointer(key), source)
