"""Names as long as a definition may have them: whatever is made of them can be kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pliers_workflow.interpreter.commands import FailStep, RecordDecision
from pliers_workflow.runtime.answers import Accepted

from .conftest import World

STATE, CHAIN, STAGE, TRIGGER = "s" * 255, "c" * 255, "g" * 255, "t" * 255

#: a step of each kind that waits, without an id
STEPS: dict[str, dict[str, Any]] = {
    "external": {"type": "external", "topic": "t" * 255, "retryPolicy": {"maxAttempts": 1}},
    "receive": {"type": "receive", "eventType": "e" * 255, "correlationKey": "'x'", "timeoutMinutes": 1},
    "approval": {"type": "approval", "chainId": CHAIN},
    "sub_workflow": {"type": "sub_workflow", "workflowId": "n" * 255},
    "wait": {"type": "wait", "durationMinutes": 1},
    "assign": {"type": "assign", "assignments": {"x": "1 / 0"}},
}


def document(step: dict[str, Any], depth: int) -> dict[str, Any]:
    """The step in so many branches inside each other, with the longest names all around."""
    for _ in range(depth):
        step = {"type": "parallel", "branches": [{"id": "b" * 100, "steps": [step]}]}
    return {
        "name": "n" * 255, "version": "1.0.0", "title": "N" * 500,
        "stateMachine": {
            "initialState": STATE,
            "states": {
                STATE: {"properties": {"steps": [step]}, "timeouts": [{"afterMinutes": 5, "trigger": TRIGGER}]},
                "done": {"type": "final"},
            },
            "transitions": [{"from": STATE, "to": "done"}, {"from": STATE, "to": "done", "trigger": TRIGGER}],
        },
        "approvalChains": [{"id": CHAIN, "steps": [{"id": STAGE, "approvers": [{"type": "user", "identifier": "ada"}]}]}]
        if step["type"] == "approval" else [],
    }  # fmt: skip


@pytest.mark.parametrize("depth", [0, 8])
@pytest.mark.parametrize("kind", STEPS)
async def test_the_longest_names(make_world: Callable[..., Awaitable[World]], kind: str, depth: int) -> None:
    """A step that fails, is asked, or waits: its rows are written, and its incident."""
    world = await make_world()
    await world.people(ada={}, bob={})
    made = document(STEPS[kind], depth)
    if kind == "approval":
        made["approvalChains"] = document(STEPS[kind], 0)["approvalChains"]
    answer = await world.start(await world.publish(made), "bob", data={})
    id, machine = answer.instance.id, answer.instance.machine
    (run,) = [each for each in machine.steps.values() if each.type == kind]
    if kind in ("external", "sub_workflow"):
        failed = await world.do(id, None, FailStep(run.id, 1, "C" * 300, "m", retryable=False))
        assert isinstance(failed, Accepted), failed
    if kind == "approval":
        decided = await world.do(id, "ada", RecordDecision(action="approve", stage=STAGE))
        assert isinstance(decided, Accepted), decided
    rows = await world.engine.pool.fetch("SELECT step_id FROM workflow_incidents")
    assert [row["step_id"] for row in rows] == ([run.step_id] if kind in ("external", "sub_workflow", "assign") else [])
    await world.check(id)
