"""A broker's message read as events: CloudEvents in their three forms, or any JSON by the source's mapping. Pure.

The form is told by the content type, by attributes beside the body (each broker's binding has a prefix for them), or by the
body itself: a JSON object with a `specversion` is an event, a list of such a batch. Everything else is JSON for the mapping,
where there is one. Whatever is no event is a BadMessage, with the reason.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..errors import InvalidError
from ..inbound import cloudevents
from ..inbound.cloudevents import Incoming
from ..storable import DEPTH_MAX, DIGITS_MAX, exact_number
from .plain import BadMessage, CompiledMapping
from .readers.port import BrokerMessage

#: bytes of a message; a batch may have so many
SIZE_MAX: Final = 4_194_304

_decode: Final = msgspec.json.Decoder(float_hook=exact_number).decode


def read(message: BrokerMessage, mapping: CompiledMapping | None) -> tuple[Incoming, ...]:
    """The events of a message: one, those of a batch, or none for an empty batch. Raises BadMessage."""
    if len(message.body) > SIZE_MAX:
        raise BadMessage(f"A message may have {SIZE_MAX:,} bytes; this one has {len(message.body):,}.")
    try:
        return _read(message, mapping)
    except InvalidError as error:
        raise BadMessage(_told(error)) from None


def _read(message: BrokerMessage, mapping: CompiledMapping | None) -> tuple[Incoming, ...]:
    media_type = (message.content_type or "").partition(";")[0].strip().lower()
    if media_type == cloudevents.BATCH_TYPE:
        return cloudevents.batch(_json(message.body))
    if media_type == cloudevents.EVENT_TYPE:
        return (cloudevents.structured(_json(message.body)),)
    if message.attributes is not None:
        return (cloudevents.binary(message.attributes, message.content_type, message.body, _json),)
    value = _json(message.body)
    if _is_event(value):
        return (cloudevents.structured(value),)
    if isinstance(value, list) and value and all(map(_is_event, value)):
        return cloudevents.batch(value)
    if mapping is None:
        raise BadMessage("It is no CloudEvent, and the source has no mapping for other messages.")
    return (cloudevents.structured(mapping.event(message, value)),)


def _is_event(value: object) -> bool:
    return isinstance(value, dict) and "specversion" in value


def _json(body: bytes) -> Any:
    try:
        return _decode(body)
    except UnicodeDecodeError:
        raise BadMessage("It is no UTF-8, so no JSON.") from None
    except RecursionError:
        raise BadMessage(f"It is nested deeper than {DEPTH_MAX} levels.") from None
    except msgspec.ValidationError:
        raise BadMessage(f"A number has more than {DIGITS_MAX} digits.") from None
    except ValueError as error:  # DecodeError is one
        raise BadMessage(f"It is no JSON: {error}.") from None


def _told(error: InvalidError) -> str:
    if not error.findings:
        return error.message
    first = error.findings[0]
    return f"{error.message} ({first.pointer or '/'})"
