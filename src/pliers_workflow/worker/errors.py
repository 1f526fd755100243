"""How a task's function says that it failed, and how it and its worker are told that something is over."""

from __future__ import annotations

from typing import Any, Final

#: What a failure is called that has no code of its own.
FAILED: Final = "WORKER_FAILED"


class TaskFailure(Exception):
    """
    A task failed. `code` is what retry policies (`retryOn`) and transitions name: a letter, then letters, digits and `_.:-`, 100
    at most. `message` is for people, `details` a JSON object for whoever looks into it.
    """

    def __init__(self, code: str, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details or {}


class Retryable(TaskFailure):
    """Another attempt may go better; the step's `retryPolicy` decides. `delay`: seconds before which it makes no sense."""

    def __init__(
        self, message: str, *, code: str = FAILED, delay: float | None = None, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(code, message, details=details)
        self.delay = None if delay is None else float(delay)


class Permanent(TaskFailure):
    """No other attempt can help: the step fails with this code."""


class TaskLost(BaseException):
    """
    The task is not ours any more: cancelled, out of time, or another worker's. Let it pass; the result is dropped.

    Not an `Exception`, so that `except Exception` around a call does not swallow it.
    """


class WorkerRefused(Exception):
    """The server does not let this worker work: its token lacks the permission `worker`, or it asks for what cannot be."""
