"""Timers: budgets with pauses, and what happens when they fire."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pliers_workflow.interpreter.effects import CancelTimer, CloseIncident, ScheduleTimer
from pliers_workflow.interpreter.events import TimeoutOccurred, TriggerRaised, WorkflowFailed
from pliers_workflow.interpreter.instance import Status
from pliers_workflow.interpreter.rejections import Reason
from tests.interpreter.building import accepted, kinds, refused, simulate, started

MINUTE = 60_000
FINAL = {"type": "final"}
CLOCKED: dict[str, Any] = {"open": {"timeouts": [{"afterMinutes": 10}]}, "late": {}, "end": FINAL}
LATE = [
    {"from": "open", "to": "late", "trigger": "timeout.open"},
    {"from": "open", "to": "end", "trigger": "finish"},
    {"from": "late", "to": "end", "trigger": "finish"},
]


def test_a_state_timeout_raises_its_trigger_when_its_time_is_up() -> None:
    """`timeout.STATE` after the minutes given, not a millisecond sooner; the timer is gone then."""
    run = started(CLOCKED, LATE)
    assert run.advance(10 * MINUTE - 1) == []
    (timer,) = run.advance(1)
    assert (timer.kind, timer.state, timer.trigger) == ("state", "open", "timeout.open")
    assert run.configuration == ["late"]
    assert run.instance is not None
    assert run.instance.machine.timers == {}
    assert [type(each) for each in run.history[-1].events[:2]] == [TimeoutOccurred, TriggerRaised]


def test_leaving_the_state_cancels_its_clocks() -> None:
    """The event and the duty to drop the job come with the exit."""
    run = started(CLOCKED, LATE)
    outcome = accepted(run.fire("finish"))
    assert "TimerCancelled" in kinds(outcome)
    assert CancelTimer("timer/1") in outcome.effects
    assert outcome.instance.timeout_at is None


def test_entering_owes_the_timers_job() -> None:
    """The effect carries the timer as the instance keeps it, and `timeout_at` is the earliest one due."""
    run = simulate({**CLOCKED, "open": {"timeouts": [{"afterMinutes": 10}, {"id": "soon", "afterMinutes": "data.n * 0.5", "trigger": "hurry"}]}},
                   [*LATE, {"from": "open", "trigger": "hurry"}])  # fmt: skip
    outcome = accepted(run.start({"n": 3}))
    timers = outcome.instance.machine.timers
    assert outcome.effects == tuple(ScheduleTimer(each) for each in timers.values())
    assert outcome.instance.timeout_at == run.now + timedelta(seconds=90)


def test_suspending_keeps_the_time_that_is_left() -> None:
    """A clock paused after 4 of 10 minutes has 6 left, however long the pause was, and however often it is paused."""
    run = started(CLOCKED, LATE)
    for _ in range(2):
        run.advance(2 * MINUTE)
        outcome = accepted(run.suspend())
        (timer,) = outcome.instance.machine.timers.values()
        assert (timer.due_at, timer.paused_at) == (None, run.now)
        assert outcome.effects == (ScheduleTimer(timer),)
        assert outcome.instance.timeout_at is None
        assert run.advance(1000 * MINUTE) == []
        run.resume()
    assert run.instance is not None
    assert run.instance.timeout_at == run.now + timedelta(minutes=6)
    assert run.advance(6 * MINUTE - 1) == []
    assert len(run.advance(1)) == 1


def test_a_delayed_trigger_can_be_cancelled() -> None:
    """`cancel` stops every send of that name that has not fired; others go on."""
    send = [
        {"type": "send", "trigger": "tick", "delayMinutes": 5, "sendId": "one", "data": {"n": "data.n"}},
        {"type": "send", "trigger": "tock", "delayMinutes": "data.n + 1", "sendId": "two"},
    ]
    states = {"open": {"entryActions": send}, "ticked": FINAL, "tocked": FINAL}
    transitions = [
        {"from": "open", "to": "ticked", "trigger": "tick", "condition": "event.data.n == 5"},
        {"from": "open", "to": "tocked", "trigger": "tock"},
        {"from": "open", "trigger": "stop", "actions": [{"type": "cancel", "sendId": "one"}]},
    ]
    run = started(states, transitions, data={"n": 5})
    run.advance(10 * MINUTE)
    assert run.configuration == ["ticked"]
    run = started(states, transitions, data={"n": 5})
    run.fire("stop")
    run.advance(5 * MINUTE)
    assert run.configuration == ["open"]
    run.advance(MINUTE)
    assert run.configuration == ["tocked"]


def test_a_delayed_trigger_outlives_its_state() -> None:
    """A send belongs to the instance, not to the state that sent it."""
    run = started(
        {"open": {"entryActions": [{"type": "send", "trigger": "tick", "delayMinutes": 5}]}, "next": {}, "end": FINAL},
        [{"from": "open", "to": "next", "trigger": "go"}, {"from": "next", "to": "end", "trigger": "tick"}],
    )
    run.fire("go")
    run.advance(5 * MINUTE)
    assert run.configuration == ["end"]


def test_timers_fire_in_the_order_in_which_they_are_due() -> None:
    """Each at its own instant, though the clock moves over all of them at once."""

    def send(trigger: str, minutes: int) -> dict[str, Any]:
        return {"type": "send", "trigger": trigger, "delayMinutes": minutes}

    note = {"type": "assign", "field": "trail", "value": "data.trail + event.name"}
    run = started(
        {"open": {"entryActions": [send("c", 3), send("a", 1), send("b", 2)]}, "end": FINAL},
        [{"from": "open", "trigger": "a b c", "actions": [note]}, {"from": "open", "to": "end", "trigger": "finish"}],
        data={"trail": ""},
    )
    begun = run.now
    run.advance(60 * MINUTE)
    assert run.instance is not None
    assert run.instance.data == {"trail": "abc"}
    assert [row.at - begun for row in run.history[1:]] == [timedelta(minutes=each) for each in (1, 2, 3)]
    assert run.now == begun + timedelta(minutes=60)


def test_the_workflows_timeout_fails_the_instance_unless_it_is_handled() -> None:
    """Unhandled: failed with TIMEOUT_ERROR, every clock stopped. Handled: an ordinary trigger."""
    config = {"workflowTimeout": 5}
    run = started(CLOCKED, LATE, timeoutConfig=config)
    run.advance(5 * MINUTE)
    assert run.instance is not None
    assert run.instance.status is Status.FAILED
    assert run.instance.failed_at == run.now
    assert run.instance.machine.timers == {}
    (failed,) = [each for each in run.events if isinstance(each, WorkflowFailed)]
    assert failed.code == "TIMEOUT_ERROR"
    assert refused(run.fire("finish")).reason is Reason.INSTANCE_ENDED
    run = started(CLOCKED, [*LATE, {"from": "open", "to": "end", "trigger": "timeout.workflow"}], timeoutConfig=config)
    run.advance(5 * MINUTE)
    assert run.instance is not None
    assert run.instance.status is Status.COMPLETED


def test_no_clock_runs_after_the_end() -> None:
    """The last final state stops the workflow's clock and sends that are under way."""
    run = started(
        {"open": {"entryActions": [{"type": "send", "trigger": "tick", "delayMinutes": 5}]}, "end": FINAL},
        [{"from": "open", "to": "end", "trigger": "finish"}, {"from": "open", "to": "end", "trigger": "tick"}],
        timeoutConfig={"workflowTimeout": 60},
    )
    outcome = accepted(run.fire("finish"))
    assert outcome.instance.machine.timers == {}
    assert outcome.effects == (CancelTimer("timer/1"), CancelTimer("timer/2"))


