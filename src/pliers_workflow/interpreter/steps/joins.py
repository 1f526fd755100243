"""Steps that hold steps: how they begin, and how they go on when one of those has ended.

Folding has written down what ended (`position`, `done`, `ended`) by the time `go_on` looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from pliers_workflow.definition.expressions import ExpressionError
from pliers_workflow.definition.step_chart import Branch, Conditional, ForEach, Parallel, Sequential

from ..draft import describe
from ..events import StepFailed
from ..step_runs import StepFailure
from ..step_view import seen_from, shown
from .runs import INPUT_MAX_BYTES, announce, cancel, children, run_at_work, size, start_clock, step_of, undoing_below

if TYPE_CHECKING:
    from pliers_workflow.definition.step_chart import Step

    from ..draft import Draft
    from ..step_runs import Ended, StepRun

#: Elements of one loop.
ITEMS_MAX: Final = 10_000


# -- beginning ---------------------------------------------------------------------------------------------------------


def start_sequential(draft: Draft, step: Step, run: StepRun) -> None:
    """Begin the first one."""
    announce(draft, run)
    start_clock(draft, step, run)
    draft.later("go_on", run.id)


def start_parallel(draft: Draft, step: Step, run: StepRun) -> None:
    """Begin all branches, in document order."""
    work = step.work
    assert isinstance(work, Parallel)
    announce(draft, run)
    start_clock(draft, step, run)
    for branch in work.branches:
        draft.later("begin", branch.step, run.id, run.state, branch.id)
    draft.later("go_on", run.id)


def start_conditional(draft: Draft, step: Step, run: StepRun) -> None:
    """Choose the way; an error of the condition takes the default one, where there is one."""
    work = step.work
    assert isinstance(work, Conditional)
    try:
        way = work.when_true if draft.holds(work.condition, draft.trigger) else work.when_false
    except ExpressionError:
        if not work.has_default:
            raise
        way = work.when_error
    announce(draft, run)
    start_clock(draft, step, run)
    if way is None:
        draft.later("complete", run.id, None)
    else:
        draft.later("begin", way, run.id, run.state)


def start_for_each(draft: Draft, step: Step, run: StepRun) -> None:
    """Write the elements down as they are now, and begin as many as may be at work at once."""
    work = step.work
    assert isinstance(work, ForEach)
    items = draft.value(work.items, draft.trigger)
    if not isinstance(items, list):
        raise ExpressionError(f"a loop goes through a list, not {describe(items)}")
    if len(items) > ITEMS_MAX:
        raise ExpressionError(f"the list has {len(items):,} elements; {ITEMS_MAX:,} are the most")
    if size(items) > INPUT_MAX_BYTES:
        raise ExpressionError(f"the list takes more than {INPUT_MAX_BYTES // 1000} kB")
    announce(draft, replace(run, items=tuple(items), count=len(items)))
    start_clock(draft, step, run)
    draft.later("go_on", run.id)


# -- going on ----------------------------------------------------------------------------------------------------------


def go_on(draft: Draft, run_id: str) -> None:
    """Something in a run has ended, or it has just begun."""
    run = run_at_work(draft, run_id)
    if run is None:
        return
    if run.status == "undoing":
        draft.later("undo", run.id)
    elif run.status == "open":
        step = step_of(draft, run)
        match step.work:
            case Sequential():
                _sequential(draft, step, step.work, run)
            case Conditional():
                if run.position:
                    draft.later("complete", run.id, run.output)
            case Parallel():
                _parallel(draft, step, step.work, run)
            case ForEach():
                _for_each(draft, step, step.work, run)


def _sequential(draft: Draft, step: Step, work: Sequential, run: StepRun) -> None:
    if run.position >= len(work.steps):
        draft.later("complete", run.id, run.output)
    elif not children(draft, run):
        draft.later("begin", work.steps[run.position], run.id, run.state)


def _for_each(draft: Draft, step: Step, work: ForEach, run: StepRun) -> None:
    if run.done == run.count:
        output = None
        if step.wanted:
            nothing = None
            ended = [run.ended.get(str(position)) for position in range(run.count)]
            output = [nothing if each is None else each.output for each in ended]
        draft.later("complete", run.id, output)
        return
    if run.items:
        draft.later("begin_elements", run.id)


def _parallel(draft: Draft, step: Step, work: Parallel, run: StepRun) -> None:
    failed = [each for each in children(draft, run) if each.status == "failed"]
    counted = [branch for branch in work.branches if not _skipped(run, branch)]
    at_work = [branch for branch in counted if branch.id not in run.ended]
    if failed and work.on_failure == "wait_all":
        if len(failed) == len(at_work):
            failure = failed[0].failure
            assert failure is not None
            draft.emit(StepFailed(run.id, run.step_id, failure, run.state, run.attempt))
            draft.later("propagate", run.id)
        return
    try:
        done = _joined(draft, work, run, counted, at_work)
    except ExpressionError as error:
        draft.later("fail", run.id, StepFailure("EXPRESSION_ERROR", str(error)))
        return
    if done:
        if undoing_below(draft, run):
            return  # what is not needed is undone to its end all the same
        for each in reversed(children(draft, run)):
            cancel(draft, each, "not_needed")
        output = None
        if step.wanted:
            output = {id: ended.output for id, ended in run.ended.items() if ended.status == "completed"}
        draft.later("complete", run.id, output)
    elif done is not None:
        draft.later("fail", run.id, _not_joined(work, run, counted))


def _skipped(run: StepRun, branch: Branch) -> bool:
    ended = run.ended.get(branch.id)
    return ended is not None and ended.status == "skipped"


def _joined(draft: Draft, work: Parallel, run: StepRun, counted: list[Branch], at_work: list[Branch]) -> bool | None:
    """Whether the join is complete (True), cannot be any more (False), or must be waited for (None)."""
    completed = [branch for branch in counted if branch.id in run.ended and run.ended[branch.id].status == "completed"]
    if work.wait == "custom":
        assert work.done is not None
        if _condition_holds(draft, work, run, counted, completed, at_work):
            return True
        return None if at_work else False
    if not counted:
        return True
    if work.wait == "all":
        return None if at_work else bool(completed)
    if work.wait == "any":
        return True if completed else None if at_work else False
    total = sum([branch.weight for branch in counted])
    weight = sum([branch.weight for branch in completed])
    if 2 * weight > total:
        return True
    return None if 2 * (weight + sum([branch.weight for branch in at_work])) > total else False


def _condition_holds(
    draft: Draft, work: Parallel, run: StepRun, counted: list[Branch], completed: list[Branch], at_work: list[Branch]
) -> bool:
    branches = {branch.id: _shown(run.ended.get(branch.id), branch) for branch in work.branches}
    counts = {
        "total": len(counted),
        "completed": len(completed),
        "failed": len(counted) - len(completed) - len(at_work),
        "running": len(at_work),
    }
    assert work.done is not None
    with seen_from(draft, run, run.state, {"branches": branches, "counts": counts}):
        answer = draft.evaluate(work.done, draft.trigger)
    if not isinstance(answer, bool):
        raise ExpressionError(f"the completion condition gives {describe(answer)} where true or false is wanted")
    return answer


def _shown(ended: Ended | None, branch: Branch) -> dict[str, Any]:
    if ended is None:
        return {"status": "running", "output": None, "error": None, "weight": branch.weight}
    return {**shown(ended), "weight": branch.weight}


def _not_joined(work: Parallel, run: StepRun, counted: list[Branch]) -> StepFailure:
    failures = {}
    for branch in counted:
        ended = run.ended.get(branch.id)
        if ended is not None and ended.failure is not None:
            failures[branch.id] = {"code": ended.failure.code, "message": ended.failure.message}
    wanted = {
        "all": "no branch completed",
        "any": "no branch completed",
        "majority": "the branches that completed, with those that still may, are no majority",
        "custom": "all branches have ended and the completion condition does not hold",
    }[work.wait]
    return StepFailure("JOIN_FAILED", f"The branches cannot be joined: {wanted}.", {"failures": failures})
