"""A suspended instance: clocks stop, results are kept, nothing new begins."""

from __future__ import annotations

from tests.interpreter.building import accepted, refused
from tests.interpreter.steps.working import at_work, call, data, jobs, status, steps_at_work


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


def test_a_failure_that_comes_meanwhile_is_kept_too() -> None:
    """The retry's delay begins when the instance is resumed."""
    run = at_work(call("fetch", retryPolicy={"jitter": 0, "initialDelaySeconds": 60}))
    accepted(run.suspend())
    accepted(run.fail("fetch"))
    run.advance(600_000)
    accepted(run.resume())
    (job,) = run.jobs.values()
    assert (job.attempt, (job.due_at - run.now).total_seconds()) == (2, 60)


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


def test_an_incident_is_still_there_after_it() -> None:
    """Suspending one that is failed until somebody resolves its incident changes nothing about that."""
    run = at_work(call("fetch"))
    accepted(run.fail("fetch"))
    accepted(run.suspend())
    accepted(run.resume())
    assert status(run) == "failed"
    accepted(run.resolve("retry"))
    assert status(run) == "running"
