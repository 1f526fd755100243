"""What went wrong, as the problem that is answered: whoever raised it, a service, the engine, the database or a defect."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import structlog

from pliers_workflow.runtime.answers import EngineError, OutcomeUnknown, Overloaded, ShuttingDown, TooManyWaiting
from pliers_workflow.runtime.errors import (
    ForbiddenError,
    InvalidError,
    KeyReusedError,
    NotFoundError,
    PreconditionFailedError,
    RequestError,
)
from pliers_workflow.runtime.failures import DATABASE_AWAY

from .problems import ApiError, FindingView

if TYPE_CHECKING:
    from .endpoint import Endpoint

_log: Final = structlog.get_logger("pliers.api")


def problem_of(error: Exception, endpoint: Endpoint | None, method: str, path: str) -> ApiError:
    """What went wrong as a problem; what nobody foresaw gets an incident id, under which it stands in the log."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestError):
        return _of_service(error, endpoint)
    if isinstance(error, Overloaded):
        seconds = max(1, round(error.retry_after + 0.5))
        return ApiError(
            "overloaded",
            f"Too many commands are waiting; repeat this one after {seconds} s.",
            headers=[(b"retry-after", str(seconds).encode())],
        )
    if isinstance(error, TooManyWaiting):
        text = str(error)
        return ApiError(
            "too_many_waiting", f"{text[:1].upper()}{text[1:]}.", details={"limit": error.limit},
            headers=[(b"retry-after", str(round(error.retry_after)).encode())],
        )  # fmt: skip
    if isinstance(error, ShuttingDown):
        return ApiError("shutting_down", headers=[(b"retry-after", b"1")])
    if isinstance(error, OutcomeUnknown):
        return ApiError("outcome_unknown", details={"command": error.command_id}, headers=[(b"retry-after", b"2")])
    incident = secrets.token_hex(8)
    if isinstance(error, EngineError):
        _log.error("engine error", incident=incident, method=method, path=path, error=str(error))
        return ApiError("unavailable", str(error), details={"incident": incident}, headers=[(b"retry-after", b"2")])
    if isinstance(error, DATABASE_AWAY):
        _log.error("database unavailable", incident=incident, method=method, path=path, error=repr(error))
        return ApiError("unavailable", details={"incident": incident}, headers=[(b"retry-after", b"2")])
    _log.error("unexpected error", incident=incident, method=method, path=path, exc_info=error)
    return ApiError("internal_error", details={"incident": incident})


def _of_service(error: RequestError, endpoint: Endpoint | None) -> ApiError:
    """A service's refusal as a problem: the class says which, its own code goes into `details.reason`."""
    wrong_input = "invalid_body" if endpoint is None or endpoint.mutates else "invalid_parameter"
    findings: tuple[FindingView, ...] = ()
    match error:
        case NotFoundError():
            # Where no id is in the address, what is missing was named in the body or the query.
            code = "not_found" if endpoint is None or endpoint.path_names else wrong_input
        case ForbiddenError():
            code = "permission_missing"
        case PreconditionFailedError():
            code = "precondition_failed"
        case KeyReusedError():
            code = "idempotency_key_reused"
        case InvalidError():
            code = wrong_input
            findings = tuple(
                FindingView(found.pointer, found.code, found.message, found.hint, found.severity)
                for found in error.findings
            )
        case _:
            code = "conflict"
    return ApiError(code, error.message, details={"reason": error.code, **error.details}, findings=findings)
