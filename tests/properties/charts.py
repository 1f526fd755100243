"""Random charts: trees of states with transitions, clocks, history, chains and actions, as ordinary documents."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import strategies as st

TRIGGERS = ("go", "back", "skip", "a.b")
USERS = ("ada", "bob", "cyd", "dora")

CHAIN = {
    "id": "ok",
    "steps": [
        {
            "id": "first",
            "approvers": [{"type": "user", "identifier": "bob"}, {"type": "role", "identifier": "clerk"}],
            "parallel": True,
            "requirements": {"minimumApprovals": 2, "timeoutMinutes": 7},
            "onRejection": "count",
            "onTimeout": "refuse",
        },
        {
            "id": "second",
            "type": "conditional",
            "condition": "data.n > 0",
            "approvers": [{"type": "user", "identifier": "cyd"}, {"type": "user", "identifier": "dora"}],
        },
    ],
}

CONDITIONS = (None, None, None, "data.n > 0", "data.n < 3", "data.missing > 1", "'s1' in instance.configuration")
ACTIONS: tuple[dict[str, Any], ...] = (
    {"type": "assign", "field": "n", "value": "data.n + 1"},
    {"type": "assign", "field": "deep.x", "value": "data.n * 0.5"},
    {"type": "assign", "field": "context.seen", "value": "instance.current_state"},
    {"type": "raise", "trigger": "go"},
    {"type": "send", "trigger": "back"},
    {"type": "send", "trigger": "skip", "delayMinutes": 2, "sendId": "later"},
    {"type": "cancel", "sendId": "later"},
    {"type": "log", "label": "n", "value": "data.n"},
    {
        "type": "foreach",
        "array": "[1, 2]",
        "item": "each",
        "actions": [{"type": "assign", "field": "n", "value": "data.n + data.each"}],
    },
)
#: Rare, because it refuses whatever it is part of.
FAILING: dict[str, Any] = {"type": "assign", "field": "n", "value": "data.missing"}


class _Tree:
    """Draws states and remembers their ids, so that transitions lead somewhere."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.count = 0
        self.sources: list[str] = []
        self.targets: list[str] = []
        self.asking: list[str] = []

    def actions(self) -> list[dict[str, Any]]:
        count = self.random.choice((0, 0, 0, 1, 2))
        return [FAILING if self.random.random() < 0.02 else self.random.choice(ACTIONS) for _ in range(count)]

    def state(self, depth: int, kinds: tuple[str, ...]) -> dict[str, Any]:
        self.count += 1
        name = f"s{self.count}"
        kind = self.random.choice(kinds if depth else tuple(each for each in kinds if each in ("atomic", "final")))
        self.targets.append(name)
        if kind == "final":
            return {"id": name, "type": "final", "exitActions": self.actions()}
        self.sources.append(name)
        state: dict[str, Any] = {"id": name, "entryActions": self.actions(), "exitActions": self.actions()}
        if self.random.random() < 0.25:
            state["timeouts"] = [{"afterMinutes": 3}]
        if kind == "atomic" and self.random.random() < 0.4:
            state["properties"] = {"approvalChain": "ok"}
            self.asking.append(name)
        if kind == "compound":
            children = [self.state(depth - 1, ("atomic", "compound", "parallel", "atomic"))]
            more = ("atomic", "compound", "final", "parallel")
            children += [self.state(depth - 1, more) for _ in range(self.random.randint(0, 2))]
            state["substates"] = [*self.history(children[0]["id"]), *children]
            state["properties"] = {"initial": children[0]["id"]}
        elif kind == "parallel":
            state["type"] = "parallel"
            state["substates"] = [self.state(depth - 1, ("compound", "atomic")) for _ in range(2)]
        return state

    def history(self, default: str) -> list[dict[str, Any]]:
        kind = self.random.choice((None, "shallow", "deep"))
        if kind is None:
            return []
        self.count += 1
        name = f"h{self.count}"
        self.targets.append(name)
        return [{"id": name, "type": "history", "properties": {"history": kind, "initial": default}}]

    def transition(self) -> dict[str, Any]:
        choice = self.random.choice
        transition: dict[str, Any] = {
            "from": choice(self.sources),
            "trigger": choice((*TRIGGERS, *TRIGGERS, "*", "timeout", "approved", "done.state", "error")),
            "actions": self.actions(),
            "priority": self.random.randint(0, 2),
            "type": choice(("external", "internal")),
        }
        if self.random.random() < 0.85:
            transition["to"] = choice(self.targets)
        condition = choice(CONDITIONS)
        if condition is not None:
            transition["condition"] = condition
        return transition


def document(seed: int) -> dict[str, Any]:
    """
    A definition document. Not every one is free of findings; those are for the checks to refuse.

    Drawn by a plain generator from a seed, which is thirty times as fast as drawing every choice by hypothesis; the
    orders, where a failing run is worth shrinking, are drawn by hypothesis.
    """
    random = Random(seed)
    tree = _Tree(random)
    top = [tree.state(3, ("atomic", "compound", "parallel")) for _ in range(random.randint(1, 3))]
    states: dict[str, Any] = {each["id"]: each for each in top}
    states["end"] = {"type": "final"}
    tree.targets.append("end")
    transitions: list[dict[str, Any]] = [{"from": each["id"], "to": "end", "trigger": "finish"} for each in top]
    for name in tree.asking:
        transitions.append({"from": name, "to": random.choice(tree.targets)})
        transitions.append({"from": name, "to": random.choice(tree.targets), "trigger": "rejected"})
    transitions += [tree.transition() for _ in range(random.randint(3, 14))]
    if random.random() < 0.3:
        source, target = random.choice(tree.sources), random.choice(tree.targets)
        transitions.append({"from": source, "to": target, "condition": "data.n > 4"})
    return {
        "name": "random-chart",
        "version": "1.0.0",
        "title": "Random",
        "display": {"title": "{data.n} of {requester.username}"},
        "access": {"advance": ["anyone"], "cancel": ["anyone"]},
        "approvalChains": [CHAIN] if tree.asking else [],
        "timeoutConfig": {"workflowTimeout": 60},
        "stateMachine": {"states": states, "transitions": transitions, "initialState": top[0]["id"]},
    }


documents = st.integers(0, 2**32).map(document)


@st.composite
def orders(draw: Any) -> tuple[Any, ...]:
    """One thing to do to an instance; the rarer things more rarely."""
    user = draw(st.sampled_from(USERS))
    kind = draw(st.integers(0, 19))
    if kind < 9:
        return ("fire", draw(st.sampled_from((*TRIGGERS, *TRIGGERS, "finish", "resubmit"))), user)
    if kind < 13:
        action = draw(st.sampled_from(("approve", "approve", "approve", "reject", "request_changes")))
        return ("decide", action, draw(st.sampled_from(("bob", "clerk", "cyd", "dora"))))
    if kind < 15:
        return ("advance", draw(st.sampled_from((1, 60_000, 180_000, 600_000))))
    if kind < 17:
        return ("update", draw(st.integers(-2, 6)), "ada")
    return (("suspend",), ("resume",), ("delegate", draw(st.sampled_from(USERS)), user), ("cancel", "", user))[
        draw(st.sampled_from((0, 1, 1, 2, 2, 3)))
    ]
