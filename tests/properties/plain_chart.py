"""Statecharts as the standard writes them down (W3C SCXML, Appendix D), on the document itself, with steps inside states.

The procedures are those of the standard by their own names, without anything that makes them fast. What the standard does
not know is as `docs/reference/statechart.md` and `steps.md` say: a state's eventless transitions wait for its steps;
steps begin anew with each entry and are given up with each exit; a step that fails raises `error.step.ID` where a
transition of an active state could take that, and is stuck where none does.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Any

TRIGGERS = ("go", "back", "skip")
MINUTE = 60_000


class Endless(Exception):
    """It does not come to rest."""


@dataclass(eq=False)
class Node:
    """A state."""

    id: str
    kind: str
    order: int
    document: dict[str, Any]
    parent: Node | None
    children: list[Node] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)

    def ancestors(self, up_to: Node | None = None) -> list[Node]:
        """From the parent outwards, not as far as `up_to`."""
        found = []
        node = self.parent
        while node is not None and node is not up_to:
            found.append(node)
            node = node.parent
        return found

    def within(self, other: Node) -> bool:
        """Whether it is a descendant."""
        return other in self.ancestors()

    @property
    def atomic(self) -> bool:
        return self.kind in ("atomic", "final")


@dataclass(eq=False)
class Transition:
    """A transition."""

    source: Node
    document: dict[str, Any]
    targets: list[Node] = field(default_factory=list)


@dataclass
class Work:
    """A state's steps: which one is at work, and how it stands."""

    state: Node
    position: int = 0
    #: `waiting`, `stuck`, or `failed`: a transition has taken that, and the state was not left
    status: str = "waiting"

    @property
    def failed(self) -> bool:
        """It is over, and the state waits for another trigger."""
        return self.status == "failed"

    @property
    def step(self) -> str:
        """The id of the one at work."""
        id: str = self.state.document["properties"]["steps"][self.position]["id"]
        return id


