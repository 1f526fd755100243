"""What comes back to a step: a result, a failure, an event, a clock that has run out.

A result counts once, and only for the attempt it belongs to. While the instance is suspended it is kept with the run and
takes effect when the instance is resumed: nothing new is begun meanwhile. The same is done with a result whose
consequences the definition cannot bear (an action that fails, a circle without end), and an incident tells of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pliers_workflow.definition.step_chart import Child

from ..clocks import cancel_timer
from ..commands import CompleteStep
from ..content import DELAY_MAX_MS
from ..draft import Refused
from ..effects import CancelStep, StopAwaiting
from ..events import StepFailed, StepHeld
from ..instance import Status
from ..rejections import Reason
from ..step_runs import IN_FLIGHT, Held, StepFailure
from .failing import attempt_failed, raise_incident, schedule_again
from .runs import OUTSIDE, release, run_at_work, size, step_of, timers_of
from .starting import begin_again, work_off

if TYPE_CHECKING:
    from ..commands import FailStep
    from ..draft import Draft
    from ..instance import Instance, Timer
    from ..step_runs import StepRun

#: Characters of a failure's code and message, and bytes of its details.
CODE_MAX: Final = 100
MESSAGE_MAX: Final = 2_000
DETAILS_MAX_BYTES: Final = 16_000
#: Places that an incident names at which data would not fit.
FINDINGS_MAX: Final = 20


def record_result(draft: Draft, order: CompleteStep | FailStep, held: Held) -> None:
    """Whoever ran a step says what came of it. Raises `Refused` (`step_gone`) for an attempt that is not made any more."""
    take_result(draft, expect_attempt(draft, order), held)
    work_off(draft)


def expect_attempt(draft: Draft, order: CompleteStep | FailStep) -> StepRun:
    """The run that makes this attempt. Raises `Refused` (`step_gone`) where none does any more."""
    run = run_at_work(draft, order.step)
    if (
        run is None
        or run.attempt != order.attempt
        or run.status not in IN_FLIGHT
        or run.held is not None
        or not (run.type in OUTSIDE or run.type == "sub_workflow")
    ):
        raise Refused(Reason.STEP_GONE, step=order.step, attempt=order.attempt)
    return run


def take_result(draft: Draft, run: StepRun, held: Held) -> None:
    """Let a result take effect; while the instance is suspended, keep it."""
    if draft.instance.status is Status.SUSPENDED:
        hold(draft, run, held)
        if run.type in OUTSIDE:
            draft.owe(CancelStep(run.id))
        elif run.type == "receive":
            draft.owe(StopAwaiting(run.id))
    else:
        apply_result(draft, run, held)


def hold(draft: Draft, run: StepRun, held: Held) -> None:
    """Keep a result with its run."""
    draft.emit(
        StepHeld(run.id, run.step_id, run.attempt, held.output, held.failure, held.retryable, held.retry_after_ms)
    )


def apply_result(draft: Draft, run: StepRun, held: Held) -> None:
    """Let a result take effect now."""
    failure = held.failure
    if failure is None:
        draft.later("complete", run.id, held.output)
        return
    work = step_of(draft, run).work
    if isinstance(work, Child) and work.on_failure == "continue" and failure.code != "TIMEOUT":
        error = {"code": failure.code, "message": failure.message}
        draft.later("complete", run.id, {"status": "failed", **failure.details, "error": error})
        return
    attempt_failed(
        draft,
        run,
        failure,
        retryable=held.retryable,
        retry_after_ms=held.retry_after_ms,
        abandoned=_is_timeout(held),
    )


def _is_timeout(held: Held) -> bool:
    """Whether the attempt was given up, and what was at work for it may be so still."""
    return held.failure is not None and held.failure.code == "TIMEOUT"


def clock_ran_out(draft: Draft, timer: Timer) -> None:
    """A step's clock: it has waited long enough, it has taken too long, or its next attempt is due."""
    run = run_at_work(draft, timer.step)
    if run is None or run.attempt != timer.attempt or run.status in ("failed", "stuck", "undoing"):
        return
    apply_clock(draft, run, timer)
    work_off(draft)


def apply_clock(draft: Draft, run: StepRun, timer: Timer) -> None:
    """Let a clock take effect."""
    if timer.kind == "wait":
        draft.later("complete", run.id, None)
    elif timer.kind == "retry":
        begin_again(draft, run)
    else:
        apply_result(draft, run, _timed_out(timer))


def _timed_out(timer: Timer) -> Held:
    minutes = timer.budget_ms / 60_000
    return Held(failure=StepFailure("TIMEOUT", f"The step did not end within {minutes:g} minutes."))


