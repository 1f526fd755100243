"""Steps side by side, one of several ways, and once for each element: the control-flow patterns around them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interpreter.building import accepted, refused, simulate
from tests.interpreter.steps.working import at_work, call, data, incident, jobs, status, steps_at_work


def parallel(*names: str, **rest: Any) -> dict[str, Any]:
    """One branch for each name, which calls something of that name."""
    branches = [{"id": f"to_{name}", "steps": [call(name)]} for name in names]
    return {"type": "parallel", "id": "both", "branches": branches, **rest}


# -- parallel ----------------------------------------------------------------------------------------------------------


def test_all_branches_run_side_by_side_and_are_joined() -> None:
    """*Parallel split* and *synchronisation*; the output has each branch by its id."""
    run = at_work(parallel("a", "b", outputMapping={"got": "output"}))
    assert jobs(run) == ["a", "b"]
    accepted(run.complete("b", 2))
    assert status(run) == "running"
    accepted(run.complete("a", 1))
    assert (status(run), data(run)) == ("completed", {"got": {"to_a": 1, "to_b": 2}})


def test_any_is_done_with_the_first_and_gives_up_the_others() -> None:
    """*Structured discriminator* with *cancel*: what is not needed any more is dropped."""
    run = at_work(parallel("a", "b", "c", waitStrategy="any", outputMapping={"got": "output"}), call("next"))
    accepted(run.complete("b", "first"))
    assert jobs(run) == ["next"]
    assert data(run) == {"got": {"to_b": "first"}}


def test_a_majority_counts_weights() -> None:
    """*Structured partial join*: more than half of all weights, as soon as that is certain."""
    step = parallel("a", "b", "c", waitStrategy="majority")
    step["branches"][0]["weight"] = 2
    step["branches"][1]["weight"] = 2
    run = at_work(step)
    accepted(run.complete("a"))
    assert status(run) == "running"
    accepted(run.complete("c"))
    assert status(run) == "completed"


def test_a_majority_that_is_out_of_reach_fails_at_once() -> None:
    """With `continue`: two of three have failed, so the third is not waited for."""
    run = at_work(parallel("a", "b", "c", waitStrategy="majority", failureStrategy="continue"))
    accepted(run.fail("a", "X"))
    assert status(run) == "running"
    accepted(run.fail("b", "Y"))
    found = incident(run)
    assert (found.step_id, found.code) == ("both", "JOIN_FAILED")
    assert found.details["failures"]["to_a"]["code"] == "X"
    assert jobs(run) == []


def test_a_condition_of_ones_own_joins() -> None:
    """*Generalised and-join* by CEL, asked whenever a branch has ended."""
    done = "branches.to_a.status == 'completed' && (counts.completed >= 2 || branches.to_a.output.urgent)"
    run = at_work(parallel("a", "b", "c", waitStrategy="custom", completionCondition=done))
    accepted(run.complete("b"))
    assert jobs(run) == ["a", "c"]
    accepted(run.complete("a", {"urgent": False}))
    assert status(run) == "completed"
    run = at_work(parallel("a", "b", "c", waitStrategy="custom", completionCondition=done))
    accepted(run.complete("a", {"urgent": True}))
    assert status(run) == "completed"


def test_a_condition_that_never_held_fails_the_join() -> None:
    """When all branches have ended; one that has no value fails it at once."""
    run = at_work(parallel("a", "b", waitStrategy="custom", completionCondition="counts.completed > 2"))
    accepted(run.complete("a"))
    accepted(run.complete("b"))
    assert incident(run).code == "JOIN_FAILED"
    run = at_work(parallel("a", waitStrategy="custom", completionCondition="data.missing"))
    assert incident(run).code == "EXPRESSION_ERROR"


def test_fail_fast_gives_up_the_others_when_somebody_handles_it() -> None:
    """*Cancel region*; until then the others go on, because the one that failed may be done again."""
    handled = at_work(parallel("a", "b"), more=[{"from": "work", "to": "end", "trigger": "error.step.a"}])
    accepted(handled.fail("a"))
    assert status(handled) == "completed"
    passed = at_work(parallel("a", "b", continueOnError=True), call("next"))
    accepted(passed.fail("a"))
    assert jobs(passed) == ["next"]
    open_ = at_work(parallel("a", "b"))
    accepted(open_.fail("a"))
    assert jobs(open_) == ["b"]
    assert steps_at_work(open_) == {"both": "open", "a": "stuck", "b": "scheduled"}


def test_wait_all_lets_the_others_end_first() -> None:
    """Then the failure that came first goes on."""
    more = [
        {
            "from": "work",
            "to": "end",
            "trigger": "error.step",
            "actions": [{"type": "assign", "field": "who", "value": "event.data.step"}],
        }
    ]
    run = at_work(parallel("a", "b", "c", failureStrategy="wait_all"), more=more)
    accepted(run.fail("b"))
    accepted(run.complete("a"))
    assert jobs(run) == ["c"]
    accepted(run.fail("c"))
    assert (status(run), data(run)) == ("completed", {"who": "b"})


def test_continue_lets_the_others_decide() -> None:
    """With `all` one success is enough; with none the join fails."""
    run = at_work(parallel("a", "b", failureStrategy="continue", outputMapping={"got": "output"}))
    accepted(run.fail("a"))
    accepted(run.complete("b", 2))
    assert (status(run), data(run)) == ("completed", {"got": {"to_b": 2}})
    run = at_work(parallel("a", "b", failureStrategy="continue"))
    accepted(run.fail("a"))
    accepted(run.fail("b"))
    assert (incident(run).step_id, incident(run).code) == ("both", "JOIN_FAILED")
    accepted(run.resolve("retry"))
    assert jobs(run) == ["a", "b"]


@pytest.mark.parametrize("wait", ["all", "any", "majority"])
@pytest.mark.parametrize("first", [[], [{"type": "emit", "eventType": "begun"}]], ids=["alone", "last"])
def test_a_branch_whose_last_failure_is_passed_over_has_completed(wait: str, first: list[Any]) -> None:
    """Whether that step stands alone in it or others come before."""
    branch = {"id": "a", "steps": [*first, call("try", continueOnError=True)]}
    both = {"type": "parallel", "waitStrategy": wait, "branches": [branch], "outputMapping": {"got": "output"}}
    run = at_work(both)
    accepted(run.fail("try"))
    assert (status(run), data(run)) == ("completed", {"got": {"a": None}})


def test_branches_whose_condition_is_false_do_not_count() -> None:
    """*Multi-choice* and *structured synchronising merge*."""
    step = parallel("a", "b", "c")
    for branch, condition in zip(step["branches"], ("data.n > 0", "data.n > 1", "data.n > 2"), strict=True):
        branch["condition"] = condition
    run = at_work(step, data={"n": 2})
    assert jobs(run) == ["a", "b"]
    assert status(at_work(step, data={"n": 0})) == "completed"


def test_a_branch_whose_only_step_is_skipped_is_complete() -> None:
    """As one is all of whose steps are skipped; only the branch's own condition takes it out of the count."""
    skipped = call("a", condition="false")
    for steps in ([skipped], [skipped, call("b", condition="false")]):
        both = {
            "type": "parallel",
            "waitStrategy": "any",
            "branches": [{"id": "empty", "steps": steps}, {"id": "other", "steps": [call("c")]}],
        }
        assert status(at_work(both)) == "completed"


