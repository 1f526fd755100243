"""Give up what is at work: its state is left, or the instance ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .runs import CancelReason, cancel

if TYPE_CHECKING:
    from pliers_workflow.definition.chart import State

    from ..draft import Draft


def leave_state(draft: Draft, state: State) -> None:
    """The state is left: its steps are not needed any more."""
    run_id = draft.instance.machine.working.get(state.id)
    if run_id is not None:
        cancel(draft, draft.instance.machine.steps[run_id], "state_left")


def cancel_all_steps(draft: Draft, reason: CancelReason) -> None:
    """The instance ends where it is."""
    for run in list(draft.instance.machine.steps.values()):
        if run.parent is None:
            cancel(draft, run, reason)
