"""States that are what they say: types, substates, initial and final states."""

from __future__ import annotations

from ..document import WorkflowDefinition
from ..findings import Findings
from ..tree import Node, Tree, targets_of
from .transitions import check_together


def check(definition: WorkflowDefinition, tree: Tree, findings: Findings) -> None:
    """See the module."""
    for node in tree.nodes:
        match node.state.type:
            case "final":
                _final(node, findings)
            case "history":
                _history(node, tree, findings)
            case "choice":
                _choice(node, findings)
            case "parallel":
                _parallel(node, findings)
            case _:
                _ordinary(node, tree, findings)
        if node.state.type != "history" and node.state.properties.history is not None:
            findings.error(
                "misplaced",
                node.pointer + "/properties/history",
                "Only a state of type `history` remembers.",
                "Set `type` to `history`, or remove `history`.",
            )
        if node.state.properties.done_data is not None and node.state.type != "final":
            findings.error(
                "misplaced", node.pointer + "/properties/doneData", "Only a final state gives data when it is done."
            )
    _machine(definition, tree, findings)


def _content(node: Node, *names: str) -> str | None:
    """Give the first of these parts that the state has."""
    state = node.state
    has = {
        "substates": bool(state.substates),
        "entryActions": bool(state.entry_actions),
        "exitActions": bool(state.exit_actions),
        "timeouts": bool(state.timeouts),
        "properties/approvalChain": state.properties.approval_chain is not None,
        "properties/steps": bool(state.properties.steps),
    }
    return next((name for name in names if has[name]), None)


def _final(node: Node, findings: Findings) -> None:
    part = _content(node, "substates", "timeouts", "properties/approvalChain", "properties/steps")
    if part is not None:
        findings.error(
            "final_with_content",
            f"{node.pointer}/{part}",
            f"The state `{node.id}` is final and has `{part.split('/')[-1]}`.",
            "A final state ends what it stands in; give that to a state before it.",
        )
    for edge in node.transitions:
        findings.error(
            "final_with_content",
            edge.pointer + "/from",
            f"The state `{node.id}` is final, so no transition can leave it.",
            "Let the transition start elsewhere, or make the state `intermediate`.",
        )
    if node.parent is not None and node.parent.state.type == "parallel":
        findings.error(
            "final_in_parallel",
            node.pointer,
            f"`{node.id}` stands where a region of the parallel state `{node.parent.id}` is expected.",
            "Put it into a region: the parallel state is done when each region has reached its final state.",
        )
    _no_initial(node, findings)


def _history(node: Node, tree: Tree, findings: Findings) -> None:
    part = _content(
        node, "substates", "entryActions", "exitActions", "timeouts", "properties/approvalChain", "properties/steps"
    )
    if part is not None:
        findings.error(
            "history_with_content",
            f"{node.pointer}/{part}",
            f"The history state `{node.id}` has `{part.split('/')[-1]}`, and it is never active.",
        )
    for edge in node.transitions:
        findings.error(
            "history_with_content",
            edge.pointer + "/from",
            f"The history state `{node.id}` is never active, so no transition can start there.",
            "Where to go when there is nothing to remember belongs into `properties.initial`.",
        )
    if node.parent is None:
        findings.error(
            "history_at_top",
            node.pointer,
            f"The history state `{node.id}` stands at the top: what it would remember is never left.",
            "Put it among the substates of the state to return to.",
        )
    elif node.state.properties.initial is None:
        findings.error(
            "history_without_default",
            node.pointer + "/properties",
            f"The history state `{node.id}` does not say what to enter when there is nothing to remember.",
            "Add `properties.initial` with one of its sibling states.",
        )
    else:
        _inside(node, node.parent, tree, findings)


def _choice(node: Node, findings: Findings) -> None:
    part = _content(node, "substates", "timeouts", "properties/approvalChain", "properties/steps")
    if part is not None:
        findings.error(
            "choice_with_content",
            f"{node.pointer}/{part}",
            f"The choice `{node.id}` has `{part.split('/')[-1]}`, and it is left at once.",
        )
    for edge in node.transitions:
        if not edge.eventless:
            findings.error(
                "choice_with_trigger",
                edge.pointer + "/trigger",
                f"`{node.id}` is a choice and is left at once, so nothing can wait there for `{edge.transition.trigger}`.",
                "Remove the trigger, or make the state `intermediate`.",
            )
    if not any(edge.eventless and not edge.guarded and edge.targets for edge in node.transitions):
        findings.error(
            "choice_without_default",
            node.pointer,
            f"The choice `{node.id}` has no way out for when no condition holds.",
            "Add a transition without condition, guards and trigger as the last one.",
        )
    _no_initial(node, findings)


