"""A task, as its function is given it."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct

from .errors import TaskLost


class Fetched(Struct, frozen=True, rename="camel"):
    """A task as the API gives it."""

    id: str
    lease_token: str
    topic: str
    step_id: str
    step: str
    workflow_instance_id: str
    workflow: str
    attempt: int
    idempotency_key: str
    input: dict[str, Any] = {}
    configuration: dict[str, Any] = {}
    timeout_seconds: float | None = None
    traceparent: str | None = None
    tracestate: str | None = None


class _Answer(Struct, frozen=True):
    tasks: list[Fetched]


read_fetched: Final = msgspec.json.Decoder(_Answer, float_hook=Decimal).decode


class Task:
    """What is to be done, while it is ours. Numbers in `input` that are not whole are `Decimal`."""

    __slots__ = (
        "_lost", "attempt", "configuration", "id", "idempotency_key", "input", "instance_id", "lease_token", "step",
        "step_id", "timeout_seconds", "topic", "trace_headers", "workflow",
    )  # fmt: skip

    def __init__(self, fetched: Fetched) -> None:
        self.id = fetched.id
        self.topic = fetched.topic
        #: of the step's `inputMapping`
        self.input = fetched.input
        #: of the step itself
        self.configuration = fetched.configuration
        #: as the definition calls the step
        self.step_id = fetched.step_id
        #: the passage through the step: `step/7`
        self.step = fetched.step
        self.instance_id = fetched.workflow_instance_id
        #: name of the definition
        self.workflow = fetched.workflow
        #: 1 for the first
        self.attempt = fetched.attempt
        #: the same when this attempt is seen twice: give it to whatever must not act twice
        self.idempotency_key = fetched.idempotency_key
        #: of the step, counted from the attempt's beginning; None: it has no time of its own
        self.timeout_seconds = fetched.timeout_seconds
        #: `traceparent` and `tracestate` (W3C Trace Context), for calls of its own; empty: it belongs to no trace
        self.trace_headers = {
            name: value
            for name, value in (("traceparent", fetched.traceparent), ("tracestate", fetched.tracestate))
            if value is not None
        }
        #: opaque; the worker needs it
        self.lease_token = fetched.lease_token
        self._lost = threading.Event()

    @property
    def lost(self) -> bool:
        """Whether the task is not ours any more."""
        return self._lost.is_set()

    def heartbeat(self) -> None:
        """
        Say that work goes on, between two pieces of it. Raises `TaskLost` when the task is not ours any more.

        The lease is prolonged by the worker in any case. What is not asynchronous cannot be stopped from outside; this is
        where it stops.
        """
        if self.lost:
            raise TaskLost

    def lose(self) -> None:
        """Have `heartbeat` raise from now on. The worker calls this; in a test of a function you may, too."""
        self._lost.set()
