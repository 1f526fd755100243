"""Run actions: SCXML's executable content (§4), on a draft.

The actions of one entry, exit or transition are a block. An error in it leaves what was done before and skips the rest
of the block, and raises `error.execution`, where the chart handles that (SCXML §4.11, §5.9). In a chart that does not,
nobody would hear of it; there the command is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pliers_workflow.definition.chart import Assign, Cancel, Foreach, If, Log, Raise, Send
from pliers_workflow.definition.expressions import ExpressionError

from .clocks import cancel_timer, start_timer
from .draft import Refused, Trigger, describe, plain
from .events import DataChanged, ErrorOccurred, NoteLogged
from .rejections import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pliers_workflow.definition.chart import Action

    from .draft import Draft

#: The longest clock: ten years, as in the document.
DELAY_MAX_MS = 5_256_000 * 60_000


def execute(draft: Draft, actions: Sequence[Action], source: str) -> None:
    """Run one block; `source` says for people whose it is: `entry of review`."""
    try:
        _run(draft, actions)
    except ExpressionError as error:
        fail(draft, error, source)


def fail(draft: Draft, error: ExpressionError, source: str) -> None:
    """An action failed: raise `error.execution` where the chart handles it, else refuse the command."""
    if not draft.chart.handles_errors:
        raise Refused(Reason.EXECUTION_ERROR, source=source, error=str(error)) from error
    report(draft, error, source)


def report(draft: Draft, error: ExpressionError, source: str) -> None:
    """Raise `error.execution`."""
    message = str(error)
    draft.emit(ErrorOccurred(message, source))
    draft.raise_internal("error.execution", {"message": message, "source": source})


def _run(draft: Draft, actions: Sequence[Action]) -> None:
    for action in actions:
        draft.budget.spend(1)
        _ACTIONS[type(action)](draft, action)


# -- data --------------------------------------------------------------------------------------------------------------


def _assign(draft: Draft, action: Assign) -> None:
    set_field(draft, action.root, action.path, draft.value(action.value, draft.trigger))


def set_field(draft: Draft, root: Any, path: tuple[str, ...], value: Any) -> None:
    """Set a field; assignments that follow one another are one event, so that a loop does not flood the history."""
    set_fields(draft, [(root, path, value)])


def set_fields(draft: Draft, fields: Iterable[tuple[Any, tuple[str, ...], Any]]) -> None:
    """Set several fields (root, path and value), or none where one of them cannot be set."""
    found: dict[tuple[Any, str], Any] = {}
    for root, path, value in fields:
        field = path[0]
        if len(path) > 1:
            before = draft.instance.data if root == "data" else draft.instance.context
            value = _within(found.get((root, field), before.get(field)), path, 1, value)
        found[root, field] = value
    for (root, field), value in found.items():
        _set(draft, root, field, value)


def _set(draft: Draft, root: Any, field: str, value: Any) -> None:
    if root == "data":
        draft.unchecked = True
    last = draft.events[-1] if draft.events else None
    if type(last) is DataChanged and last.root == root and not last.replaced and field not in last.removed:
        draft.events.pop()
        draft.emit(DataChanged(root, {**last.set, field: value}, last.removed))
    else:
        draft.emit(DataChanged(root, {field: value}))


def _within(before: Any, path: tuple[str, ...], depth: int, value: Any) -> dict[str, Any]:
    """A copy of `before` with the rest of the path set in it; missing maps on the way are made."""
    if before is None:
        before = {}
    elif not isinstance(before, Mapping):
        place = ".".join(path[:depth])
        raise ExpressionError(f"cannot set {'.'.join(path)}: {place} is {describe(before)}, not a map")
    field = path[depth]
    if depth + 1 < len(path):
        value = _within(before.get(field), path, depth + 1, value)
    return {**before, field: value}


def _foreach(draft: Draft, action: Foreach) -> None:
    elements = draft.value(action.array, draft.trigger)
    if not isinstance(elements, list):
        raise ExpressionError(f"foreach goes through a list, not {describe(elements)}")
    root, path = (action.item.root, action.item.path) if isinstance(action.item, Assign) else action.item
    for position, element in enumerate(elements):
        set_field(draft, root, path, element)
        if action.index is not None:
            set_field(draft, action.index[0], action.index[1], position)
        draft.budget.spend(1)
        _run(draft, action.actions)


def _if(draft: Draft, action: If) -> None:
    for guard, actions in action.branches:
        try:
            holds = draft.holds(guard, draft.trigger)
        except ExpressionError as error:
            # SCXML §5.9.1: a condition that fails counts as false, and the error is raised.
            fail(draft, error, "condition of an if")
            continue
        if holds:
            _run(draft, actions)
            return


# -- triggers ----------------------------------------------------------------------------------------------------------


def _raise(draft: Draft, action: Raise) -> None:
    draft.raise_internal(action.trigger, draft.payload(action.data, draft.trigger))


def _send(draft: Draft, action: Send) -> None:
    data = draft.payload(action.data, draft.trigger)
    delay_ms = action.delay_ms or 0
    if action.delay is not None:
        delay_ms = minutes_to_ms(draft.evaluate(action.delay, draft.trigger), "the delay of a send")
    if delay_ms <= 0:
        draft.external.append(Trigger(action.trigger, data))
    else:
        start_timer(draft, kind="send", trigger=action.trigger, budget_ms=delay_ms, send_id=action.send_id, data=data)


def minutes_to_ms(minutes: Any, what: str) -> int:
    """
    Minutes that an expression gave, or a duration, in milliseconds.

    >>> minutes_to_ms(Decimal("0.5"), "a delay"), minutes_to_ms(timedelta(seconds=1), "a delay")
    (30000, 1000)
    """
    if isinstance(minutes, timedelta):
        minutes = Decimal(minutes // timedelta(microseconds=1)) / 60_000_000
    if isinstance(minutes, bool) or not isinstance(minutes, (int, Decimal)):
        raise ExpressionError(f"{what} is a number of minutes, not {describe(minutes)}")
    if not 0 <= minutes * 60_000 <= DELAY_MAX_MS:
        raise ExpressionError(f"{what} lies between 0 minutes and ten years")
    return round(minutes * 60_000)


def _cancel(draft: Draft, action: Cancel) -> None:
    for timer in draft.instance.machine.timers.values():
        if timer.kind == "send" and timer.send_id == action.send_id:
            cancel_timer(draft, timer.id)


def _log(draft: Draft, action: Log) -> None:
    value = None if action.value is None else draft.value(action.value, draft.trigger)
    draft.emit(NoteLogged(action.label, plain(value)))


_ACTIONS: dict[type, Callable[[Draft, Any], None]] = {
    Assign: _assign,
    Raise: _raise,
    Send: _send,
    Cancel: _cancel,
    Log: _log,
    If: _if,
    Foreach: _foreach,
}
