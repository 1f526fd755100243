"""Failures: another attempt, somebody who handles it, or an incident."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pliers_workflow.interpreter import simulation
from pliers_workflow.interpreter.commands import Actor, Command, CompleteStep, FailStep
from pliers_workflow.interpreter.effects import OpenIncident
from pliers_workflow.interpreter.interpret import interpret
from pliers_workflow.interpreter.rejections import Reason, Rejection
from tests.interpreter.building import accepted, kinds, refused
from tests.interpreter.steps.working import at_work, call, data, incident, jobs, status, steps_at_work

MINUTE = 60_000


def flaky(id: str, **policy: Any) -> dict[str, Any]:
    """A call with a retry policy, without jitter."""
    return call(id, retryPolicy={"initialDelaySeconds": 10, "jitter": 0, **policy})


# -- attempts ----------------------------------------------------------------------------------------------------------


def test_a_failed_attempt_is_followed_by_another_after_a_growing_delay() -> None:
    """Ten seconds, twenty, forty …; then the step fails for good."""
    run = at_work(flaky("fetch", maxAttempts=4))
    for attempt, seconds in ((2, 10), (3, 20), (4, 40)):
        accepted(run.fail("fetch"))
        (job,) = run.jobs.values()
        assert (job.attempt, job.due_at - run.now) == (attempt, timedelta(seconds=seconds))
        assert (steps_at_work(run), status(run)) == ({"fetch": "retrying"}, "running")
    accepted(run.fail("fetch"))
    assert incident(run).attempts == 4


def test_the_jitter_is_different_for_each_and_the_same_each_time() -> None:
    """Within its share of the delay, so that what failed at one moment does not come back at one moment."""

    def delays() -> list[timedelta]:
        run = at_work({"type": "for_each", "items": "[1, 2, 3]", "steps": [flaky("fetch", jitter=0.2)]})
        for each in list(run.jobs):
            accepted(run.fail(each))
        return [job.due_at - run.now for job in run.jobs.values()]

    assert len(set(delays())) == 3
    assert delays() == delays()
    assert all(timedelta(seconds=8) <= delay <= timedelta(seconds=12) for delay in delays())


def test_the_other_side_may_ask_for_more_patience() -> None:
    """Retry-After counts where it is longer than the policy's delay."""
    run = at_work(flaky("fetch", maxAttempts=2))
    fetch = run.run_of("fetch")
    accepted(run.give(FailStep(fetch.id, 1, "HTTP_503", "busy", retry_after_ms=MINUTE), None))
    (job,) = run.jobs.values()
    assert job.due_at - run.now == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("policy", "code", "retryable", "again"),
    [
        ({}, "HTTP_503", True, True),
        ({}, "HTTP_503", False, False),
        ({"doNotRetryOn": ["HTTP_404"]}, "HTTP_404", True, False),
        ({"doNotRetryOn": ["HTTP_404"]}, "HTTP_503", True, True),
        ({"retryOn": ["LEASE_LAPSED"]}, "HTTP_503", True, False),
        ({"retryOn": ["LEASE_LAPSED"]}, "LEASE_LAPSED", True, True),
        ({"maxAttempts": 1}, "HTTP_503", True, False),
    ],
)
def test_which_failures_are_worth_another_attempt(policy: Any, code: str, retryable: bool, again: bool) -> None:
    """Three attempts by default; codes may be chosen or excluded; a failure may say itself that it is final."""
    run = at_work(flaky("fetch", **policy))
    accepted(run.fail("fetch", code, retryable=retryable))
    assert steps_at_work(run) == {"fetch": "retrying" if again else "stuck"}


def test_each_attempt_is_given_its_input_anew() -> None:
    """Data that were mended meanwhile reach the next attempt."""
    run = at_work(flaky("fetch", maxAttempts=3) | {"inputMapping": {"n": "data.n"}}, data={"n": 1})
    accepted(run.update({"n": 2}))
    accepted(run.fail("fetch"))
    (job,) = run.jobs.values()
    assert job.payload["input"] == {"n": 2}
    assert job.payload["idempotencyKey"].endswith(":2")


