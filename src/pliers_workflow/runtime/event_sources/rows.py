"""Event sources as they are written and read, and what they rejected."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from ..rows import Row
from .kinds import Broker
from .plain import Mapping


class EventSourceInput(Struct, frozen=True, kw_only=True):
    """A source as it is written."""

    name: str
    broker: Broker
    #: how messages that are no CloudEvents become events; None: they are rejected
    mapping: Mapping | None = None
    enabled: bool = True
    #: messages that are read, and under way, at once
    batch_size: int = 100


class EventSourceRow(Row, frozen=True, kw_only=True):
    """A source as it is read; secrets of the broker are masked."""

    id: str
    tenant_id: str
    name: str
    revision: int
    broker: Broker
    mapping: Mapping | None
    enabled: bool
    batch_size: int
    #: messages since it was made, as they came: one that came again counts again. Up to a second behind
    received: int
    rejected: int
    received_at: datetime | None
    #: None: the last attempt to read went well
    failing_since: datetime | None
    #: what went wrong last
    last_error: str | None
    created_at: datetime
    created_by: str | None
    updated_at: datetime


class RejectRow(Row, frozen=True, kw_only=True):
    """A message that was no event."""

    id: str
    #: the broker's own name for it
    message: str
    reason: str
    #: subject, routing key, stream or topic
    address: str
    key: str | None
    content_type: str | None
    attributes: dict[str, str] | None
    headers: dict[str, str]
    #: its beginning
    body: bytes
    #: bytes of the whole
    size: int
    rejected_at: datetime

    @property
    def whole(self) -> bool:
        """Whether all of it is kept, so that it can be put in again."""
        return len(self.body) == self.size
