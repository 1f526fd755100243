"""Draw a definition as a Mermaid state diagram, which most places that show Markdown render.

Whatever the document says becomes harmless text: ids that Mermaid would misread get an alias, and everything in labels
that means something to it is written as a character code. A transition is drawn inside the innermost state that holds
both of its ends, because Mermaid cannot draw one between the insides of two states.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final

from .document import ApprovalChain, ApprovalStep, ConditionExpression, WorkflowDefinition
from .step_diagram import steps_note
from .tree import Edge, Node, Tree

#: Words of Mermaid's grammar that cannot name a state.
_WORDS: Final = frozenset(
    [
        "state",
        "note",
        "end",
        "as",
        "direction",
        "tb",
        "bt",
        "rl",
        "lr",
        "fork",
        "join",
        "choice",
        "root",
        "default",
        "class",
        "classdef",
        "style",
        "click",
        "href",
        "hide",
        "empty",
        "description",
        "scale",
        "width",
        "over",
        "left",
        "right",
        "of",
        "statediagram",
        "statediagram-v2",
        "acctitle",
        "accdescr",
        "title",
        "subgraph",
        "graph",
        "constructor",
        "prototype",
        "tostring",
        "valueof",
        "hasownproperty",
    ]
)
_SAFE: Final = re.compile(r"[A-Za-z0-9 _.,()=+*/!?'|&$@^~>\[\]-]")
_LABEL_MAX: Final = 120


def mermaid(definition: WorkflowDefinition) -> str:
    """Draw the definition's state machine as Mermaid `stateDiagram-v2` text."""
    return _Diagram(definition).text()


