"""Begin steps, and work the agenda off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from pliers_workflow.definition.expressions import ExpressionError
from pliers_workflow.definition.step_chart import (
    Ask,
    Child,
    Conditional,
    Emit,
    ForEach,
    Outside,
    Parallel,
    Receive,
    Sequential,
    SetFields,
    Wait,
)

from ..events import StepRetried, StepSkipped, StepStarted
from ..step_runs import StepRun
from ..step_view import scope_of, seen_from
from .children import start_child
from .compensating import undo
from .ending import complete
from .failing import fail, failure_of, propagate
from .joins import go_on, start_conditional, start_for_each, start_parallel, start_sequential
from .leaves import start_approval, start_assign, start_emit, start_outside, start_receive, start_wait
from .runs import cancel_below, run_at_work, step_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pliers_workflow.definition.chart import State
    from pliers_workflow.definition.step_chart import Step

    from ..draft import Draft

#: What a begun step costs of the budget.
STEP_COST = 10
#: So many runs at work make everything that is done about steps cost one more.
RUNS_PER_STEP = 8


def work_off(draft: Draft) -> None:
    """Do what is on the agenda, and what that leads to, until nothing is left."""
    agenda = draft.agenda
    while agenda:
        task, *arguments = agenda.popleft()
        draft.budget.spend(1 + _crowd(draft))
        _TASKS[task](draft, *arguments)


def _crowd(draft: Draft) -> int:
    """What everything costs more with many runs at work: each event writes them down anew."""
    return len(draft.instance.machine.steps) // RUNS_PER_STEP


def start_steps(draft: Draft, state: State) -> None:
    """
    A state has been entered: its steps begin when all states of this microstep have been.

    So a step that fails at once finds the transitions of all that are active now.
    """
    draft.later("start", state)


def start(draft: Draft, state: State) -> None:
    """Begin the steps of a state, and all that follows at once, before those of the next state in document order."""
    if state.id not in draft.instance.configuration:
        return  # left already
    assert state.steps is not None
    rest, draft.agenda = draft.agenda, None
    begin(draft, state.steps, None, state.id)
    work_off(draft)
    draft.agenda = rest


def begin(
    draft: Draft,
    step: Step,
    parent_id: str | None,
    state: str | None,
    branch: str | None = None,
    index: int | None = None,
    undoes: int | None = None,
    given: dict[str, Any] | None = None,
) -> None:
    """Begin a step, or skip it, where its condition is false. `given`: further names for it and what is inside."""
    draft.budget.spend(STEP_COST + _crowd(draft))
    parent = run_at_work(draft, parent_id)
    names = given or {}
    if parent_id is not None:
        if parent is None or parent.status not in ("open", "undoing"):
            return  # given up meanwhile
        if index is not None:
            loop = step_of(draft, parent).work
            assert isinstance(loop, ForEach)
            names = {loop.item: parent.items[0], loop.index: index}
    if undoes is not None:
        undone = draft.instance.machine.undo[str(undoes)]
        names = {**undone.variables, "output": undone.output}
    run = StepRun(
        id=f"step/{draft.number('step')}",
        path=step.path,
        step_id=step.id,
        type=step.type,
        status="open",
        state=state,
        parent=parent_id,
        branch=branch,
        index=index,
        started_at=draft.now,
        undoes=undoes,
        names=given or {},
    )
    try:
        with seen_from(draft, parent, state, names):
            if not _branch_wanted(draft, parent, branch):
                _skip(draft, step, run)
                return
            if step.condition and not draft.holds(step.condition, draft.trigger):
                _skip(draft, step, run, completes_branch=branch is not None)
                return
            _STARTS[type(step.work)](draft, step, run)
    except ExpressionError as error:
        if run.id not in draft.instance.machine.steps:
            draft.emit(StepStarted(run))
        draft.later("fail", run.id, failure_of(error, run))


def begin_elements(draft: Draft, run_id: str) -> None:
    """Begin as many further elements of a loop as may be at work at once."""
    run = run_at_work(draft, run_id)
    if run is None or run.status != "open":
        return  # given up meanwhile
    loop = step_of(draft, run).work
    assert isinstance(loop, ForEach)
    free = loop.concurrency - (run.position - run.done)
    for index in range(run.position, run.position + min(free, len(run.items))):
        begin(draft, loop.step, run.id, run.state, None, index)


def begin_again(draft: Draft, run: StepRun) -> None:
    """Begin a run anew, with fresh attempts: an operator says so, or the delay after its last attempt is over."""
    step = step_of(draft, run)
    cancel_below(draft, run, "retried")
    before = draft.instance.machine.steps[run.id]
    fresh = replace(
        run, status="open", started_at=draft.now, due_at=None, position=0, count=0, done=0, items=(), ended={}, output=None,
        failure=None, held=None, child=None,
    )  # fmt: skip
    try:
        with seen_from(draft, run, run.state):
            _STARTS[type(step.work)](draft, step, fresh)
    except ExpressionError as error:
        if draft.instance.machine.steps[run.id] is before:
            draft.emit(StepRetried(fresh))
        draft.later("fail", run.id, failure_of(error, fresh))


def _branch_wanted(draft: Draft, parent: StepRun | None, branch: str | None) -> bool:
    if branch is None:
        return True
    assert parent is not None
    parallel = step_of(draft, parent).work
    assert isinstance(parallel, Parallel)
    condition = parallel.branch(branch).condition
    return not condition or draft.holds(condition, draft.trigger)


def _skip(draft: Draft, step: Step, run: StepRun, *, completes_branch: bool = False) -> None:
    if run.undoes is not None:
        # Nothing has to be undone after all: on record as a compensation that did nothing.
        draft.emit(StepStarted(run))
        draft.later("complete", run.id, None)
        return
    kept_in = scope_of(draft.instance.machine, run) if step.kept and run.index is None else None
    if kept_in == run.id:
        kept_in = None
    draft.emit(StepSkipped(step.path, step.id, run.state, run.parent, run.branch, run.index, kept_in, completes_branch))
    if run.parent is not None:
        draft.later("go_on", run.parent)


_STARTS: dict[type, Callable[[Draft, Step, StepRun], None]] = {
    Outside: start_outside,
    SetFields: start_assign,
    Wait: start_wait,
    Emit: start_emit,
    Receive: start_receive,
    Ask: start_approval,
    Child: start_child,
    Sequential: start_sequential,
    Parallel: start_parallel,
    Conditional: start_conditional,
    ForEach: start_for_each,
}
_TASKS: dict[str, Callable[..., None]] = {
    "start": start,
    "begin": begin,
    "begin_elements": begin_elements,
    "go_on": go_on,
    "complete": complete,
    "fail": fail,
    "propagate": propagate,
    "undo": undo,
}