class Machine:
    """An instance of a definition."""

    def __init__(self, definition: dict[str, Any]) -> None:
        machine = definition["stateMachine"]
        self.root = Node("", "compound", -1, {"properties": {"initial": machine["initialState"]}}, None)
        self.nodes: dict[str, Node] = {}
        for id, state in machine["states"].items():
            self._add({"id": id, **state}, self.root)
        for each in machine["transitions"]:
            source = self.nodes[each["from"]]
            targets = [self.nodes[each["to"]]] if "to" in each else []
            source.transitions.append(Transition(source, each, targets))
        for node in self.nodes.values():
            node.transitions.sort(key=lambda each: -int(each.document.get("priority", 0)))
        self.configuration: set[Node] = set()
        self.history: dict[str, list[Node]] = {}
        self.log = ""
        self.internal: deque[tuple[str, str | None]] = deque()
        self.work: dict[str, Work] = {}
        #: due, number, state
        self.clocks: list[tuple[int, int, str]] = []
        self.now = 0
        self.numbers = 0
        self.microsteps = 0

    def _add(self, document: dict[str, Any], parent: Node) -> None:
        children = document.get("substates", [])
        kind = document.get("type") or ("compound" if children else "atomic")
        node = Node(document["id"], kind, len(self.nodes), document, parent)
        self.nodes[node.id] = node
        parent.children.append(node)
        for child in children:
            self._add(child, node)

    # -- what may happen to it -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Enter the initial states."""
        entered: set[Node] = set()
        for target in self._initial(self.root):
            self.add_descendant_states_to_enter(target, entered)
            self.add_ancestor_states_to_enter(target, self.root, entered)
        self.enter_states(entered)
        self.main_event_loop()

    def fire(self, name: str) -> bool:
        """A trigger from outside; says whether anything takes it."""
        self.microsteps = 0
        enabled = self.select_transitions(name)
        if enabled:
            self.microstep(enabled)
            self.main_event_loop()
        return bool(enabled)

    def complete(self, work: Work) -> None:
        """A step has been done, or an operator lets it count as done."""
        self.microsteps = 0
        work.position += 1
        work.status = "waiting"
        if work.position == len(work.state.document["properties"]["steps"]):
            del self.work[work.state.id]
        self.main_event_loop()

    def fail(self, work: Work) -> None:
        """A step has failed for good."""
        self.microsteps = 0
        name = f"error.step.{work.step}"
        if any(self._candidates(state, name) for state in self._atomic()):
            self.internal.append((name, work.state.id))
        else:
            work.status = "stuck"
        self.main_event_loop()

    def advance(self, milliseconds: int) -> None:
        """Time passes; clocks raise their triggers on the way."""
        until = self.now + milliseconds
        while self.clocks and min(self.clocks)[0] <= until and not self.ended:
            clock = min(self.clocks)
            self.clocks.remove(clock)
            self.now = max(self.now, clock[0])
            self.fire(f"timeout.{clock[2]}")
        self.now = until

    @property
    def ended(self) -> bool:
        """A final state at the top is active."""
        return any(node.kind == "final" and node.parent is self.root for node in self.configuration)

    # -- the standard's procedures -------------------------------------------------------------------------------------

    def main_event_loop(self) -> None:
        """Eventless transitions first, then what was raised inside, until there is neither."""
        while not self.ended:
            enabled = self.select_transitions(None)
            if enabled:
                self.microstep(enabled)
                continue
            if not self.internal:
                break
            name, worked_in = self.internal.popleft()
            work = self.work.get(worked_in or "")
            enabled = self.select_transitions(name)
            if enabled:
                self.microstep(enabled)
            if work is not None and self.work.get(work.state.id) is work:
                work.status = "failed" if enabled else "stuck"
        if self.ended:
            self.internal.clear()
            for node in sorted(self.configuration, key=lambda each: -each.order):
                if node.kind == "final" and node.parent is self.root:
                    self._execute(node.document.get("exitActions", []))
            self.work, self.clocks = {}, []

    def _atomic(self) -> list[Node]:
        return sorted((node for node in self.configuration if node.atomic), key=lambda each: each.order)

    def _candidates(self, state: Node, name: str | None) -> list[Transition]:
        return [
            each
            for node in (state, *state.ancestors())
            for each in node.transitions
            if _matches(each.document.get("trigger"), name)
        ]

    def select_transitions(self, name: str | None) -> list[Transition]:
        """For each atomic state the first transition that is enabled, without those that conflict."""
        enabled: list[Transition] = []
        for state in self._atomic():
            for transition in self._candidates(state, name):
                if name is None and transition.source.id in self.work:
                    continue
                if not self._holds(transition.document.get("condition")):
                    continue
                if transition not in enabled:
                    enabled.append(transition)
                break
        return self.remove_conflicting_transitions(enabled)

    def _holds(self, condition: str | None) -> bool:
        if condition is None:
            return True
        kind, _, number = condition.partition(" % 2 == ")
        assert kind == "size(data.log)"
        return len(self.log) % 2 == int(number)

    def remove_conflicting_transitions(self, enabled: list[Transition]) -> list[Transition]:
        filtered: list[Transition] = []
        for first in enabled:
            preempted = False
            remove = []
            for second in filtered:
                if self.compute_exit_set([first]) & self.compute_exit_set([second]):
                    if first.source.within(second.source):
                        remove.append(second)
                    else:
                        preempted = True
                        break
            if not preempted:
                filtered = [each for each in filtered if each not in remove] + [first]
        return filtered

    def microstep(self, enabled: list[Transition]) -> None:
        self.microsteps += 1
        if self.microsteps > 30:
            raise Endless
        domains = {transition: self.get_transition_domain(transition) for transition in enabled}
        self.exit_states(enabled)
        for transition in enabled:
            self._execute(transition.document.get("actions", []))
        entered: set[Node] = set()
        for transition in enabled:
            for target in transition.targets:
                self.add_descendant_states_to_enter(target, entered)
            domain = domains[transition]
            for target in self.get_effective_target_states(transition.targets):
                assert domain is not None
                self.add_ancestor_states_to_enter(target, domain, entered)
        self.enter_states(entered)

    def exit_states(self, enabled: list[Transition]) -> None:
        leaving = sorted(self.compute_exit_set(enabled), key=lambda each: -each.order)
        for node in leaving:
            for history in node.children:
                if history.kind == "history":
                    deep = history.document["properties"]["history"] == "deep"
                    self.history[history.id] = [
                        each
                        for each in self.configuration
                        if (each.atomic and each.within(node) if deep else each.parent is node)
                    ]
        for node in leaving:
            self._execute(node.document.get("exitActions", []))
            self.work.pop(node.id, None)
            self.clocks = [each for each in self.clocks if each[2] != node.id]
            self.configuration.remove(node)

    def compute_exit_set(self, transitions: list[Transition]) -> set[Node]:
        found: set[Node] = set()
        for transition in transitions:
            domain = self.get_transition_domain(transition)
            if domain is not None:
                found |= {node for node in self.configuration if node.within(domain)}
        return found

    def get_transition_domain(self, transition: Transition) -> Node | None:
        targets = self.get_effective_target_states(transition.targets)
        source = transition.source
        if not targets:
            return None
        if (
            transition.document.get("type") == "internal"
            and source.kind == "compound"
            and all(target.within(source) for target in targets)
        ):
            return source
        return next(
            node
            for node in source.ancestors()
            if node.kind == "compound" and all(target.within(node) for target in targets)
        )

    def get_effective_target_states(self, targets: list[Node]) -> list[Node]:
        found: list[Node] = []
        for target in targets:
            if target.kind != "history":
                found.append(target)
            elif target.id in self.history:
                found += self.history[target.id]
            else:
                found += self.get_effective_target_states(self._initial(target))
        return found

    def _initial(self, node: Node) -> list[Node]:
        return [self.nodes[node.document["properties"]["initial"]]]

    def add_descendant_states_to_enter(self, state: Node, entered: set[Node]) -> None:
        if state.kind == "history":
            assert state.parent is not None
            targets = self.history.get(state.id) or self._initial(state)
            for target in targets:
                self.add_descendant_states_to_enter(target, entered)
            for target in targets:
                self.add_ancestor_states_to_enter(target, state.parent, entered)
            return
        entered.add(state)
        if state.kind == "compound":
            for target in self._initial(state):
                self.add_descendant_states_to_enter(target, entered)
                self.add_ancestor_states_to_enter(target, state, entered)
        elif state.kind == "parallel":
            self._add_regions(state, entered)

    def add_ancestor_states_to_enter(self, state: Node, ancestor: Node, entered: set[Node]) -> None:
        for node in state.ancestors(ancestor):
            entered.add(node)
            if node.kind == "parallel":
                self._add_regions(node, entered)

    def _add_regions(self, state: Node, entered: set[Node]) -> None:
        for child in state.children:
            if child.kind != "history" and not any(each is child or each.within(child) for each in entered):
                self.add_descendant_states_to_enter(child, entered)

    def enter_states(self, entered: set[Node]) -> None:
        for node in sorted(entered, key=lambda each: each.order):
            self.configuration.add(node)
            self._execute(node.document.get("entryActions", []))
            for clock in node.document.get("timeouts", []):
                self.numbers += 1
                self.clocks.append((self.now + clock["afterMinutes"] * MINUTE, self.numbers, node.id))
            if node.document.get("properties", {}).get("steps"):
                self.work[node.id] = Work(node)
            if node.kind == "final" and node.parent is not self.root:
                parent = node.parent
                assert parent is not None and parent.parent is not None
                self.internal.append((f"done.state.{parent.id}", None))
                if parent.parent.kind == "parallel" and self._is_in_final_state(parent.parent):
                    self.internal.append((f"done.state.{parent.parent.id}", None))

    def _is_in_final_state(self, state: Node) -> bool:
        if state.kind == "compound":
            return any(each.kind == "final" and each in self.configuration for each in state.children)
        if state.kind == "parallel":
            return all(self._is_in_final_state(each) for each in state.children if each.kind != "history")
        return False

    def _execute(self, actions: list[dict[str, Any]]) -> None:
        for action in actions:
            if action["type"] == "raise":
                self.internal.append((action["trigger"], None))
            else:
                self.log += action["value"].removeprefix("data.log + '").removesuffix("'")


