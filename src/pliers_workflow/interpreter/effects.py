"""Effects: duties an outcome leaves to the runtime, done in the commit that makes the outcome true."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from .instance import Timer, WorkItem


class OpenWorkItem(Struct, frozen=True, tag="open_work_item"):
    """Put a row into inboxes."""

    chain: str
    stage: str
    visit: int
    round: int
    item: WorkItem
    timeout_at: datetime | None = None


class SettleWorkItem(Struct, frozen=True, tag="settle_work_item", omit_defaults=True):
    """Take a row out of inboxes: decided, or withdrawn because nobody needs the answer any more."""

    item: str
    action: Literal["approve", "reject", "request_changes", "delegate", "withdraw"]
    decided_by: str | None = None
    principal: str | None = None
    comments: str | None = None
    #: the decision's own data and attachments
    decision_data: dict[str, Any] = {}
    delegated_to: str | None = None
    weight: int = 1
    group: str | None = None


class ScheduleTimer(Struct, frozen=True, tag="schedule_timer"):
    """Write the timer's job, or write it anew: paused, resumed, moved."""

    timer: Timer


class CancelTimer(Struct, frozen=True, tag="cancel_timer"):
    """Drop the timer's job."""

    timer: str


Effect: TypeAlias = OpenWorkItem | SettleWorkItem | ScheduleTimer | CancelTimer
