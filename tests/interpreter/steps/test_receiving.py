"""Events from outside: awaited by a step, or having a step run."""

from __future__ import annotations

import pytest

from tests.interpreter.building import accepted, refused
from tests.interpreter.steps.working import at_work, call, data, incident, jobs, status, steps_at_work

PAID = {"type": "receive", "id": "paid", "eventType": "com.example.paid", "correlationKey": "data.order"}


def test_a_step_awaits_an_event() -> None:
    """By type and key; the output is the event. *Transient trigger* with a place of its own to wait in."""
    run = at_work(PAID | {"outputMapping": {"sum": "output.data.sum", "of": "output.type"}}, data={"order": 4711})
    (awaited,) = run.awaited.values()
    assert (awaited.event_type, awaited.key, status(run)) == ("com.example.paid", "4711", "waiting")
    accepted(run.deliver("com.example.paid", {"sum": 5}, steps=(awaited.step,)))
    assert (data(run)["sum"], data(run)["of"], status(run)) == (5, "com.example.paid", "completed")
    assert run.awaited == {}


@pytest.mark.parametrize(
    ("wanted", "came", "fits"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", True),
        ("a.*", "a", True),
        ("a.*", "ab.c", False),
    ],
)
def test_types_fit_exactly_or_by_a_prefix(wanted: str, came: str, fits: bool) -> None:
    """What does not fit is refused: it may be for somebody who begins to wait later."""
    run = at_work(PAID | {"eventType": wanted}, data={"order": "x"})
    answer = run.deliver(came)
    if fits:
        accepted(answer)
        assert status(run) == "completed"
    else:
        assert refused(answer).reason == "not_awaited"


def test_leaving_the_state_stops_waiting() -> None:
    """And so does a timeout, which fails the step."""
    run = at_work(PAID, data={"order": "x"}, more=[{"from": "work", "to": "end", "trigger": "enough"}])
    accepted(run.fire("enough", user="ada"))
    assert run.awaited == {}
    run = at_work(PAID | {"timeoutMinutes": 5}, data={"order": "x"})
    run.advance(300_000)
    assert (run.awaited, incident(run).code) == ({}, "TIMEOUT")


def test_whichever_comes_first() -> None:
    """*Deferred choice*: an event, another event, or the time; what loses is given up."""
    race = {
        "type": "parallel",
        "waitStrategy": "any",
        "branches": [
            {"id": "paid", "steps": [PAID]},
            {"id": "cancelled", "steps": [PAID | {"id": "cancelled", "eventType": "com.example.cancelled"}]},
            {"id": "late", "steps": [{"type": "wait", "durationMinutes": 5}]},
        ],
        "outputMapping": {"how": "output"},
    }
    run = at_work(race, data={"order": "x"})
    accepted(run.deliver("com.example.cancelled", {"by": "ada"}))
    assert list(data(run)["how"]) == ["cancelled"]
    assert status(run) == "completed"
    run = at_work(race, data={"order": "x"})
    run.advance(300_000)
    assert list(data(run)["how"]) == ["late"]


def test_an_event_that_comes_while_the_instance_is_suspended_is_kept() -> None:
    """It is not offered to anybody else meanwhile."""
    run = at_work(PAID, call("next"), data={"order": "x"})
    accepted(run.suspend())
    accepted(run.deliver("com.example.paid"))
    assert (jobs(run), run.awaited) == ([], {})
    assert refused(run.deliver("com.example.paid")).reason == "not_awaited"
    accepted(run.resume())
    assert jobs(run) == ["next"]


def test_without_a_key_nothing_can_be_awaited() -> None:
    """Null and the empty text identify nothing."""
    run = at_work(PAID, data={"order": None})
    assert incident(run).code == "EXPRESSION_ERROR"


# -- steps that events run -----------------------------------------------------------------------------------------------

NAMED = {"remind": call("tell", inputMapping={"who": "event.data.who", "at": "data.n"})}

HOOKS = {
    "correlation": [{"name": "n", "key": "data.n"}],
    "triggers": [
        {
            "id": "due",
            "eventType": "reminder.due",
            "correlationKey": "event.data.n",
            "action": {"type": "execute_step", "stepId": "remind"},
        }
    ],
}


def test_an_event_has_a_step_run_beside_the_others() -> None:
    """Its expressions see the event, at every attempt; it outlives the state and ends with the instance."""
    named = {"remind": NAMED["remind"] | {"retryPolicy": {"maxAttempts": 2}}}
    states = {"more": {"properties": {"steps": [call("last")]}}}
    run = at_work(
        call("fetch"),
        data={"n": 1},
        steps=named,
        states=states,
        more=[{"from": "work", "to": "more", "trigger": "go"}, {"from": "more", "to": "end"}],
        eventHooks=HOOKS,
    )
    accepted(run.deliver("reminder.due", {"who": "ada"}, action="execute", step="remind"))
    assert jobs(run) == ["fetch", "tell"]
    accepted(run.fire("go", user="ada"))
    assert jobs(run) == ["tell", "last"]
    accepted(run.fail("tell"))
    job = run.jobs[run.run_of("tell").id]
    assert job.payload["input"] == {"who": "ada", "at": 1}
    accepted(run.complete("tell"))
    assert steps_at_work(run) == {"last": "scheduled"}
    accepted(run.deliver("reminder.due", {"who": "bob"}, action="execute", step="remind"))
    accepted(run.complete("last"))
    assert (status(run), run.jobs) == ("completed", {})


def test_an_unknown_step_is_refused() -> None:
    """The rejection names those there are."""
    run = at_work(call("fetch"), "remind", data={"n": 1}, steps={"remind": call("tell")})
    answer = refused(run.deliver("x", action="execute", step="remnd"))
    assert (answer.reason, answer.details["known"]) == ("unknown_step", ["remind"])


def test_its_failure_is_handled_as_any() -> None:
    """By a transition of an active state, or by an incident that belongs to no state."""
    run = at_work(call("fetch"), data={"n": 1}, steps=NAMED, eventHooks=HOOKS)
    accepted(run.deliver("x", {"who": "ada"}, action="execute", step="remind"))
    accepted(run.fail("tell"))
    assert (incident(run).state, incident(run).step_id) == (None, "tell")
    accepted(run.resolve("retry"))
    assert run.jobs[run.run_of("tell").id].payload["input"]["who"] == "ada"
