"""Problems: every error of the API as an RFC 9457 document, from one table.

A problem has a `code` of ours, which never changes its meaning, and the specification's `errorCode` (`WorkflowErrorType`),
which groups codes. `detail` is a sentence that says what to do next. What the table calls `sentence` is that sentence in
general; where a request is answered, a more exact one may stand in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from pliers_workflow.interpreter.rejections import Reason, Rejection

#: The specification's WorkflowErrorType.
ErrorCode: TypeAlias = Literal[
    "STATE_TRANSITION_ERROR",
    "STEP_EXECUTION_ERROR",
    "APPROVAL_ERROR",
    "TIMEOUT_ERROR",
    "VALIDATION_ERROR",
    "INTEGRATION_ERROR",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
]


class Kind(Struct, frozen=True):
    """What a code means, whoever raises it."""

    status: int
    error_code: ErrorCode
    title: str
    sentence: str


class FindingView(Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong in the document sent."""

    #: JSON Pointer (RFC 6901) into the body
    pointer: str
    code: str
    message: str
    hint: str | None = None
    severity: Literal["error", "warning"] = "error"


class Problem(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """An error (RFC 9457, `application/problem+json`)."""

    #: address of the code's description, relative to this server
    type: str
    title: str
    status: int
    #: what happened, and what to do next
    detail: str
    #: the specification's WorkflowErrorType
    error_code: ErrorCode
    #: what exactly: stable, machine-readable
    code: str
    #: path of the request
    instance: str | None = None
    #: depends on `code`
    details: dict[str, Any] = {}
    #: what is wrong in the body, all at once where that can be known
    findings: tuple[FindingView, ...] = ()


def _kind(status: int, error_code: ErrorCode, title: str, sentence: str) -> Kind:
    return Kind(status, error_code, title, sentence)


def _reasons(table: Mapping[Reason, tuple[int, ErrorCode, str]]) -> Mapping[Reason, Kind]:
    return {
        reason: Kind(status, error_code, title, reason.message) for reason, (status, error_code, title) in table.items()
    }


#: Rejections of the interpreter; their sentences are its own. A test holds that no `Reason` is missing.
REASONS: Final[Mapping[Reason, Kind]] = _reasons(
    {
        Reason.INSTANCE_EXISTS: (409, "STATE_TRANSITION_ERROR", "Instance exists"),
        Reason.VERSION_ARCHIVED: (409, "STATE_TRANSITION_ERROR", "Version is archived"),
        Reason.REVISION_CONFLICT: (412, "STATE_TRANSITION_ERROR", "Instance has changed"),
        Reason.INSTANCE_ENDED: (409, "STATE_TRANSITION_ERROR", "Instance has ended"),
        Reason.NOT_BEGUN: (409, "STATE_TRANSITION_ERROR", "Instance has not begun"),
        Reason.SUSPENDED: (409, "STATE_TRANSITION_ERROR", "Instance is suspended"),
        Reason.NOT_SUSPENDED: (409, "STATE_TRANSITION_ERROR", "Instance is not suspended"),
        Reason.UNKNOWN_USER: (422, "VALIDATION_ERROR", "Unknown user"),
        Reason.NOT_ALLOWED: (403, "PERMISSION_DENIED", "Not allowed"),
        Reason.NOTHING_TO_DECIDE: (409, "APPROVAL_ERROR", "Nothing to decide"),
        Reason.UNKNOWN_STAGE: (409, "APPROVAL_ERROR", "Stage is not open"),
        Reason.ALREADY_DECIDED: (409, "APPROVAL_ERROR", "Already decided"),
        Reason.NOT_AN_APPROVER: (403, "PERMISSION_DENIED", "Not an approver"),
        Reason.SELF_APPROVAL_FORBIDDEN: (403, "PERMISSION_DENIED", "Self-approval is forbidden"),
        Reason.DECIDED_IN_OTHER_STAGE: (403, "PERMISSION_DENIED", "Decided in another stage"),
        Reason.AMBIGUOUS_STAGE: (422, "APPROVAL_ERROR", "Ambiguous stage"),
        Reason.COMMENTS_REQUIRED: (422, "APPROVAL_ERROR", "Comments required"),
        Reason.DELEGATION_FORBIDDEN: (409, "APPROVAL_ERROR", "Delegation is forbidden"),
        Reason.DELEGATION_LOOP: (409, "APPROVAL_ERROR", "Delegation goes in a circle"),
        Reason.REQUEST_CHANGES_FORBIDDEN: (409, "APPROVAL_ERROR", "Requesting changes is forbidden"),
        Reason.UNKNOWN_TRIGGER: (409, "STATE_TRANSITION_ERROR", "Unknown trigger"),
        Reason.GUARD_FAILED: (409, "STATE_TRANSITION_ERROR", "Guard does not hold"),
        Reason.GUARD_ERROR: (409, "STATE_TRANSITION_ERROR", "Guard could not be evaluated"),
        Reason.TARGET_NOT_REACHED: (409, "STATE_TRANSITION_ERROR", "Target state not reached"),
        Reason.DATA_LOCKED: (409, "STATE_TRANSITION_ERROR", "Data is locked"),
        Reason.DATA_INVALID: (422, "VALIDATION_ERROR", "Data does not match the schema"),
        Reason.EXECUTION_ERROR: (409, "STEP_EXECUTION_ERROR", "Action failed"),
        Reason.ENDLESS_LOOP: (409, "RESOURCE_EXHAUSTED", "Endless loop"),
        Reason.BUDGET_EXCEEDED: (409, "RESOURCE_EXHAUSTED", "Budget exceeded"),
        Reason.DATA_TOO_LARGE: (413, "RESOURCE_EXHAUSTED", "Data too large"),
        Reason.TIMER_GONE: (409, "TIMEOUT_ERROR", "Timer is gone"),
        Reason.STEP_GONE: (409, "STEP_EXECUTION_ERROR", "Step is gone"),
        Reason.UNKNOWN_STEP: (422, "VALIDATION_ERROR", "Unknown step"),
        Reason.UNKNOWN_INCIDENT: (409, "STEP_EXECUTION_ERROR", "Unknown incident"),
        Reason.APPROVERS_THERE: (409, "APPROVAL_ERROR", "Nobody to replace"),
        Reason.NOT_AWAITED: (409, "INTEGRATION_ERROR", "Event is not awaited"),
    }
)

#: What the edge itself refuses.
EDGE: Final[Mapping[str, Kind]] = {
    "malformed_json": _kind(
        400, "VALIDATION_ERROR", "Malformed JSON", "The body is not valid JSON in UTF-8; correct it at the place named."
    ),
    "invalid_header": _kind(
        400,
        "VALIDATION_ERROR",
        "Invalid header",
        "A request header cannot be understood; the detail says which form it has.",
    ),
    "body_required": _kind(
        422, "VALIDATION_ERROR", "Body required", "This request needs a JSON body; the reference shows its fields."
    ),
    "unauthenticated": _kind(
        401,
        "PERMISSION_DENIED",
        "Not authenticated",
        "Send a token: `Authorization: Bearer …`. An administrator makes one with POST /api/v1/tokens.",
    ),
    "invalid_token": _kind(
        401,
        "PERMISSION_DENIED",
        "Invalid token",
        "The token is unknown, expired or revoked; ask an administrator for a new one.",
    ),
    "permission_missing": _kind(
        403,
        "PERMISSION_DENIED",
        "Permission missing",
        "Your token does not carry a permission this needs; `details.anyOf` names those that would do.",
    ),
    "not_found": _kind(
        404, "VALIDATION_ERROR", "Not found", "There is nothing at this address that you may see; check the id or name."
    ),
    "method_not_allowed": _kind(
        405,
        "VALIDATION_ERROR",
        "Method not allowed",
        "This address does not take that method; the `Allow` header names those it takes.",
    ),
    "conflict": _kind(
        409, "VALIDATION_ERROR", "Conflict", "This does not fit what is there already; the detail says how."
    ),
    "precondition_failed": _kind(
        412,
        "VALIDATION_ERROR",
        "Precondition failed",
        "It has changed since you read it; read it again and repeat what still makes sense.",
    ),
    "body_too_large": _kind(
        413, "RESOURCE_EXHAUSTED", "Body too large", "A request body may have 1 MB at most; send less, or in parts."
    ),
    "unsupported_media_type": _kind(
        415, "VALIDATION_ERROR", "Unsupported media type", "Send JSON, with `Content-Type: application/json`."
    ),
    "invalid_body": _kind(
        422, "VALIDATION_ERROR", "Invalid body", "The body does not have the fields it should; `findings` says where."
    ),
    "unstorable_value": _kind(
        422,
        "VALIDATION_ERROR",
        "Value cannot be stored",
        "The body contains a value the database cannot hold (a NUL character, a number beyond range, too deep a nesting); "
        "`findings` says where.",
    ),
    "invalid_parameter": _kind(
        422,
        "VALIDATION_ERROR",
        "Invalid query parameter",
        "A query parameter is unknown or has no valid value; `findings` says which.",
    ),
    "invalid_definition": _kind(
        422,
        "VALIDATION_ERROR",
        "Invalid definition",
        "The definition makes no sense yet; `findings` lists everything that is wrong, each with a hint.",
    ),
    "idempotency_key_reused": _kind(
        422,
        "VALIDATION_ERROR",
        "Idempotency key reused",
        "This Idempotency-Key was used with another body; use a new key for a new request.",
    ),
    "too_many_waiting": _kind(
        429,
        "RESOURCE_EXHAUSTED",
        "Too many waiting",
        "So many fetches of external tasks wait on this node already; repeat after `Retry-After` seconds.",
    ),
    "overloaded": _kind(
        503, "RESOURCE_EXHAUSTED", "Overloaded", "Too many commands are waiting; repeat after `Retry-After` seconds."
    ),
    "shutting_down": _kind(
        503,
        "RESOURCE_EXHAUSTED",
        "Shutting down",
        "This node is draining; repeat the request, another node answers it.",
    ),
    "unavailable": _kind(
        503,
        "INTEGRATION_ERROR",
        "Database unavailable",
        "The database cannot be reached; repeat after `Retry-After` seconds.",
    ),
    "outcome_unknown": _kind(
        503,
        "INTEGRATION_ERROR",
        "Outcome unknown",
        "The database went away while this was being committed: it may have been applied or not. Repeat it with the same "
        "Idempotency-Key, or read the instance and look into its history.",
    ),
    "internal_error": _kind(
        500,
        "INTEGRATION_ERROR",
        "Internal error",
        "The engine failed; nothing of this request was applied unless reading shows it. Report `details.incident`.",
    ),
}

#: Every code with its meaning.
KINDS: Final[Mapping[str, Kind]] = {**EDGE, **{reason.value: kind for reason, kind in REASONS.items()}}


class ApiError(Exception):
    """A request is refused; becomes a problem. The message says what to do next."""

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        details: Mapping[str, Any] | None = None,
        findings: Sequence[FindingView] = (),
        headers: Sequence[tuple[bytes, bytes]] = (),
        kind: Kind | None = None,
    ) -> None:
        self.kind = kind or KINDS[code]
        super().__init__(detail or self.kind.sentence)
        self.code = code
        self.detail = detail or self.kind.sentence
        self.details = dict(details or {})
        self.findings = tuple(findings)
        self.headers = tuple(headers)

    @classmethod
    def of(cls, rejection: Rejection) -> ApiError:
        """The interpreter's refusal as a problem."""
        return cls(rejection.reason.value, rejection.message, details=rejection.details)


_encode: Final = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode


def problem_body(error: ApiError, *, base: str, path: str) -> bytes:
    """The problem as JSON; `base` is where the API is mounted, `path` the request's."""
    return _encode(
        Problem(
            type=f"{base}/problems/{error.code}",
            title=error.kind.title,
            status=error.kind.status,
            detail=error.detail,
            error_code=error.kind.error_code,
            code=error.code,
            instance=path,
            details=error.details,
            findings=error.findings,
        )
    )