def _matches(descriptor: str | None, name: str | None) -> bool:
    if descriptor is None or name is None:
        return descriptor is name
    return descriptor == "*" or name == descriptor or name.startswith(descriptor + ".")


class Charts:
    """Draws charts that `Machine` can read."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.count = 0
        self.steps = 0
        self.sources: list[str] = []
        self.targets: list[str] = []

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def name(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    def note(self, what: str, share: float = 0.5) -> list[dict[str, Any]]:
        """Actions that write down that it happened; sometimes one that raises a trigger."""
        found: list[dict[str, Any]] = []
        if self.chance(share):
            found.append({"type": "assign", "field": "log", "value": f"data.log + ' {what}'"})
        if self.chance(0.08):
            found.append({"type": "raise", "trigger": self.random.choice(TRIGGERS)})
        return found

    def state(self, depth: int, kinds: tuple[str, ...]) -> dict[str, Any]:
        name = self.name("s")
        kind = self.random.choice(kinds if depth else tuple(each for each in kinds if each in ("atomic", "final")))
        self.targets.append(name)
        if kind == "final":
            return {"id": name, "type": "final", "entryActions": self.note("+" + name)}
        self.sources.append(name)
        state: dict[str, Any] = {"id": name, "properties": {}}
        state |= {"entryActions": self.note("+" + name), "exitActions": self.note("-" + name)}
        if self.chance(0.2):
            state["timeouts"] = [{"afterMinutes": self.random.randint(1, 5)}]
        if self.chance(0.5 if kind == "atomic" else 0.15):
            state["properties"]["steps"] = [self.step() for _ in range(self.random.randint(1, 2))]
        if kind == "compound":
            children = [self.state(depth - 1, ("atomic", "compound", "parallel"))]
            more = ("atomic", "compound", "final", "parallel")
            children += [self.state(depth - 1, more) for _ in range(self.random.randint(0, 2))]
            state["properties"]["initial"] = children[0]["id"]
            state["substates"] = [*self.history(children[0]["id"]), *children]
        elif kind == "parallel":
            state["type"] = "parallel"
            regions = [self.state(depth - 1, ("compound", "compound", "atomic")) for _ in range(2)]
            state["substates"] = [*self.history(None), *regions]
        return state

    def history(self, initial: str | None) -> list[dict[str, Any]]:
        if initial is None or self.chance(0.5):
            return []
        name = self.name("h")
        self.targets.append(name)
        kind = self.random.choice(("shallow", "deep"))
        return [{"id": name, "type": "history", "properties": {"history": kind, "initial": initial}}]

    def step(self) -> dict[str, Any]:
        self.steps += 1
        return {"id": f"t{self.steps}", "type": "external", "topic": "work", "retryPolicy": {"maxAttempts": 1}}

    def transition(self) -> dict[str, Any]:
        choice = self.random.choice
        source = choice(self.sources)
        step = f"error.step.t{self.random.randint(1, max(1, self.steps))}"
        done = f"done.state.{choice(self.sources)}"
        trigger = choice((*TRIGGERS, *TRIGGERS, *TRIGGERS, "timeout", "*", "done.state", done, "error.step", step))
        transition: dict[str, Any] = {"from": source, "trigger": trigger, "priority": self.random.randint(0, 2)}
        transition["actions"] = self.note(f"{source}!")
        transition["type"] = choice(("external", "internal"))
        if self.chance(0.9):
            transition["to"] = choice(self.targets)
        if self.chance(0.25):
            transition["condition"] = f"size(data.log) % 2 == {self.random.randint(0, 1)}"
        return transition

    def document(self) -> dict[str, Any]:
        """A definition."""
        top = [self.state(3, ("atomic", "compound", "parallel", "compound")) for _ in range(self.random.randint(1, 3))]
        states: dict[str, Any] = {each["id"]: each for each in top}
        states["end"] = {"type": "final", "exitActions": self.note("-end")}
        self.targets.append("end")
        transitions = [{"from": each["id"], "to": "end", "trigger": "finish"} for each in top]
        transitions += [self.transition() for _ in range(self.random.randint(4, 16))]
        for source in self.sources:
            if self.chance(0.15):
                transitions.append({"from": source, "to": self.random.choice(self.targets)})
        return {
            "name": "plain-chart",
            "version": "1.0.0",
            "title": "Plain",
            "access": {"advance": ["anyone"]},
            "stateMachine": {
                "states": {
                    id: {key: value for key, value in state.items() if key != "id"} for id, state in states.items()
                },
                "transitions": transitions,
                "initialState": top[0]["id"],
            },
        }
