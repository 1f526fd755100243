"""Clocks: what an instance does when nobody comes.

A timer has a budget in milliseconds and spends it while it runs. Pausing keeps what is left, so that a suspended
instance loses no time; `due_at` follows from budget, time spent and start, and is what the runtime's job waits for.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from msgspec.structs import replace

from .effects import CancelTimer, CloseIncident, ScheduleTimer
from .events import IncidentResolved, TimerCancelled, TimerScheduled
from .instance import Timer

if TYPE_CHECKING:
    from .draft import Draft

_MILLISECOND = timedelta(milliseconds=1)


def start_timer(
    draft: Draft,
    *,
    kind: Literal["state", "workflow", "stage", "send", "step", "wait", "retry"],
    trigger: str,
    budget_ms: int,
    state: str | None = None,
    visit: int | None = None,
    stage: str | None = None,
    step: str | None = None,
    attempt: int = 1,
    send_id: str | None = None,
    data: Any = None,
) -> Timer:
    """Start a clock that raises `trigger` after `budget_ms`; what the other fields mean, `Timer` says."""
    timer = Timer(
        id=f"timer/{draft.number('timer')}",
        kind=kind,
        trigger=trigger,
        budget_ms=budget_ms,
        started_at=draft.now,
        due_at=draft.now + timedelta(milliseconds=budget_ms),
        state=state,
        visit=visit,
        stage=stage,
        step=step,
        attempt=attempt,
        send_id=send_id,
        data=data,
    )
    draft.emit(TimerScheduled(timer))
    draft.owe(ScheduleTimer(timer))
    return timer


def cancel_timer(draft: Draft, timer_id: str) -> None:
    """Stop a clock for good; one that is gone already is none of our business."""
    if timer_id in draft.instance.machine.timers:
        draft.emit(TimerCancelled(timer_id))
        draft.owe(CancelTimer(timer_id))


def leave(draft: Draft, state_id: str) -> None:
    """The state is left: that one of its clocks could not take effect does not matter any more."""
    for incident in draft.instance.machine.incidents.values():
        if incident.state == state_id and incident.step is None and incident.stage is None:
            draft.emit(IncidentResolved(incident.id, "state_left"))
            draft.owe(CloseIncident(incident.id))


def cancel_all(draft: Draft) -> None:
    """Stop every clock: the instance ends."""
    for timer_id in draft.instance.machine.timers:
        cancel_timer(draft, timer_id)


def pause_all(draft: Draft) -> None:
    """Stop every running clock where it stands."""
    for timer in draft.instance.machine.timers.values():
        if timer.paused_at is None:
            spent = (draft.now - timer.started_at) // _MILLISECOND
            used_ms = min(timer.budget_ms, timer.used_ms + spent)
            _reschedule(draft, replace(timer, used_ms=used_ms, due_at=None, paused_at=draft.now))


def resume_all(draft: Draft) -> None:
    """Let every paused clock go on with the time it had left."""
    for timer in draft.instance.machine.timers.values():
        if timer.paused_at is not None:
            due_at = draft.now + timedelta(milliseconds=timer.budget_ms - timer.used_ms)
            _reschedule(draft, replace(timer, started_at=draft.now, due_at=due_at, paused_at=None))


def _reschedule(draft: Draft, timer: Timer) -> None:
    draft.emit(TimerScheduled(timer))
    draft.owe(ScheduleTimer(timer))
