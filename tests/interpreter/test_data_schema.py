"""What a command leaves fits the data schema, whoever has written it."""

from __future__ import annotations

from typing import Any, Final

import pytest

from pliers_workflow.interpreter.rejections import Reason
from tests.interpreter.building import accepted, refused, simulate, started
from tests.interpreter.steps.working import END, at_work, call, data, incident, jobs, status

SCHEMA: Final = {"type": "object", "properties": {"pages": {"type": "integer", "maximum": 10}}}


def assign(value: str) -> dict[str, Any]:
    """An action that sets the pages."""
    return {"type": "assign", "field": "pages", "value": value}


def test_an_output_that_does_not_fit_is_an_incident() -> None:
    """The result is kept with its step, the data stay as they are, and the incident names the place, not the value."""
    run = at_work(call("scan", outputMapping={"pages": "output.pages"}), dataSchema=SCHEMA, data={"pages": 1})
    accepted(run.complete("scan", {"pages": "secret"}))
    assert (status(run), data(run)) == ("failed", {"pages": 1})
    assert incident(run).code == "data_invalid"
    assert "does not fit at /pages" in incident(run).message
    assert "secret" not in incident(run).message
    assert incident(run).details == {"result": "kept", "findings": [{"pointer": "/pages"}]}


def test_an_output_that_fits_is_written() -> None:
    """As ever; without a schema anything is."""
    for rest in {"dataSchema": SCHEMA}, {}:
        run = at_work(call("scan", outputMapping={"pages": "output.pages"}), call("next"), **rest)
        accepted(run.complete("scan", {"pages": 7}))
        assert (data(run), jobs(run)) == ({"pages": 7}, ["next"])


@pytest.mark.parametrize("place", ["transition", "entry", "step"])
def test_an_action_that_does_not_fit_refuses_the_command(place: str) -> None:
    """Whoever fired the trigger is told every deviation, and nothing has changed."""
    action = assign("50")
    states: dict[str, Any] = {"draft": {}, "done": {}}
    go: dict[str, Any] = {"from": "draft", "to": "done", "trigger": "go"}
    if place == "transition":
        go["actions"] = [action]
    elif place == "entry":
        states["done"] = {"entryActions": [action]}
    else:
        states["done"] = {"properties": {"steps": [{"type": "assign", "id": "set", "assignments": {"pages": "50"}}]}}
    run = started(states, [go], dataSchema=SCHEMA)
    rejection = refused(run.fire("go", user="ada"))
    assert rejection.reason is Reason.DATA_INVALID
    assert [each["pointer"] for each in rejection.details["findings"]] == ["/pages"]
    assert run.instance is not None
    assert run.instance.current_state == "draft"


def test_between_two_assignments_data_may_be_as_they_like() -> None:
    """Only what a command leaves counts."""
    go = {"from": "draft", "to": "done", "trigger": "go", "actions": [assign("50"), assign("5")]}
    run = started({"draft": {}, "done": END}, [go], dataSchema=SCHEMA)
    accepted(run.fire("go", user="ada"))
    assert data(run) == {"pages": 5}


def test_a_start_that_would_leave_such_data_is_refused() -> None:
    """Entering the first state belongs to it."""
    run = simulate({"draft": {"entryActions": [assign("50")]}}, [], dataSchema=SCHEMA)
    assert refused(run.start({}, "ada")).reason is Reason.DATA_INVALID
