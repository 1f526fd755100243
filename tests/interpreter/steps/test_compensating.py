"""What had completed is undone, the last one first, when something after it fails."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interpreter.building import accepted
from tests.interpreter.steps.working import at_work, call, data, incident, jobs, status, steps_at_work


def undoable(id: str, **rest: Any) -> dict[str, Any]:
    """A call that `undo_ID` undoes, which is given what the call gave."""
    undo = call(f"undo_{id}", inputMapping={"what": "output"})
    return call(id, compensation=undo, **rest)


def trip(*steps: Any, **rest: Any) -> dict[str, Any]:
    """A sequence that is undone when one of its steps fails."""
    return {"type": "sequential", "id": "trip", "rollbackOnFailure": True, "steps": list(steps), **rest}


def undone(run: Any) -> list[str]:
    """Ids of the steps that were undone, in order."""
    return [event.step_id for event in run.events if type(event).__name__ == "StepCompensated"]


def test_completed_steps_are_undone_in_reverse_order() -> None:
    """Each is given the output of what it undoes; then the sequence fails, with the code of what failed."""
    more = [
        {
            "from": "work",
            "to": "end",
            "trigger": "error.step.pay",
            "actions": [{"type": "assign", "field": "why", "value": "event.data.code"}],
        }
    ]
    run = at_work(trip(undoable("flight"), undoable("hotel"), call("pay")), more=more)
    accepted(run.complete("flight", "F1"))
    accepted(run.complete("hotel", "H1"))
    accepted(run.fail("pay", "NO_MONEY"))
    assert steps_at_work(run) == {"trip": "undoing", "undo_hotel": "scheduled"}
    (job,) = run.jobs.values()
    assert job.payload["input"] == {"what": "H1"}
    accepted(run.complete("undo_hotel"))
    assert jobs(run) == ["undo_flight"]
    accepted(run.complete("undo_flight"))
    assert (undone(run), status(run), data(run)) == (["hotel", "flight"], "completed", {"why": "NO_MONEY"})


def test_where_nobody_handles_it_the_incident_is_on_the_sequence() -> None:
    """Nothing that it had done is left, so a retry begins from its first step."""
    run = at_work(trip(undoable("flight"), call("pay")))
    accepted(run.complete("flight"))
    accepted(run.fail("pay"))
    accepted(run.complete("undo_flight"))
    assert (incident(run).step_id, status(run)) == ("trip", "failed")
    accepted(run.resolve("retry"))
    assert jobs(run) == ["flight"]
    accepted(run.complete("flight"))
    accepted(run.complete("pay"))
    assert status(run) == "completed"


def test_a_compensation_that_fails_is_an_incident_of_its_own() -> None:
    """Half an undoing is for a person to finish; then it goes on."""
    run = at_work(
        trip(undoable("flight"), undoable("hotel"), call("pay")),
        more=[{"from": "work", "to": "end", "trigger": "error.step"}],
    )
    accepted(run.complete("flight"))
    accepted(run.complete("hotel"))
    accepted(run.fail("pay"))
    accepted(run.fail("undo_hotel"))
    assert (incident(run).step_id, jobs(run)) == ("undo_hotel", [])
    accepted(run.resolve("skip"))
    assert jobs(run) == ["undo_flight"]
    accepted(run.complete("undo_flight"))
    assert status(run) == "completed"


def test_a_compensation_with_continue_on_error_is_passed_over() -> None:
    """Its author says that it does not matter much."""
    undo = call("undo_flight", continueOnError=True)
    run = at_work(
        trip(call("flight", compensation=undo), call("pay"), continueOnError=False),
        more=[{"from": "work", "to": "end", "trigger": "error.step"}],
    )
    accepted(run.complete("flight"))
    accepted(run.fail("pay"))
    accepted(run.fail("undo_flight"))
    assert status(run) == "completed"


def test_steps_inside_branches_and_loops_are_undone_too() -> None:
    """Wherever inside the sequence they stand; elements of loops are seen as they were. Skipped ones are not."""
    both = {
        "type": "parallel",
        "branches": [
            {"id": "a", "steps": [undoable("left")]},
            {"id": "b", "steps": [undoable("right", condition="false")]},
        ],
    }
    each = {"type": "for_each", "items": "['x', 'y']", "steps": [
        call("book", compensation=call("unbook", inputMapping={"what": "item", "at": "index", "was": "output"}))
    ]}  # fmt: skip
    run = at_work(trip(both, each, call("pay")))
    accepted(run.complete("left", "L"))
    one, two = run.jobs
    accepted(run.complete(two, "second"))
    accepted(run.complete(one, "first"))
    accepted(run.fail("pay"))
    given = []
    while run.jobs:
        (job,) = run.jobs.values()
        given.append(job.payload["input"])
        accepted(run.complete(job.step))
    assert given == [
        {"what": "x", "at": 0, "was": "first"},
        {"what": "y", "at": 1, "was": "second"},
        {"what": "L"},
    ]


def test_what_was_done_in_branches_that_were_given_up_is_undone() -> None:
    """A branch that another one overtook had booked something all the same."""
    race = {
        "type": "parallel",
        "waitStrategy": "any",
        "branches": [{"id": "a", "steps": [undoable("slow"), call("slower")]}, {"id": "b", "steps": [call("fast")]}],
    }
    run = at_work(trip(race, call("pay")))
    accepted(run.complete("slow"))
    accepted(run.complete("fast"))
    assert jobs(run) == ["pay"]
    accepted(run.fail("pay"))
    assert jobs(run) == ["undo_slow"]


def test_an_inner_sequence_that_has_completed_is_undone_with_the_outer_one() -> None:
    """One with a compensation of its own by that alone."""
    inner = {"type": "sequential", "id": "inner", "rollbackOnFailure": True, "steps": [undoable("a"), undoable("b")]}
    run = at_work(trip(inner, call("pay")))
    for name in ("a", "b"):
        accepted(run.complete(name))
    accepted(run.fail("pay"))
    accepted(run.complete("undo_b"))
    accepted(run.complete("undo_a"))
    assert undone(run) == ["b", "a"]
    run = at_work(trip(inner | {"compensation": call("undo_all")}, call("pay")))
    for name in ("a", "b"):
        accepted(run.complete(name))
    accepted(run.fail("pay"))
    assert jobs(run) == ["undo_all"]


def test_an_inner_sequence_undoes_itself_first() -> None:
    """Its failure then goes up, and the outer one undoes what came before."""
    inner = {"type": "sequential", "id": "inner", "rollbackOnFailure": True, "steps": [undoable("b"), call("c")]}
    run = at_work(trip(undoable("a"), inner), more=[{"from": "work", "to": "end", "trigger": "error.step.c"}])
    accepted(run.complete("a"))
    accepted(run.complete("b"))
    accepted(run.fail("c"))
    accepted(run.complete("undo_b"))
    accepted(run.complete("undo_a"))
    assert (undone(run), status(run)) == (["b", "a"], "completed")


def test_when_all_has_completed_nothing_is_remembered() -> None:
    """The machine forgets how to undo what nobody can want undone."""
    run = at_work(trip(undoable("a")), call("next"))
    accepted(run.complete("a"))
    assert run.instance is not None
    assert run.instance.machine.undo == {}
    accepted(run.fail("next"))
    assert undone(run) == []


def test_compensation_may_be_a_sequence_itself() -> None:
    """Any step can undo another; one that takes no time does so at once."""
    undo = {"type": "sequential", "steps": [{"type": "assign", "assignments": {"back": "output"}}, call("tell")]}
    run = at_work(trip(call("a", compensation=undo), call("pay")))
    accepted(run.complete("a", 5))
    accepted(run.fail("pay"))
    assert (data(run), jobs(run)) == ({"back": 5}, ["tell"])
    accepted(run.complete("tell"))
    assert undone(run) == ["a"]


def test_what_undoes_is_not_undone_itself() -> None:
    """A compensation whose steps could be undone where they stood elsewhere: once it is done, that stays so."""
    undo = {"type": "sequential", "id": "back", "steps": [undoable("cancel"), call("refund")]}
    run = at_work(trip(undoable("a"), call("b", compensation=undo), call("pay")))
    accepted(run.complete("a"))
    accepted(run.complete("b"))
    accepted(run.fail("pay"))
    accepted(run.complete("cancel"))
    accepted(run.complete("refund"))
    assert jobs(run) == ["undo_a"]
    accepted(run.complete("undo_a"))
    assert undone(run) == ["b", "a"]
    assert run.instance is not None and run.instance.machine.undo == {}


def test_a_branch_may_be_called_undo() -> None:
    """And its parallel may have a compensation, neither with ids of their own."""
    undo = {"type": "sequential", "steps": [{"type": "assign", "assignments": {"back": "output.undo"}}] * 2}
    branches = [{"id": "undo", "steps": [{"type": "plugin", "pluginId": "some"}]}]
    run = at_work(trip({"type": "parallel", "branches": branches, "compensation": undo}, call("pay")))
    (job,) = run.jobs
    accepted(run.complete(job, 5))
    accepted(run.fail("pay"))
    assert (data(run), incident(run).step_id) == ({"back": 5}, "trip")


@pytest.mark.parametrize(
    ("holder", "output"),
    [
        ({"type": "sequential", "steps": [call("a")]}, 5),
        ({"type": "parallel", "branches": [{"id": "x", "steps": [call("a")]}]}, {"x": 5}),
        ({"type": "for_each", "items": "[1]", "steps": [call("a")]}, [5]),
        ({"type": "conditional", "condition": "true", "trueBranch": {"steps": [call("a")]}}, 5),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) and "type" in value else "",
)
def test_the_output_of_what_holds_steps_is_given_to_what_undoes_it(holder: dict[str, Any], output: Any) -> None:
    """Even where nothing else looks at it."""
    undo = {"type": "assign", "assignments": {"undone": "output"}}
    run = at_work(trip({**holder, "id": "holder", "compensation": undo}, call("pay")))
    accepted(run.complete("a", 5))
    accepted(run.fail("pay"))
    assert data(run) == {"undone": output}


def test_leaving_the_state_ends_the_undoing() -> None:
    """As it ends everything that is in flight for the state."""
    run = at_work(trip(undoable("a"), call("pay")), more=[{"from": "work", "to": "end", "trigger": "enough"}])
    accepted(run.complete("a"))
    accepted(run.fail("pay"))
    accepted(run.fire("enough", user="ada"))
    assert (status(run), jobs(run)) == ("completed", [])


# -- time, and what happens around it ----------------------------------------------------------------------------------

LATER = 300_000


@pytest.mark.parametrize("around", ["nothing", "continueOnError"])
def test_a_sequence_whose_time_is_up_is_undone(around: str) -> None:
    """It has failed, whatever the reason; what handles that comes after."""
    rest = {"continueOnError": True} if around == "continueOnError" else {}
    run = at_work(trip(undoable("flight"), call("pay"), timeoutMinutes=5, **rest), call("next"))
    accepted(run.complete("flight", "F1"))
    run.advance(LATER)
    assert (steps_at_work(run), jobs(run)) == ({"trip": "undoing", "undo_flight": "scheduled"}, ["undo_flight"])
    accepted(run.complete("undo_flight"))
    if rest:
        assert jobs(run) == ["next"]
    else:
        assert (incident(run).code, incident(run).step_id) == ("TIMEOUT", "trip")
        accepted(run.resolve("retry"))
        assert jobs(run) == ["flight"]


@pytest.mark.parametrize("around", ["nothing", "continueOnError"])
def test_an_undoing_goes_on_when_the_time_around_it_is_up(around: str) -> None:
    """What is around it has failed then, and that is acted on when the undoing has ended."""
    rest = {"continueOnError": True} if around == "continueOnError" else {}
    outer = {"type": "sequential", "id": "outer", "timeoutMinutes": 5, **rest}
    inner = trip(undoable("flight"), undoable("hotel"), call("pay"))
    beside = {"type": "parallel", "id": "both", "branches": [{"id": "a", "steps": [inner]},
                                                              {"id": "b", "steps": [call("other")]}]}  # fmt: skip
    run = at_work(outer | {"steps": [beside]}, call("next"))
    accepted(run.complete("flight"))
    accepted(run.complete("hotel"))
    accepted(run.fail("pay"))
    run.advance(LATER)
    assert (jobs(run), status(run)) == (["undo_hotel"], "running")
    accepted(run.fail("undo_hotel"))
    assert incident(run).step_id == "undo_hotel"
    accepted(run.resolve("retry"))
    accepted(run.complete("undo_hotel"))
    accepted(run.complete("undo_flight"))
    assert undone(run) == ["hotel", "flight"]
    if rest:
        assert jobs(run) == ["next"]
    else:
        assert (incident(run).code, incident(run).step_id) == ("TIMEOUT", "outer")
        accepted(run.resolve("retry"))
        assert sorted(jobs(run)) == ["flight", "other"]


def test_a_failure_beside_an_undoing_waits_for_it() -> None:
    """A branch fails while another is undone: the transition that handles it leaves the state afterwards."""
    inner = trip(undoable("flight"), call("pay"))
    both = {"type": "parallel", "id": "both", "branches": [{"id": "a", "steps": [inner]},
                                                           {"id": "b", "steps": [call("other")]}]}  # fmt: skip
    run = at_work(both, more=[{"from": "work", "to": "end", "trigger": "error.step.other"}])
    accepted(run.complete("flight"))
    accepted(run.fail("pay"))
    accepted(run.fail("other"))
    assert (jobs(run), status(run)) == (["undo_flight"], "running")
    accepted(run.complete("undo_flight"))
    assert (undone(run), status(run)) == (["flight"], "completed")


def test_a_join_that_does_not_need_it_waits_for_an_undoing() -> None:
    """One branch of `any` is complete, and another is undone to its end before what follows begins."""
    inner = trip(undoable("flight"), call("pay"))
    both = {"type": "parallel", "id": "both", "waitStrategy": "any", "branches": [
        {"id": "a", "steps": [inner]}, {"id": "b", "steps": [call("other")]}]}  # fmt: skip
    run = at_work(both, call("next"))
    accepted(run.complete("flight"))
    accepted(run.fail("pay"))
    accepted(run.complete("other"))
    assert jobs(run) == ["undo_flight"]
    accepted(run.complete("undo_flight"))
    assert (undone(run), jobs(run)) == (["flight"], ["next"])


def test_a_compensation_at_work_is_not_begun_again_by_the_sequence_around_it() -> None:
    """That may have repaid already: the outer sequence waits, then undoes what the inner one had left to do."""
    inner = trip(undoable("flight"), call("pay"))
    limited = {"type": "conditional", "condition": "true", "timeoutMinutes": 5, "trueBranch": {"steps": [inner]}}
    run = at_work(trip(undoable("visa"), limited, id="outer"))
    for name in ("visa", "flight"):
        accepted(run.complete(name))
    accepted(run.fail("pay"))
    (attempt,) = run.jobs
    run.advance(LATER)
    assert list(run.jobs) == [attempt]
    accepted(run.complete("undo_flight"))
    assert jobs(run) == ["undo_visa"]
    accepted(run.complete("undo_visa"))
    assert (undone(run), incident(run).step_id) == (["flight", "visa"], "outer")


def test_a_sequence_whose_time_is_up_waits_for_an_undoing_inside() -> None:
    """Everything else in it is given up at once; then it undoes what is left to undo."""
    inner = trip(undoable("flight"), call("pay"))
    both = {"type": "parallel", "branches": [{"id": "a", "steps": [inner]},
                                             {"id": "b", "steps": [undoable("hotel"), call("other")]}]}  # fmt: skip
    run = at_work(trip(both, id="outer", timeoutMinutes=5))
    for name in ("flight", "hotel"):
        accepted(run.complete(name))
    accepted(run.fail("pay"))
    run.advance(LATER)
    assert jobs(run) == ["undo_flight"]
    accepted(run.complete("undo_flight"))
    assert jobs(run) == ["undo_hotel"]
    accepted(run.complete("undo_hotel"))
    assert (undone(run), incident(run).code, incident(run).step_id) == (["flight", "hotel"], "TIMEOUT", "outer")
