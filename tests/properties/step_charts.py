"""Random charts with random trees of steps, and what may happen to them, drawn from seeds."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import strategies as st

CODES = ("TIMEOUT", "HTTP_503", "LEASE_LAPSED", "NO")


class _Steps:
    """Draws steps and remembers their ids, so that expressions and triggers can name them."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.count = 0
        self.ids: list[str] = []

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def pick(self, rare: str, *others: str) -> str:
        """One of the others; rarely what fails, because an instance whose step is stuck goes nowhere."""
        return rare if self.chance(0.04) else self.random.choice(others)

    def row(self, depth: int, most: int = 3) -> list[dict[str, Any]]:
        return [self.step(depth) for _ in range(self.random.randint(1, most))]

    def step(self, depth: int) -> dict[str, Any]:
        self.count += 1
        id = f"t{self.count}"
        self.ids.append(id)
        leaves = (
            "plugin",
            "plugin",
            "plugin",
            "external",
            "assign",
            "wait",
            "emit",
            "receive",
            "sub_workflow",
            "approval",
        )
        holders = ("sequential", "sequential", "parallel", "parallel", "conditional", "for_each")
        kind = self.random.choice(leaves if depth == 0 else (*leaves, *holders, *holders))
        step: dict[str, Any] = {"id": id, "type": kind, **getattr(self, kind)(depth)}
        if kind != "conditional" and self.chance(0.15):
            step["condition"] = self.pick("data.missing", "data.n > 0", "data.n < 3", "data.n >= 0")
        if kind not in ("assign", "emit") and step.get("waitForCompletion", True) and self.chance(0.2):
            step["timeoutMinutes"] = self.random.choice((1, 3))
        if self.chance(0.15):
            step["continueOnError"] = True
        if self.chance(0.6):
            undo = self.random.choice(("plugin", "assign", "external"))
            step["compensation"] = {"type": undo, **getattr(self, undo)(0)}
        if self.chance(0.2):
            step["outputMapping"] = {f"out_{id}": self.pick("output.x", "output", "data.n")}
        return step

    def plugin(self, depth: int) -> dict[str, Any]:
        step: dict[str, Any] = {"pluginId": "some", "inputMapping": {"n": "data.n"}}
        if self.chance(0.7):
            step["retryPolicy"] = {
                "maxAttempts": self.random.randint(1, 3),
                "doNotRetryOn": ["NO"],
                "initialDelaySeconds": 30,
            }
        return step

    def external(self, depth: int) -> dict[str, Any]:
        return {"topic": "work", "retryPolicy": {"maxAttempts": self.random.randint(1, 2)}}

    def assign(self, depth: int) -> dict[str, Any]:
        return {"assignments": {"n": self.pick("data.missing.x", "data.n + 1", "data.n + 1", "0")}}

    def wait(self, depth: int) -> dict[str, Any]:
        return {"durationMinutes": self.random.choice((1, 2, "data.n"))}

    def emit(self, depth: int) -> dict[str, Any]:
        return {"eventType": "something.happened", "data": {"n": "data.n"}}

    def receive(self, depth: int) -> dict[str, Any]:
        return {"eventType": self.random.choice(("paid", "order.*")), "correlationKey": "string(data.n)"}

    def sub_workflow(self, depth: int) -> dict[str, Any]:
        step: dict[str, Any] = {"workflowId": "other", "inputMapping": {"n": "data.n"}}
        if self.chance(0.2):
            return {**step, "waitForCompletion": False}
        return {**step, "failureHandling": self.random.choice(("fail_parent", "continue", "retry"))}

    def approval(self, depth: int) -> dict[str, Any]:
        return {"chainId": "ok"}

    def sequential(self, depth: int) -> dict[str, Any]:
        step: dict[str, Any] = {"steps": self.row(depth - 1)}
        if self.chance(0.7):
            step["rollbackOnFailure"] = True
        return step

    def parallel(self, depth: int) -> dict[str, Any]:
        wait = self.random.choice(("all", "all", "any", "majority", "custom"))
        branches: list[dict[str, Any]] = []
        for number in range(self.random.randint(1, 3)):
            branch: dict[str, Any] = {"id": f"b{number}", "steps": self.row(depth - 1, 2)}
            if wait == "majority":
                branch["weight"] = self.random.randint(1, 3)
            if self.chance(0.2):
                branch["timeoutMinutes"] = self.random.choice((1, 3))
            if self.chance(0.15):
                branch["condition"] = "data.n > 1"
            branches.append(branch)
        step: dict[str, Any] = {
            "branches": branches,
            "waitStrategy": wait,
            "failureStrategy": self.random.choice(("fail_fast", "wait_all", "continue")),
        }
        if wait == "custom":
            step["completionCondition"] = self.random.choice(
                (
                    "counts.completed >= 2",
                    "branches.b0.status == 'completed'",
                    "counts.failed > 0",
                    "counts.running == 0",
                )
            )
        return step

    def conditional(self, depth: int) -> dict[str, Any]:
        step: dict[str, Any] = {
            "condition": self.pick("data.missing > 1", "data.n > 0", "data.n > 2"),
            "trueBranch": {"steps": self.row(depth - 1, 2)},
        }
        if self.chance(0.5):
            step["falseBranch"] = {"steps": self.row(depth - 1, 2)}
        if self.chance(0.3):
            step["defaultBranch"] = {"steps": []}
        return step

    def for_each(self, depth: int) -> dict[str, Any]:
        return {
            "items": self.pick("data.missing", "[1, 2, 3]", "[]", "data.list"),
            "maxConcurrency": self.random.randint(1, 3),
            "steps": self.row(depth - 1, 2),
        }


