"""What no node would do is not kept."""

from __future__ import annotations

from typing import Any

import pytest

from pliers_workflow.runtime.catalog import unserved

TELL: dict[str, Any] = {"type": "notification", "id": "tell", "template": "x", "recipients": ["requester"]}
EMAIL: dict[str, Any] = {**TELL, "channels": ["email"]}


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


def test_a_channel_that_nobody_serves_is_refused() -> None:
    """Wherever its step stands, each channel with its place and what to use instead."""
    http = {"type": "http", "id": "call", "url": "https://example.com", "compensation": EMAIL}
    assert places(document(EMAIL)) == [f"{INSIDE}/0/channels/0"]
    assert places(document({"type": "sequential", "steps": [EMAIL]})) == [f"{INSIDE}/0/steps/0/channels/0"]
    assert places(document(http)) == [f"{INSIDE}/0/compensation/channels/0"]
    assert places(document("named", named=EMAIL)) == ["/steps/named/channels/0"]
    several = {**TELL, "channels": ["email", "webhook", "sms"]}
    assert places(document(several)) == [f"{INSIDE}/0/channels/0", f"{INSIDE}/0/channels/2"]
    (finding,) = unserved.read(document(EMAIL)).findings
    assert finding.message == "The channel `email` comes with a later release."
    assert "`webhook`" in (finding.hint or "")


def test_what_is_served_passes() -> None:
    """The channel there is, other steps, and data that only look alike are none of its business."""
    body = {"type": "'notification'", "channels": "['email']"}
    assert places(document({"type": "http", "id": "call", "url": "https://example.com", "body": body})) == []
    assert places(document(TELL)) == places(document({**TELL, "channels": ["webhook"]})) == []
    assert places(document()) == []


@pytest.mark.parametrize("value", [None, 7, [], {"steps": 3, "stateMachine": {"states": [None, {"substates": 1}]}}])
def test_any_json_value_can_be_asked(value: object) -> None:
    """It raises for nothing."""
    assert unserved.read(value).definition is None
