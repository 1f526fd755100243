"""What a definition listens for, as rows: each trigger and handler with all that deciding about an event needs.

When a version is published its listeners are written to a table, and an event finds them there by its type. A rule is
whole by itself, so that nobody has to read, let alone compile, the definition it stands in; equal rules of several
versions are equal values.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Literal, TypeAlias

from msgspec import Struct

from .document import EventFilter, EventHandler, EventTrigger, ReceiveStep, WorkflowDefinition
from .step_walking import StepWalk
from .tree import Tree, matches, prefixes

#: What is done about an event: a trigger's action, or `handle` for a handler, `receive` for a step that waits.
Doing: TypeAlias = Literal["start_workflow", "advance_state", "execute_step", "escalate", "handle", "receive"]

_MINUTE_MS = 60_000

#: The key under which the instances of a submission are found, where a definition listens for what happens to it. No
#: author can declare a key of this name.
SUBMISSION = "@submission"
#: Where an event about a submission carries that key, and where an instance has it.
SUBMISSION_KEY = "event.subject"
SUBMISSION_OF_INSTANCE = "instance.submission_id"

#: The name under which all receive steps of an instance wait, where triggers name a correlation key.
RECEIVE = "receive"
#: Where an event carries the value that a receive step waits for, unless the step says so.
EVENT_KEY = "has(event.attributes.correlationkey) ? event.attributes.correlationkey : event.subject"


class FilterRule(Struct, frozen=True, omit_defaults=True):
    """What an event must pass; all that is given holds."""

    source: str | None = None
    event_type: str | None = None
    condition: str | None = None


class Rule(Struct, frozen=True, omit_defaults=True):
    """When a listener acts, on what, and with what. Kept as JSON: fields are only ever added, with a default."""

    action: Doing
    filters: tuple[FilterRule, ...] = ()
    condition: str | None = None
    #: the instances' key that is meant, and the key the event carries
    correlation: str | None = None
    key: str | None = None
    delay_ms: int = 0
    #: CEL that gives minutes
    delay: str | None = None
    #: start_workflow
    workflow: str | None = None
    version: str | None = None
    requester: str | None = None
    external_key: str | None = None
    #: advance_state
    trigger: str | None = None
    target: str | None = None
    #: execute_step
    step: str | None = None
    #: None: the event's own data
    parameters: dict[str, str] | None = None


class Listener(Struct, frozen=True):
    """A trigger or handler of a definition."""

    id: str
    #: a type, or a prefix that ends in `.*`, or `*`
    event_type: str
    priority: int
    #: document order
    place: int
    rule: Rule


def listeners(definition: WorkflowDefinition) -> tuple[Listener, ...]:
    """All that a definition listens for: triggers, handlers, and receive steps, in document order."""
    return tuple(_listeners(definition))


def _listeners(definition: WorkflowDefinition) -> Iterator[Listener]:
    hooks = definition.event_hooks
    filters = tuple(_filter(one) for one in hooks.filters)
    for place, trigger in enumerate(hooks.triggers):
        yield Listener(trigger.id, trigger.event_type, trigger.priority, place, _rule(definition, trigger, filters))
    for place, handler in enumerate(hooks.handlers, start=len(hooks.triggers)):
        rule = Rule(
            action="handle",
            filters=filters,
            condition=handler.condition,
            correlation=key_name(definition, handler),
            key=SUBMISSION_KEY if by_submission(handler) else handler.correlation_key,
        )
        yield Listener(handler.id, handler.event_type, handler.priority, place, rule)
    yield from _receiving(definition, filters, len(hooks.triggers) + len(hooks.handlers))


def _receiving(definition: WorkflowDefinition, filters: tuple[FilterRule, ...], place: int) -> Iterator[Listener]:
    """What receive steps listen for: one listener for each type and place of the key, however many steps wait for it."""
    walk = StepWalk(definition, Tree(definition.state_machine))
    found = {
        (placed.step.event_type, placed.step.event_key): None
        for placed in walk.all
        if isinstance(placed.step, ReceiveStep)
    }
    for number, (event_type, event_key) in enumerate(found):
        rule = Rule(action="receive", filters=filters, correlation=RECEIVE, key=event_key or EVENT_KEY)
        yield Listener(f"{receiver_id(event_key)}/{number}", event_type, 0, place + number, rule)


def event_key_id(event_key: str | None) -> str:
    """A short name for where an event carries its key: events and steps that mean the same place meet by it."""
    return sha256((event_key or EVENT_KEY).encode()).hexdigest()[:16]


def receiver_id(event_key: str | None) -> str:
    """What all receive steps of a definition that find the key in the same place are called together."""
    return f"receive/{event_key_id(event_key)}"


def _rule(definition: WorkflowDefinition, trigger: EventTrigger, filters: tuple[FilterRule, ...]) -> Rule:
    action, delay = trigger.action, trigger.delay_minutes
    return Rule(
        action=action.type,
        filters=filters,
        condition=trigger.condition,
        correlation=None if action.type == "start_workflow" else key_name(definition, trigger),
        key=SUBMISSION_KEY if by_submission(trigger) else trigger.correlation_key,
        delay_ms=round(delay * _MINUTE_MS) if isinstance(delay, int | float) else 0,
        delay=delay if isinstance(delay, str) else None,
        workflow=action.workflow_id if action.workflow_id != definition.name else None,
        version=action.version,
        requester=action.requester,
        external_key=action.external_key,
        trigger=action.trigger,
        target=action.target_state,
        step=action.step_id,
        parameters=action.parameters,
    )


def _filter(given: EventFilter) -> FilterRule:
    return FilterRule(given.source, given.event_type, given.condition)


def key_name(definition: WorkflowDefinition, listener: EventTrigger | EventHandler) -> str | None:
    """The name of the instances' key that a listener means: the one it names, or the only one there is."""
    if listener.correlation is not None:
        return listener.correlation
    if by_submission(listener):
        return SUBMISSION
    known = definition.event_hooks.correlation
    return known[0].name if len(known) == 1 else None