def test_a_parallel_may_not_take_longer_than_it_may() -> None:
    """Then it fails itself, and what is at work in it is given up."""
    run = at_work(parallel("a", "b", timeoutMinutes=5))
    accepted(run.complete("a"))
    run.advance(300_000)
    assert (incident(run).step_id, incident(run).code, jobs(run)) == ("both", "TIMEOUT", [])


@pytest.mark.parametrize("steps", [[call("slow")], [call("first"), call("slow")]])
def test_a_branch_may_have_a_time_of_its_own(steps: list[dict[str, Any]]) -> None:
    """Then it has failed, what is at work in it is given up, and the others decide."""
    both = parallel("a", "b", failureStrategy="continue")
    both["branches"].append({"id": "slow", "steps": steps, "timeoutMinutes": 5})
    run = at_work(both, call("next"))
    accepted(run.complete("a", 1))
    if len(steps) > 1:
        accepted(run.complete("first"))
    run.advance(299_000)
    assert jobs(run) == ["b", "slow"]
    run.advance(1_000)
    assert jobs(run) == ["b"]
    accepted(run.complete("b", 2))
    assert jobs(run) == ["next"]


def test_what_failed_inside_leaves_no_clock_of_what_was_around_it() -> None:
    """A sequence with a time of its own has failed with its step: in a branch, and where the chart handles it."""
    timed = {"type": "sequential", "id": "timed", "steps": [call("c")], "timeoutMinutes": 5}
    both = parallel("a", failureStrategy="continue")
    both["branches"].append({"id": "other", "steps": [timed]})
    handled = [{"from": "work", "trigger": "error.step.c"}]
    for run in (at_work(both), at_work(timed, more=handled)):
        accepted(run.fail("c", "X"))
        assert run.instance is not None
        assert (run.instance.machine.timers, dict(run.instance.machine.incidents)) == ({}, {})


