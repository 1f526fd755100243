"""The adapter: forms that the shared cases happen not to use, because others will be run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.adapter import NotSupported, condition, expression
from tests.conformance.run import run_case


def case(states: list[dict[str, Any]], initial: list[str], events: list[tuple[str, list[str]]], **chart: Any) -> Any:
    """A case of the neutral form, with the first state as initial."""
    return {
        "name": "own/case",
        "statechart": {"initial": {"target": [states[0]["id"]]}, "states": states, **chart},
        "initialConfiguration": initial,
        "events": [{"event": {"name": name}, "nextConfiguration": after} for name, after in events],
    }


def go(event: str, target: str, *actions: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"event": [event], "target": [target], "type": "external", "actions": list(actions), **rest}


def test_a_wrong_expectation_fails() -> None:
    """The runner says what differs; it cannot pass by looking away."""
    states = [{"id": "a", "type": "atomic", "transitions": [go("t", "b")]}, {"id": "b", "type": "atomic"}]
    assert run_case(case(states, ["a"], [("t", ["b"])])) == []
    assert run_case(case(states, ["b"], [("t", ["b"])])) == ["start: expected ['b'], got ['a']"]
    assert run_case(case(states, ["a"], [("t", ["a"])])) == ["event 1 (t): expected ['a'], got ['b']"]
    assert run_case(case(states, ["a"], [("t", ["b"])]), [["+a"], ["+b", "-a"]])[0].startswith(
        "event 1 (t): expected the order"
    )


def test_an_error_that_nobody_takes_ends_its_block_and_no_more() -> None:
    """As an event that matches nothing (SCXML §4.3, §3.12.2)."""
    wrong = {"type": "assign", "location": "x", "expr": {"var": "nowhere"}}
    states = [
        {
            "id": "a",
            "type": "atomic",
            "onentry": [wrong, {"type": "raise", "event": "on"}],
            "transitions": [go("on", "b")],
        },
        {"id": "b", "type": "atomic"},
    ]
    assert run_case(case(states, ["a"], [("t", ["a"])])) == []


def test_a_start_that_is_refused_is_said() -> None:
    """There is nothing then to send events to."""
    states = [
        {"id": "end", "type": "final", "onentry": [{"type": "assign", "location": "x", "expr": {"var": "nowhere"}}]}
    ]
    (problem,) = run_case(case(states, ["end"], []))
    assert problem.startswith("start: refused, ")
    assert "nowhere" in problem


@pytest.mark.parametrize("key", ["sendid", "sendId", "id"])
def test_a_delayed_event_can_be_cancelled(key: str) -> None:
    """By its id, whatever the form calls that."""
    send = {"type": "send", "event": "late", "delayMs": 100, key: "Later_1"}
    states = [
        {
            "id": "a",
            "type": "atomic",
            "onentry": [send],
            "transitions": [go("t", "b", {"type": "cancel", key: "Later_1"})],
        },
        {"id": "b", "type": "atomic", "transitions": [go("late", "c")]},
        {"id": "c", "type": "atomic"},
    ]
    cancelled = case(states, ["a"], [("t", ["b"]), ("x", ["b"])])
    cancelled["events"][1]["after"] = 200
    assert run_case(cancelled) == []


def test_states_that_stand_still_and_transitions_that_are_never_taken() -> None:
    """Our checks refuse them beside a top-level final state; the case runs all the same."""
    states = [
        {"id": "a", "type": "atomic", "transitions": [go("t", "b"), go("t", "end")]},
        {"id": "b", "type": "atomic"},
        {"id": "end", "type": "final"},
    ]
    assert run_case(case(states, ["a"], [("t", ["b"]), ("t", ["b"])])) == []


@pytest.mark.parametrize(
    ("tree", "before", "after"),
    [
        ({"-": [{"var": "x"}, 1]}, 3, 2),
        ({"%": [{"var": "x"}, 2]}, 3, 1),
        ({"-": [{"var": "x"}]}, 3, -3),
        ({"?:": [{">": [{"var": "x"}, 2]}, "big", "small"]}, 3, "big"),
        ({"+": ["n=", {"var": "x"}]}, 3, "n=3"),
        ({"||": [{"var": "x"}, {"==": [1, 1]}]}, 0, True),
        ({"list": [1, {"var": "x"}]}, 3, [1, 3]),
        ({"object": {"k": {"var": "x"}}}, 3, {"k": 3}),
    ],
)
def test_expressions(tree: Any, before: Any, after: Any) -> None:
    """Operators with JavaScript's meaning: the value assigned is the expected one."""
    assign = {"type": "assign", "location": "x", "expr": tree}
    states = [
        {"id": "a", "type": "atomic", "transitions": [go("t", "b", assign)]},
        {
            "id": "b",
            "type": "atomic",
            "transitions": [go("u", "c", cond={"expr": {"==": [{"var": "x"}, _tree(after)]}})],
        },
        {"id": "c", "type": "atomic"},
    ]
    assert run_case(case(states, ["a"], [("t", ["b"]), ("u", ["c"])], data=[{"id": "x", "value": before}])) == []


def _tree(value: Any) -> Any:
    return {"object": value} if isinstance(value, dict) else {"list": value} if isinstance(value, list) else value


@pytest.mark.parametrize(("value", "truth"), [(0, False), (2, True), ("", False), ("x", True), (None, False)])
def test_truth(value: Any, truth: bool) -> None:
    """A condition that is no comparison has JavaScript's truth."""
    states = [
        {"id": "a", "type": "atomic", "transitions": [go("t", "b", cond={"expr": {"var": "x"}})]},
        {"id": "b", "type": "atomic"},
    ]
    run = case(states, ["a"], [("t", ["b" if truth else "a"])], data=[{"id": "x", "value": value}])
    assert run_case(run) == []


def test_missing_members_of_event_data_are_undefined() -> None:
    """They equal nothing, and are no error."""
    assert expression({"event": "data.n"}) == "(has(event.data.n) ? event.data.n : null)"
    assert condition(True) == "true"


def test_what_is_not_known_is_said() -> None:
    """An operator without a translation fails the case and names itself."""
    with pytest.raises(NotSupported, match="typeof"):
        expression({"typeof": [{"var": "x"}]})
