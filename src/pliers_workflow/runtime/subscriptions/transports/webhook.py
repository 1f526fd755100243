"""Webhooks: one POST for each event, signed as Standard Webhooks has it.

`webhook-id` is the same whenever the event is sent again, so a receiver that remembers ids takes each event once. Any
status of 2xx takes the event, whatever becomes of the body after it; 410 asks never to be called again; everything else,
redirects included, is a failure.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from ... import tracing
from ...feed.cloudevents import MEDIA_TYPE
from ...outbound.errors import OutboundError
from ...outbound.signing import webhook_headers
from .port import Message, TransportError

if TYPE_CHECKING:
    from ...outbound import Outbound, Received
    from ..sinks import SigningSecret, WebhookSink

#: seconds that a receiver may make us wait
RETRY_AFTER_MAX: Final = 3600.0


class WebhookTransport:
    """See the module."""

    #: an endpoint is called once at a time by each lane
    parallel = 1

    def __init__(
        self, sink: WebhookSink, secrets: Sequence[SigningSecret], outbound: Outbound, *, timeout: float
    ) -> None:
        self._sink = sink
        self._secrets = secrets
        self._outbound = outbound
        self._timeout = timeout

    async def publish(self, message: Message) -> None:
        """Send one event."""
        now = datetime.now(UTC)
        keys = [each.secret for each in self._secrets if each.until is None or each.until > now]
        headers = {
            **self._sink.headers,
            **tracing.headers(message.trace, self._sink.headers),
            "content-type": f"{MEDIA_TYPE}; charset=utf-8",
            **webhook_headers(keys, message.key, int(time.time()), message.body),
        }
        try:
            received = await self._outbound.send(
                "POST", self._sink.url, headers=headers, content=message.body, timeout=self._timeout, status_only=True
            )
        except OutboundError as error:
            raise TransportError(error.message) from None
        if not 200 <= received.status < 300:
            raise TransportError(
                _refused(received), retry_after=_retry_after(received, now), gone=received.status == 410
            )

    async def close(self) -> None:
        """Connections are the node's."""


def _refused(received: Received) -> str:
    told = received.body[:200].decode("utf-8", "replace").replace("\0", " ").strip()
    return f"It answered {received.status}" + (f": {told}" if told else ".")


def _retry_after(received: Received, now: datetime) -> float | None:
    """How long the receiver asks us to wait, where its status makes that meaningful."""
    value = received.headers.get("retry-after")
    if value is None or received.status not in (429, 502, 503, 504):
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
            # The oldest of HTTP's three forms names no zone, and means this one.
            seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX) if seconds == seconds else None
