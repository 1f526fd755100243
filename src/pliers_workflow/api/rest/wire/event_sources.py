"""Event sources over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from pliers_workflow.runtime.event_sources.kinds import Broker
from pliers_workflow.runtime.event_sources.plain import Mapping

from .base import Input, View


class EventSourceBody(Input, frozen=True, kw_only=True):
    """A broker whose messages are events."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_.\-]{0,254}$")]
    #: where and what to read; where a secret is, `***` keeps what is there
    broker: Broker
    #: how messages that are no CloudEvents become events; null: they are rejected
    mapping: Mapping | None = None
    enabled: bool = True
    #: messages that are read, and under way, at once
    batch_size: Annotated[int, Meta(ge=1, le=500)] = 100


class EventSourceView(View, frozen=True, kw_only=True):
    """A broker whose messages are events, and how reading it goes. Secrets are shown as `***`."""

    id: str
    name: str
    broker: Broker
    mapping: Mapping | None
    enabled: bool
    batch_size: int
    #: messages that came and were events; one that came again counts again. Up to some seconds behind
    received: int
    #: messages that came and were none
    rejected: int
    #: when the last message came
    received_at: datetime | None
    #: null: the last attempt to read went well
    failing_since: datetime | None
    #: what went wrong last
    last_error: str | None
    revision: int
    created_at: datetime
    created_by: str | None
    updated_at: datetime


class EventSourceRejectView(View, frozen=True, kw_only=True):
    """A message that was no event."""

    id: str
    #: the broker's own name for it, else a hash of what it says
    message: str
    #: why it is no event
    reason: str
    #: subject, routing key, stream or topic
    address: str
    key: str | None
    content_type: str | None
    #: attributes of an event that stood beside the body; null: there were none
    attributes: dict[str, str] | None
    headers: dict[str, str]
    #: its beginning as text; what is no UTF-8 is replaced
    body: str
    #: bytes of the whole body
    size: int
    #: whether all of it was kept, so that it can be retried
    whole: bool
    rejected_at: datetime
