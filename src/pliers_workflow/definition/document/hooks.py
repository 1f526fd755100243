"""What a workflow makes of events from outside (spec: EventHookConfiguration, EventTrigger, TriggerAction).

The specification names `EventHandler` and `EventFilter` without defining them; this is our reading. A *trigger* orders
something: a start, a transition, a step, an escalation. A *handler* runs actions in an instance and moves nothing. Both
reach living instances by a *correlation key*: the definition says under which keys its instances are found, the trigger
says which key an event carries. *Filters* stand before all of them.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, StrictInt

from .actions import Action
from .steps import StepId
from .words import Document, Expression, Id, Name, Path, only_numbers

#: A type of events, whole; or with everything below it, `order.*`; or `*` for all.
EventType: TypeAlias = Annotated[str, Field(pattern=r"^(\*|[^\s*]+(\.\*)?)$", max_length=257)]
#: Where events come from: a CloudEvents `source`, or its beginning and a `*`.
EventSource: TypeAlias = Annotated[str, Field(pattern=r"^[^\s*]*\*?$", min_length=1, max_length=2000)]
#: The higher comes first.
Priority: TypeAlias = Annotated[StrictInt, Field(ge=-1_000_000, le=1_000_000)]
#: Minutes from now, none included.
Delay: TypeAlias = Annotated[float, Field(ge=0, le=5_256_000), BeforeValidator(only_numbers)]


class CorrelationKey(Document):
    """A key under which events find an instance, for as long as it lives."""

    #: what triggers and handlers call it
    name: Name
    #: CEL over `data`, `context`, `submission`, `instance` and `metadata`; while it gives null, nothing or an error,
    #: the instance has no such key
    key: Expression


class TriggerAction(Document):
    """What a trigger orders (spec: TriggerAction). Expressions are CEL over `event` and `now`."""

    type: Literal["start_workflow", "advance_state", "execute_step", "escalate"]
    #: start_workflow: the name of the workflow to start; default: this one
    workflow_id: Name | None = None
    #: start_workflow: a version of that workflow, or a range such as `^1.2`; default: the active one
    version: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    #: start_workflow: whose request it is, a username or a user's id; default: nobody's
    requester: Expression | None = None
    #: start_workflow: the instance's `externalKey`, of which a workflow has one instance only
    external_key: Expression | None = None
    #: advance_state: the trigger that is fired; default: the event's type
    trigger: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    #: advance_state: only through a transition that leads to this state
    target_state: Id | None = None
    #: execute_step: the name of the step to run, in the definition's `steps`
    step_id: StepId | None = None
    #: start_workflow: fields of the instance data, dotted paths allowed. Otherwise: what expressions see as `event.data`.
    #: Default: the event's own data
    parameters: dict[Path, Expression] | None = None


class EventTrigger(Document):
    """What happens when an event comes (spec: EventTrigger)."""

    #: unique among triggers and handlers
    id: Name
    #: a type, whole; or with everything below it, `order.*`; or `*` for all
    event_type: EventType
    #: CEL over `event` and `now`; the trigger acts if it holds
    condition: Expression | None = None
    action: TriggerAction
    #: which of the instances' keys is meant; default: the only one there is
    correlation: Name | None = None
    #: the key that the event carries: CEL over `event`. Needed by every action but `start_workflow`; events about
    #: submissions (`submission.created`, `submission.updated`) find the instances of that submission without it
    correlation_key: Expression | None = None
    #: of several triggers for one event the higher acts first; all of them act
    priority: Priority = 0
    #: act this much later: minutes, or CEL over `event` that gives minutes
    delay_minutes: Delay | Expression | None = None


class EventHandler(Document):
    """Actions that an event runs in the instances it belongs to, without a transition (spec: EventHandler)."""

    #: unique among triggers and handlers
    id: Name
    #: as that of a trigger
    event_type: EventType
    #: CEL over `event` and `now`; the handler runs if it holds
    condition: Expression | None = None
    #: which of the instances' keys is meant; default: the only one there is
    correlation: Name | None = None
    #: the key that the event carries: CEL over `event`. Needed, but for events about submissions, as in a trigger
    correlation_key: Expression | None = None
    #: run in order, with the event as `event`
    actions: Annotated[tuple[Name | Action, ...], Field(min_length=1)]
    #: of several triggers and handlers for one event the higher acts first
    priority: Priority = 0


class EventFilter(Document):
    """What every event must pass before a trigger or handler looks at it (spec: EventFilter). All that is given must hold."""

    #: the event's `source`, whole or as a prefix that ends in `*`
    source: EventSource | None = None
    #: as that of a trigger
    event_type: EventType | None = None
    #: CEL over `event` and `now`
    condition: Expression | None = None


class EventHookConfiguration(Document):
    """Events from outside, and what they do (spec: EventHookConfiguration)."""

    triggers: Annotated[tuple[EventTrigger, ...], Field(max_length=1000)] = ()
    handlers: Annotated[tuple[EventHandler, ...], Field(max_length=1000)] = ()
    filters: Annotated[tuple[EventFilter, ...], Field(max_length=100)] = ()
    #: the keys under which instances are found
    correlation: Annotated[tuple[CorrelationKey, ...], Field(max_length=20)] = ()
