"""Leaves: what a step itself does when it is begun, or begun again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from pliers_workflow.definition.expressions import Expression, ExpressionError
from pliers_workflow.definition.step_chart import Ask, Emit, Outside, Receive, SetFields, Text, Wait

from .. import approvals
from ..clocks import start_timer
from ..content import minutes_to_ms, set_fields
from ..correlation import key_text
from ..draft import describe, plain
from ..effects import AwaitEvent, ScheduleStep
from ..events import EventEmitted
from .runs import INPUT_MAX_BYTES, announce, size, start_clock

if TYPE_CHECKING:
    from pliers_workflow.definition.step_chart import Step

    from ..draft import Draft
    from ..step_runs import StepRun

_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def start_outside(draft: Draft, step: Step, run: StepRun) -> None:
    """Leave the step to a worker."""
    work = step.work
    assert isinstance(work, Outside)
    run = replace(run, status="waiting" if work.external else "scheduled")
    given, payload = prepare(draft, step, run)
    announce(draft, run, given)
    schedule(draft, step, run, payload, draft.now)


def prepare(draft: Draft, step: Step, run: StepRun) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the step is given, and the whole that its worker needs; evaluated anew for each attempt."""
    work = step.work
    assert isinstance(work, Outside)
    given = {name: draft.value(expression, draft.trigger) for name, expression in step.inputs.items()}
    if draft.view is not None:
        draft.view.names = {**draft.view.names, "input": given}
    payload = {
        "type": step.type,
        "stepId": step.id,
        "configuration": _evaluated(draft, work.configuration),
        "input": given,
        "idempotencyKey": f"{draft.instance.id}:{run.id}:{run.attempt}",
    }
    if size(payload) > INPUT_MAX_BYTES:
        raise ExpressionError(f"the step would be given more than {INPUT_MAX_BYTES // 1000} kB")
    return given, payload


def schedule(draft: Draft, step: Step, run: StepRun, payload: dict[str, Any], due_at: datetime) -> None:
    """Write the step's job, and start the clock of this attempt."""
    work = step.work
    assert isinstance(work, Outside)
    # Authors say the higher first, as of transitions and triggers; jobs are ordered by what stands in their index.
    owed = ScheduleStep(
        run.id, run.attempt, work.queue, payload, due_at, priority=-work.priority, timeout_ms=step.timeout_ms
    )
    draft.owe(owed)
    start_clock(draft, step, run, max(0, (due_at - draft.now) // timedelta(milliseconds=1)))


def _evaluated(draft: Draft, value: Any) -> Any:
    """A configuration with its texts and expressions evaluated."""
    if isinstance(value, Text):
        return text(draft, value)
    if isinstance(value, Expression):
        return draft.value(value, draft.trigger)
    if isinstance(value, Mapping):
        return {key: _evaluated(draft, each) for key, each in value.items()}
    if isinstance(value, list):
        return [_evaluated(draft, each) for each in value]
    return value


def text(draft: Draft, template: Text) -> str:
    """A text with its expressions in place. Raises `ExpressionError` for what has no text."""
    pieces = []
    for piece in template.pieces:
        if isinstance(piece, str):
            pieces.append(piece)
            continue
        value = word(plain(draft.evaluate(piece, draft.trigger)), f"`{piece.source}`")
        pieces.append(percent_encoded(value) if template.encoded else value)
    return "".join(pieces)


def word(value: Any, what: str) -> str:
    """A value as text: numbers and truth values as JSON writes them. Raises `ExpressionError` for what has none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, (dict, list)):
        raise ExpressionError(f"{what} gives {describe(value)}, which is no text")
    return str(value)


def percent_encoded(word: str) -> str:
    """
    A text as it stands in one segment of an address (RFC 3986).

    >>> percent_encoded("Köln/Mitte")
    'K%C3%B6ln%2FMitte'
    """
    return "".join(char if char in _UNRESERVED else "".join(f"%{byte:02X}" for byte in char.encode()) for char in word)


def start_assign(draft: Draft, step: Step, run: StepRun) -> None:
    """Set the fields, each from the data as they were before."""
    work = step.work
    assert isinstance(work, SetFields)
    values = [draft.value(each.value, draft.trigger) for each in work.assignments]
    announce(draft, run)
    set_fields(draft, [(each.root, each.path, value) for each, value in zip(work.assignments, values, strict=True)])
    draft.later("complete", run.id, None)


def start_emit(draft: Draft, step: Step, run: StepRun) -> None:
    """Tell the world."""
    work = step.work
    assert isinstance(work, Emit)
    subject = None if work.subject is None else draft.value(work.subject, draft.trigger)
    if subject is not None and not isinstance(subject, str):
        raise ExpressionError(f"the subject of an event is a text, not {describe(subject)}")
    data = draft.payload(work.data, draft.trigger)
    if size(data) > INPUT_MAX_BYTES:
        raise ExpressionError(f"the event would hold more than {INPUT_MAX_BYTES // 1000} kB")
    announce(draft, run)
    draft.emit(EventEmitted(work.event_type, subject, data, step.id))
    draft.later("complete", run.id, None)


def start_wait(draft: Draft, step: Step, run: StepRun) -> None:
    """Start the clock; where the time has come already, there is nothing to wait for."""
    work = step.work
    assert isinstance(work, Wait)
    after_ms = work.after_ms
    if work.after is not None:
        after_ms = minutes_to_ms(draft.evaluate(work.after, draft.trigger), "a wait")
    elif work.until is not None:
        until = draft.evaluate(work.until, draft.trigger)
        if not isinstance(until, datetime):
            raise ExpressionError(f"`until` is a timestamp, not {describe(until)}")
        after_ms = -((draft.now - until) // timedelta(milliseconds=1))
        minutes_to_ms(timedelta(milliseconds=max(0, after_ms)), "a wait")
    assert after_ms is not None
    run = replace(run, status="waiting")
    announce(draft, run)
    if after_ms <= 0:
        draft.later("complete", run.id, None)
        return
    start_timer(
        draft,
        kind="wait",
        trigger=f"wait.step.{run.step_id}",
        budget_ms=after_ms,
        state=run.state,
        step=run.id,
        attempt=run.attempt,
    )
    start_clock(draft, step, run)


def start_receive(draft: Draft, step: Step, run: StepRun) -> None:
    """Let it be known what event is awaited."""
    work = step.work
    assert isinstance(work, Receive)
    key = key_text(draft.evaluate(work.key, draft.trigger))
    if key is None:
        raise ExpressionError("the correlation key is null or empty, by which no event is known")
    run = replace(run, status="waiting", event_type=work.event_type, key=key)
    announce(draft, run)
    draft.owe(AwaitEvent(run.id, work.event_type, key, work.by))
    start_clock(draft, step, run)


def start_approval(draft: Draft, step: Step, run: StepRun) -> None:
    """Ask the chain; its result ends the run."""
    assert isinstance(step.work, Ask)
    run = replace(run, status="waiting")
    announce(draft, run)
    view, draft.view = draft.view, None  # a chain's expressions see the same, whoever asks it, and in every stage
    approvals.start_chain(draft, approvals.place_of_step(draft, run))
    draft.view = view
    start_clock(draft, step, run)
