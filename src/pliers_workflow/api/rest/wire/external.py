"""External tasks over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from .base import Input, Json, View

Topic = Annotated[
    str, Meta(max_length=255, pattern=r"^[a-z][a-z0-9_.-]*$", description="A topic, as `external` steps name it.")
]
#: as it was fetched
LeaseToken = Annotated[str, Meta(min_length=1, max_length=200)]
LeaseSeconds = Annotated[int, Meta(ge=1, le=3600)]


class FetchInput(Input, frozen=True, kw_only=True):
    """What a worker takes, and how much of it."""

    topics: Annotated[tuple[Topic, ...], Meta(min_length=1, max_length=50)]
    #: a name for the worker, for people who look for who holds a task
    worker_id: Annotated[str, Meta(max_length=200, pattern=r"^[!-~]+$")]
    max_tasks: Annotated[int, Meta(ge=1, le=100)] = 1
    #: so long the tasks are yours, unless a heartbeat prolongs it
    lease_seconds: LeaseSeconds = 60
    #: where there is nothing to do, the answer comes as soon as there is, or after so long
    wait_seconds: Annotated[float, Meta(ge=0, le=30)] = 0


class ExternalTaskView(View, frozen=True, kw_only=True):
    """A task that is yours while its lease lasts."""

    id: str
    #: needed to prolong the lease and to say what came of the task; opaque
    lease_token: str
    topic: str
    step_id: str
    #: the passage through the step: `step/7`
    step: str
    workflow_instance_id: str
    #: name of the instance's workflow
    workflow: str
    #: 1 for the first
    attempt: int
    #: the same when this attempt is seen twice: give it to whatever must not act twice
    idempotency_key: str
    #: W3C Trace Context of the request that led to this; send it along with what you call, and with the result
    traceparent: str | None
    tracestate: str | None
    #: of the step's `inputMapping`
    input: Json
    #: of the step itself: its `topic`
    configuration: Json
    lease_until: datetime
    #: of the step's `timeoutMinutes`, counted from the attempt's beginning
    timeout_seconds: float | None


class FetchedView(View, frozen=True, kw_only=True):
    """What was fetched; empty when there was nothing to do."""

    tasks: list[ExternalTaskView]


class HeartbeatInput(Input, frozen=True, kw_only=True):
    """For how long, from now on, the task is to stay yours."""

    lease_token: LeaseToken
    lease_seconds: LeaseSeconds = 60


class LeaseView(View, frozen=True, kw_only=True):
    """A lease that was prolonged."""

    lease_until: datetime


class GiveBackInput(Input, frozen=True, kw_only=True):
    """A task that its worker will not do."""

    lease_token: LeaseToken


class CompleteInput(Input, frozen=True, kw_only=True):
    """What a task gave."""

    lease_token: LeaseToken
    #: any JSON value, at most `steps.output_size_max` bytes; expressions see it as `steps.ID.output`
    output: Any = None


class FailInput(Input, frozen=True, kw_only=True):
    """Why a task failed."""

    lease_token: LeaseToken
    #: a short name; retry policies (`retryOn`) and transitions may name it
    code: Annotated[str, Meta(min_length=1, max_length=100)]
    #: for people
    message: Annotated[str, Meta(max_length=2000)] = ""
    #: false: no other attempt can help
    retryable: bool = True
    #: the next attempt begins no earlier than that
    retry_after_seconds: Annotated[float, Meta(ge=0, le=604_800)] | None = None
    #: whatever helps whoever looks into it
    details: Json = {}