def test_a_timer_nothing_takes_is_spent() -> None:
    """It is on record that it fired; nothing else happens."""
    run = started(
        {"open": {"timeouts": [{"afterMinutes": 10}]}, "end": FINAL},
        [{"from": "open", "to": "end", "trigger": "timeout", "condition": "data.n > 1"}],
        data={"n": 1},
    )
    run.advance(10 * MINUTE)
    assert run.configuration == ["open"]
    assert [type(each) for each in run.history[-1].events] == [TimeoutOccurred]


def test_a_stages_timeout_raises_its_trigger_too() -> None:
    """`timeout.CHAIN.STAGE` follows what the stage does by itself; here it does nothing."""
    chain = {"id": "ok", "steps": [{"id": "boss", "approvers": [{"type": "user", "identifier": "bob"}],
                                    "requirements": {"timeoutMinutes": 5}}]}  # fmt: skip
    run = started(
        {"review": {"properties": {"approvalChain": "ok"}}, "end": FINAL, "late": {}},
        [
            {"from": "review", "to": "end"},
            {"from": "review", "to": "end", "trigger": "rejected"},
            {"from": "review", "to": "late", "trigger": "timeout.ok.boss"},
            {"from": "late", "to": "end", "trigger": "finish"},
        ],
        approvalChains=[chain],
    )
    run.advance(5 * MINUTE)
    assert run.configuration == ["late"]


