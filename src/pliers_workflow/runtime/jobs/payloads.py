"""What a job's row says: for each kind of job what is kept in `payload`, and how an effect becomes a row.

A row of `workflow_jobs` says when (`due_at`), who serves it (`kind`, `queue`), for which instance and under which name;
everything else that whoever claims it needs to know is here. Payloads are for ever as events are: a field may be added
with a default, never renamed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from pliers_workflow.interpreter.commands import Order, Parent, Trace
from pliers_workflow.storage.batch_writes import Job

if TYPE_CHECKING:
    from datetime import datetime

    from pliers_workflow.interpreter.effects import ScheduleStep, SendOrder, StartChild
    from pliers_workflow.interpreter.instance import Instance, Timer

#: Kinds of jobs, as the table's check has them.
TIMER: Final = "timer"
STEP: Final = "step"
ORDER: Final = "command"
CHILD: Final = "child"
RESOLUTION: Final = "resolution"
TRIGGER: Final = "trigger"
DEPARTURE: Final = "departure"


class TimerPayload(Struct, frozen=True, omit_defaults=True):
    """What a timer has besides its name: what it fires stands in the instance."""

    #: of the command that started it
    trace: Trace | None = None


class StepPayload(Struct, frozen=True, omit_defaults=True):
    """A step's attempt, for whoever runs it."""

    attempt: int
    #: what the executor needs: `configuration` and `input`; `stepId` and `type` for people
    run: dict[str, Any]
    #: of the definition
    version: str = ""
    timeout_ms: int | None = None
    #: of the command that owes it
    trace: Trace | None = None


class OrderPayload(Struct, frozen=True, omit_defaults=True):
    """An order for another instance."""

    #: whose it is
    to: str
    order: Order
    trace: Trace | None = None


class ChildPayload(Struct, frozen=True, omit_defaults=True):
    """The start of a sub-workflow."""

    #: the child's id
    to: str
    workflow: str
    parent: Parent
    #: a version or a range; None: the active one
    version: str | None = None
    data: dict[str, Any] = {}
    context: dict[str, Any] = {}
    requester: str | None = None
    trace: Trace | None = None


read_timer: Final = msgspec.json.Decoder(TimerPayload).decode
read_step: Final = msgspec.json.Decoder(StepPayload, float_hook=Decimal).decode
read_order: Final = msgspec.json.Decoder(OrderPayload, float_hook=Decimal).decode
read_child: Final = msgspec.json.Decoder(ChildPayload, float_hook=Decimal).decode


def timer_job(timer: Timer, trace: Trace | None = None) -> Job:
    """The row of a timer; without a trace the one it has, where it is written anew, stays."""
    clock = {
        "budget": timer.budget_ms,
        "used": timer.used_ms,
        "calendar": timer.calendar,
        "paused_at": timer.paused_at,
    }
    payload = None if trace is None else TimerPayload(trace)
    return Job(kind=TIMER, name=timer.id, due_at=timer.due_at, clock=clock, payload=payload)


def step_job(effect: ScheduleStep, instance: Instance, trace: Trace | None = None) -> Job:
    """The row of a step that workers run."""
    return Job(
        kind=STEP,
        name=effect.step,
        due_at=effect.due_at,
        priority=effect.priority,
        queue=effect.queue,
        definition_name=instance.definition_name,
        payload=StepPayload(effect.attempt, effect.payload, instance.version, effect.timeout_ms, trace),
    )


def order_job(effect: SendOrder, instance: Instance, at: datetime, trace: Trace | None = None) -> Job:
    """The row of an order for another instance, due at once."""
    payload = OrderPayload(effect.instance, effect.order, trace)
    return Job(kind=ORDER, name=effect.name, due_at=at, definition_name=instance.definition_name, payload=payload)


def child_job(effect: StartChild, instance: Instance, at: datetime, trace: Trace | None = None) -> Job:
    """The row of a sub-workflow's start, due at once."""
    payload = ChildPayload(
        to=effect.instance,
        workflow=effect.workflow,
        parent=effect.parent,
        version=effect.version,
        data=effect.data,
        context=effect.context,
        requester=effect.requester,
        trace=trace,
    )
    return Job(kind=CHILD, name=effect.name, due_at=at, definition_name=instance.definition_name, payload=payload)
