"""Steps of type `http`: one request, whose answer is the output.

Every request carries `Idempotency-Key`, the attempt's id, unless the step sets that header itself: a server that knows it
does the work once, even if we must ask twice. Redirects are answers; `runtime.outbound` says where may be called at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pliers_workflow.storage import canonical

from ... import tracing
from ...outbound import OutboundError
from ..failures import StepFailure
from . import calls

if TYPE_CHECKING:
    from ...outbound import Outbound
    from ..claims import ClaimedStep

#: Of an answer, what is nobody's business but the connection's, or a secret.
_HEADERS_DROPPED: Final = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-encoding", "content-length", "set-cookie", "trailer"}
)
_HEADERS_MAX: Final = 100
_HEADER_LENGTH_MAX: Final = 4_000


class HttpExecutor:
    """See the module."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound

    def serves(self, queue: str) -> bool:
        """Every node can."""
        return queue == "http"

    def target(self, step: ClaimedStep) -> str | None:
        """Host and port that are called."""
        return calls.host_of(_configuration(step).get("url"))

    async def run(self, step: ClaimedStep) -> dict[str, Any]:
        """Send the request; `{status, headers, body}`."""
        configuration = _configuration(step)
        headers = {str(name): str(value) for name, value in (configuration.get("headers") or {}).items()}
        names = {name.lower() for name in headers}
        content: bytes | None = None
        if "body" in configuration:
            content = canonical.encode_loose(configuration["body"])
            if "content-type" not in names:
                headers["Content-Type"] = "application/json"
        if "idempotency-key" not in names:
            headers["Idempotency-Key"] = step.attempt_id
        if "accept" not in names:
            headers["Accept"] = "application/json, */*;q=0.5"
        headers |= tracing.headers(step.payload.trace, headers)
        url = str(configuration.get("url", ""))
        timeout_ms = step.payload.timeout_ms
        try:
            received = await self._outbound.send(
                str(configuration.get("method", "GET")), url, headers=headers, content=content,
                timeout=None if timeout_ms is None else timeout_ms / 1000,
            )  # fmt: skip
        except OutboundError as error:
            raise calls.failed(error) from error
        expected = configuration.get("expectedStatus")
        calls.check_status(
            received, tuple(expected) if expected else None, calls.host_of(url) or "The server", now=datetime.now(UTC)
        )
        kept = [
            (name, value[:_HEADER_LENGTH_MAX].replace("\0", ""))
            for name, value in received.headers.items()
            if name not in _HEADERS_DROPPED
        ]
        return {"status": received.status, "headers": dict(kept[:_HEADERS_MAX]), "body": calls.body_of(received)}

    async def close(self) -> None:
        """The connections are the node's."""


def _configuration(step: ClaimedStep) -> Mapping[str, Any]:
    configuration = step.payload.run.get("configuration")
    if not isinstance(configuration, Mapping):
        raise StepFailure("CONFIGURATION_INVALID", "The step has no configuration.", retryable=False)
    return configuration
