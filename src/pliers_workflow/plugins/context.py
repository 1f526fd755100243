"""What a plugin is told of the step it works for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

from .errors import Cancelled


class Context:
    """
    One attempt of one step. The engine makes it; the fields are for reading.

    The engine holds the step's lease while the plugin runs; a plugin has nothing to renew.
    """

    __slots__ = (
        "_cancelled", "attempt", "deadline", "idempotency_key", "instance_id", "log", "plugin_id", "step_id",
        "tenant_id", "trace_headers", "workflow",
    )  # fmt: skip

    def __init__(
        self,
        *,
        plugin_id: str,
        tenant_id: str,
        workflow: str,
        instance_id: str,
        step_id: str,
        attempt: int,
        idempotency_key: str,
        deadline: datetime,
        trace_headers: Mapping[str, str] | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        self.plugin_id = plugin_id
        self.tenant_id = tenant_id
        #: name of the definition
        self.workflow = workflow
        self.instance_id = instance_id
        #: as the definition calls the step
        self.step_id = step_id
        #: 1 for the first
        self.attempt = attempt
        #: the attempt's id: the same when this attempt is seen twice. Give it to whatever must not act twice
        self.idempotency_key = idempotency_key
        #: the time is up then, by this machine's clock
        self.deadline = deadline
        #: `traceparent` and `tracestate` (W3C Trace Context), for calls of its own; empty: it belongs to no trace
        self.trace_headers: Mapping[str, str] = dict(trace_headers or {})
        #: writes into the node's log, with the plugin, the instance and the attempt beside the message
        self.log: logging.LoggerAdapter[logging.Logger] = _Log(
            log or logging.getLogger("pliers.plugins"),
            {"plugin": plugin_id, "tenant": tenant_id, "step": idempotency_key},
        )
        self._cancelled = threading.Event()

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; 0 when it has passed."""
        return max(0.0, (self.deadline - datetime.now(UTC)).total_seconds())

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more."""
        return self._cancelled.is_set() or self.remaining == 0

    def heartbeat(self) -> None:
        """
        Say that work goes on, between two pieces of it. Raises `Cancelled` when nobody waits for the result any more.

        What runs in a thread cannot be stopped from outside; this is where it stops.
        """
        if self.cancelled:
            raise Cancelled

    def cancel(self) -> None:
        """Have `heartbeat` raise from now on. The engine calls this; in a test of a plugin you may, too."""
        self._cancelled.set()


class _Log(logging.LoggerAdapter[logging.Logger]):
    """Puts plugin, tenant and attempt into the record and before the message."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        extra = dict(self.extra or {})
        kwargs["extra"] = {**extra, **(kwargs.get("extra") or {})}
        return f"{extra['plugin']} {extra['step']}: {msg}", kwargs
