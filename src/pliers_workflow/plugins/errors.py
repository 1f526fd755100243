"""How a plugin says that it could not do its work, and how it is told that nobody waits for it any more.

Any other exception counts as `Retryable` with the code `PLUGIN_FAILED`; its text stays in the node's log, because nobody has
said that it may be shown.
"""

from __future__ import annotations

from typing import Any, Final

#: What a failure is called that has no code of its own.
FAILED: Final = "PLUGIN_FAILED"
#: What it is called when a plugin needs more memory than its declaration gives it.
MEMORY_EXCEEDED: Final = "MEMORY_EXCEEDED"


class PluginFailure(Exception):
    """
    An attempt failed. `code` is what retry policies (`retryOn`) and transitions name: a letter, then letters, digits and `_.:-`,
    100 at most. `message` is for people, 2,000 characters at most. `details` is a JSON object, for whoever looks into it.
    """

    def __init__(self, code: str, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details or {}


class Retryable(PluginFailure):
    """Another attempt may go better; the step's `retryPolicy` decides. `delay`: seconds before which it makes no sense."""

    def __init__(
        self, message: str, *, code: str = FAILED, delay: float | None = None, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(code, message, details=details)
        self.delay = None if delay is None else float(delay)


class Permanent(PluginFailure):
    """No other attempt can help: the step fails with this code, which becomes an incident where nothing handles it."""


class Cancelled(BaseException):
    """
    Nobody waits for the result any more: the time is up, the step was cancelled, or another worker has it.

    Not an `Exception`, so that `except Exception` around a call does not swallow it. Let it pass.
    """
