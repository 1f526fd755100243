"""Transitions that can be taken: targets that go together, triggers that match, an order that is clear."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ..document import RaiseAction, SendAction, WorkflowDefinition
from ..findings import Findings, shown
from ..tree import Edge, Node, Tree, prefixes
from ..walking import actions

#: So many earlier transitions are compared with a later one.
_RIVALS_MAX: Final = 20


def check(definition: WorkflowDefinition, tree: Tree, findings: Findings) -> None:
    """See the module."""
    for edge in tree.edges:
        check_together(edge.targets, edge.pointer + "/to", findings)
        if not edge.eventless and not edge.triggers:
            findings.error(
                "bad_trigger",
                edge.pointer + "/trigger",
                "The trigger holds no event name.",
                "Leave `trigger` out instead.",
            )
    for node in tree.nodes:
        _overlaps(node, tree, findings)
    _raised(definition, tree, findings)


def check_together(targets: Sequence[Node], at: str, findings: Findings) -> None:
    """Several states can be entered together only when they lie in different regions of a parallel state."""
    #: by state: the substate through which the way to a target leads
    ways: dict[Node | None, tuple[Node, Node]] = {}
    for target in dict.fromkeys(targets):
        for node in target.lineage():
            way, first = ways.setdefault(node.parent, (node, target))
            if way is not node and (node.parent is None or node.parent.state.type != "parallel"):
                findings.error(
                    "targets_not_in_regions",
                    at,
                    f"`{first.id}` and `{target.id}` cannot be active together.",
                    "Several targets must lie in different regions of one parallel state.",
                )
                return


def _overlaps(node: Node, tree: Tree, findings: Findings) -> None:
    #: the first transition without condition, by event descriptor; `None` stands for no trigger
    always: dict[str | None, Edge] = {}
    guarded: dict[tuple[tuple[str, ...], int], list[Edge]] = {}
    for edge in node.transitions:
        wanted: tuple[str | None, ...] = (None,) if edge.eventless else edge.triggers
        winners = [_winner(descriptor, always) for descriptor in wanted]
        alike = guarded.setdefault((edge.triggers, edge.transition.priority), [])
        if winners and all(winners):
            earlier = winners[0]
            assert earlier is not None
            # SCXML's own tests rely on document order in charts that never complete, and on `*` as a default.
            plain = tree.ends and not edge.eventless and earlier.triggers == edge.triggers
            findings.add(
                "error" if plain else "warning",
                "never_taken",
                edge.pointer,
                f"This transition is never taken: {_named(earlier)} is asked before it and has no condition.",
                "Give one of them a condition, or this one a higher `priority`.",
            )
        elif edge.guarded:
            rival = next((other for other in alike[-_RIVALS_MAX:] if not _exclusive(other, edge)), None)
            if rival is not None:
                what = f"`{shown(edge.transition.trigger)}`" if edge.transition.trigger else "no trigger"
                findings.warning(
                    "overlap_without_priority",
                    edge.pointer,
                    f"When both conditions hold, {_named(rival)} wins only because it stands first (both wait for {what}).",
                    "Say with `priority` which is asked first.",
                )
            alike.append(edge)
        if not edge.guarded:
            for descriptor in wanted:
                always.setdefault(descriptor, edge)


def _winner(descriptor: str | None, always: dict[str | None, Edge]) -> Edge | None:
    """The transition that always takes what this descriptor waits for."""
    if descriptor is None:
        return always.get(None)
    return next((always[prefix] for prefix in prefixes(descriptor) if prefix in always), None)


_NEGATIONS: Final = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_COMPARISON: Final = re.compile(r"([\w.\[\]'\"]+)\s*(==|!=|<=|>=|<|>)\s*([\w.\[\]'\"-]+)")


def _exclusive(one: Edge, other: Edge) -> bool:
    """Whether two conditions plainly exclude each other: one negates the other, or they ask one field for two values."""
    if one.transition.guards or other.transition.guards:
        return False
    a, b = one.transition.condition, other.transition.condition
    if not isinstance(a, str) or not isinstance(b, str):
        return False
    a, b = a.strip(), b.strip()
    if a in (f"!({b})", f"!{b}") or b in (f"!({a})", f"!{a}"):
        return True
    left, right = _COMPARISON.fullmatch(a), _COMPARISON.fullmatch(b)
    if left is None or right is None or left[1] != right[1]:
        return False
    if left[3] == right[3]:
        return _NEGATIONS[left[2]] == right[2]
    return left[2] == right[2] == "==" and _literal(left[3]) and _literal(right[3])


def _literal(text: str) -> bool:
    return text[0] in "'\"-0123456789" or text in ("true", "false")


def _named(edge: Edge) -> str:
    return f"`{edge.transition.id}`" if edge.transition.id else f"the one at {edge.pointer}"


def _raised(definition: WorkflowDefinition, tree: Tree, findings: Findings) -> None:
    waited = {descriptor for edge in tree.edges for descriptor in edge.triggers}
    for at, action in actions(definition, tree):
        if not isinstance(action, RaiseAction | SendAction):
            continue
        if action.trigger.split() != [action.trigger] or action.trigger.startswith(".") or action.trigger.endswith("."):
            findings.error(
                "bad_trigger",
                at + "/trigger",
                f"`{shown(action.trigger)}` is no name of one event.",
                "Use one word, with dots between its parts.",
            )
        elif not any(prefix in waited for prefix in prefixes(action.trigger)):
            findings.warning(
                "unhandled_trigger", at + "/trigger", f"No transition waits for `{shown(action.trigger)}`."
            )
