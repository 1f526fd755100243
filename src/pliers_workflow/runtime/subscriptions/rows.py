"""Subscriptions as they are written and read."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from ..rows import Row
from .sinks import Sink

State = Literal["active", "paused", "disabled"]


class SubscriptionInput(Struct, frozen=True, kw_only=True):
    """A subscription as it is written."""

    name: str
    sink: Sink
    #: exact, or prefixes that end in `.*`; empty: all
    event_types: tuple[str, ...] = ()
    #: names of workflows; empty: all
    definitions: tuple[str, ...] = ()
    #: CEL over `event`
    condition: str | None = None
    include_data: bool = False
    enabled: bool = True
    #: `now`, `beginning`, or a cursor; where it begins when it is made
    position: str = "now"
    #: None: the engine's default; fixed when it is made
    lanes: int | None = None


class SubscriptionStatus(Struct, frozen=True, kw_only=True):
    """How a subscription is doing."""

    #: everything before it has been sent; give it to `replay` to come back here
    cursor: str
    #: positions of the log, of all tenants, that its slowest lane has not passed
    lag: int
    #: seconds since that lane had sent all there was; 0: it has; None: it is paused or disabled
    lag_seconds: float | None
    #: attempts in a row that failed, of all lanes, and since when
    failures: int
    failing_since: datetime | None
    last_error: str | None
    last_error_at: datetime | None
    last_sent_at: datetime | None
    disabled_reason: str | None
    disabled_at: datetime | None


class SubscriptionRow(Row, frozen=True, kw_only=True):
    """A subscription as it is read; secrets of the sink are masked."""

    id: str
    tenant_id: str
    name: str
    revision: int
    sink: Sink
    event_types: tuple[str, ...]
    definitions: tuple[str, ...]
    condition: str | None
    include_data: bool
    lanes: int
    state: State
    status: SubscriptionStatus
    created_at: datetime
    created_by: str | None
    updated_at: datetime
