"""Jobs and their limits over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from .base import Input, PageQuery, Uuid, View


class DeadJobView(View, frozen=True, kw_only=True):
    """A job that the engine itself could not settle; `id` is what a retry names."""

    id: str
    #: `timer`, `step`, `command` (an order for another instance), `child` (the start of a sub-workflow) …
    kind: str
    #: as its instance calls it: `order/3`
    name: str
    #: of a step
    queue: str | None
    workflow_instance_id: str | None
    #: name of the instance's workflow
    workflow: str | None
    attempts: int
    #: what went wrong last
    error: str | None
    due_at: datetime
    created_at: datetime


class DeadJobsQuery(PageQuery, frozen=True, kw_only=True):
    """Which dead jobs."""

    kind: Annotated[str, Meta(min_length=1, max_length=40)] | None = None
    #: those that this instance owes
    workflow_instance_id: Uuid | None = None


class DiscardInput(Input, frozen=True, kw_only=True):
    """Why a job is given up; kept in the audit log."""

    reason: Annotated[str, Meta(min_length=1, max_length=2000)]


class StepLimitInput(Input, frozen=True, kw_only=True):
    """How many steps of a queue may run, and how many may begin: either, or both."""

    #: at once, on all nodes and external workers together; 0: none is begun
    max_running: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    #: so many may begin in `perSeconds`
    rate: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    per_seconds: Annotated[float, Meta(ge=0.001, le=604_800)] | None = None


class StepLimitView(View, frozen=True, kw_only=True):
    """A limit, and how many steps it counts now."""

    queue: str
    max_running: int | None
    rate: int | None
    per_seconds: float | None
    running: int
    revision: int
    updated_at: datetime
    updated_by: str | None
