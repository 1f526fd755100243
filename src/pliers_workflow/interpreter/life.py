"""The life of an instance: suspended, resumed, and its ends.

However it ends, nobody is asked any more, what is at work is given up, no clock ticks, no incident waits for an
operator, and the step of another instance that waits for it hears of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import approvals, steps
from .clocks import cancel_all, pause_all, resume_all
from .content import execute
from .events import WorkflowCancelled, WorkflowCompleted, WorkflowFailed, WorkflowResumed, WorkflowSuspended
from .instance import Status
from .statechart import run_to_rest
from .step_runs import IN_FLIGHT

if TYPE_CHECKING:
    from .commands import CancelInstance, ResumeInstance, SuspendInstance
    from .draft import Draft, Refused
    from .instance import ChainRun, Instance


def suspend(draft: Draft, order: SuspendInstance) -> None:
    """Stop its clocks, and let nothing new begin."""
    draft.allow(())
    pause_all(draft)
    draft.emit(WorkflowSuspended(order.reason))
    steps.suspend(draft)


def resume(draft: Draft, order: ResumeInstance) -> None:
    """Let its clocks go on with the time they had left, and what came meanwhile take effect."""
    draft.allow(())
    draft.emit(WorkflowResumed(order.reason))
    resume_all(draft)
    moves = approvals.replace_leavers(draft)
    if draft.instance.machine.steps:
        steps.resume(draft)  # none may be left after it
        moves = True
    if moves:
        run_to_rest(draft)


def could_not_resume(draft: Draft, order: ResumeInstance, refusal: Refused) -> None:
    """What follows from what came meanwhile was refused: the instance goes on, and an operator looks at each result."""
    draft.emit(WorkflowResumed(order.reason))
    resume_all(draft)
    steps.resume_stuck(draft, refusal)


def cancel(draft: Draft, order: CancelInstance) -> None:
    """End it where it is."""
    draft.allow(draft.chart.cancel_access)
    _stop(draft, cancelled=True)
    draft.emit(WorkflowCancelled(order.reason))
    message = "The workflow was cancelled" + (f": {order.reason}" if order.reason else ".")
    steps.tell_parent_ended(draft, "SUB_WORKFLOW_CANCELLED", message)


def complete(draft: Draft) -> None:
    """A top-level final state was entered: its exit actions run (SCXML exitInterpreter), everything else stops."""
    state = next(each for each in draft.active if each.parent is None and each.kind == "final")
    if state.exit_actions:
        execute(draft, state.exit_actions, f"exit of {state.id}")
    _stop(draft, cancelled=False)
    draft.emit(WorkflowCompleted(state.id))
    steps.tell_parent_ended(draft)


def fail_for_good(draft: Draft, code: str, message: str) -> None:
    """It cannot be brought to an end any more."""
    _stop(draft, cancelled=True)
    draft.emit(WorkflowFailed(code, message))
    steps.tell_parent_ended(draft, "SUB_WORKFLOW_FAILED", message)


def _stop(draft: Draft, *, cancelled: bool) -> None:
    approvals.withdraw_all(draft, "cancelled" if cancelled else "state_left")
    if draft.instance.machine.steps:
        steps.cancel_all_steps(draft, "cancelled" if cancelled else "state_left")
    cancel_all(draft)
    steps.close_all_incidents(draft, "cancelled" if cancelled else "instance_ended")


def status_of(instance: Instance, *, attended: bool) -> Status:
    """
    The status that follows from what is at work; only for one that has neither ended nor is suspended.

    `attended`: something has happened that answers an escalation.
    """
    machine = instance.machine
    if instance.status is Status.ESCALATED and not attended:
        return Status.ESCALATED
    if machine.steps and any(run.status in ("scheduled", "retrying") for run in machine.steps.values()):
        return Status.RUNNING
    return Status.FAILED if machine.incidents and not _goes_on(instance) else Status.WAITING


def _goes_on(instance: Instance) -> bool:
    """Whether something will move it besides an operator: a person who is asked, a clock, a step at work."""
    machine = instance.machine
    return (
        any(timer.kind != "workflow" and timer.due_at is not None for timer in machine.timers.values())
        or any(chain.status == "changes_requested" or _asks(chain) for chain in machine.chains.values())
        or any(
            run.status in IN_FLIGHT and run.held is None and run.type != "approval" for run in machine.steps.values()
        )
    )


def _asks(chain: ChainRun) -> bool:
    return any(stage.items for stage in chain.stages)
