"""Tell the steps of a state in lines, for the note beside it in a diagram."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from .document import (
    ApprovalTask,
    ConditionalExecution,
    ExternalStep,
    ForEachExecution,
    HttpStep,
    ParallelExecution,
    PluginStep,
    ReceiveStep,
    SequentialExecution,
    Step,
    SubWorkflowStep,
    WaitStep,
)

#: Lines of one note; a diagram is looked at, not read.
LINES_MAX: Final = 20


def steps_note(steps: Sequence[str | Step], named: Mapping[str, Step]) -> list[str]:
    """
    Give one line for each step, those inside others indented by dots.

    >>> from .document import WaitStep
    >>> steps_note([WaitStep(type="wait", id="nap", duration_minutes=5)], {})
    ['Steps:', '1. nap (wait 5 min)']
    """
    if not steps:
        return []
    lines = ["Steps:", *_row(steps, named, "", ())]
    return lines if len(lines) <= LINES_MAX else [*lines[: LINES_MAX - 1], f"… {len(lines) - LINES_MAX + 1} more"]


def _row(steps: Sequence[str | Step], named: Mapping[str, Step], before: str, names: tuple[str, ...]) -> Iterator[str]:
    for number, given in enumerate(steps, 1):
        step, called = given, None
        if isinstance(given, str):
            called = given
            step = named.get(given, given)
            if isinstance(step, str) or given in names:
                yield f"{before}{number}. {given}"
                continue
        assert not isinstance(step, str)
        name = step.name or step.id or called
        what = _what(step)
        yield f"{before}{number}. {name} ({what})" if name else f"{before}{number}. {what}"
        inner = before + "· "
        below = names if called is None else (*names, called)
        for title, row in _rows(step):
            if title:
                yield f"{inner}{title}"
            yield from _row(row, named, inner + ("· " if title else ""), below)


def _rows(step: Step) -> Iterator[tuple[str, Sequence[str | Step]]]:
    match step:
        case SequentialExecution() | ForEachExecution():
            yield "", step.steps
        case ParallelExecution():
            for branch in step.branches:
                yield f"branch {branch.name or branch.id}", branch.steps
        case ConditionalExecution():
            for title, way in (
                ("if true", step.true_branch),
                ("if false", step.false_branch),
                ("on error", step.default_branch),
            ):
                if way is not None and way.steps:
                    yield title, way.steps


def _what(step: Step) -> str:
    match step:
        case PluginStep():
            return f"plugin {step.plugin_id}"
        case HttpStep():
            return f"{step.method} {step.url}"
        case ExternalStep():
            return f"external {step.topic}"
        case ApprovalTask():
            return f"approval {step.chain_id}"
        case SubWorkflowStep():
            return f"workflow {step.workflow_id}"
        case ReceiveStep():
            return f"receive {step.event_type}"
        case WaitStep(duration_minutes=int() | float() as minutes):
            return f"wait {minutes:g} min"
        case WaitStep():
            return f"wait {step.duration_minutes or 'until ' + (step.until or '')}"
        case ParallelExecution():
            return f"parallel, {step.wait_strategy}"
        case ForEachExecution():
            return f"for each of {step.items}"
        case _:
            return step.type
