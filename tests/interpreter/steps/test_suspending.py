"""A suspended instance: clocks stop, results are kept, nothing new begins."""

from __future__ import annotations

from tests.interpreter.building import accepted, refused, simulate
from tests.interpreter.steps.working import END, at_work, call, data, incident, jobs, status, steps_at_work


def test_a_result_that_comes_meanwhile_is_kept() -> None:
    """It takes effect when the instance is resumed; whoever brings it again is told that it is done."""
    from pliers_workflow.interpreter.commands import CompleteStep

    run = at_work(call("fetch", outputMapping={"total": "output"}), call("next"))
    accepted(run.suspend())
    fetch = run.run_of("fetch")
    accepted(run.complete("fetch", 5))
    assert (status(run), data(run), jobs(run)) == ("suspended", {}, [])
    assert refused(run.give(CompleteStep(fetch.id, 1, 6), None)).reason == "step_gone"
    accepted(run.resume())
    assert (status(run), data(run), jobs(run)) == ("running", {"total": 5}, ["next"])


def test_the_last_result_moves_the_instance_on_when_it_is_resumed() -> None:
    """No step is left after it; the transition that waits for all steps of the state is taken all the same."""
    run = at_work(call("fetch"))
    accepted(run.suspend())
    accepted(run.complete("fetch"))
    accepted(run.resume())
    assert (status(run), run.configuration) == ("completed", ["end"])


def test_a_failure_that_comes_meanwhile_is_kept_too() -> None:
    """The retry's delay begins when the instance is resumed."""
    run = at_work(call("fetch", retryPolicy={"jitter": 0, "initialDelaySeconds": 60}))
    accepted(run.suspend())
    accepted(run.fail("fetch"))
    run.advance(600_000)
    accepted(run.resume())
    (job,) = run.jobs.values()
    assert (job.attempt, (job.due_at - run.now).total_seconds()) == (2, 60)


def test_a_failure_that_came_meanwhile_is_mended_as_any_other() -> None:
    """Once it has taken effect it is not kept any more: a retry does the step again, and not its failure."""
    run = at_work(call("fetch"))
    accepted(run.suspend())
    accepted(run.fail("fetch", "HTTP_503"))
    accepted(run.resume())
    assert (incident(run).code, jobs(run)) == ("HTTP_503", [])
    accepted(run.resolve("retry"))
    assert (jobs(run), status(run)) == (["fetch"], "running")


def test_an_attempt_that_is_due_later_does_not_begin() -> None:
    """Its job is dropped and written anew, due at once where its time has come meanwhile."""
    run = at_work(call("fetch", retryPolicy={"jitter": 0, "initialDelaySeconds": 60}))
    accepted(run.fail("fetch"))
    accepted(run.suspend())
    assert run.jobs == {}
    run.advance(600_000)
    accepted(run.resume())
    (job,) = run.jobs.values()
    assert (job.attempt, job.due_at) == (2, run.now)


def test_an_attempt_that_is_due_later_has_one_clock() -> None:
    """However often the instance is suspended before: it has the step's time from when it is due."""
    run = at_work(call("fetch", retryPolicy={"jitter": 0, "initialDelaySeconds": 60}, timeoutMinutes=5))
    accepted(run.fail("fetch"))
    for _ in range(3):
        accepted(run.suspend())
        run.advance(10_000)
        accepted(run.resume())
    assert run.instance is not None
    (timer,) = run.instance.machine.timers.values()
    assert timer.due_at is not None
    assert (timer.due_at - run.now).total_seconds() == 30 + 300


def test_clocks_of_steps_stop() -> None:
    """A wait and a timeout keep the time they had left."""
    run = at_work({"type": "wait", "id": "nap", "durationMinutes": 5}, call("fetch", timeoutMinutes=5))
    run.advance(120_000)
    accepted(run.suspend())
    run.advance(6_000_000)
    accepted(run.resume())
    run.advance(179_999)
    assert steps_at_work(run) == {"nap": "waiting"}
    run.advance(1)
    assert jobs(run) == ["fetch"]


def test_results_that_cannot_take_effect_do_not_keep_it_suspended() -> None:
    """They stay with their steps, each with an incident; when the data are mended, a retry applies them."""
    states = {
        "a": {"properties": {"steps": [call("fetch"), call("look")]}},
        "b": {"properties": {"steps": [call("more")]}},
    }
    broken = {"type": "assign", "field": "n", "value": "data.missing + 1"}
    run = simulate(
        {
            "both": {"type": "parallel", "substates": [{"id": key, **state} for key, state in states.items()]},
            "end": END,
        },
        [{"from": "both", "to": "end", "trigger": "error.step.fetch", "actions": [broken]}],
    )
    accepted(run.start({}, "ada"))
    accepted(run.suspend())
    accepted(run.fail("fetch", "NO", retryable=False))
    accepted(run.complete("more", 7))
    accepted(run.resume())
    assert run.instance is not None
    assert (status(run), steps_at_work(run)) == ("failed", {"fetch": "stuck", "more": "stuck"})
    first, second = run.instance.machine.incidents.values()
    assert (first.code, first.step_id, second.step_id) == ("execution_error", "fetch", "more")
    accepted(run.resolve("retry", second.id))
    assert steps_at_work(run) == {"fetch": "stuck"}
    accepted(run.resolve("retry", first.id, patch={"missing": 1}))
    assert (status(run), data(run)["n"]) == ("completed", 2)


def test_an_attempt_that_cannot_begin_again_does_not_keep_it_suspended() -> None:
    """What the transition for its failure does cannot be done: so that a person has to look."""
    broken = {"type": "assign", "field": "n", "value": "data.missing + 1"}
    more = [{"from": "work", "to": "end", "trigger": "error.step", "actions": [broken]}]
    fetch = call("fetch", retryPolicy={"jitter": 0}, inputMapping={"now": "timestamp(data.at) < now ? data.no : 1"})
    run = at_work(fetch, more=more, data={"at": "2026-01-01T00:00:10Z"})
    accepted(run.fail("fetch"))
    accepted(run.suspend())
    run.advance(20_000)
    accepted(run.resume())
    assert (status(run), steps_at_work(run), incident(run).code) == ("failed", {"fetch": "stuck"}, "EXPRESSION_ERROR")


def test_an_incident_is_still_there_after_it() -> None:
    """Suspending one that is failed until somebody resolves its incident changes nothing about that."""
    run = at_work(call("fetch"))
    accepted(run.fail("fetch"))
    accepted(run.suspend())
    accepted(run.resume())
    assert status(run) == "failed"
    accepted(run.resolve("retry"))
    assert status(run) == "running"