CHAIN = {
    "id": "ok",
    "steps": [
        {"id": "first", "approvers": [{"type": "user", "identifier": "bob"}], "requirements": {"timeoutMinutes": 7}}
    ],
}


def document(seed: int) -> dict[str, Any]:
    """A definition of three states with steps, one of them with regions that have steps of their own."""
    random = Random(seed)
    steps = _Steps(random)
    states: dict[str, Any] = {}
    for name in ("a", "b", "c"):
        states[name] = {"properties": {"steps": steps.row(2)}}
        if random.random() < 0.3:
            states[name]["timeouts"] = [{"afterMinutes": 10}]
    states["c"]["type"] = "parallel"
    states["c"]["substates"] = [
        {"id": "left", "properties": {"steps": steps.row(1, 2)}},
        {"id": "right", "properties": {"steps": steps.row(1, 2)}},
    ]
    states["end"] = {"type": "final"}
    transitions: list[dict[str, Any]] = [
        {"from": "a", "to": "b"},
        {"from": "b", "to": random.choice(("c", "end"))},
        {"from": "c", "to": "end"},
    ]
    for name in ("a", "b", "c", "left"):
        transitions.append({"from": name, "to": random.choice(("a", "b", "c", "end")), "trigger": "go"})
        if random.random() < 0.4:
            error: dict[str, Any] = {
                "from": name,
                "trigger": random.choice((f"error.step.{random.choice(steps.ids)}", "error.step", "error")),
            }
            if random.random() < 0.8:
                error["to"] = random.choice(("a", "b", "c", "end"))
            if random.random() < 0.3:
                error["condition"] = "data.n > 2"
            transitions.append(error)
    return {
        "name": "random-steps",
        "version": "1.0.0",
        "title": "Random",
        "access": {"advance": ["anyone"], "cancel": ["anyone"]},
        "approvalChains": [CHAIN],
        "steps": {"named": {"type": "sequential", "steps": steps.row(1, 2)}},
        "stateMachine": {"states": states, "transitions": transitions, "initialState": "a"},
    }


documents = st.integers(0, 2**32).map(document)


@st.composite
def happenings(draw: Any) -> tuple[Any, ...]:
    """One thing that happens to an instance at work; the rarer things more rarely. Numbers choose among what is there."""
    kind = draw(st.integers(0, 39))
    which = draw(st.integers(0, 5))
    if kind < 14:
        return ("complete", which, draw(st.sampled_from(({"x": 1}, None, {"x": {"y": [1, 2]}}))))
    if kind < 22:
        return ("fail", which, draw(st.sampled_from(CODES)), draw(st.booleans()))
    if kind < 25:
        return ("stale", which, draw(st.sampled_from((-1, 1))))
    if kind < 29:
        return ("advance", draw(st.sampled_from((30_000, 60_000, 180_000, 900_000))))
    if kind < 32:
        return ("resolve", which, draw(st.sampled_from(("retry", "retry", "skip", "give_up"))))
    if kind < 34:
        return ("deliver", which)
    if kind < 36:
        return ("decide", draw(st.sampled_from(("approve", "approve", "reject", "request_changes"))))
    return (("fire", "go"), ("suspend",), ("resume",), ("cancel",))[kind - 36]
