"""Cancellation: of a task, of several, of a part of the case, of the case."""

from __future__ import annotations

from pliers_workflow.interpreter.commands import CancelInstance, CompleteStep
from pliers_workflow.interpreter.effects import SendOrder
from tests.interpreter.building import accepted, refused, started
from tests.interpreter.steps.working import END, at_work, call, jobs, status


def test_cancel_task() -> None:
    """WCP-19 Cancel task: work that has begun is given up, and its late result counts for nothing."""
    run = started(
        {"asking": {"properties": {"steps": [call("ask")]}}, "end": {}},
        [{"from": "asking", "to": "end", "trigger": "never_mind"}],
    )
    asked = run.run_of("ask")
    accepted(run.fire("never_mind", user="ada"))
    assert run.jobs == {}
    assert refused(run.give(CompleteStep(asked.id, asked.attempt, "late"), None)).reason == "step_gone"


def test_cancel_case() -> None:
    """WCP-20 Cancel case: everything in flight is given up, sub-workflows included, and nothing more is taken."""
    run = at_work(
        {
            "type": "parallel",
            "branches": [
                {"id": "a", "steps": [call("ask")]},
                {"id": "b", "steps": [{"type": "sub_workflow", "workflowId": "other"}]},
                {"id": "c", "steps": [{"type": "wait", "durationMinutes": 5}]},
            ],
        }
    )
    accepted(run.cancel("ada"))
    assert run.instance is not None
    assert (status(run), run.jobs, dict(run.instance.machine.timers)) == ("cancelled", {}, {})
    sent = [order.order for order in run.orders if isinstance(order, SendOrder)]
    assert [type(order) for order in sent] == [CancelInstance]


def test_cancel_region() -> None:
    """WCP-25 Cancel region: what belongs to one part of the case is given up, and the rest goes on."""
    states = {
        "case": {
            "type": "parallel",
            "substates": [
                {
                    "id": "search",
                    "properties": {"initial": "searching"},
                    "substates": [{"id": "searching", "properties": {"steps": [call("phone"), call("write")]}}, {"id": "called_off"}],
                },
                {"id": "care", "properties": {"initial": "caring"}, "substates": [{"id": "caring", "properties": {"steps": [call("feed")]}}]},
            ],
        }
    }  # fmt: skip
    run = started(states, [{"from": "searching", "to": "called_off", "trigger": "found"}])
    assert jobs(run) == ["phone", "feed"]
    accepted(run.fire("found", user="ada"))
    assert jobs(run) == ["feed"]


def test_cancel_multiple_instances() -> None:
    """WCP-26 Cancel multiple-instance activity: those that have not ended are given up, those that have stay as they are."""
    count = {"type": "assign", "assignments": {"kept": "has(data.kept) ? data.kept + 1 : 1"}}
    loop = {"type": "for_each", "items": "[1, 2, 3]", "steps": [call("ask"), count]}
    run = started(
        {"asking": {"properties": {"steps": [loop]}}, "end": {}}, [{"from": "asking", "to": "end", "trigger": "stop"}]
    )
    accepted(run.complete(next(iter(run.jobs))))
    accepted(run.fire("stop", user="ada"))
    assert run.instance is not None
    assert (run.jobs, run.instance.data) == ({}, {"kept": 1})


def test_complete_multiple_instances() -> None:
    """WCP-27 Complete multiple-instance activity: those that have not ended are given up, and the workflow goes on."""
    loop = {"type": "for_each", "items": "[1, 2, 3]", "steps": [call("ask")]}
    run = started(
        {
            "asking": {"properties": {"steps": [loop]}},
            "counting": {"properties": {"steps": [call("count")]}},
            "end": END,
        },
        [{"from": "asking", "to": "counting", "trigger": "enough"}, {"from": "counting", "to": "end"}],
    )
    accepted(run.fire("enough", user="ada"))
    assert jobs(run) == ["count"]
    accepted(run.complete("count"))
    assert run.configuration == ["end"]
