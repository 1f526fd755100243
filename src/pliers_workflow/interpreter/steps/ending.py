"""A run completes: its output is written where it is wanted, and what it stands in goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pliers_workflow.definition.expressions import ExpressionError

from ..content import set_fields
from ..events import StepCompensated, StepCompleted, StepHeld
from ..step_runs import StepFailure, Undo
from ..step_view import lineage, scope_of, seen_from, variables
from .runs import OUTPUT_MAX_BYTES, cancel_below, close_incidents, release, run_at_work, size, step_of

if TYPE_CHECKING:
    from pliers_workflow.definition.step_chart import Step

    from ..draft import Draft
    from ..step_runs import StepRun


def complete(draft: Draft, run_id: str, output: Any, failure: StepFailure | None = None) -> None:
    """
    The run is over; `failure` is set where it failed, and that is passed over.

    What comes from outside is bounded, and its mapping may fail. Then the step fails in its turn; a mapping that failed
    leaves the result with the run, so that the work need not be done again to apply it.
    """
    run = run_at_work(draft, run_id)
    if run is None:
        return
    step = step_of(draft, run)
    if failure is None:
        bytes_ = size(output)
        if bytes_ > OUTPUT_MAX_BYTES:
            message = f"The output takes {bytes_:,} bytes; the most is {OUTPUT_MAX_BYTES:,}."
            draft.later("fail", run.id, StepFailure("OUTPUT_TOO_LARGE", message))
            return
        if step.outputs:
            try:
                _write(draft, step, run, output)
            except ExpressionError as error:
                draft.emit(StepHeld(run.id, run.step_id, run.attempt, output))
                message = f"The output could not be written into the data: {error}"
                draft.later("fail", run.id, StepFailure("EXPRESSION_ERROR", message))
                return
    release(draft, run, abandoned=failure is not None)
    cancel_below(draft, run, "failed" if failure is not None else "not_needed")
    close_incidents(draft, run.id, "step_completed")
    if run.undoes is not None:
        undone = draft.instance.machine.undo[str(run.undoes)]
        draft.emit(StepCompensated(run.id, undone.step_id, output, failure))
        draft.later("undo", run.parent)
        return
    machine = draft.instance.machine
    draft.emit(
        StepCompleted(
            step=run.id,
            step_id=run.step_id,
            state=run.state,
            attempt=run.attempt,
            output=output,
            failure=failure,
            kept_in=scope_of(machine, run) if step.kept and run.index is None else None,
            collected=step.collected,
            undo=_undo(draft, step, run, output) if step.undoable and failure is None else None,
            forgets=step.forgets,
        )
    )
    if run.parent is not None:
        draft.later("go_on", run.parent)


def _write(draft: Draft, step: Step, run: StepRun, output: Any) -> None:
    """Write the output where its mapping says: all of it, or nothing."""
    with seen_from(draft, run, run.state, {"output": output}):
        values = [draft.value(each.value, draft.trigger) for each in step.outputs]
    set_fields(draft, [(each.root, each.path, value) for each, value in zip(step.outputs, values, strict=True)])


def _undo(draft: Draft, step: Step, run: StepRun, output: Any) -> Undo:
    machine = draft.instance.machine
    return Undo(
        number=draft.number("undo"),
        path=step.path,
        step_id=step.id,
        within=tuple([each.id for each in lineage(machine, run)][1:]),
        output=output,
        variables=variables(draft.chart, machine, run),
    )
