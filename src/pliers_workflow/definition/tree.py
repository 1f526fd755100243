"""The tree of a document's states, in document order: what checks, compiler, diagram and diff all walk.

It is made of any document that has the right shape, so it forgives duplicate and unknown ids; the checks report those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal, TypeAlias

from .document import Initial, StateMachine, WorkflowState, WorkflowTransition
from .findings import pointer

Kind: TypeAlias = Literal["atomic", "compound", "parallel", "final", "history"]


class Node:
    """A state in its place."""

    __slots__ = ("children", "depth", "id", "index", "parent", "pointer", "state", "transitions")

    def __init__(self, id: str, state: WorkflowState, parent: Node | None, at: str, index: int) -> None:
        self.id = id
        self.state = state
        self.parent = parent
        self.children: list[Node] = []
        #: JSON Pointer of the state in the document
        self.pointer = at
        #: position in document order
        self.index = index
        self.depth: int = 0 if parent is None else parent.depth + 1
        #: transitions out of it, as they are asked: higher priority first, then document order
        self.transitions: list[Edge] = []

    def __repr__(self) -> str:
        return f"<Node {self.id}>"

    @property
    def kind(self) -> Kind:
        """What it is to the interpreter."""
        kind = self.state.type
        if kind in ("final", "history", "parallel"):
            return kind
        return "compound" if self.children else "atomic"

    @property
    def regular(self) -> list[Node]:
        """The substates that are no history states."""
        return [child for child in self.children if child.state.type != "history"]

    @property
    def in_region(self) -> bool:
        """Whether it is, or is inside, a region of a parallel state."""
        return any(node.parent is not None and node.parent.state.type == "parallel" for node in self.lineage())

    def lineage(self) -> Iterator[Node]:
        """Itself and its parents, nearest first."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def ancestors(self) -> Iterator[Node]:
        """Its parents, nearest first."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def below(self) -> Iterator[Node]:
        """All states below it, in document order."""
        for child in self.children:
            yield child
            yield from child.below()

    def is_inside(self, other: Node) -> bool:
        """Whether it is below another state."""
        node = self.parent
        while node is not None and node.depth >= other.depth:
            if node is other:
                return True
            node = node.parent
        return False


class Edge:
    """A transition with its ends resolved; unknown targets are left out."""

    __slots__ = ("index", "pointer", "source", "targets", "transition", "triggers")

    def __init__(self, index: int, transition: WorkflowTransition, source: Node, targets: tuple[Node, ...]) -> None:
        self.index = index
        self.transition = transition
        self.source = source
        self.targets = targets
        self.triggers = descriptors(transition.trigger)
        self.pointer = f"/stateMachine/transitions/{index}"

    @property
    def guarded(self) -> bool:
        """Whether something must hold for it to be taken."""
        return self.transition.condition is not None or bool(self.transition.guards)

    @property
    def eventless(self) -> bool:
        """Whether it waits for no trigger."""
        return self.transition.trigger is None

    def matches(self, event: str) -> bool:
        """Whether it waits for this event."""
        return any(matches(descriptor, event) for descriptor in self.triggers)


class Tree:
    """All states of a machine, with their transitions."""

    def __init__(self, machine: StateMachine) -> None:
        self.machine = machine
        self.top: list[Node] = []
        #: in document order
        self.nodes: list[Node] = []
        #: the first of each id
        self.by_id: dict[str, Node] = {}
        self.edges: list[Edge] = []
        for key, state in machine.states.items():
            self.top.append(self._add(key, state, None, pointer("stateMachine", "states", key)))
        #: the machine has a final state of its own, so that instances are meant to complete
        self.ends = any(node.state.type == "final" for node in self.top)
        for index, transition in enumerate(machine.transitions):
            source = self.by_id.get(transition.from_)
            if source is not None:
                edge = Edge(index, transition, source, self.find(targets_of(transition.to)))
                source.transitions.append(edge)
                self.edges.append(edge)
        for node in self.nodes:
            node.transitions.sort(key=lambda edge: (-edge.transition.priority, edge.index))

    def _add(self, id: str, state: WorkflowState, parent: Node | None, at: str) -> Node:
        node = Node(id, state, parent, at, len(self.nodes))
        self.nodes.append(node)
        self.by_id.setdefault(id, node)
        for position, substate in enumerate(state.substates):
            node.children.append(self._add(substate.id or "", substate, node, f"{at}/substates/{position}"))
        return node

    def find(self, ids: Iterable[str]) -> tuple[Node, ...]:
        """The states of these ids, unknown ones left out."""
        return tuple(self.by_id[id] for id in ids if id in self.by_id)

    @property
    def initial(self) -> tuple[Node, ...]:
        """The states entered first."""
        return self.find(targets_of(self.machine.initial_state))

    def default(self, node: Node) -> tuple[Node, ...]:
        """The states entered when this one is, by default: itself not included."""
        if node.state.type == "parallel":
            return tuple(node.regular)
        if node.state.type == "history" or node.children:
            given = node.state.properties.initial
            if given is not None:
                return self.find(targets_of(given))
            for child in node.children:
                if child.state.type == "initial":
                    return (child,)
            return tuple(node.regular[:1])
        return ()

    def may_handle(self, node: Node, event: str) -> bool:
        """Whether some transition waits for an event in a state that can be active together with this one."""
        return any(edge.matches(event) for other in self.companions(node) for edge in other.transitions)

    def companions(self, node: Node) -> Iterator[Node]:
        """Itself, and the states that can be active together with it: ancestors, descendants, and those in other regions."""
        yield from node.below()
        inner: Node | None = None
        for outer in node.lineage():
            yield outer
            if inner is not None and outer.state.type == "parallel":
                for region in outer.children:
                    if region is not inner:
                        yield region
                        yield from region.below()
            inner = outer


def targets_of(given: str | tuple[str, ...] | Initial | None) -> tuple[str, ...]:
    """
    Give the ids of a target, in whichever form it is written.

    >>> targets_of("a"), targets_of(("a", "b")), targets_of(None)
    (('a',), ('a', 'b'), ())
    """
    if given is None:
        return ()
    if isinstance(given, str):
        return (given,)
    return given.target if isinstance(given, Initial) else given


def descriptors(trigger: str | None) -> tuple[str, ...]:
    """
    Split a trigger into event descriptors, without the trailing `.*` or `.` that SCXML allows (§3.12.1).

    >>> descriptors("approved timeout.* error.")
    ('approved', 'timeout', 'error')
    """
    found = []
    for word in (trigger or "").split():
        while word != "*" and (word.endswith((".*", "."))):
            word = word.removesuffix("*").removesuffix(".")
        if word and word not in found:
            found.append(word)
    return tuple(found)


#: Triggers that only the engine raises, whole and by their beginnings: `rejected` from outside would be a vote in the
#: approvers' place.
ENGINE_TRIGGERS: Final = frozenset({"approved", "rejected", "changes_requested", "recalled"})
ENGINE_PREFIXES: Final = (
    "approved.", "rejected.", "changes_requested.", "recalled.", "timeout.", "done.state.", "error.", "escalation.",
)  # fmt: skip


def matches(descriptor: str, event: str) -> bool:
    """
    Say whether an event descriptor matches an event: whole, or as a prefix that ends at a dot.

    >>> matches("timeout", "timeout.review"), matches("time", "timeout.review"), matches("*", "anything")
    (True, False, True)
    """
    return descriptor == "*" or event == descriptor or event.startswith(descriptor + ".")


def prefixes(event: str) -> Iterator[str]:
    """
    Give every descriptor that matches an event.

    >>> list(prefixes("timeout.review"))
    ['timeout.review', 'timeout', '*']
    """
    while event:
        yield event
        event = event.rpartition(".")[0]
    yield "*"
