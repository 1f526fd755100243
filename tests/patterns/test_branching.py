"""Advanced branching and synchronisation: some of several, and joins that do not wait for all."""

from __future__ import annotations

from typing import Any

from tests.interpreter.building import accepted, simulate
from tests.interpreter.steps.working import END, at_work, call, data, jobs, status


def branches(*ids: str, **rest: Any) -> dict[str, Any]:
    """A parallel with one call in each branch, named as the branch."""
    return {"type": "parallel", "id": "all", "branches": [{"id": each, "steps": [call(each)]} for each in ids], **rest}


def choosing(**conditions: str) -> dict[str, Any]:
    """A parallel each of whose branches has a condition."""
    made = [{"id": id, "condition": condition, "steps": [call(id)]} for id, condition in conditions.items()]
    return {"type": "parallel", "id": "some", "branches": made}


def test_multi_choice() -> None:
    """WCP-6 Multi-choice: of several ways those are taken whose condition holds, one or more."""
    step = choosing(fire="data.fire", police="data.theft", medic="data.hurt")
    assert jobs(at_work(step, data={"fire": True, "theft": False, "hurt": True})) == ["fire", "medic"]


def test_structured_synchronising_merge() -> None:
    """WCP-7 Structured synchronising merge: waits for just the ways that a multi-choice has taken."""
    step = choosing(fire="data.fire", police="data.theft", medic="data.hurt")
    run = at_work(step, call("report"), data={"fire": True, "theft": False, "hurt": True})
    accepted(run.complete("medic"))
    assert jobs(run) == ["fire"]
    accepted(run.complete("fire"))
    assert jobs(run) == ["report"]


def test_multi_merge() -> None:
    """WCP-8 Multi-merge: what follows is done once for each branch that arrives, without waiting for the others."""

    def audited(id: str) -> dict[str, Any]:
        count = {"type": "assign", "assignments": {"audits": "has(data.audits) ? data.audits + 1 : 1"}}
        return {"id": id, "steps": [call(id), call(f"audit_{id}"), count]}

    run = at_work({"type": "parallel", "id": "all", "branches": [audited("lay"), audited("dig")]})
    accepted(run.complete("dig"))
    assert jobs(run) == ["lay", "audit_dig"]
    accepted(run.complete("audit_dig"))
    accepted(run.complete("lay"))
    accepted(run.complete("audit_lay"))
    assert (data(run)["audits"], status(run)) == (2, "completed")


def test_structured_discriminator() -> None:
    """
    WCP-9 Structured discriminator: the first branch that ends lets the workflow go on; the others end without effect, and
    only then can the construct be entered again.
    """

    def looks(id: str) -> dict[str, Any]:
        first = {
            "type": "sequential",
            "steps": [{"type": "assign", "assignments": {"seen": "true"}}, call(f"triage_{id}")],
        }
        handle = {"type": "conditional", "condition": "!has(data.seen)", "trueBranch": {"steps": [first]}}
        return {"id": id, "steps": [call(id), handle]}

    run = at_work({"type": "parallel", "id": "checks", "branches": [looks("a"), looks("b")]})
    accepted(run.complete("b"))
    assert jobs(run) == ["a", "triage_b"]
    accepted(run.complete("triage_b"))
    assert status(run) == "running"
    accepted(run.complete("a"))
    assert status(run) == "completed"


def test_cancelling_discriminator() -> None:
    """WCP-29 Cancelling discriminator: the first branch that ends lets the workflow go on, and the others are given up."""
    run = at_work(branches("mail", "phone", "letter", waitStrategy="any"), call("file"))
    accepted(run.complete("phone"))
    assert jobs(run) == ["file"]


def test_structured_partial_join() -> None:
    """WCP-30 Structured partial join: so many of several let the workflow go on; the rest end without effect."""

    def votes(id: str) -> dict[str, Any]:
        count = {"type": "assign", "assignments": {"votes": "has(data.votes) ? data.votes + 1 : 1"}}
        second = {
            "type": "conditional",
            "condition": "data.votes == 2",
            "trueBranch": {"steps": [call(f"decide_{id}")]},
        }
        return {"id": id, "steps": [call(id), count, second]}

    run = at_work({"type": "parallel", "id": "checks", "branches": [votes("a"), votes("b"), votes("c")]})
    accepted(run.complete("a"))
    assert jobs(run) == ["b", "c"]
    accepted(run.complete("c"))
    assert jobs(run) == ["b", "decide_c"]
    accepted(run.complete("b"))
    accepted(run.complete("decide_c"))
    assert status(run) == "completed"


def test_cancelling_partial_join() -> None:
    """WCP-32 Cancelling partial join: when so many of several have ended, the rest are given up."""
    step = branches("a", "b", "c", waitStrategy="custom", completionCondition="counts.completed >= 2")
    run = at_work(step, call("go"))
    accepted(run.complete("c"))
    assert jobs(run) == ["a", "b"]
    accepted(run.complete("a"))
    assert jobs(run) == ["go"]


def test_weighted_majority() -> None:
    """WCP-32 with weights: more than half of the weight decides (spec: `majority`)."""
    step = branches("a", "b", "c", waitStrategy="majority")
    step["branches"][0]["weight"] = 3
    run = at_work(step, call("go"))
    accepted(run.complete("a"))
    assert jobs(run) == ["go"]


def test_generalised_and_join() -> None:
    """WCP-33 Generalised AND-join: branches that have come from anywhere are waited for, here regions by their last states."""
    region = lambda id: {  # noqa: E731  # one shape, three ids
        "id": id, "properties": {"initial": f"{id}_on"},
        "substates": [{"id": f"{id}_on"}, {"id": f"{id}_off", "type": "final"}],
    }  # fmt: skip
    run = simulate(
        {"both": {"type": "parallel", "substates": [region("x"), region("y")]}, "end": END},
        [
            {"from": "x_on", "to": "x_off", "trigger": "x"},
            {"from": "y_on", "to": "y_off", "trigger": "y"},
            {"from": "both", "to": "end", "trigger": "done.state.both"},
        ],
    )
    accepted(run.start({}, "ada"))
    accepted(run.fire("y", user="ada"))
    assert run.configuration == ["x_on", "y_off"]
    accepted(run.fire("x", user="ada"))
    assert run.configuration == ["end"]


def test_thread_split_and_merge() -> None:
    """WCP-41 and 42 Thread merge, thread split: one branch becomes a number of like ones, which become one again."""
    loop = {"type": "for_each", "id": "copies", "items": "[1, 2, 3]", "steps": [call("print")]}
    run = at_work(loop, call("bind"))
    assert jobs(run) == ["print"] * 3
    for job in list(run.jobs):
        assert "bind" not in jobs(run)
        accepted(run.complete(job))
    assert jobs(run) == ["bind"]
