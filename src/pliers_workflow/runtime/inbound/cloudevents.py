"""CloudEvents 1.0 as they come in: read strictly, every mistake named with its place.

An event comes *structured* (one JSON object with all attributes), *binary* (attributes beside a body, as HTTP headers or
a broker's message headers) or in a *batch*. Whatever the form, what is read is an `Incoming`: the event as expressions
see it, and what the sender asks of us, which are extensions of ours:

- `ttlseconds`: how long to keep the event for an instance that is not waiting for it yet;
- `workflowdepth`: how many events of the engine itself led to this one, so that workflows that start each other end.

Nothing here knows where an event came from, and nothing is kept of one that is not right as a whole.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from pliers_workflow.definition.findings import Finding
from pliers_workflow.interpreter.commands import InboundEvent, Trace
from pliers_workflow.storage import canonical

from .. import tracing
from ..errors import InvalidError
from ..storable import find_unstorable

#: media types of the structured form
EVENT_TYPE: Final = "application/cloudevents+json"
BATCH_TYPE: Final = "application/cloudevents-batch+json"

#: events in one batch
BATCH_MAX: Final = 500
#: the longest time to live that an event may ask for
TTL_SECONDS_MAX: Final = 30 * 86_400
#: bytes of an event as JSON; it may become the data of an instance, which has the same bound
BYTES_MAX: Final = 256_000

_SPEC_VERSION: Final = "1.0"
_REQUIRED: Final = ("specversion", "id", "source", "type")
#: characters of an attribute
_LENGTHS: Final = {"id": 500, "source": 2_000, "type": 255, "subject": 1_000}
_EXTENSION_LENGTH: Final = 4_000
_EXTENSIONS_MAX: Final = 50
_NAME: Final = re.compile(r"[a-z0-9]{1,50}")
#: what a text of the standard may not hold (section 3.2), and halves of surrogate pairs
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_URI_REFERENCE: Final = re.compile(r"[^\s<>\"{}|\\^`]+")
_JSON: Final = re.compile(r"(?:[a-z0-9.+-]+/(?:[a-z0-9.-]+\+)?json|text/json)\s*(?:;.*)?", re.IGNORECASE)
_TEXT: Final = re.compile(r"text/.*", re.IGNORECASE)
_CHARSET: Final = re.compile(r""";\s*charset\s*=\s*"?([^\s;"]+)""", re.IGNORECASE)
#: charsets in which texts are read; Python knows many codecs more, and not all of them are charsets
_CHARSETS: Final = re.compile(r"us-ascii|utf-?8|utf-16(?:le|be)?|iso-8859-\d{1,2}|windows-125\d", re.IGNORECASE)
#: attributes of the standard that are kept as extensions are, and are texts (section 3.1.2)
_TEXTS: Final = ("datacontenttype", "dataschema")
#: how an integer stands in the binary form
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,9}")
_INT32: Final = 2**31


class Incoming(Struct, frozen=True):
    """An event as it came, with what its sender asks of us."""

    event: InboundEvent
    #: seconds; None: the installation's default
    ttl: int | None = None
    depth: int = 0
    #: None: what the event itself names, or the request it came with
    trace: Trace | None = None

    @property
    def belongs_to(self) -> Trace | None:
        """The trace that all belongs to that it leads to (CloudEvents' extension for distributed tracing names it)."""
        named = self.event.attributes.get("traceparent")
        if self.trace is None and isinstance(named, str):
            state = self.event.attributes.get("tracestate")
            found = tracing.read(named.encode(), state.encode() if isinstance(state, str) else None)
            if found is not None:
                return found
        return self.trace or tracing.current()


def structured(value: object) -> Incoming:
    """
    Read an event that is one JSON object; raises InvalidError with all findings.

    >>> structured({"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.paid"}).event.type
    'order.paid'
    """
    reader = _Reader("")
    incoming = reader.structured(value)
    reader.finish()
    assert incoming is not None, "without an event there is a finding"
    return incoming


def batch(value: object) -> tuple[Incoming, ...]:
    """Read a batch; raises InvalidError with the findings of all its events, and then none of them counts."""
    reader = _Reader("")
    if not isinstance(value, list):
        reader.wrong("", "wrong_type", "A batch is a JSON array of events.")
    elif len(value) > BATCH_MAX:
        reader.wrong("", "out_of_range", f"A batch may have {BATCH_MAX} events; this one has {len(value)}.")
    events: list[Incoming] = []
    for place, each in enumerate(value if isinstance(value, list) and not reader.findings else ()):
        reader.at = f"/{place}"
        incoming = reader.structured(each)
        if incoming is not None:
            events.append(incoming)
    reader.finish()
    return tuple(events)


def binary(
    attributes: Mapping[str, str], content_type: str | None, body: bytes, decode: Callable[[bytes], Any]
) -> Incoming:
    """
    Read an event whose attributes stand beside its body; they come without their prefix (`ce-`), in small letters.

    A body of a JSON type becomes the data it describes (`decode` reads it and raises what it must), a text stays a text
    (by its `charset`), and anything else is given in base64. Raises InvalidError with all findings.
    """
    reader = _Reader("")
    given: dict[str, Any] = dict(attributes)
    content_type = content_type or None  # some clients of brokers send an empty one where they have none
    for name in ("data", "data_base64", "datacontenttype"):
        if name in given:
            reader.wrong(f"/{name}", "unknown_field", f"`{name}` is no attribute of the binary form.")
            del given[name]
    for name in ("ttlseconds", "workflowdepth"):
        text = given.get(name)
        if isinstance(text, str) and _INTEGER.fullmatch(text):
            given[name] = int(text)
    if content_type is not None:
        given["datacontenttype"] = content_type
    if body:
        if content_type is None or _JSON.fullmatch(content_type.strip()):
            given["data"] = decode(body)
        elif _TEXT.fullmatch(content_type.strip()) and (text := _text(body, content_type)) is not None:
            given["data"] = text
        else:
            given["data"] = b64encode(body).decode()
    incoming = reader.structured(given)
    reader.finish()
    assert incoming is not None, "without an event there is a finding"
    return incoming


def _text(body: bytes, content_type: str) -> str | None:
    """
    A body of a type of text, in the charset that the type names; None where it is not in that, or we do not know it.

    >>> _text("Größe".encode("latin-1"), "text/plain; charset=ISO-8859-1"), _text(b"a", "text/plain; charset=rot13")
    ('Größe', None)
    """
    named = _CHARSET.search(content_type)
    charset = named[1] if named is not None else "utf-8"
    if not _CHARSETS.fullmatch(charset):
        return None
    try:
        return body.decode(charset)
    except (UnicodeDecodeError, LookupError):
        return None


class _Reader:
    """Reads events and gathers what is wrong with them."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.findings: list[Finding] = []

    def wrong(self, pointer: str, code: str, message: str, hint: str | None = None) -> None:
        self.findings.append(Finding(self.at + pointer, code, message, hint))

    def finish(self) -> None:
        """Raise what was found."""
        if self.findings:
            first = self.findings[0]
            raise InvalidError("invalid_event", f"This is no event: {first.message}", findings=self.findings)

    def structured(self, value: object) -> Incoming | None:
        if not isinstance(value, dict):
            self.wrong("", "wrong_type", "An event is a JSON object.")
            return None
        before = len(self.findings)
        # An attribute that is null is one that is not there (JSON format, section 2.2).
        given = {name: each for name, each in value.items() if each is not None or name == "data"}
        for name in _REQUIRED:
            if name not in given:
                self.wrong(f"/{name}", "missing_field", f"An event needs `{name}`.", "add it")
        if given.get("specversion", _SPEC_VERSION) != _SPEC_VERSION:
            self.wrong("/specversion", "unknown_value", "Only version 1.0 of CloudEvents is understood.")
        required = {name: self._attribute(given, name) for name in ("id", "source", "type")}
        subject = self._attribute(given, "subject")
        if required["source"] and not _URI_REFERENCE.fullmatch(required["source"]):
            self.wrong("/source", "bad_format", "`source` is a URI reference, without blanks.")
        time = self._time(given.get("time"))
        data = self._data(given)
        if (unstorable := find_unstorable({"data": data})) is not None:
            self.wrong(unstorable.pointer, unstorable.code, unstorable.message)
        others = self._others(given)
        ttl, depth = self._seconds(given.get("ttlseconds")), self._depth(given.get("workflowdepth"))
        if len(self.findings) > before:
            return None
        event = InboundEvent(
            id=required["id"] or "",
            source=required["source"] or "",
            type=required["type"] or "",
            subject=subject,
            time=time,
            data=data,
            attributes=others,
        )
        size = len(canonical.encode_loose(event))
        if size > BYTES_MAX:
            self.wrong("", "out_of_range", f"An event may have {BYTES_MAX:,} bytes as JSON; this one has {size:,}.")
            return None
        return Incoming(event, ttl, depth)

    def _attribute(self, given: Mapping[str, Any], name: str) -> str | None:
        value = given.get(name)
        if name not in given:
            return None
        if not isinstance(value, str):
            self.wrong(f"/{name}", "wrong_type", f"`{name}` is a text.")
        elif not value:
            self.wrong(f"/{name}", "out_of_range", f"`{name}` may not be empty.")
        elif len(value) > _LENGTHS[name]:
            self.wrong(f"/{name}", "out_of_range", f"`{name}` may have {_LENGTHS[name]:,} characters.")
        elif _CONTROL.search(value):
            self.wrong(f"/{name}", "bad_text", f"`{name}` holds a character that no attribute may hold.")
        elif name == "type" and ("*" in value or any(char.isspace() for char in value)):
            self.wrong("/type", "bad_format", "`type` may hold no blank and no `*`: triggers name types by patterns.")
        else:
            return value
        return None

    def _time(self, value: object) -> datetime | None:
        if value is None:
            return None
        if isinstance(value, str):
            try:
                instant = msgspec.convert(value, datetime)
                if instant.tzinfo is not None:
                    return instant.astimezone(UTC)
            except (msgspec.ValidationError, OverflowError):
                pass
        hint = "for example 2026-03-02T09:00:00Z"
        self.wrong("/time", "bad_format", "`time` is an instant of RFC 3339 with its zone.", hint)
        return None

    def _data(self, given: Mapping[str, Any]) -> Any:
        encoded = given.get("data_base64")
        if encoded is None:
            return given.get("data")
        if given.get("data") is not None:
            self.wrong("/data_base64", "misplaced", "An event has `data` or `data_base64`, not both.")
        elif not isinstance(encoded, str) or not _is_base64(encoded):
            self.wrong("/data_base64", "bad_format", "`data_base64` is a text in base64.")
        return encoded

    def _others(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """`datacontenttype`, `dataschema` and the extensions."""
        known = {*_REQUIRED, "subject", "time", "data", "data_base64", "ttlseconds", "workflowdepth"}
        others = {name: value for name, value in given.items() if name not in known}
        if len(others) > _EXTENSIONS_MAX:
            self.wrong("", "out_of_range", f"An event may have {_EXTENSIONS_MAX} further attributes.")
            return {}
        for name, value in others.items():
            at = f"/{name.replace('~', '~0').replace('/', '~1')}"
            if not _NAME.fullmatch(name):
                message = f"{name[:100]!r} is no name of an attribute: small letters and digits, at most 50."
                self.wrong(at, "unknown_field", message, "put it into `data`")
            elif name in _TEXTS and (not isinstance(value, str) or not value):
                self.wrong(at, "wrong_type", f"`{name}` is a text, and not empty.")
            elif isinstance(value, str):
                if len(value) > _EXTENSION_LENGTH or _CONTROL.search(value):
                    self.wrong(at, "bad_text", f"`{name}` is too long, or holds a character no attribute may hold.")
            elif not isinstance(value, bool) and not (isinstance(value, int) and -_INT32 <= value < _INT32):
                message = f"`{name}` is a text, true or false, or a whole number of 32 bits."
                self.wrong(at, "wrong_type", message, "put everything else into `data`")
        return others

    def _seconds(self, value: object) -> int | None:
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TTL_SECONDS_MAX:
            return value
        self.wrong("/ttlseconds", "out_of_range", f"`ttlseconds` is a whole number from 0 to {TTL_SECONDS_MAX:,}.")
        return None

    def _depth(self, value: object) -> int:
        if value is None:
            return 0
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _INT32:
            return value
        self.wrong("/workflowdepth", "out_of_range", "`workflowdepth` is a whole number, 0 or more.")
        return 0


_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def _is_base64(text: str) -> bool:
    return _BASE64.fullmatch(text) is not None
