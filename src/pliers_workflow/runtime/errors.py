"""What the services raise when a request cannot be granted: values with a code, and a sentence that says what to do.

Each is for the caller, like a `Rejection` of the interpreter; none of them means that something is broken. `api/` turns
them into problems by their class, so a service never knows about HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pliers_workflow.definition.findings import Finding


class RequestError(Exception):
    """Base of everything a caller can set right. `code` is for programs, `message` for people, `details` for both."""

    def __init__(self, code: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details: dict[str, Any] = details or {}


class NotFoundError(RequestError):
    """There is no such thing in this tenant, or you may not see it."""


class ForbiddenError(RequestError):
    """You may not do this; `details.permissions` lists what would be needed."""


class ConflictError(RequestError):
    """This cannot be done as things stand; the message says what has to change first."""


class PreconditionFailedError(RequestError):
    """It has changed since you read it (`If-Match`); read it again and repeat what still makes sense."""


class InvalidError(RequestError):
    """The request makes no sense as it is; `findings` lists every reason, each with its JSON pointer."""

    def __init__(
        self, code: str, message: str, details: dict[str, Any] | None = None, *, findings: Sequence[Finding] = ()
    ) -> None:
        super().__init__(code, message, details)
        self.findings: tuple[Finding, ...] = tuple(findings)


class KeyReusedError(RequestError):
    """The Idempotency-Key was used with another body; take a new key for a new request."""

    def __init__(self) -> None:
        super().__init__("idempotency_key_reused", "The Idempotency-Key was used with another body; take a new key.")