def _parallel(node: Node, findings: Findings) -> None:
    regions = len(node.regular)
    if regions == 0:
        findings.error(
            "parallel_without_regions",
            node.pointer,
            f"The parallel state `{node.id}` has no regions.",
            "Add its regions as `substates`.",
        )
    elif regions == 1:
        findings.warning(
            "parallel_without_regions", node.pointer, f"The parallel state `{node.id}` has only one region."
        )
    _no_initial(node, findings)


def _ordinary(node: Node, tree: Tree, findings: Findings) -> None:
    if not node.children:
        _no_initial(node, findings)
        return
    if node.state.properties.initial is not None:
        _inside(node, node, tree, findings)
    elif not node.regular:
        findings.error(
            "no_default_substate", node.pointer, f"`{node.id}` has no substate that can be entered by default."
        )
    initials = [child for child in node.children if child.state.type == "initial"]
    for child in initials[1:]:
        findings.warning(
            "several_initial", child.pointer + "/type", f"`{initials[0].id}` is the initial substate already."
        )
    given = targets_of(node.state.properties.initial)
    if given and initials and not any(_enters(tree, initials[0], id) for id in given):
        findings.warning(
            "initial_disagrees",
            initials[0].pointer + "/type",
            f"`{initials[0].id}` is of type `initial`, but `properties.initial` of `{node.id}` leads elsewhere.",
        )


def _no_initial(node: Node, findings: Findings) -> None:
    if node.state.properties.initial is not None:
        findings.warning(
            "initial_unused",
            node.pointer + "/properties/initial",
            f"`{node.id}` is {'a parallel state: all its regions are entered' if node.state.type == 'parallel' else 'not entered further'}.",
            "Remove `initial`.",
        )


def _inside(node: Node, outer: Node, tree: Tree, findings: Findings) -> None:
    at = node.pointer + "/properties/initial"
    targets = tree.find(targets_of(node.state.properties.initial))
    for target in targets:
        if not target.is_inside(outer) or target is node:
            findings.error(
                "initial_outside", at, f"`{target.id}` does not lie inside `{outer.id}`.", "Name one of its substates."
            )
            return
    check_together(targets, at, findings)


def _enters(tree: Tree, node: Node, id: str) -> bool:
    target = tree.by_id.get(id)
    return target is not None and (target is node or target.is_inside(node))


def _machine(definition: WorkflowDefinition, tree: Tree, findings: Findings) -> None:
    machine = definition.state_machine
    initial = targets_of(machine.initial_state)
    check_together(tree.initial, "/stateMachine/initialState", findings)
    for node in tree.top:
        if node.state.type == "initial" and not any(_enters(tree, node, id) for id in initial):
            findings.warning(
                "initial_disagrees",
                node.pointer + "/type",
                f"`{node.id}` is of type `initial`, but `initialState` leads elsewhere.",
                "Make it `intermediate`, or name it in `initialState`.",
            )
    if machine.final_states is None:
        return
    listed = set(machine.final_states)
    for index, id in enumerate(machine.final_states):
        node = tree.by_id.get(id)  # type: ignore[assignment]
        if node is not None and (node.state.type != "final" or node.parent is not None):
            findings.error(
                "final_states_disagree",
                f"/stateMachine/finalStates/{index}",
                f"`{id}` is listed, and is of type `{node.state.type}`."
                if node.parent is None
                else f"`{id}` is listed, and is no state of the top level.",
                "Set its `type` to `final`, or take it from the list."
                if node.parent is None
                else "Take it from the list.",
            )
    for node in tree.top:
        if node.state.type == "final" and node.id not in listed:
            findings.error(
                "final_states_disagree",
                "/stateMachine/finalStates",
                f"`{node.id}` is of type `final` and is not listed.",
                "List it, or leave `finalStates` out: the types say the same.",
            )
