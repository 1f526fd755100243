"""Event subscriptions over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from pliers_workflow.runtime.subscriptions.sinks import Sink

from .base import Input, View

Position = Annotated[
    str, Meta(min_length=1, max_length=200, description="`now`, `beginning`, or a `cursor` of a subscription's status.")
]


class EventSubscriptionBody(Input, frozen=True, kw_only=True):
    """A standing order to tell somebody else of events."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    #: where they are sent; where a secret is, `***` keeps what is there
    sink: Sink
    #: types, or prefixes that end in `.*`; empty: all
    event_types: Annotated[tuple[str, ...], Meta(max_length=200)] = ()
    #: names of workflows; empty: all
    definitions: Annotated[tuple[str, ...], Meta(max_length=200)] = ()
    #: CEL over `event`; one that gives an error does not hold
    condition: Annotated[str, Meta(min_length=1, max_length=4000)] | None = None
    #: with what people have entered and written: values, comments, reasons, messages of errors
    include_data: bool = False
    enabled: bool = True
    #: where it begins when it is made; later `replay` sets it to another position
    position: Position = "now"
    #: how many events are under way at once; fixed when it is made
    lanes: Annotated[int, Meta(ge=1, le=64)] | None = None


class SubscriptionStatusView(View, frozen=True, kw_only=True):
    """How a subscription is doing."""

    #: everything before it has been sent
    cursor: str
    #: rows of the log, of all tenants, that its slowest lane has still to look at
    lag: int
    #: seconds since that lane had sent all there was; 0: it has; null: it is paused or disabled
    lag_seconds: float | None
    #: attempts in a row that failed, of all its lanes, and since when
    failures: int
    failing_since: datetime | None
    last_error: str | None
    last_error_at: datetime | None
    last_sent_at: datetime | None
    #: why and when the engine disabled it
    disabled_reason: str | None
    disabled_at: datetime | None


class EventSubscriptionView(View, frozen=True, kw_only=True):
    """A standing order to tell somebody else of events. Secrets of the sink are shown as `***`."""

    id: str
    name: str
    sink: Sink
    event_types: list[str]
    definitions: list[str]
    condition: str | None
    include_data: bool
    lanes: int
    #: `paused` by a person, `disabled` by the engine
    state: Literal["active", "paused", "disabled"]
    status: SubscriptionStatusView
    revision: int
    created_at: datetime
    created_by: str | None
    updated_at: datetime


class SubscriptionMadeView(EventSubscriptionView, frozen=True, kw_only=True):
    """A subscription with the secret that signs its webhooks: it is in this answer and nowhere else."""

    #: null: it signs nothing, or with the secret that you sent
    secret: str | None


class ReplayInput(Input, frozen=True, kw_only=True):
    """Where to go on from."""

    position: Position


class RotateSecretInput(Input, frozen=True, kw_only=True):
    """How to change the secret."""

    #: for how long the one before signs beside the new one
    keep_seconds: Annotated[int, Meta(ge=0, le=2_592_000)] = 86_400
