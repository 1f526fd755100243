"""Timeouts: each raises a trigger, so something should wait for it, and each clock of a state needs a name of its own."""

from __future__ import annotations

from ..document import WorkflowDefinition
from ..findings import Findings, pointer
from ..tree import Node, Tree


def check(definition: WorkflowDefinition, tree: Tree, findings: Findings) -> None:
    """See the module."""
    for node in tree.nodes:
        seen: dict[str, str] = {}
        for index, timeout in enumerate(node.state.timeouts):
            at = f"{node.pointer}/timeouts/{index}"
            trigger = timeout.trigger or f"timeout.{node.id}"
            _trigger(trigger, at, findings)
            _clock(timeout.id or trigger, trigger, at, node, tree, seen, findings)
        if node.id in definition.timeout_config.state_timeouts and tree.by_id[node.id] is node:
            at = pointer("timeoutConfig", "stateTimeouts", node.id)
            if node.kind in ("final", "history") or node.state.type == "choice":
                findings.error(
                    "misplaced", at, f"`{node.id}` is a {node.state.type} state, where no time passes.", "Remove it."
                )
            else:
                _clock(f"timeout.{node.id}", f"timeout.{node.id}", at, node, tree, seen, findings)


def _trigger(trigger: str, at: str, findings: Findings) -> None:
    if trigger.split() != [trigger] or trigger.startswith(".") or trigger.endswith("."):
        findings.error(
            "bad_trigger", at + "/trigger", "The trigger of a timeout is the name of one event.", "Use one word."
        )


def _clock(id: str, trigger: str, at: str, node: Node, tree: Tree, seen: dict[str, str], findings: Findings) -> None:
    if id in seen:
        findings.error(
            "duplicate_id",
            at,
            f"`{node.id}` has two timeouts named `{id}`.",
            f"Give this one an `id`, or another `trigger`. The first is at {seen[id]}.",
        )
    seen.setdefault(id, at)
    if not tree.may_handle(node, trigger):
        findings.warning(
            "timeout_unhandled",
            at,
            f"When the time is up, `{trigger}` is raised, and no transition waits for it.",
            f"Add a transition from `{node.id}` with that trigger.",
        )
