"""Compensation: undo, the last one first, what had completed inside a sequence that failed.

Each is undone by the step that its author gave it, an ordinary step that sees the `output` of what it undoes. One that
fails for good raises an incident, whatever is around it: half an undoing is for a person to finish.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from ..events import StepFailed
from ..step_view import lineage
from .runs import cancel, cancel_below, children, run_at_work, undoing_below

if TYPE_CHECKING:
    from ..draft import Draft


def undo(draft: Draft, run_id: str) -> None:
    """
    Undo the next one; when there is none, the sequence has failed, and what waited for that goes on.

    Meanwhile something around it or beside it may have failed, or a join may be complete.
    """
    run = run_at_work(draft, run_id)
    if run is None or run.status != "undoing" or undoing_below(draft, run):
        return
    if any(each.undoes is not None for each in children(draft, run)) or ("undo", run_id) in (draft.agenda or ()):
        return  # one is at work, or will be looked for again before this one could begin
    cancel_below(draft, run, "failed")  # in what is left there a sequence was still being undone
    machine = draft.instance.machine
    inside = [undo.number for undo in machine.undo.values() if run.id in undo.within]
    if inside:
        number = max(inside)
        step = draft.chart.steps[machine.undo[str(number)].path]
        assert step.compensation is not None
        draft.later("begin", step.compensation, run.id, run.state, None, None, number)
        return
    assert run.failure is not None
    above = list(lineage(machine, run))[1:]
    queued = [task[1] for task in draft.agenda or () if task[0] == "propagate"]
    queued.extend([trigger.step for trigger in draft.internal])
    for each in machine.steps.values():
        if each.status == "failed" and each.id not in queued:
            draft.later("propagate", each.id)
    if any(each.status in ("failed", "undoing") for each in above):
        cancel(draft, run, "failed")
        for each in above:
            draft.later("undo", each.id)
        return
    for each in above:
        draft.later("go_on", each.id)
    # Whoever has it done again begins with the sequence: nothing that it had done is left.
    failure = replace(run.failure, run=run.id)
    draft.emit(StepFailed(run.id, run.step_id, failure, run.state, run.attempt))
    draft.later("propagate", run.id)
