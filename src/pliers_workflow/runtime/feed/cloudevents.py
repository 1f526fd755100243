"""Events as the world gets them: CloudEvents 1.0, structured, in JSON.

`id` is the event's own, for ever: instance, seq and index. `source` is the tenant at this engine's address, `subject` the
instance. Extensions say which workflow it was (`workflowname`, `workflowversion`), where in the instance's history
(`workflowseq`), and by what to partition (`partitionkey`, the instance), and to what trace the command belonged that made it (`traceparent`,
`tracestate`: the extension for distributed tracing). An event is made and encoded once for all who
are told of it on a node: once without what people have entered, and once with it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType, structs

from .published import RULES, is_told, said

if TYPE_CHECKING:
    from .envelope import Envelope

#: media type of one event in structured mode
MEDIA_TYPE: Final = "application/cloudevents+json"

encode: Final = msgspec.json.Encoder(decimal_format="number").encode


class CloudEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event (CloudEvents 1.0.2, JSON format)."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: str
    partitionkey: str
    workflowname: str | None = None
    workflowversion: str | None = None
    workflowseq: int
    traceparent: str | UnsetType = UNSET
    tracestate: str | UnsetType = UNSET
    data: Any = UNSET


class EventMaker:
    """Makes CloudEvents of envelopes; `public_url` is where the world reaches this engine (empty: sources are relative)."""

    def __init__(self, public_url: str) -> None:
        self._base = public_url.rstrip("/")

    def source(self, tenant_id: str) -> str:
        """What stands for a tenant of this engine."""
        return f"{self._base}/api/v1/tenants/{tenant_id}"

    def event(self, envelope: Envelope, *, with_data: bool) -> CloudEvent | None:
        """The event, or None where the world is not told of it."""
        if not is_told(envelope.type):
            return None
        make = self._with_data if with_data else self._without
        return cast(CloudEvent, envelope.made("event with data" if with_data else "event", make))

    def encoded(self, envelope: Envelope, *, with_data: bool) -> bytes:
        """The event in JSON; only for one that the world is told of."""

        def make(_: Envelope) -> bytes:
            event = self.event(envelope, with_data=with_data)
            assert event is not None, "it is not told of"
            return encode(event)

        return cast(bytes, envelope.made("bytes with data" if with_data else "bytes", make))

    def seen(self, envelope: Envelope) -> dict[str, Any]:
        """The event as conditions see it, with its data; only for one that the world is told of."""
        return cast("dict[str, Any]", envelope.made("seen", self._seen))

    def _seen(self, envelope: Envelope) -> dict[str, Any]:
        event = self.event(envelope, with_data=True)
        assert event is not None, "it is not told of"
        return {name: value for name, value in structs.asdict(event).items() if value is not UNSET}

    def _without(self, envelope: Envelope) -> CloudEvent:
        return self._made(envelope, with_data=False)

    def _with_data(self, envelope: Envelope) -> CloudEvent:
        return self._made(envelope, with_data=True)

    def _made(self, envelope: Envelope, *, with_data: bool) -> CloudEvent:
        row, trace = envelope.row, envelope.row.record.command.trace
        type_, subject = envelope.type, row.instance_id
        data: Any | UnsetType
        if RULES[type_].custom:
            emitted: Any = envelope.event
            type_, subject, data = emitted.event_type, emitted.subject or subject, emitted.data
        else:
            data = said(envelope, with_data=with_data)
        return CloudEvent(
            specversion="1.0",
            id=envelope.id,
            source=self.source(row.tenant_id),
            type=type_,
            subject=subject,
            time=envelope.at,
            datacontenttype="application/json",
            partitionkey=row.instance_id,
            workflowname=row.definition_name,
            workflowversion=row.version,
            workflowseq=row.seq,
            traceparent=trace.parent if trace else UNSET,
            tracestate=trace.state if trace and trace.state else UNSET,
            data=data,
        )
