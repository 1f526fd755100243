"""What is kept of an event, and what became of it, as frozen values."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from pliers_workflow.definition.listening import Doing
from pliers_workflow.interpreter.commands import InboundEvent, Trace

#: received: owed to its triggers. matched: it has acted. buffered: somebody may begin to wait for it. unmatched: nobody
#: cared. failed: something it should have done could not be done
EventStatus: TypeAlias = Literal["received", "matched", "buffered", "unmatched", "failed"]

#: started: an instance runs. delivered: an instance has taken it. scheduled: it acts later. refused: the instance could
#: not take it as it stood; see `waits` for whether it is asked again. failed: an operator must look
Outcome: TypeAlias = Literal["started", "delivered", "scheduled", "refused", "failed"]


class Stored(Struct, frozen=True):
    """An event that is kept and owed to its triggers."""

    tenant_id: str
    id: str
    event: InboundEvent
    depth: int
    #: by the tenant's clock
    received_at: datetime
    open_until: datetime
    #: above 1: somebody has been at it before
    attempt: int = 1
    #: the engine's own
    own: bool = False
    #: what it leads to belongs to this
    trace: Trace | None = None

    @property
    def of_submission(self) -> bool:
        """Whether it tells what happened to a submission: nobody else can make an event of that source."""
        return self.own and self.event.source.endswith(submissions_source("", self.tenant_id))


def submissions_source(base: str, tenant_id: str) -> str:
    """The source of events about a tenant's submissions, at an engine that the world reaches at `base`."""
    return f"{base}/api/v1/tenants/{tenant_id}/submissions"


class Result(Struct, frozen=True, omit_defaults=True):
    """What one listener made of an event."""

    workflow: str
    trigger: str
    action: Doing
    outcome: Outcome
    instance: str | None = None
    #: scheduled: when it acts
    due_at: datetime | None = None
    #: refused, failed: a `Reason`, or `condition_error`, `mapping_error`, `data_too_large`, `no_startable_version` …
    code: str | None = None
    message: str | None = None
    #: what `message` speaks of: of data the places, not the values
    details: dict[str, Any] = {}


class Wait(Struct, frozen=True):
    """A listener whose instance is not there yet, or cannot take the event yet."""

    workflow: str
    trigger: str
    #: name of the key, and the key
    name: str
    key: str
    open_until: datetime


class EventRow(Struct, frozen=True, kw_only=True):
    """An event and what became of it."""

    id: str
    tenant_id: str
    event: InboundEvent
    depth: int
    status: EventStatus
    received_at: datetime
    #: user id; None: an event source, or the engine
    received_by: str | None
    event_source: str | None
    open_until: datetime
    forget_at: datetime
    results: tuple[Result, ...]
    waits: tuple[Wait, ...] = ()


class EventAnswer(Struct, frozen=True):
    """What became of an event that was sent."""

    row: EventRow
    #: it had come before; this is what became of it then
    duplicate: bool