def test_a_branch_that_is_in_time_leaves_no_clock() -> None:
    """And one that is not fails all of them, where nobody says otherwise."""
    quick = {"id": "quick", "steps": [call("c")], "timeoutMinutes": 5}
    both = parallel("a")
    both["branches"].append(quick)
    run = at_work(both)
    accepted(run.complete("c"))
    run.advance(600_000)
    assert jobs(run) == ["a"]
    accepted(run.complete("a"))
    assert status(run) == "completed"
    run = at_work(both)
    run.advance(300_000)
    assert incident(run).code == "TIMEOUT"


def test_a_branch_may_hold_anything() -> None:
    """Sequences inside branches inside sequences; each is over when its last step is."""
    inner = parallel("x", "y", id="inner")
    run = at_work(
        {
            "type": "parallel",
            "id": "outer",
            "branches": [{"id": "one", "steps": [call("a"), inner, call("b")]}, {"id": "two", "steps": [call("c")]}],
        }
    )
    for name in ("c", "a", "y", "x", "b"):
        assert name in jobs(run)
        accepted(run.complete(name))
    assert status(run) == "completed"


# -- conditional -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "default", "taken"),
    [(5, True, ["big"]), (1, True, ["small"]), (None, True, ["unsure"]), (None, False, [])],
)
def test_one_of_the_ways_is_taken(value: int | None, default: bool, taken: list[str]) -> None:
    """*Exclusive choice* and *simple merge*; an error of the condition takes the default way, else it fails the step."""
    step: dict[str, Any] = {
        "type": "conditional",
        "id": "size",
        "condition": "data.amount > 3",
        "trueBranch": {"steps": [call("big")]},
        "falseBranch": {"steps": [call("small")]},
    }
    if default:
        step["defaultBranch"] = {"steps": [call("unsure")]}
    run = at_work(step, data={} if value is None else {"amount": value})
    assert jobs(run) == taken
    if not taken:
        assert incident(run).code == "EXPRESSION_ERROR"


def test_a_way_without_steps_is_a_way() -> None:
    """Without `falseBranch` nothing is done; the output is that of the way taken."""
    step = {
        "type": "conditional",
        "condition": "data.n > 3",
        "trueBranch": {"steps": [call("a")]},
        "outputMapping": {"got": "output"},
    }
    run = at_work(step, data={"n": 1})
    assert (status(run), data(run)["got"]) == ("completed", None)
    run = at_work(step, data={"n": 4})
    accepted(run.complete("a", "big"))
    assert data(run)["got"] == "big"


# -- for each ----------------------------------------------------------------------------------------------------------


def loop(*steps: Any, **rest: Any) -> dict[str, Any]:
    """A loop over `data.lines`."""
    return {"type": "for_each", "id": "lines", "items": "data.lines", "itemName": "line", "steps": list(steps), **rest}


def test_the_steps_are_done_once_for_each_element() -> None:
    """*Multiple instances with a-priori run-time knowledge*: side by side, at most so many at once, joined at the end."""
    book = call("book", inputMapping={"article": "line.article", "position": "index"})
    run = at_work(
        loop(book, maxConcurrency=2, outputMapping={"booked": "output"}),
        data={"lines": [{"article": x} for x in "abc"]},
    )
    given = [job.payload["input"] for job in run.jobs.values()]
    assert given == [{"article": "a", "position": 0}, {"article": "b", "position": 1}]
    first, second = run.jobs
    accepted(run.complete(second, "second"))
    assert [job.payload["input"]["article"] for job in run.jobs.values()] == ["a", "c"]
    accepted(run.complete(first, "first"))
    (third,) = run.jobs
    accepted(run.complete(third, "third"))
    assert (status(run), data(run)["booked"]) == ("completed", ["first", "second", "third"])


def test_each_pass_sees_its_own_steps() -> None:
    """`steps` is what finished steps of the same pass gave, and of the state around."""
    run = at_work(
        call("before"),
        loop(
            call("price"),
            call("buy", inputMapping={"sum": "steps.price.output * line + steps.before.output"}),
        ),
        data={"lines": [1, 2]},
    )
    accepted(run.complete("before", 100))
    one, two = run.jobs
    accepted(run.complete(two, 7))
    accepted(run.complete(one, 5))
    assert sorted(job.payload["input"]["sum"] for job in run.jobs.values()) == [105, 114]


def test_elements_are_those_of_the_beginning() -> None:
    """What is added meanwhile is not gone through; loops inside loops see both elements."""
    inner = {"type": "for_each", "items": "line.parts", "itemName": "part", "indexName": "at", "steps": [
        {"type": "emit", "eventType": "part", "data": "[line.name, part, index, at]"}
    ]}  # fmt: skip
    run = at_work(
        loop({"type": "wait", "durationMinutes": 1}, inner),
        data={"lines": [{"name": "a", "parts": [1, 2]}, {"name": "b", "parts": [3]}]},
    )
    accepted(run.update({"lines": []}))
    run.advance(60_000)
    emitted = [event.data for event in run.events if type(event).__name__ == "EventEmitted"]
    assert sorted(emitted) == [["a", 1, 0, 0], ["a", 2, 0, 1], ["b", 3, 1, 0]]
    assert status(run) == "completed"


