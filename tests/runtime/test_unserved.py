"""What no node would run is not published."""

from __future__ import annotations

from typing import Any

import pytest

from pliers_workflow.runtime import unserved

PLUGIN: dict[str, Any] = {"type": "plugin", "id": "score", "pluginId": "credit"}
EXTERNAL: dict[str, Any] = {"type": "external", "id": "print", "topic": "printing"}


def document(*steps: Any, **named: Any) -> dict[str, Any]:
    return {
        "name": "errand", "version": "1.0.0", "title": "Errand", **({"steps": named} if named else {}),
        "stateMachine": {
            "initialState": "busy",
            "states": {
                "busy": {"substates": [{"id": "inside", "type": "initial", "properties": {"steps": list(steps)}}]},
                "done": {"type": "final"},
            },
            "transitions": [{"from": "busy", "to": "done", "trigger": "go"}],
        },
    }  # fmt: skip


def places(of: dict[str, Any]) -> list[str]:
    read = unserved.read(of)
    found = [finding for finding in read.findings if finding.code == "not_supported_yet"]
    assert (read.definition is None) or not found
    return [finding.pointer for finding in found]


INSIDE = "/stateMachine/states/busy/substates/0/properties/steps"


def test_a_step_that_nobody_runs_is_refused() -> None:
    """Wherever it stands: in a state, inside another step, as a compensation, among the named steps."""
    step = PLUGIN
    http = {"type": "http", "id": "call", "url": "https://example.com", "compensation": step}
    assert places(document(step)) == [f"{INSIDE}/0/type"]
    assert places(document({"type": "sequential", "steps": [step]})) == [f"{INSIDE}/0/steps/0/type"]
    assert places(document(http)) == [f"{INSIDE}/0/compensation/type"]
    assert places(document("named", named=step)) == ["/steps/named/type"]


def test_what_is_served_passes() -> None:
    """Other steps, and data that only look alike, are none of its business."""
    http = {"type": "http", "id": "call", "url": "https://example.com", "body": {"type": "'plugin'"}}
    assert places(document(http)) == []
    assert places(document(EXTERNAL)) == []
    assert places(document()) == []


@pytest.mark.parametrize("value", [None, 7, [], {"steps": 3, "stateMachine": {"states": [None, {"substates": 1}]}}])
def test_any_json_value_can_be_asked(value: object) -> None:
    """It raises for nothing."""
    assert unserved.read(value).definition is None
