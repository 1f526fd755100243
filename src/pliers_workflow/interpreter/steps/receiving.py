"""Events from outside that steps have to do with: one that a step awaits, and one that has a step run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pliers_workflow.definition.listening import type_matches

from ..draft import Refused, event_fields
from ..rejections import Reason
from ..step_runs import Held
from .results import take_result
from .runs import run_at_work
from .starting import work_off

if TYPE_CHECKING:
    from ..commands import DeliverEvent
    from ..draft import Draft
    from ..step_runs import StepRun


def receive_event(draft: Draft, order: DeliverEvent) -> None:
    """
    Complete the receive steps that await the event; their output is the event.

    Whoever brings it has compared keys and names the runs. Raises `Refused` (`not_awaited`) where none of them waits
    any more: the event may be for somebody who begins to wait later.
    """
    waiting = [run for run in _named(draft, order) if _awaits(run, order.event.type)]
    if not waiting:
        raise Refused(Reason.NOT_AWAITED, event=order.event.id, type=order.event.type)
    output = _kept(event_fields(order.event))
    for run in waiting:
        current = run_at_work(draft, run.id)
        if current is not None and current.status == "waiting":  # one may have ended another
            take_result(draft, current, Held(output))
            work_off(draft)


def _named(draft: Draft, order: DeliverEvent) -> list[StepRun]:
    steps = draft.instance.machine.steps
    if order.steps:
        return [steps[id] for id in order.steps if id in steps]
    return list(steps.values())


def _awaits(run: StepRun, event_type: str) -> bool:
    wanted = run.event_type
    if run.type != "receive" or run.status != "waiting" or run.held is not None or wanted is None:
        return False
    return type_matches(wanted, event_type)


def _kept(fields: dict[str, Any]) -> dict[str, Any]:
    """The event without what it does not say, as data keep it."""
    time = fields.get("time")
    if time is not None:
        fields = {**fields, "time": time.isoformat()}
    return {name: value for name, value in fields.items() if value is not None}


def run_step(draft: Draft, order: DeliverEvent) -> None:
    """
    Run a step of the definition beside those of the states, for as long as it takes.

    Its expressions see the event, at each attempt. Raises `Refused` (`unknown_step`).
    """
    step = draft.chart.named_steps.get(order.step or "")
    if step is None:
        raise Refused(Reason.UNKNOWN_STEP, step=order.step, known=sorted(draft.chart.named_steps))
    event = _kept(event_fields(order.event))
    if order.parameters is not None:
        event["data"] = order.parameters
    draft.later(
        "begin", step, None, None, None, None, None, {"event": {"name": order.event.type, "user": None, **event}}
    )
    work_off(draft)