def test_a_timeout_is_a_failure_of_that_attempt() -> None:
    """The retry policy decides as ever; the next attempt has its own time, from when it is due."""
    run = at_work(flaky("fetch", maxAttempts=2) | {"timeoutMinutes": 1})
    run.advance(MINUTE)
    assert run.run_of("fetch").attempt == 2
    run.advance(MINUTE)
    assert steps_at_work(run) == {"fetch": "retrying"}
    run.advance(10_000)
    assert (incident(run).code, incident(run).attempts) == ("TIMEOUT", 2)
    assert not run.jobs


def test_a_result_of_an_attempt_that_was_given_up_is_refused() -> None:
    """Whoever was slow cannot overwrite its successor."""
    from pliers_workflow.interpreter.commands import CompleteStep

    run = at_work(flaky("fetch"))
    fetch = run.run_of("fetch")
    accepted(run.fail("fetch", "LEASE_LAPSED"))
    assert refused(run.give(CompleteStep(fetch.id, 1, "late"), None)).reason == "step_gone"
    accepted(run.give(CompleteStep(fetch.id, 2, "in time"), None))
    assert status(run) == "completed"


# -- who handles it ----------------------------------------------------------------------------------------------------


def test_continue_on_error_passes_over_it() -> None:
    """What follows goes on, and can see what happened."""
    run = at_work(
        call("fetch", continueOnError=True),
        {"type": "assign", "assignments": {"was": "steps.fetch.status", "why": "steps.fetch.error.code"}},
    )
    accepted(run.fail("fetch", "HTTP_404"))
    assert data(run) == {"was": "failed", "why": "HTTP_404"}
    assert status(run) == "completed"


def test_a_sequence_with_continue_on_error_passes_over_all_its_steps() -> None:
    """One after another, whatever becomes of them."""
    run = at_work({"type": "sequential", "id": "all", "continueOnError": True, "steps": [call("one"), call("two")]})
    accepted(run.fail("one"))
    assert jobs(run) == ["two"]
    accepted(run.fail("two"))
    assert status(run) == "completed"


def test_a_transition_takes_the_failure() -> None:
    """`error.step.ID`, with what happened as the event's data; prefixes match as ever."""
    more = [
        {
            "from": "work",
            "to": "end",
            "trigger": "error.step.fetch",
            "actions": [{"type": "assign", "field": "why", "value": "event.data.code + ' ' + event.data.step"}],
        }
    ]
    run = at_work(call("fetch"), more=more)
    accepted(run.fail("fetch", "HTTP_404"))
    assert (status(run), data(run)) == ("completed", {"why": "HTTP_404 fetch"})


@pytest.mark.parametrize("trigger", ["error.step.other", "error.step", "error", "*"])
def test_prefixes_of_the_trigger(trigger: str) -> None:
    """Another step's name does not match; `error.step`, `error` and `*` do."""
    other = {"type": "sequential", "id": "other", "condition": "false", "steps": [call("never")]}
    run = at_work(call("fetch"), other, more=[{"from": "work", "to": "end", "trigger": trigger}])
    accepted(run.fail("fetch"))
    assert status(run) == ("failed" if trigger == "error.step.other" else "completed")


def test_a_guard_that_does_not_hold_leaves_an_incident() -> None:
    """Nothing fails in silence: where no transition takes it in the end, a person has to look."""
    more = [{"from": "work", "to": "end", "trigger": "error.step", "condition": "event.data.code == 'HTTP_404'"}]
    run = at_work(call("fetch"), more=more)
    accepted(run.fail("fetch", "HTTP_500"))
    assert incident(run).code == "HTTP_500"
    accepted(run.resolve("retry"))
    accepted(run.fail("fetch", "HTTP_404"))
    assert status(run) == "completed"


def test_a_transition_that_stays_in_the_state_ends_its_steps() -> None:
    """They have failed; the transition without trigger waits for ever, another trigger may lead out."""
    more = [
        {"from": "work", "trigger": "error.step", "actions": [{"type": "assign", "field": "seen", "value": "true"}]},
        {"from": "work", "to": "end", "trigger": "go"},
    ]
    run = at_work(
        {
            "type": "parallel",
            "id": "both",
            "branches": [{"id": "a", "steps": [call("a")]}, {"id": "b", "steps": [call("b")]}],
        },
        more=more,
    )
    accepted(run.fail("a"))
    assert (data(run), jobs(run), status(run)) == ({"seen": True}, [], "waiting")
    accepted(run.fire("go", user="ada"))
    assert status(run) == "completed"