class _Diagram:
    def __init__(self, definition: WorkflowDefinition) -> None:
        self.definition = definition
        self.tree = Tree(definition.state_machine)
        self.chains = {chain.id: chain for chain in definition.approval_chains}
        self.lines: list[str] = []
        self.aliases = _aliases(self.tree)
        #: transitions by the state inside which they are drawn; None: the diagram itself
        self.edges: dict[Node | None, list[tuple[Edge, Node]]] = defaultdict(list)
        for edge in self.tree.edges:
            for target in edge.targets:
                self.edges[_common(edge.source, target)].append((edge, target))

    def text(self) -> str:
        self.lines.append("stateDiagram-v2")
        self._inside(None, self.tree.top, list(self.tree.initial), 1)
        return "\n".join(self.lines) + "\n"

    def _add(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def _inside(self, outer: Node | None, nodes: list[Node], initial: list[Node], depth: int) -> None:
        for node in nodes:
            self._state(node, depth)
        for target in initial:
            self._add(depth, f"[*] --> {self._end(target, outer)}")
        self._arrows(outer, depth)
        for node in nodes:
            if node.kind == "final":
                self._add(depth, f"{self.aliases[node]} --> [*]")
            self._note(node, depth)

    def _end(self, node: Node, outer: Node | None) -> str:
        """An end of an arrow: states deeper down are drawn from the state that holds them here."""
        shown = node
        while shown.parent is not outer and shown.parent is not None:
            shown = shown.parent
        return self.aliases[shown]

    def _arrows(self, outer: Node | None, depth: int) -> None:
        for edge, target in self.edges[outer]:
            source, aim = self._end(edge.source, outer), self._end(target, outer)
            label = _label(edge)
            # An arrow that ends at an outer state says which of its inner states is meant.
            far = [
                f"{way} {node.id}" for way, node in (("from", edge.source), ("to", target)) if node.parent is not outer
            ]
            text = " ".join(part for part in (label, _escape(", ".join(far))) if part)
            self._add(depth, f"{source} --> {aim}" + (f" : {text}" if text else ""))

    def _state(self, node: Node, depth: int) -> None:
        alias = self.aliases[node]
        if node.state.type == "choice":
            self._add(depth, f"state {alias} <<choice>>")
            return
        name = node.state.name or node.id
        if node.kind == "history":
            name = "H*" if node.state.properties.history == "deep" else "H"
        self._add(depth, f'state "{_escape(name)}" as {alias}')
        if not node.children:
            return
        self._add(depth, f"state {alias} {{")
        if node.kind == "parallel":
            self._regions(node, depth + 1)
        else:
            self._inside(node, node.children, list(self.tree.default(node)), depth + 1)
        self._add(depth, "}")

    def _regions(self, node: Node, depth: int) -> None:
        for position, region in enumerate(node.children):
            if position:
                self._add(depth, "--")
            self._state(region, depth)
            self._note(region, depth)
        self._arrows(node, depth)

    def _note(self, node: Node, depth: int) -> None:
        lines = []
        chain = self.chains.get(node.state.properties.approval_chain or "")
        if chain is not None:
            lines += _chain_note(chain)
        lines += steps_note(node.state.properties.steps, self.definition.steps)
        for timeout in node.state.timeouts:
            lines.append(f"after {_minutes(timeout.after_minutes)}: {timeout.trigger or f'timeout.{node.id}'}")
        if node.id in self.definition.timeout_config.state_timeouts:
            lines.append(f"after {_minutes(self.definition.timeout_config.state_timeouts[node.id])}: timeout.{node.id}")
        inner = [edge for edge in node.transitions if not edge.targets]
        lines += [f"on {edge.transition.trigger or 'rest'}: stays" for edge in inner]
        # a choice is a small diamond, and Mermaid draws no note beside it
        if lines and node.state.type != "choice":
            self._add(depth, f"note right of {self.aliases[node]}")
            for line in lines:
                self._add(depth + 1, _escape(line))
            self._add(depth, "end note")


def _chain_note(chain: ApprovalChain) -> list[str]:
    lines = [f"Approval: {chain.name or chain.id}"]
    return lines + [f"{index}. {_stage_note(stage)}" for index, stage in enumerate(chain.steps, 1)]


def _stage_note(stage: ApprovalStep) -> str:
    who = ", ".join(f"{approver.type} {approver.identifier}" for approver in stage.approvers[:4])
    more = ", …" if len(stage.approvers) > 4 else ""
    condition = f" if {_condition(stage.condition)}" if stage.condition is not None else ""
    return f"{stage.name or stage.id}: {who}{more}{condition}"


def _label(edge: Edge) -> str:
    transition = edge.transition
    parts = [transition.trigger] if transition.trigger else []
    held = [_condition(transition.condition)] if transition.condition is not None else []
    held += transition.guards
    if held:
        parts.append(f"[{' and '.join(held)}]")
    return _escape(" ".join(parts))


def _condition(condition: str | ConditionExpression | None) -> str:
    if condition is None or isinstance(condition, str):
        return condition or ""
    if condition.type == "script":
        return "script"
    if condition.type == "complex":
        return condition.expression or ""
    return f"{condition.field} {condition.operator} {'' if condition.value is None else condition.value}".strip()


def _minutes(after: float | str) -> str:
    return f"{after:g} min" if isinstance(after, int | float) else f"({after}) min"


def _common(source: Node, target: Node) -> Node | None:
    """The innermost state that holds both ends; of a transition into its own source, that source's parent."""
    if source is target or source.is_inside(target):
        return target.parent
    if target.is_inside(source):
        return source.parent
    return next((node for node in source.ancestors() if target.is_inside(node)), None)


def _aliases(tree: Tree) -> dict[Node, str]:
    found: dict[Node, str] = {}
    taken: set[str] = set()
    for node in tree.nodes:
        plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,60}", node.id) is not None
        alias = (
            node.id if plain and node.id.lower() not in _WORDS and node.id.lower() not in taken else f"s{node.index}"
        )
        while alias.lower() in taken:
            alias += "_"
        taken.add(alias.lower())
        found[node] = alias
    return found


def _escape(text: str) -> str:
    """
    Write a text so that Mermaid only shows it.

    >>> _escape('a > b: "c"')
    'a > b#58; #34;c#34;'
    """
    line = " ".join(text.split())
    if len(line) > _LABEL_MAX:
        line = line[: _LABEL_MAX - 1] + "…"
    # letters of other alphabets mean nothing to its lexer
    line = "".join(
        char if _SAFE.match(char) or (ord(char) > 127 and char.isprintable()) else f"#{ord(char)};" for char in line
    )
    line = line.replace("--", "-#45;")
    return re.sub(r"(?i)\b(end) (note)", r"\1#32;\2", line)
