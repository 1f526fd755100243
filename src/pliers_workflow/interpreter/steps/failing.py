"""What a failure leads to: another attempt, somebody who handles it, or an incident.

A failure that no further attempt can mend goes up, without touching anything, to the nearest that handles it:

- a step, or the `sequential` or `for_each` it stands in, with `continueOnError`: it is passed over;
- a `parallel` whose `failureStrategy` is `continue`: the other branches decide;
- a `sequential` with `rollbackOnFailure`: what had completed is compensated, then the sequence fails in its turn;
- the chart, where a transition of an active state waits for `error.step.ID`.

Only then does what lies between fail with it, and what is at work there is given up. A `parallel` with `wait_all` lets
its other branches end first. Where nobody handles it an incident is raised, on the run where it began; everything else
stays as it is and goes on, so that an operator can have that one step done again, and nothing more.
"""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from msgspec.structs import replace

from pliers_workflow.definition.expressions import ExpressionError
from pliers_workflow.definition.step_chart import Child, ForEach, Outside, Parallel, Sequential

from ..clocks import start_timer
from ..draft import Trigger
from ..effects import OpenIncident
from ..events import BranchFailed, IncidentRaised, RollbackStarted, StepFailed
from ..identity import fingerprint
from ..instance import Incident
from ..step_runs import StepFailure
from ..step_view import lineage, seen_from
from .leaves import prepare, schedule
from .runs import (
    cancel,
    cancel_below,
    children,
    give_up_below,
    release,
    run_at_work,
    start_clock,
    step_of,
    timers_of,
    undoing_below,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pliers_workflow.definition.step_chart import Retry

    from ..draft import Draft
    from ..step_runs import StepRun


class Handler(NamedTuple):
    """Who handles a failure."""

    kind: Literal["passes_over", "others_decide", "rolls_back", "chart"]
    #: the run whose failing is handled: all below it has failed
    run: str


# -- attempts ----------------------------------------------------------------------------------------------------------


def attempt_failed(
    draft: Draft,
    run: StepRun,
    failure: StepFailure,
    *,
    retryable: bool = True,
    retry_after_ms: int | None = None,
    abandoned: bool = False,
) -> None:
    """One attempt failed: make another one later, or let the step fail. `abandoned`: it may still be at work."""
    step = step_of(draft, run)
    tries = run.attempt - run.first_attempt + 1
    failure = replace(failure, run=run.id, step_id=run.step_id, attempts=tries)
    retry = step.retry
    if not retryable or retry is None or not _worth_another(retry, failure.code, tries):
        draft.later("fail", run.id, failure, abandoned)
        return
    delay_ms = max(retry_delay_ms(retry, tries, f"{draft.instance.id}:{run.id}:{run.attempt}"), retry_after_ms or 0)
    retry_at = draft.now + timedelta(milliseconds=delay_ms)
    # A job of the same name takes the place of the one before, so that need not be dropped first.
    in_place = isinstance(step.work, Outside)
    release(draft, replace(run, status="open") if in_place else run, abandoned=abandoned)
    draft.emit(StepFailed(run.id, run.step_id, failure, run.state, run.attempt, retry_at))
    run = draft.instance.machine.steps[run.id]
    if in_place:
        schedule_again(draft, run)
    else:
        assert isinstance(step.work, Child)
        start_timer(
            draft,
            kind="retry",
            trigger=f"retry.step.{run.step_id}",
            budget_ms=delay_ms,
            state=run.state,
            step=run.id,
            attempt=run.attempt,
        )


def schedule_again(draft: Draft, run: StepRun) -> None:
    """Write the job of a run that is `retrying`, with what the step is given now."""
    step = step_of(draft, run)
    assert run.due_at is not None
    try:
        with seen_from(draft, run, run.state):
            _, payload = prepare(draft, step, run)
    except ExpressionError as error:
        draft.later("fail", run.id, failure_of(error, run))
        return
    schedule(draft, step, run, payload, max(run.due_at, draft.now))


def _worth_another(retry: Retry, code: str, tries: int) -> bool:
    if tries >= retry.attempts_max or code in retry.excluded:
        return False
    return retry.codes is None or code in retry.codes


def retry_delay_ms(retry: Retry, tries: int, seed: str) -> int:
    """
    How long to wait after so many attempts: exponentially longer, and a little shorter or longer than that.

    The interpreter has no chance of its own, so the jitter comes from the attempt's name: many steps that failed at one
    moment do not come back at one moment, and each comes back when it would again.

    >>> from pliers_workflow.definition.step_chart import Retry
    >>> exactly = Retry(5, 1000, 2, 5000, 0, None, frozenset())
    >>> [retry_delay_ms(exactly, tries, "seed") for tries in (1, 2, 3, 4)]
    [1000, 2000, 4000, 5000]
    """
    delay: float = retry.delay_max_ms
    if tries < 64:
        delay = min(retry.delay_ms * retry.multiplier ** (tries - 1), retry.delay_max_ms)
    share = int.from_bytes(sha256(seed.encode()).digest()[:4], "big") / 2**31 - 1
    return max(0, round(delay * (1 + retry.jitter * share)))


def failure_of(error: ExpressionError, run: StepRun) -> StepFailure:
    """An expression of a step has no value: the document or the data are wrong, and no further attempt can help."""
    return StepFailure(
        "EXPRESSION_ERROR", str(error), run=run.id, step_id=run.step_id, attempts=run.attempt - run.first_attempt + 1
    )


# -- going up ----------------------------------------------------------------------------------------------------------


def fail(draft: Draft, run_id: str, failure: StepFailure, abandoned: bool = True) -> None:
    """A run fails for good, and what it holds is given up; `abandoned`: something outside may still be at work for it."""
    run = run_at_work(draft, run_id)
    if run is None or run.status in ("failed", "stuck"):
        return
    if not failure.run:
        failure = replace(failure, run=run.id, step_id=run.step_id)
    release(draft, run, abandoned=abandoned)
    work = step_of(draft, run).work
    if (
        isinstance(work, Sequential) and work.rollback and run.held is None
    ):  # its time is up; a result can be applied yet
        give_up_below(draft, run)
        draft.emit(RollbackStarted(run.id, run.step_id, failure))
        draft.later("undo", run.id)
        return
    give_up_below(draft, run)
    draft.emit(StepFailed(run.id, run.step_id, failure, run.state, run.attempt))
    draft.later("propagate", run.id)


def propagate(draft: Draft, run_id: str) -> None:
    """A run has failed: find who handles that, and let them; not while something is being undone that they would give up."""
    run = run_at_work(draft, run_id)
    if run is None or run.status != "failed" or run.failure is None:
        return
    failure = run.failure
    handler = _handler(draft, run, failure)
    if undoing_below(draft, run if handler is None else draft.instance.machine.steps[handler.run]):
        return  # `compensating` comes back to it
    if handler is None:
        raise_incident(draft, failure.run, failure)
        return
    while run.id != handler.run:
        assert run.parent is not None
        parent = draft.instance.machine.steps[run.parent]
        work = step_of(draft, parent).work
        if isinstance(work, Parallel) and work.on_failure == "wait_all":
            draft.later("go_on", parent.id)  # when all branches have ended, the failure goes on from there (`joins`)
            return
        draft.emit(StepFailed(parent.id, parent.step_id, failure, parent.state, parent.attempt))
        run = draft.instance.machine.steps[parent.id]
    match handler.kind:
        case "passes_over":
            draft.later("complete", run.id, None, failure)
        case "others_decide":
            release(draft, run, abandoned=True)
            cancel_below(draft, run, "failed")
            assert run.parent is not None and run.branch is not None
            draft.emit(BranchFailed(run.parent, run.branch, run.id, failure))
            draft.later("go_on", run.parent)
        case "rolls_back":
            assert run.parent is not None
            parent = draft.instance.machine.steps[run.parent]
            cancel(draft, run, "failed")
            release(draft, parent, abandoned=True)  # its own time is no limit for undoing it
            draft.emit(RollbackStarted(parent.id, parent.step_id, failure))
            draft.later("undo", parent.id)
        case "chart":
            data: dict[str, Any] = {
                "step": failure.step_id,
                "run": failure.run,
                "code": failure.code,
                "message": failure.message,
                "details": failure.details,
                "attempts": failure.attempts,
                "state": run.state,
            }
            draft.internal.append(Trigger(f"error.step.{failure.step_id}", data, step=run.id))


def _handler(draft: Draft, run: StepRun, failure: StepFailure) -> Handler | None:
    """The nearest that handles a run's failure; None: nobody."""
    machine = draft.instance.machine
    current = run
    while True:
        if step_of(draft, current).continue_on_error:
            return Handler("passes_over", current.id)
        if current.undoes is not None:
            return None  # what cannot be undone is for a person to see
        if current.parent is None:
            break
        parent = machine.steps[current.parent]
        step = step_of(draft, parent)
        match step.work:
            case Sequential() | ForEach() if step.continue_on_error:
                return Handler("passes_over", current.id)
            case Sequential(rollback=True):
                return Handler("rolls_back", current.id)
            case Parallel(on_failure="continue"):
                return Handler("others_decide", current.id)
        current = parent
    name = f"error.step.{failure.step_id}"
    if any(transition for state in draft.active for transition in _waiting_for(draft, state, name)):
        return Handler("chart", current.id)
    return None


def _waiting_for(draft: Draft, state: Any, name: str) -> Iterator[Any]:
    # Here, and not at the top: the statechart knows the steps, which know nothing else of it.
    from ..statechart import candidates

    if state.kind in ("atomic", "final"):
        yield from candidates(draft.chart, state, name)


# -- the chart's answer ------------------------------------------------------------------------------------------------


def taken(draft: Draft, run_id: str) -> None:
    """
    A transition has taken `error.step.ID`. Where the state was not left, its steps have failed and are over.

    What an event began belongs to no state that could be left: it is gone.
    """
    run = run_at_work(draft, run_id)
    if run is not None and run.status == "failed":
        if run.state is None:
            cancel(draft, run, "failed")
        else:
            release(draft, run, abandoned=True)
            cancel_below(draft, run, "failed")


def not_taken(draft: Draft, run_id: str) -> None:
    """The guards of all transitions that wait for it say no: then a person has to look."""
    run = run_at_work(draft, run_id)
    if run is not None and run.status == "failed" and run.failure is not None:
        raise_incident(draft, run.failure.run, run.failure)


def raise_incident(draft: Draft, run_id: str, failure: StepFailure) -> None:
    """The run cannot go on by itself. What it stands in has not failed: it waits."""
    run = draft.instance.machine.steps[run_id]
    above = [each.id for each in lineage(draft.instance.machine, run) if each.status == "failed"][1:]
    incident = Incident(
        id=f"incident/{draft.number('incident')}",
        code=failure.code,
        message=failure.message,
        state=run.state,
        raised_at=draft.now,
        step=run.id,
        step_id=run.step_id,
        fingerprint=fingerprint(draft.chart.name, run.step_id, failure.code),
        attempts=failure.attempts,
        details=failure.details,
    )
    draft.emit(IncidentRaised(incident))
    draft.owe(OpenIncident(incident))
    for each in above:
        draft.later("go_on", each)
        reopened = draft.instance.machine.steps[each]
        if not any(timers_of(draft, reopened)):  # its time ran out when it had failed: it is given its time anew
            start_clock(draft, step_of(draft, reopened), reopened)
        # What else had failed in it was part of its failure, which has not come about: now somebody has to hear of that.
        for other in children(draft, draft.instance.machine.steps[each]):
            if other.status == "failed":
                draft.later("propagate", other.id)