def test_an_expression_without_value_fails_the_step_at_once() -> None:
    """No further attempt could help: the document or the data are wrong."""
    run = at_work(flaky("fetch") | {"inputMapping": {"n": "data.missing"}})
    assert (incident(run).code, status(run), jobs(run)) == ("EXPRESSION_ERROR", "failed", [])
    accepted(run.resolve("retry", patch={"missing": 1}))
    assert jobs(run) == ["fetch"]


# -- incidents ---------------------------------------------------------------------------------------------------------


def test_what_nobody_handles_is_an_incident() -> None:
    """On the step where it began, with a fingerprint that all of one cause share; the instance is intact."""
    run = at_work({"type": "sequential", "id": "outer", "steps": [call("fetch"), call("next")]})
    answer = accepted(run.fail("fetch", "HTTP_404", message="No such order."))
    found = incident(run)
    assert (found.step_id, found.code, found.message, found.state) == ("fetch", "HTTP_404", "No such order.", "work")
    assert [effect.incident for effect in answer.effects if isinstance(effect, OpenIncident)] == [found]
    assert status(run) == "failed"
    assert steps_at_work(run) == {"outer": "open", "fetch": "stuck"}
    other = at_work(call("other"), call("fetch"))
    accepted(other.complete("other"))
    accepted(other.fail("fetch", "HTTP_404"))
    assert incident(other).fingerprint == found.fingerprint
    assert not run.instance.ended  # type: ignore[union-attr]  # there is one


def test_retry_begins_it_anew_with_fresh_attempts() -> None:
    """The attempts go on counting, so that nothing from before can be taken for a result of now."""
    run = at_work(flaky("fetch", maxAttempts=2))
    accepted(run.fail("fetch"))
    accepted(run.fail("fetch"))
    answer = run.resolve("retry")
    assert "StepRetried" in kinds(answer)
    (job,) = run.jobs.values()
    assert job.attempt == 3
    assert status(run) == "running"
    accepted(run.fail("fetch"))
    assert run.run_of("fetch").attempt == 4
    accepted(run.fail("fetch"))
    assert incident(run).attempts == 2


def test_skip_lets_it_count_as_completed() -> None:
    """With the operator's output, which is written as any other."""
    run = at_work(call("fetch", outputMapping={"total": "output.total"}), call("next"))
    accepted(run.fail("fetch"))
    accepted(run.resolve("skip", output={"total": 7}))
    assert (data(run), jobs(run)) == ({"total": 7}, ["next"])


def test_give_up_fails_the_instance_for_good() -> None:
    """Nothing is left of it, and nothing can be done with it any more."""
    run = at_work(
        {
            "type": "parallel",
            "id": "both",
            "branches": [{"id": "a", "steps": [call("a")]}, {"id": "b", "steps": [call("b")]}],
        }
    )
    accepted(run.fail("a"))
    assert status(run) == "running"
    accepted(run.resolve("give_up"))
    assert (status(run), jobs(run)) == ("failed", [])
    assert refused(run.fire("go", user="ada")).reason == "instance_ended"


def test_an_incident_is_gone_with_its_state() -> None:
    """Leaving the state another way closes it, without anybody's resolution."""
    run = at_work(call("fetch"), more=[{"from": "work", "to": "end", "trigger": "enough"}])
    accepted(run.fail("fetch"))
    answer = accepted(run.fire("enough", user="ada"))
    assert "IncidentResolved" in kinds(answer)
    assert status(run) == "completed"


def test_unknown_incidents_and_other_people_are_refused() -> None:
    """Only operators resolve, and only what is open."""
    run = at_work(call("fetch"))
    accepted(run.fail("fetch"))
    assert refused(run.resolve("retry", "incident/9")).reason == "unknown_incident"
    from pliers_workflow.interpreter.commands import ResolveIncident

    order = ResolveIncident("incident/1", "retry", "please")
    assert refused(run.give(order, "ada")).reason == "not_allowed"
    accepted(run.give(order, "ada", ("operator",)))


def test_other_branches_go_on_beside_an_incident() -> None:
    """And the join waits for the one that is stuck, which alone is done again."""
    run = at_work(
        {
            "type": "parallel",
            "id": "both",
            "branches": [{"id": "a", "steps": [call("a")]}, {"id": "b", "steps": [call("b"), call("c")]}],
        }
    )
    accepted(run.fail("a"))
    accepted(run.complete("b"))
    accepted(run.complete("c"))
    assert status(run) == "failed"
    accepted(run.resolve("retry"))
    accepted(run.complete("a"))
    assert status(run) == "completed"


