"""What executors that call somebody's server share: what an answer or its absence means for the step."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from pliers_workflow.storage import canonical

from ...outbound import OutboundError
from ...outbound.client import check_url
from ..failures import StepFailure

if TYPE_CHECKING:
    from ...outbound import Received

#: Statuses after which another attempt may go better.
RETRYABLE: Final = frozenset({408, 421, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529})
#: Characters of an unexpected answer that are kept with the failure.
_EXCERPT: Final = 1_000
#: Seconds that anybody may ask us to wait.
_RETRY_AFTER_MAX: Final = 86_400.0


def failed(error: OutboundError) -> StepFailure:
    """A call that gave no answer, as the step's failure."""
    return StepFailure(error.code, error.message, retryable=error.retryable)


def check_status(received: Received, expected: tuple[int, ...] | None, place: str, *, now: datetime) -> None:
    """Raise `StepFailure` for a status that is not expected (2xx, where nothing is said)."""
    status = received.status
    if status in expected if expected else 200 <= status < 300:
        return
    raise StepFailure(
        f"HTTP_{status}",
        f"{place} answered with status {status}.",
        retryable=status in RETRYABLE,
        retry_after=retry_after(received.headers.get("retry-after"), now),
        details={"status": status, "body": text_of(received)[:_EXCERPT]},
    )


def retry_after(header: str | None, now: datetime) -> float | None:
    """
    Seconds that a `Retry-After` header asks for: a number, or an HTTP date.

    >>> at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    >>> retry_after("120", at), retry_after("Mon, 02 Mar 2026 09:00:30 GMT", at), retry_after("soon", at)
    (120.0, 30.0, None)
    """
    if header is None:
        return None
    header = header.strip()
    if header.isdecimal() and len(header) < 12:
        seconds = float(header)
    else:
        try:
            at = parsedate_to_datetime(header)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    return min(max(0.0, seconds), _RETRY_AFTER_MAX)


def body_of(received: Received) -> Any:
    """The body as expressions read it: JSON as values, text as text; what is neither as text, with its odd bytes replaced."""
    if not received.body:
        return None
    media_type = received.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json" or media_type.endswith("+json"):
        try:
            return canonical.decode(received.body)
        except ValueError:
            pass  # it says so, and is not: let the author see what came
    return text_of(received)


def text_of(received: Received) -> str:
    """The body as text, without what cannot be kept."""
    _, _, parameters = received.headers.get("content-type", "").partition(";")
    charset = "utf-8"
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip('"')
    try:
        text = received.body.decode(charset, "replace")
    except (LookupError, ValueError):  # of Python's codecs not all are charsets, and `idna` fails over its own limits
        text = received.body.decode("utf-8", "replace")
    # Some of them make halves of surrogate pairs, which no database holds.
    text = text.encode("utf-8", "replace").decode()
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def host_of(url: object) -> str | None:
    """Host and port of an address, for a circuit breaker; None for what is no address."""
    try:
        read = check_url(str(url))
    except OutboundError:
        return None
    port = read.port or (443 if read.scheme == "https" else 80)
    return f"{read.host}:{port}"