def by_submission(listener: EventTrigger | EventHandler) -> bool:
    """Whether a listener finds instances by their submission: it listens for submissions, and names no other key."""
    if listener.correlation is not None or listener.correlation_key is not None:
        return False
    if isinstance(listener, EventTrigger) and listener.action.type == "start_workflow":
        return False
    return listener.event_type.startswith("submission.")


def listens_by_submission(definition: WorkflowDefinition) -> bool:
    """Whether any listener finds instances by their submission."""
    hooks = definition.event_hooks
    return any(map(by_submission, hooks.triggers)) or any(map(by_submission, hooks.handlers))


def type_matches(pattern: str, event_type: str) -> bool:
    """
    Say whether a pattern matches a type of events.

    >>> type_matches("order.paid", "order.paid"), type_matches("order.paid", "order.paid.late")
    (True, False)
    >>> type_matches("order.*", "order.paid.late"), type_matches("order.*", "order"), type_matches("order.*", "orders")
    (True, True, False)
    """
    if pattern.endswith(".*"):
        return matches(pattern[:-2], event_type)
    return pattern in ("*", event_type)


def patterns(event_type: str) -> tuple[str, ...]:
    """
    Give every pattern that matches a type.

    >>> patterns("order.paid")
    ('order.paid', 'order.paid.*', 'order.*', '*')
    """
    found = [prefix if prefix == "*" else f"{prefix}.*" for prefix in prefixes(event_type)]
    return (event_type, *found)


def source_matches(pattern: str, source: str) -> bool:
    """
    Say whether a filter's source matches an event's.

    >>> source_matches("/shops/*", "/shops/berlin"), source_matches("/shops", "/shops/berlin")
    (True, False)
    """
    return source.startswith(pattern[:-1]) if pattern.endswith("*") else source == pattern
