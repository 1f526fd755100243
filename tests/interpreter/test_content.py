"""Executable content: assign, raise, send, if, foreach, log, and the data they leave."""

from __future__ import annotations

from copy import deepcopy
from decimal import Decimal
from typing import Any

import pytest

from pliers_workflow.interpreter.events import DataChanged, NoteLogged
from pliers_workflow.interpreter.rejections import Reason
from tests.interpreter.building import accepted, refused, started

FINAL = {"type": "final"}


def run_actions(*actions: dict[str, Any], data: dict[str, Any] | None = None, **rest: Any) -> Any:
    """Fire one transition with these actions."""
    run = started(
        {"open": {}, "end": FINAL}, [{"from": "open", "to": "end", "trigger": "go", "actions": list(actions)}],
        data=data, **rest,
    )  # fmt: skip
    return run.fire("go", user="ada")


def assign(field: str, value: str) -> dict[str, Any]:
    return {"type": "assign", "field": field, "value": value}


@pytest.mark.parametrize(
    ("field", "before", "after"),
    [
        ("n", {}, {"n": 7}),
        ("data.n", {"n": 1, "m": 2}, {"n": 7, "m": 2}),
        ("a.b.c", {}, {"a": {"b": {"c": 7}}}),
        ("a.b", {"a": {"c": 1}}, {"a": {"c": 1, "b": 7}}),
        ("a.b", {"a": None}, {"a": {"b": 7}}),
    ],
)
def test_assign_sets_one_field_and_makes_the_maps_on_its_way(field: str, before: Any, after: Any) -> None:
    """What lies beside the field is untouched, and the data given are not changed in place."""
    given = deepcopy(before)
    assert accepted(run_actions(assign(field, "7"), data=before)).instance.data == after
    assert before == given


def test_assign_through_something_that_is_no_map_is_an_error() -> None:
    """A number has no fields; it is not silently replaced."""
    rejection = refused(run_actions(assign("a.b", "7"), data={"a": 1}))
    assert rejection.reason is Reason.EXECUTION_ERROR
    assert "a is a number" in rejection.details["error"]


def test_context_is_beside_the_data() -> None:
    """`context.` leads there; the data do not change."""
    instance = accepted(run_actions(assign("context.n", "1 + 1"))).instance
    assert (instance.context, instance.data) == ({"n": 2}, {})


def test_numbers_stay_exact() -> None:
    """No float comes near the data."""
    instance = accepted(
        run_actions(assign("sum", "data.a + data.b"), data={"a": Decimal("0.1"), "b": Decimal("0.2")})
    ).instance
    assert instance.data["sum"] == Decimal("0.3")


def test_assignments_in_a_row_are_one_event() -> None:
    """A loop over many elements does not flood the history."""
    loop = {"type": "foreach", "array": "data.list", "item": "each", "index": "at",
            "actions": [assign("sum", "data.sum + data.each * data.at")]}  # fmt: skip
    outcome = accepted(run_actions(loop, data={"list": list(range(50)), "sum": 0}))
    changes = [each for each in outcome.events if isinstance(each, DataChanged)]
    assert changes == [DataChanged(set={"each": 49, "at": 49, "sum": sum(n * n for n in range(50))})]


@pytest.mark.parametrize("array", ["5", "{'a': 1}", "null", "'text'"])
def test_foreach_wants_a_list(array: str) -> None:
    """Anything else is an error, not an empty loop."""
    run = run_actions({"type": "foreach", "array": f"data.x == 1 ? {array} : data.y", "item": "each"}, data={"x": 1})
    assert refused(run).reason is Reason.EXECUTION_ERROR


@pytest.mark.parametrize(("n", "expected"), [(1, "one"), (2, "two"), (3, "many")])
def test_if_runs_the_first_branch_that_holds(n: int, expected: str) -> None:
    """The branch without condition is the else."""
    branches = [
        {"condition": "data.n == 1", "actions": [assign("is", "'one'")]},
        {"condition": "data.n == 2", "actions": [assign("is", "'two'")]},
        {"actions": [assign("is", "'many'")]},
    ]
    assert accepted(run_actions({"type": "if", "branches": branches}, data={"n": n})).instance.data["is"] == expected


def test_a_failing_condition_of_an_if_refuses_the_command() -> None:
    """Without a handler; it does not slip into the else."""
    branches = [{"condition": "data.nothing > 1"}, {"actions": [assign("n", "1")]}]
    assert refused(run_actions({"type": "if", "branches": branches})).reason is Reason.EXECUTION_ERROR


def test_log_leaves_a_note() -> None:
    """Label and value are in the history; nothing else changes."""
    outcome = accepted(run_actions({"type": "log", "label": "seen", "value": "data"}, data={"n": 1}))
    assert NoteLogged("seen", {"n": 1}) in outcome.events


def test_instants_and_durations_become_text() -> None:
    """Data are JSON: what CEL computes beyond it is written as CEL reads it back."""
    actions = assign("at", "timestamp('2026-01-01T00:00:00Z')"), assign("long", "duration('90m')")
    data = accepted(run_actions(*actions)).instance.data
    assert data["long"] == "5400s"
    assert data["at"].startswith("2026-01-01T00:00:00")


def test_named_actions_are_run_by_name() -> None:
    """`stateMachine.actions` names one action or several."""
    named = {"stamp": [assign("a", "1"), assign("b", "2")]}
    run = started(
        {"open": {}, "end": FINAL},
        [{"from": "open", "to": "end", "trigger": "go", "actions": ["stamp"]}],
        actions=named,
    )
    assert accepted(run.fire("go")).instance.data == {"a": 1, "b": 2}


def test_metadata_of_the_definition_can_be_read() -> None:
    """`metadata` is the definition's."""
    outcome = accepted(run_actions(assign("owner", "metadata.owner"), metadata={"owner": "finance"}))
    assert outcome.instance.data == {"owner": "finance"}
