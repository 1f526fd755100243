"""Timers that fire, and what an operator can do about one whose trigger was refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import approvals, life, statechart, steps
from .draft import Refused, Trigger
from .effects import OpenIncident
from .events import IncidentRaised, TimeoutOccurred
from .identity import fingerprint
from .instance import Incident
from .rejections import Reason

if TYPE_CHECKING:
    from .commands import FireTimer
    from .draft import Draft
    from .instance import Timer

#: Kinds of timers that belong to a step's run.
STEP_TIMERS = frozenset({"step", "wait", "retry"})


def fire_timer(draft: Draft, order: FireTimer) -> None:
    """A timer's hour has come. Raises `Refused` (`timer_gone`) when it was cancelled or moved since."""
    timer = _due(draft, order)
    consume(draft, timer)
    if timer.kind in STEP_TIMERS:
        steps.clock_ran_out(draft, timer)
        statechart.run_to_rest(draft)
        return
    _take_effect(draft, _told(timer))


def _due(draft: Draft, order: FireTimer) -> Timer:
    draft.allow(())
    timer = draft.instance.machine.timers.get(order.timer)
    if timer is None or timer.due_at is None or timer.due_at > draft.now:
        raise Refused(Reason.TIMER_GONE, timer=order.timer)
    return timer


def _take_effect(draft: Draft, told: Mapping[str, Any]) -> None:
    """What a timer does that belongs to no step; `told` is all of it that matters then."""
    data = told["data"]
    if "place" in told:
        # What the stage does by itself comes first; a transition may still react to the trigger.
        approvals.stage_timed_out(draft, told["place"], told["visit"], data["stage"])
        statechart.macrostep(draft)
    if draft.running:
        taken = statechart.deliver(draft, Trigger(told["trigger"], data))
        if "minutes" in told and not taken:
            message = f"The workflow did not end within {told['minutes']:g} minutes."
            life.fail_for_good(draft, "TIMEOUT_ERROR", message)
            return
        statechart.run_to_rest(draft)


def consume(draft: Draft, timer: Timer) -> None:
    """The timer is gone."""
    draft.emit(
        TimeoutOccurred(
            timer=timer.id,
            kind=timer.kind,
            trigger=timer.trigger,
            due_at=timer.due_at or draft.now,
            state=timer.state,
            stage=timer.stage,
            step=timer.step,
        )
    )


def _told(timer: Timer) -> dict[str, Any]:
    """What an incident keeps of a timer, so that it can take effect later: its trigger, and what it does besides."""
    if timer.kind == "send":
        return {"trigger": timer.trigger, "data": timer.data}
    data = {"timer": timer.id, "kind": timer.kind, "state": timer.state, "stage": timer.stage}
    told: dict[str, Any] = {
        "trigger": timer.trigger,
        "data": {key: value for key, value in data.items() if value is not None},
    }
    if timer.kind == "stage":
        told |= {"place": timer.step or timer.state or "", "visit": timer.visit}
    elif timer.kind == "workflow":
        told["minutes"] = timer.budget_ms / 60_000
    return told


def could_not_fire(draft: Draft, order: FireTimer, refusal: Refused) -> None:
    """
    What a timer leads to was refused.

    Nobody reads a timer's rejection, and its hour will not come again: the instance stays where it is, and an operator
    hears of it.
    """
    timer = _due(draft, order)
    consume(draft, timer)
    if timer.kind in STEP_TIMERS and timer.step in draft.instance.machine.steps:
        steps.cannot_apply(draft, timer.step, steps.timer_result(timer), refusal)
        return
    explanation = refusal.details.get("explanation") or refusal.details
    cause = explanation.get("error") if isinstance(explanation, Mapping) else None
    code = str(refusal.reason)
    incident = Incident(
        id=f"incident/{draft.number('incident')}",
        code=code,
        message=f"{refusal.reason.message} (timer {timer.trigger}{f': {cause}' if cause else ''})",
        state=timer.state,
        raised_at=draft.now,
        fingerprint=fingerprint(draft.chart.name, f"timer {timer.trigger}", code),
        details=_told(timer),
    )
    draft.emit(IncidentRaised(incident))
    draft.owe(OpenIncident(incident))


def fire_again(draft: Draft, incident: Incident) -> None:
    """Let a timer take effect that could not when its hour had come."""
    _take_effect(draft, {"data": None, **incident.details})