BROKEN = {"type": "assign", "field": "n", "value": "data.missing + 1"}


def the_incident(run: Any) -> Any:
    (found,) = run.instance.machine.incidents.values()
    return found


def test_a_stages_clock_that_could_not_take_effect_does_so_when_it_is_retried() -> None:
    """Its stage is granted or refused then, as `onTimeout` says, besides its trigger."""
    chain = {"id": "ok", "steps": [{"id": "boss", "approvers": [{"type": "user", "identifier": "bob"}],
                                    "requirements": {"timeoutMinutes": 5}, "onTimeout": "grant"}]}  # fmt: skip
    run = started(
        {"review": {"properties": {"approvalChain": "ok"}}, "end": FINAL},
        [{"from": "review", "to": "end", "actions": [BROKEN]}, {"from": "review", "to": "end", "trigger": "rejected"}],
        approvalChains=[chain],
    )
    run.advance(5 * MINUTE)
    assert the_incident(run).code == "execution_error"
    accepted(run.resolve("retry", patch={"missing": 1}))
    assert (run.configuration, run.instance and run.instance.data["n"]) == (["end"], 2)


def test_the_workflows_clock_that_could_not_take_effect_fails_the_instance_when_nothing_takes_it_later() -> None:
    """As it would have, had its transition not stood open when its hour came."""
    late = {"from": "open", "to": "end", "trigger": "timeout.workflow", "condition": "data.n == 0", "actions": [BROKEN]}
    run = started(CLOCKED, [*LATE, late], timeoutConfig={"workflowTimeout": 5}, data={"n": 0})
    run.advance(5 * MINUTE)
    accepted(run.resolve("retry", the_incident(run).id, patch={"n": 1}))
    assert run.instance is not None
    assert (run.instance.status, run.instance.ended) == (Status.FAILED, True)


def test_leaving_the_state_closes_the_incident_of_its_clock() -> None:
    """Retried later, its trigger would reach a state that has nothing to do with it."""
    run = started(
        CLOCKED,
        [
            {"from": "open", "to": "end", "trigger": "timeout.open", "actions": [BROKEN]},
            {"from": "open", "to": "late", "trigger": "finish"},
            {"from": "late", "to": "end", "trigger": "finish"},
        ],
    )
    run.advance(10 * MINUTE)
    assert the_incident(run).state == "open"
    answer = accepted(run.fire("finish"))
    assert "IncidentResolved" in kinds(answer)
    assert [each.incident for each in answer.effects if isinstance(each, CloseIncident)] == ["incident/1"]
    assert run.instance is not None
    assert (run.instance.status, run.instance.machine.incidents) == (Status.WAITING, {})


def test_a_bad_timeout_refuses_the_command() -> None:
    """Minutes must be a number between 0 and ten years."""
    states = {"open": {}, "clocked": {"timeouts": [{"afterMinutes": "data.n"}]}, "end": FINAL}
    transitions = [
        {"from": "open", "to": "clocked", "trigger": "go"},
        {"from": "clocked", "to": "end", "trigger": "timeout"},
    ]
    for bad in (-1, "x", None, True, 6_000_000):
        run = started(states, transitions, data={"n": bad})
        assert refused(run.fire("go")).reason is Reason.EXECUTION_ERROR
    run = started(states, transitions, data={"n": 0})
    accepted(run.fire("go"))
    run.advance(0)
    assert run.configuration == ["end"]
