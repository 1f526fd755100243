"""Steps: executable work of states, done here, by workers, by people, by time, or by other workflows.

A state's steps begin when it is entered (`starting`). What a `leaf` does itself is in `leaves`; what holds others is in
`joins`; a result comes in by `results`, an event by `receiving`, and ends its run in `ending`; a failure finds its way in `failing`, undoing is in
`compensating`, other workflows in `children`, and what an operator does about an incident in `incidents`. `runs` has the
agenda that keeps them from calling each other.

Three promises. A result counts once, for the attempt it belongs to. What is at work is given up when its state is left
or the instance ends, and whoever holds it learns so. And nothing fails in silence: a failure is handled by what the
definition says, or an incident is raised, and everything else goes on.
"""

from __future__ import annotations

from .children import tell_parent_begun, tell_parent_ended
from .failing import not_taken, taken
from .incidents import close, close_all_incidents, resolve_incident
from .receiving import receive_event, run_step
from .results import (
    cannot_apply,
    clock_ran_out,
    expect_attempt,
    record_result,
    result_of,
    resume,
    resume_stuck,
    suspend,
    timer_result,
    wait_for_resumption,
)
from .starting import start_steps, work_off
from .stopping import cancel_all_steps, leave_state

__all__ = [
    "cancel_all_steps",
    "cannot_apply",
    "clock_ran_out",
    "close",
    "close_all_incidents",
    "expect_attempt",
    "leave_state",
    "not_taken",
    "receive_event",
    "record_result",
    "resolve_incident",
    "result_of",
    "resume",
    "resume_stuck",
    "run_step",
    "start_steps",
    "suspend",
    "taken",
    "tell_parent_begun",
    "tell_parent_ended",
    "timer_result",
    "wait_for_resumption",
    "work_off",
]