@pytest.mark.parametrize("waits", ["fail_fast", "wait_all"])
def test_each_failure_is_told_when_nobody_handles_what_they_led_to(waits: str) -> None:
    """Two elements fail, and the guard of the transition that waits for that says no: two incidents, and no silence."""
    loop = {"type": "for_each", "items": "[1, 2]", "steps": [call("a")]}
    branches = [{"id": "a", "steps": [loop]}, {"id": "b", "steps": [call("b")]}]
    run = at_work(
        {"type": "parallel", "failureStrategy": waits, "branches": branches},
        more=[{"from": "work", "to": "end", "trigger": "error.step", "condition": "false"}],
    )
    assert run.instance is not None
    first, second = [each.id for each in run.instance.machine.steps.values() if each.step_id == "a"]
    accepted(run.fail(first))
    accepted(run.fail(second))
    accepted(run.complete("b"))
    assert {each.step for each in run.instance.machine.incidents.values()} == {first, second}
    for each in list(run.instance.machine.incidents):
        accepted(run.resolve("skip", each))
    assert status(run) == "completed"


def test_branches_that_fail_at_one_moment_are_each_told() -> None:
    """The second failure was part of the first one's until a guard said that this was nobody's."""
    bad = {"type": "assign", "assignments": {"n": "data.missing"}}
    branches = [{"id": "a", "steps": [{**bad, "id": "a"}]}, {"id": "b", "steps": [{**bad, "id": "b"}]}]
    run = at_work(
        {"type": "parallel", "branches": branches},
        more=[{"from": "work", "to": "end", "trigger": "error.step", "condition": "false"}],
    )
    assert run.instance is not None
    assert {each.step_id for each in run.instance.machine.incidents.values()} == {"a", "b"}
    for each in list(run.instance.machine.incidents):
        accepted(run.resolve("skip", each))
    assert status(run) == "completed"


# -- results that cannot take effect -----------------------------------------------------------------------------------

BROKEN = {"type": "assign", "field": "n", "value": "data.missing + 1"}


def test_a_result_whose_consequences_fail_is_kept() -> None:
    """The work was done and must not be done again; when the data are mended, its result takes effect."""
    run = at_work(
        call("fetch", outputMapping={"total": "output.total"}),
        more=[],
        states={"end": {"type": "final", "exitActions": [BROKEN]}},
    )
    accepted(run.complete("fetch", {"total": 5}))
    assert (incident(run).code, status(run)) == ("execution_error", "failed")
    assert run.run_of("fetch").held is not None
    accepted(run.resolve("retry", patch={"missing": 1}))
    assert (status(run), data(run)) == ("completed", {"missing": 1, "total": 5, "n": 2})


def test_an_output_that_cannot_be_written_is_kept_too() -> None:
    """`outputMapping` fails: the incident tells of it, and the step is not run again."""
    run = at_work(call("fetch", outputMapping={"total": "output.total * data.rate"}))
    accepted(run.complete("fetch", {"total": 5}))
    assert incident(run).code == "EXPRESSION_ERROR"
    accepted(run.resolve("retry", patch={"rate": 3}))
    assert (status(run), data(run)) == ("completed", {"rate": 3, "total": 15})


def test_an_output_that_is_too_large_fails_the_step() -> None:
    """256 kB are the most."""
    run = at_work(call("fetch"))
    accepted(run.complete("fetch", "x" * 300_000))
    assert incident(run).code == "OUTPUT_TOO_LARGE"


def test_what_an_instance_remembers_of_its_steps_is_bounded() -> None:
    """At 1 MB a result is not kept any more, and the incident says so; nothing is refused that somebody waits for."""
    steps = [call(f"s{number}") for number in range(6)]
    reader = call("reader", inputMapping={"all": "[s0, s1, s2, s3, s4, s5].map(x, x)"})
    reader["inputMapping"] = {f"n{number}": f"steps.s{number}.output.size()" for number in range(6)}
    run = at_work(*steps, reader)
    for number in range(4):
        accepted(run.complete(f"s{number}", "x" * 240_000))
    accepted(run.complete("s4", "x" * 240_000))
    assert (incident(run).code, incident(run).details) == ("data_too_large", {"result": "lost"})
    accepted(run.resolve("retry"))
    accepted(run.complete("s4", "small"))
    assert jobs(run) == ["s5"]