def cannot_apply(draft: Draft, run_id: str, held: Held | None, refusal: Refused) -> None:
    """
    A result came, and what follows from it was refused: keep it, and let an operator know.

    One for which there is no room any more is lost; the incident says so, and a retry has it done again. `held` None:
    there was none, its next attempt was due.
    """
    run = draft.instance.machine.steps[run_id]
    kept = refusal.reason is not Reason.DATA_TOO_LARGE or refusal.details.get("what") != "steps"
    if held is not None and kept:
        hold(draft, run, held)
    release(draft, run, abandoned=held is not None and _is_timeout(held))
    explanation = refusal.details.get("error") or refusal.details.get("explanation")
    details: dict[str, Any] = {} if held is None else {"result": "kept" if kept else "lost"}
    if "findings" in refusal.details:  # where, and not what: more people read incidents than data
        details["findings"] = [{"pointer": each["pointer"]} for each in refusal.details["findings"][:FINDINGS_MAX]]
    failure = StepFailure(
        code=str(refusal.reason),
        message=f"{refusal.reason.message}{f' ({explanation})' if isinstance(explanation, str) else ''}",
        details=details,
        run=run.id,
        step_id=run.step_id,
        attempts=run.attempt - run.first_attempt + 1,
    )
    draft.emit(StepFailed(run.id, run.step_id, failure, run.state, run.attempt))
    raise_incident(draft, run.id, failure)


def timer_result(timer: Timer) -> Held | None:
    """What a step's clock comes to, as a result that can be kept; none where it was time for the next attempt."""
    if timer.kind == "retry":
        return None
    return Held() if timer.kind == "wait" else _timed_out(timer)


# -- suspending --------------------------------------------------------------------------------------------------------


def suspend(draft: Draft) -> None:
    """Let no attempt begin that has not begun: workers that are at one may end it, and what they say is kept."""
    for run in draft.instance.machine.steps.values():
        if run.status == "retrying" and run.type in OUTSIDE:
            draft.owe(CancelStep(run.id))


def resume(draft: Draft) -> None:
    """Let what came meanwhile take effect, in the order in which the runs began, and attempts begin again."""
    for run in list(draft.instance.machine.steps.values()):
        current = run_at_work(draft, run.id)
        if current is None or current.status not in IN_FLIGHT:
            continue
        if current.held is not None:
            apply_result(draft, current, current.held)
        else:
            _begin_attempt(draft, current)
        work_off(draft)


def wait_for_resumption(instance: Instance) -> bool:
    """Whether resuming the instance does anything to its steps: results wait to take effect, or attempts to begin."""
    return any(
        run.status in IN_FLIGHT and (run.held is not None or (run.status == "retrying" and run.type in OUTSIDE))
        for run in instance.machine.steps.values()
    )


def resume_stuck(draft: Draft, refusal: Refused) -> None:
    """The same where the definition cannot bear what follows: what came stays with its steps, each with an incident."""
    for run in list(draft.instance.machine.steps.values()):
        if run.status not in IN_FLIGHT:
            continue
        if run.held is not None:
            cannot_apply(draft, run.id, run.held, refusal)
        else:
            _begin_attempt(draft, run)


def _begin_attempt(draft: Draft, run: StepRun) -> None:
    """Let an attempt that is due later begin as if the instance had not been suspended, or at once."""
    if run.status == "retrying" and run.type in OUTSIDE:
        for timer in timers_of(draft, run):
            cancel_timer(draft, timer)  # its attempt is given its time anew
        schedule_again(draft, run)


def result_of(order: CompleteStep | FailStep) -> Held:
    """
    What whoever ran a step says, in one form; what a failure says is bounded, for it is kept and shown to people.

    It may come from anywhere: an output that is no JSON fails the step for good, and what a failure says of itself is
    kept as far as that can be done.
    """
    if isinstance(order, CompleteStep):
        if _bytes(order.output) is None:
            failure = StepFailure("OUTPUT_INVALID", "The output holds what JSON cannot.")
            return Held(failure=failure, retryable=False)
        return Held(order.output)
    bytes_ = _bytes(order.details)
    details = order.details
    if bytes_ is None or bytes_ > DETAILS_MAX_BYTES:
        details = {"left_out": "what JSON cannot hold" if bytes_ is None else "more than 16 kB"}
    failure = StepFailure(_text(order.code[:CODE_MAX]), _text(order.message[:MESSAGE_MAX]), details)
    after_ms = order.retry_after_ms
    return Held(None, failure, order.retryable, None if after_ms is None else max(0, min(after_ms, DELAY_MAX_MS)))


def _bytes(value: Any) -> int | None:
    """Bytes of a value as JSON; None where it has no such form: half a surrogate pair, a list without end."""
    try:
        return size(value)
    except (TypeError, ValueError, RecursionError):
        return None


def _text(text: str) -> str:
    """
    The text, with what no database holds replaced: halves of a surrogate pair, and NUL.

    >>> _text("no \\ud800 way"), _text("no \\0 way")
    ('no ? way', 'no ? way')
    """
    return text.encode(errors="replace").decode().replace("\0", "?")
