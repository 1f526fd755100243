"""Multiple instances: the same work several times, their number known early, late, or never beforehand."""

from __future__ import annotations

from typing import Any

from pliers_workflow.interpreter.effects import StartChild
from tests.interpreter.building import accepted, started
from tests.interpreter.steps.working import END, at_work, call, data, jobs, status


def each(items: str, *steps: Any, **rest: Any) -> dict[str, Any]:
    """A loop over a list."""
    return {"type": "for_each", "id": "loop", "items": items, "steps": list(steps), **rest}


def test_without_synchronisation() -> None:
    """WCP-12 Multiple instances without synchronisation: several are begun, and nobody waits for their end."""
    child = {
        "type": "sub_workflow",
        "workflowId": "inspection",
        "waitForCompletion": False,
        "inputMapping": {"n": "item"},
    }
    run = at_work(each("[1, 2, 3]", child))
    children = [order for order in run.orders if isinstance(order, StartChild)]
    assert [(order.data, order.parent.waits) for order in children] == [({"n": n}, False) for n in (1, 2, 3)]
    for order in children:  # each says that it has begun, and with that its step is done
        accepted(run.complete(order.parent.step))
    assert status(run) == "completed"


def test_known_when_designed() -> None:
    """WCP-13 Multiple instances with a priori design-time knowledge: the definition says how many; all are waited for."""
    run = at_work(each("['left', 'middle', 'right']", call("measure")), call("compare"))
    for job in list(run.jobs):
        assert jobs(run) != ["compare"]
        accepted(run.complete(job))
    assert jobs(run) == ["compare"]


def test_known_at_run_time() -> None:
    """WCP-14 Multiple instances with a priori run-time knowledge: the data say how many, before the first begins."""
    collect = {"totals": "output.map(one, one.total)"}
    loop = each("data.orders", call("price", inputMapping={"order": "item"}), outputMapping=collect)
    run = at_work(loop, data={"orders": ["a", "b", "c", "d"]})
    assert len(run.jobs) == 4
    for number, job in reversed(list(enumerate(list(run.jobs)))):
        accepted(run.complete(job, {"total": number}))
    assert data(run)["totals"] == [0, 1, 2, 3]


def test_several_at_a_time() -> None:
    """WCP-14 with bounded concurrency: a thousand are never at work at once; the next begins when one has ended."""
    run = at_work(each("data.orders", call("price"), maxConcurrency=2), data={"orders": [1, 2, 3]})
    assert len(run.jobs) == 2
    accepted(run.complete(next(iter(run.jobs))))
    assert len(run.jobs) == 2


def test_not_known_beforehand() -> None:
    """
    WCP-15 Multiple instances without a priori run-time knowledge: more may be added while some are at work. Witnesses are
    heard one by one, and any time until the last has been heard another may be named.
    """
    states = {
        "hearing": {"properties": {"steps": [call("hear", inputMapping={"who": "data.witnesses[data.heard]"})]}},
        "end": END,
    }
    actions = {
        "name_one": {"type": "assign", "field": "witnesses", "value": "data.witnesses + [event.data.who]"},
        "heard_one": {"type": "assign", "field": "heard", "value": "data.heard + 1"},
    }
    transitions = [
        {"from": "hearing", "trigger": "name", "actions": ["name_one"]},
        {
            "from": "hearing",
            "to": "hearing",
            "condition": "data.heard + 1 < size(data.witnesses)",
            "actions": ["heard_one"],
        },
        {"from": "hearing", "to": "end"},
    ]
    run = started(states, transitions, data={"witnesses": ["bo"], "heard": 0}, actions=actions)
    accepted(run.fire("name", {"who": "cy"}, user="ada"))
    accepted(run.complete("hear"))
    accepted(run.fire("name", {"who": "di"}, user="ada"))
    accepted(run.complete("hear"))
    assert run.configuration == ["hearing"]
    accepted(run.complete("hear"))
    assert run.configuration == ["end"]


def test_static_partial_join() -> None:
    """WCP-34 Static partial join for multiple instances: the workflow goes on when so many have ended; the rest go on."""
    count = {"type": "assign", "assignments": {"done": "has(data.done) ? data.done + 1 : 1"}}
    then = {"type": "conditional", "condition": "data.done == 2", "trueBranch": {"steps": [call("announce")]}}
    run = at_work(each("[1, 2, 3]", call("test"), count, then))
    first, second, third = list(run.jobs)
    accepted(run.complete(first))
    accepted(run.complete(second))
    assert jobs(run) == ["test", "announce"]
    accepted(run.complete("announce"))
    accepted(run.complete(third))
    assert status(run) == "completed"


def test_cancelling_partial_join() -> None:
    """WCP-35 Cancelling partial join for multiple instances: when so many have ended, the rest are given up."""
    count = {"type": "assign", "assignments": {"done": "has(data.done) ? data.done + 1 : 1"}}
    states = {"asking": {"properties": {"steps": [each("[1, 2, 3, 4]", call("ask"), count)]}}, "end": END}
    run = started(states, [{"from": "asking", "to": "end", "condition": "has(data.done) && data.done >= 2", "trigger": "enough"},
                           {"from": "asking", "to": "end"}])  # fmt: skip
    first, second, *_ = list(run.jobs)
    accepted(run.complete(first))
    accepted(run.complete(second))
    accepted(run.fire("enough", user="ada"))
    assert (run.configuration, run.jobs) == (["end"], {})