def test_a_list_without_elements_is_done_at_once() -> None:
    """Its output is the empty list."""
    run = at_work(loop(call("book"), outputMapping={"booked": "output"}), data={"lines": []})
    assert (status(run), data(run)["booked"]) == ("completed", [])


@pytest.mark.parametrize(("lines", "told"), [("no list", "a list"), (list(range(10_001)), "10,000")])
def test_what_is_no_list_or_too_long_fails(lines: Any, told: str) -> None:
    """At most 10,000 elements."""
    run = at_work(loop(call("book")), data={"lines": lines})
    assert told in incident(run).message


def test_a_loop_with_continue_on_error_passes_over_elements() -> None:
    """Their place in the output is null; without it an incident is raised for the one, and the others go on."""
    run = at_work(loop(call("book"), continueOnError=True, outputMapping={"got": "output"}), data={"lines": [1, 2]})
    one, two = run.jobs
    accepted(run.fail(one))
    accepted(run.complete(two, "ok"))
    assert (status(run), data(run)["got"]) == ("completed", [None, "ok"])
    run = at_work(loop(call("book"), maxConcurrency=1), data={"lines": [1, 2]})
    accepted(run.fail("book"))
    assert (status(run), jobs(run)) == ("failed", [])
    accepted(run.resolve("skip"))
    assert jobs(run) == ["book"]


def test_a_thousand_elements_that_take_no_time() -> None:
    """A loop needs no depth of the stack, only budget; what it remembers of finished passes is bounded."""
    run = at_work(
        loop({"type": "assign", "assignments": {"n": "data.n + line"}}), data={"n": 0, "lines": list(range(1000))}
    )
    assert (status(run), data(run)["n"]) == ("completed", 499_500)


def test_elements_that_take_no_time_may_be_many_at_once() -> None:
    """Each is begun once: with a thousand places free that was looked at again and again."""
    listed = {"n": 0, "lines": list(range(3000))}
    run = at_work(
        loop({"type": "assign", "assignments": {"n": "data.n + 1"}}, maxConcurrency=1000, id="each"), data=listed
    )
    assert (status(run), data(run)["n"]) == ("completed", 3000)


def test_many_runs_at_work_at_once_cost_what_they_take() -> None:
    """Each event writes down all runs at work: loops inside loops come to the end of the budget before anybody waits."""
    inner = loop({"type": "assign", "assignments": {"n": "1"}}, maxConcurrency=1000)
    outer = loop({**inner, "id": "inner"}, itemName="row", indexName="at", maxConcurrency=1000)
    states = {"work": {"properties": {"steps": [outer]}}, "end": {"type": "final"}}
    run = simulate(states, [{"from": "work", "to": "end"}])
    assert refused(run.start({"lines": list(range(200))}, "ada")).reason == "budget_exceeded"
    run = simulate(states, [{"from": "work", "to": "end"}])
    accepted(run.start({"lines": list(range(20))}, "ada"))
    assert status(run) == "completed"


def test_skipped_elements_are_null() -> None:
    """A condition of the only step in a loop may look at the element."""
    run = at_work(loop(call("book", condition="line > 1"), outputMapping={"got": "output"}), data={"lines": [1, 2]})
    (job,) = run.jobs
    accepted(run.complete(job, "two"))
    assert data(run)["got"] == [None, "two"]


def test_a_branch_that_an_incident_opens_again_has_a_limit() -> None:
    """Its clock ran out when it had failed and the others were waited for; opened again it is given its time anew."""
    first = {"id": "a", "steps": [call("one"), call("two")], "timeoutMinutes": 5}
    both = {"type": "parallel", "id": "both", "failureStrategy": "wait_all",
            "branches": [first, {"id": "b", "steps": [call("other")]}]}  # fmt: skip
    more = [
        {"from": "work", "to": "end", "trigger": "error.step", "condition": "'go' in data"},
    ]
    run = at_work(both, more=more)
    accepted(run.fail("one"))
    run.advance(6 * 60_000)
    accepted(run.complete("other"))
    assert incident(run).step_id == "one"
    accepted(run.resolve("retry"))
    accepted(run.complete("one"))
    assert jobs(run) == ["two"]
    run.advance(6 * 60_000)
    assert (incident(run).code, jobs(run)) == ("TIMEOUT", [])
