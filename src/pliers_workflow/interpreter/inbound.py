"""Events from outside, in an instance: what `DeliverEvent` does there.

Whoever matched the event has checked its conditions and keys. Here it either takes effect or is refused, and then the
instance is as it was and the event may be offered again when the instance has moved on: what is refused as
`unknown_trigger` today may be awaited tomorrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pliers_workflow.definition.tree import ENGINE_PREFIXES, ENGINE_TRIGGERS

from . import statechart, steps
from .content import execute
from .draft import Refused, Trigger
from .events import EscalationTriggered
from .instance import Status
from .rejections import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from .commands import DeliverEvent
    from .draft import Draft


def deliver_event(draft: Draft, order: DeliverEvent) -> None:
    """Let an event take effect."""
    _ACTIONS[order.action](draft, order)


def _advance(draft: Draft, order: DeliverEvent) -> None:
    """Take the transitions that the trigger enables, or say why there are none."""
    name = order.trigger or order.event.type
    if name in ENGINE_TRIGGERS or name.startswith(ENGINE_PREFIXES):
        raise Refused(Reason.NOT_ALLOWED, trigger=name, allowed=[], explanation="the engine raises it")
    draft.trigger = trigger = _trigger(name, order)
    enabled = statechart.select_transitions(draft, trigger)
    if not enabled and not draft.internal:  # a guard's error may have raised `error.execution`: then that is worked off
        _explain(draft, trigger)
    if order.target is not None:
        reached = statechart.entered_by(draft, enabled)
        if order.target not in reached:
            raise Refused(Reason.TARGET_NOT_REACHED, target=order.target, reached=sorted(reached))
    if enabled:
        statechart.microstep(draft, enabled)
    statechart.run_to_rest(draft)


def _explain(draft: Draft, trigger: Trigger) -> None:
    for state in draft.active:
        if state.kind in ("atomic", "final"):
            for transition in statechart.candidates(draft.chart, state, trigger.name):
                raise Refused(
                    Reason.GUARD_FAILED,
                    trigger=trigger.name,
                    transition=transition.id,
                    explanation=dict(draft.explain(transition.guard, trigger)),
                )
    raise Refused(Reason.UNKNOWN_TRIGGER, trigger=trigger.name, available=[])


def _escalate(draft: Draft, order: DeliverEvent) -> None:
    """Ask for attention: the instance is `escalated` until the next decision, and `escalation.ID` is raised."""
    event = order.event
    data = event.data if order.parameters is None else order.parameters
    draft.emit(EscalationTriggered(f"{event.type} from {event.source} ({order.matched})", data))
    statechart.deliver(draft, _trigger(f"escalation.{order.matched}", order))
    statechart.run_to_rest(draft)


def _handle(draft: Draft, order: DeliverEvent) -> None:
    """Run a handler's actions where the instance stands."""
    actions = draft.chart.handlers.get(order.matched or "")
    if actions is None:
        raise Refused(Reason.NOT_AWAITED, event=order.event.id, type=order.event.type)
    draft.trigger = _trigger(order.event.type, order)
    execute(draft, actions, f"handler {order.matched}")
    statechart.run_to_rest(draft)


def _trigger(name: str, order: DeliverEvent) -> Trigger:
    data = order.event.data if order.parameters is None else order.parameters
    return Trigger(name, data, event=order.event)


def _receive(draft: Draft, order: DeliverEvent) -> None:
    """Complete the steps that await it; while the instance is suspended, it is kept with them."""
    steps.receive_event(draft, order)
    if draft.instance.status is not Status.SUSPENDED:
        statechart.run_to_rest(draft)


def _execute(draft: Draft, order: DeliverEvent) -> None:
    """Run a step of the definition beside those of the states."""
    steps.run_step(draft, order)
    statechart.run_to_rest(draft)


_ACTIONS: Final[dict[str, Callable[[Draft, Any], None]]] = {
    "receive": _receive,
    "advance": _advance,
    "execute": _execute,
    "escalate": _escalate,
    "handle": _handle,
}
