"""Sub-workflows: a step that starts another instance, and an instance that some step has started.

The two never share a commit. The parent leaves a job that starts the child, whose id it has chosen; the child leaves one
that completes or fails the step when it has ended (where the parent does not wait: as soon as it has begun). Cancelling
goes down, failing goes up; a child that is halted by an incident tells nothing until an operator gives it up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from pliers_workflow.definition.expressions import ExpressionError
from pliers_workflow.definition.step_chart import Child

from ..commands import CompleteStep, FailStep, Parent
from ..effects import SendOrder, StartChild
from ..identity import child_instance_id
from ..step_runs import StepFailure
from .leaves import text
from .runs import INPUT_MAX_BYTES, announce, size, start_clock

if TYPE_CHECKING:
    from pliers_workflow.definition.step_chart import Step

    from ..draft import Draft
    from ..instance import Instance
    from ..step_runs import StepRun

#: Workflows inside workflows: more is taken to have no end.
DEPTH_MAX: Final = 20


def start_child(draft: Draft, step: Step, run: StepRun) -> None:
    """Leave the start of the other workflow to the runtime."""
    work = step.work
    assert isinstance(work, Child)
    workflow = text(draft, work.workflow)
    given = {name: draft.value(expression, draft.trigger) for name, expression in step.inputs.items()}
    if size(given) > INPUT_MAX_BYTES:
        raise ExpressionError(f"the other workflow would be given more than {INPUT_MAX_BYTES // 1000} kB")
    above = draft.instance.parent
    depth = 1 if above is None else above.depth + 1
    child = child_instance_id(draft.instance.id, f"{run.id}/{run.attempt}", draft.now)
    run = replace(run, status="waiting", child=child)
    announce(draft, run, given)
    if depth > DEPTH_MAX:
        message = f"This would be the {depth}th workflow inside another; {DEPTH_MAX} are the most."
        draft.later("fail", run.id, StepFailure("RECURSION_TOO_DEEP", message))
        return
    draft.owe(
        StartChild(
            name=f"order/start/{run.id}/{run.attempt}",
            instance=child,
            workflow=workflow,
            version=work.version,
            data=given,
            parent=Parent(draft.instance.id, run.id, run.attempt, waits=work.waits, depth=depth),
            requester=draft.instance.requester,
        )
    )
    start_clock(draft, step, run)


def tell_parent_begun(draft: Draft) -> None:
    """Where the parent does not wait for the end, its step is done now."""
    parent = draft.instance.parent
    if parent is not None and not parent.waits:
        order = CompleteStep(parent.step, parent.attempt, {"instance": draft.instance.id})
        draft.owe(SendOrder("order/begun", parent.instance, order))


def tell_parent_ended(draft: Draft, code: str | None = None, message: str = "") -> None:
    """Let the parent that waits know how it ended; `code`: it failed, or was cancelled."""
    instance = draft.instance
    parent = instance.parent
    if parent is None or not parent.waits:
        return
    result = _result(instance)
    order: CompleteStep | FailStep
    if code is None:
        order = CompleteStep(parent.step, parent.attempt, result)
    else:
        order = FailStep(parent.step, parent.attempt, code, message, details=result)
    draft.owe(SendOrder("order/ended", parent.instance, order))


def _result(instance: Instance) -> dict[str, Any]:
    return {
        "instance": instance.id,
        "workflow": instance.definition_name,
        "version": instance.version,
        "status": str(instance.status),
        "state": instance.current_state,
        "data": instance.data,
    }
