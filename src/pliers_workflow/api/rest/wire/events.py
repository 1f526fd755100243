"""Events from outside, over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from .base import Instant, PageQuery, Uuid, View

EventStatus = Literal["received", "matched", "buffered", "unmatched", "failed"]


class CloudEvent(Struct, frozen=True, kw_only=True):
    """An event of CloudEvents 1.0 in its structured form. Further attributes are texts, truth values or whole numbers."""

    specversion: Literal["1.0"]
    #: names the event together with `source`: the same again is a duplicate
    id: Annotated[str, Meta(min_length=1, max_length=500)]
    #: a URI reference
    source: Annotated[str, Meta(min_length=1, max_length=2000)]
    type: Annotated[str, Meta(min_length=1, max_length=255)]
    subject: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    time: Instant | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: Any = None
    #: instead of `data`: bytes; expressions see this text
    data_base64: str | None = None
    #: an extension of ours: how long to keep the event for an instance that is not waiting for it yet
    ttlseconds: Annotated[int, Meta(ge=0, le=2_592_000)] | None = None


class EventResultView(View, frozen=True, kw_only=True):
    """What one trigger or handler made of an event."""

    #: name of the workflow that listens, and id of its trigger or handler
    workflow: str
    trigger: str
    action: Literal["start_workflow", "advance_state", "execute_step", "escalate", "handle", "receive"]
    #: `refused`: the instance could not take it as it stood. `failed`: see `code`; an operator may retry
    outcome: Literal["started", "delivered", "scheduled", "refused", "failed"]
    instance_id: str | None
    #: when a delayed trigger acts
    due_at: datetime | None
    #: why it was refused, or failed
    code: str | None
    message: str | None
    #: what `message` speaks of, for operators and auditors; of data the places, not the values
    details: dict[str, Any] | None


class EventWaitView(View, frozen=True, kw_only=True):
    """A trigger or handler whose instance is not there yet, or cannot take the event yet: then `results` say why."""

    workflow: str
    trigger: str
    #: name of the instances' key, and the key looked for
    correlation: str
    key: str
    open_until: datetime


class EventAnswerView(View, frozen=True, kw_only=True):
    """What became of an event."""

    #: the engine's own id, for `GET /events/{id}`
    id: str
    source: str
    event_id: str
    #: it had come before; this is what became of it
    duplicate: bool
    #: `received`: not known yet. `matched`: it has acted. `buffered`: it waits for an instance. `unmatched`: nobody cared.
    #: `failed`: something it should have done could not be done
    status: EventStatus
    results: list[EventResultView]
    waits: list[EventWaitView]


class EventAnswersView(View, frozen=True, kw_only=True):
    """What became of the events sent, in their order."""

    events: list[EventAnswerView]


class EventView(View, frozen=True, kw_only=True):
    """An event that is kept, and what became of it."""

    id: str
    source: str
    event_id: str
    type: str
    subject: str | None
    time: datetime | None
    data: Any
    #: further attributes
    attributes: dict[str, Any]
    status: EventStatus
    received_at: datetime
    #: a user id, or an event source; neither: the engine
    received_by: str | None
    event_source_id: str | None
    #: until then it waits for instances
    open_until: datetime
    #: until then its source and id are known
    known_until: datetime
    results: list[EventResultView]
    #: in lists always empty
    waits: list[EventWaitView]


class EventsQuery(PageQuery, frozen=True, kw_only=True):
    """Which events."""

    status: EventStatus | None = None
    type: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    event_source: Uuid | None = None