def test_a_step_that_fails_at_once_finds_the_transitions_of_inner_states() -> None:
    """Steps begin when all states of the microstep have been entered, in document order."""
    broken = call("broken", inputMapping={"n": "data.missing"})
    outer = {
        "properties": {"steps": [broken], "initial": "inner"},
        "substates": [{"id": "inner", "properties": {"steps": [call("fetch")]}}],
    }
    run = at_work(states={"work": outer}, more=[{"from": "inner", "to": "end", "trigger": "error.step.broken"}])
    assert status(run) == "completed"


def test_what_a_failure_says_is_bounded() -> None:
    """It is kept, hashed, and shown to people."""
    run = at_work(call("fetch"))
    fetch = run.run_of("fetch")
    order = FailStep(fetch.id, 1, "X" * 500, "m" * 10_000, details={"body": "y" * 100_000})
    accepted(run.give(order, None))
    found = incident(run)
    assert (len(found.code), len(found.message)) == (100, 2000)
    assert found.details == {"left_out": "more than 16 kB"}


@pytest.mark.parametrize("come", ["a result", "a failure", "a clock"])
def test_what_is_too_much_work_is_an_incident(monkeypatch: pytest.MonkeyPatch, come: str) -> None:
    """Nobody reads that a result was refused, and no retry makes it less: it is kept, and an operator looks at it."""
    monkeypatch.setattr(simulation, "BUDGET_STEPS_ALONE", 30_000)
    much = "1"
    for level in range(5):
        much = f"data.xs.map(x{level}, {much}).size()"
    assign = [{"type": "assign", "field": "n", "value": much}]
    run = at_work(
        call("one", outputMapping={"n": much}, timeoutMinutes=5),
        data={"xs": list(range(60))},
        more=[{"from": "work", "to": "end", "trigger": "error.step.one", "actions": assign}],
    )
    if come == "a clock":
        run.advance(300_000)
    else:
        accepted(run.complete("one", "done") if come == "a result" else run.fail("one"))
    assert (incident(run).code, incident(run).details, jobs(run)) == ("budget_exceeded", {"result": "kept"}, [])
    assert refused(run.resolve("retry")).reason == "budget_exceeded"
    accepted(run.update({"xs": []}, "ada"))
    accepted(run.resolve("retry"))
    assert status(run) == "completed"


def test_what_comes_too_late_to_be_an_incident_is_gone() -> None:
    """Whoever interprets a result may learn that it is too much when the step is over."""
    run = at_work(call("one"), more=[{"from": "work", "to": "end", "trigger": "leave"}], states={"end": {}})
    step = run.run_of("one").id
    accepted(run.fire("leave", user="ada"))
    too_much = Rejection(Reason.BUDGET_EXCEEDED, "too much")
    order = Command("c", Actor(), CompleteStep(step, 1, "done"))
    answer = interpret(run.chart, run.instance, order, {}, run.now, refused=too_much)
    assert isinstance(answer, Rejection)
    assert answer.reason == "step_gone"


HALF = "\ud800"
DEEP: list[Any] = []
for _ in range(3_000):
    DEEP = [DEEP]


@pytest.mark.parametrize("output", [HALF, {"a": HALF}, {HALF: 1}, [[HALF]], DEEP, object()])
def test_an_output_that_is_no_json_fails_the_step(output: Any) -> None:
    """Wherever it comes from, and for good: nothing is gained by running it again."""
    run = at_work(call("fetch", outputMapping={"x": "output"}, retryPolicy={"maxAttempts": 3}))
    accepted(run.complete("fetch", output))
    assert incident(run).code == "OUTPUT_INVALID"


def test_what_a_failure_says_is_kept_as_far_as_it_can_be() -> None:
    """Half a pair of surrogates is no character, and no wait is longer than the longest clock."""
    run = at_work(flaky("fetch", maxAttempts=2))
    order = FailStep(run.run_of("fetch").id, 1, HALF, f"a{HALF}b", retry_after_ms=10**30, details={"x": HALF})
    accepted(run.give(order, None))
    assert steps_at_work(run) == {"fetch": "retrying"}
    order = FailStep(run.run_of("fetch").id, 2, HALF, f"a{HALF}b", details={"x": HALF})
    accepted(run.give(order, None))
    found = incident(run)
    assert (found.code, found.message, found.details) == ("?", "a?b", {"left_out": "what JSON cannot hold"})
