"""Reading a request's body: bounded, exact, and refused here if the database could not hold it.

JSON numbers become int or Decimal, never float. A number is normalized to the form in which the database gives it back
(`1e3` is 1000), so that an instance is the same before and after it was stored. What `jsonb` cannot hold (NUL characters,
lone surrogates, numbers beyond its range), nesting beyond 100 and an object that names a key twice are refused with the
place, so that a batch of other people's commands never meets them.
"""

from __future__ import annotations

import codecs
import json
import re
from decimal import Decimal
from typing import Any, Final

import msgspec
from starlette.types import Receive

from pliers_workflow.runtime.storable import exact_number

from .allowed import fields_at, values_at
from .problems import ApiError, FindingView

#: levels of objects and lists
DEPTH_MAX: Final = 100
#: digits of a number before its point, and after it; jsonb could hold more, calculating with them would take too long
DIGITS_MAX: Final = 1_000

_JSON_TYPES: Final = re.compile(rb"application/([a-z0-9.+-]+\+)?json\s*(;.*)?", re.IGNORECASE)
_BYTE: Final = re.compile(r"\(byte (\d+)\)")
_UNKNOWN_FIELD: Final = re.compile(r"Object contains unknown field `(.*?)`", re.DOTALL)
_MISSING_FIELD: Final = re.compile(r"Object missing required field `(.*?)`")
_OTHER_VALUE: Final = re.compile(r"Invalid (?:enum )?value ")
_AT: Final = re.compile(r" - at `(?:key in )?\$?(.*)`$", re.DOTALL)
_INSTANT: Final = re.compile(r"RFC3339|timezone|`datetime")
_TYPES: Final = re.compile(r"`([a-z]+(?: \| [a-z]+)*)`")
#: what msgspec calls types by Python's names
_JSON_NAMES: Final = {
    "int": "integer",
    "str": "string",
    "float": "number",
    "decimal": "number",
    "bool": "boolean",
    "datetime": "date-time",
}
_PATH_PART: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


def _exact(number: str) -> int | Decimal:
    """A number with a point or an exponent, in the form in which `jsonb` gives it back."""
    try:
        return exact_number(number)
    except ValueError:
        raise ApiError(
            "unstorable_value",
            f"The number {number[:40]}{'…' if len(number) > 40 else ''} is out of range (more than {DIGITS_MAX} digits); "
            "send it as text.",
            findings=[
                FindingView("", "number_out_of_range", f"a number has more than {DIGITS_MAX} digits", "send it as text")
            ],
        ) from None


_decode_any: Final = msgspec.json.Decoder(float_hook=_exact).decode


def decoder(type: Any) -> msgspec.json.Decoder[Any]:
    """A decoder of JSON into `type` with exact numbers."""
    return msgspec.json.Decoder(type, float_hook=_exact)


async def read_body(content_length: bytes | None, receive: Receive, size_max: int) -> bytes:
    """
    The request's body, at most `size_max` bytes.

    Raises ApiError `body_too_large` before reading when the request says so itself, else as soon as it shows.
    """
    if content_length is not None:
        if not content_length.isdigit():
            raise ApiError("invalid_header", "`Content-Length` must be a number of bytes.")
        if len(content_length) > 12 or int(content_length) > size_max:
            raise _too_large(size_max)
    message = await receive()
    body: bytes = message.get("body", b"")
    size = len(body)
    if message.get("more_body", False):
        parts = [body]
        while message.get("more_body", False):
            if size > size_max:
                raise _too_large(size_max)
            message = await receive()
            part: bytes = message.get("body", b"")
            size += len(part)
            parts.append(part)
        body = b"".join(parts)
    if message["type"] == "http.disconnect":
        raise ApiError("malformed_json", "The connection ended before the body did; send it again.")
    if size > size_max:
        raise _too_large(size_max)
    return body


def _too_large(size_max: int) -> ApiError:
    return ApiError(
        "body_too_large",
        f"A request body may have {size_max:,} bytes at most; send less, or in parts.",
        headers=[(b"connection", b"close")],
    )


def check_media_type(content_type: bytes | None) -> None:
    """Raise ApiError `unsupported_media_type` unless this names JSON; `application/merge-patch+json` and the like do."""
    if content_type is None or not _JSON_TYPES.fullmatch(content_type.strip()):
        raise ApiError("unsupported_media_type")


def decode(body: bytes, into: msgspec.json.Decoder[Any]) -> Any:
    """
    The body as the type of the decoder `into`.

    Raises ApiError `malformed_json` with line and column, `unstorable_value` or `invalid_body` with the pointer.
    """
    try:
        value = _decode_any(body)
    except msgspec.ValidationError:  # an integer of thousands of digits
        raise ApiError("unstorable_value", f"A number has more than {DIGITS_MAX} digits; send it as text.") from None
    except msgspec.DecodeError as error:
        raise _malformed(body, error) from None
    except UnicodeDecodeError:
        raise ApiError("malformed_json", _not_utf8(body)) from None
    except RecursionError:
        raise _too_deep() from None
    _check_storable(value, body)
    try:
        return msgspec.convert(value, into.type)
    except msgspec.ValidationError as error:
        raise invalid("invalid_body", str(error), into.type, value) from None


def _check_storable(value: Any, body: bytes) -> None:
    """Raise ApiError when the database could not hold this, or when an object names a key twice."""
    # A NUL can only come as an escape: ruled out by a glance at the bytes.
    colons = _colons(value, b"\\u0000" in body, 0)
    if colons < 0:
        raise _located(value, "")
    # Every key brings one colon, and every colon inside a text one more. Where the sum differs, or where an escape may
    # hide a colon, the slow way finds out whether a key stands twice.
    if colons != body.count(b":") or b"\\u003a" in body or b"\\u003A" in body:
        _refuse_duplicate_keys(body)


def _colons(value: Any, nul: bool, depth: int) -> int:
    """How many colons the text of this value has; -1 when there is something in it that cannot be stored."""
    kind = type(value)
    if kind is str:
        return -1 if nul and "\0" in value else value.count(":")
    if kind is int:
        return 0 if -_LONG < value < _LONG else -1
    if kind is dict:
        if depth >= DEPTH_MAX:
            return -1
        colons = len(value)
        for key, item in value.items():
            if nul and "\0" in key:
                return -1
            colons += key.count(":")
            if type(item) is str:
                if nul and "\0" in item:
                    return -1
                colons += item.count(":")
            else:
                inside = _colons(item, nul, depth + 1)
                if inside < 0:
                    return -1
                colons += inside
        return colons
    if kind is list:
        if depth >= DEPTH_MAX:
            return -1
        colons = 0
        for item in value:
            inside = _colons(item, nul, depth + 1)
            if inside < 0:
                return -1
            colons += inside
        return colons
    return 0


_LONG: Final = 10**DIGITS_MAX


def _located(value: Any, pointer: str, depth: int = 0) -> ApiError:
    """The refusal of what `_colons` has found, with its place."""
    kind = type(value)
    if kind is str and "\0" in value:
        return _unstorable(pointer, "nul_character", "contains a NUL character", "remove it")
    if kind is int and not -_LONG < value < _LONG:
        return _unstorable(pointer, "number_out_of_range", f"has more than {DIGITS_MAX} digits", "send it as text")
    if kind is dict or kind is list:
        if depth >= DEPTH_MAX:
            return _too_deep()
        for key, item in value.items() if kind is dict else enumerate(value):
            if "\0" in str(key):
                return _unstorable(pointer, "nul_character", "has a key with a NUL character", "rename it")
            if _colons(item, True, depth + 1) < 0:
                return _located(item, f"{pointer}/{_escaped(str(key))}", depth + 1)
    raise AssertionError("nothing unstorable is in here")


def _refuse_duplicate_keys(body: bytes) -> None:
    def pairs(items: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in items:
            if key in seen:
                raise _unstorable(
                    None, "duplicate_key", f"names the key {key[:100]!r} twice in one object", "keep one of them"
                )
            seen.add(key)

    try:
        json.loads(body, object_pairs_hook=pairs, parse_int=_nothing, parse_float=_nothing)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # msgspec has read it; the two differ in nothing that should be let through
        raise ApiError("malformed_json", f"The body is not valid JSON: {error}.") from None


def _nothing(_: str) -> None:
    return None


def _unstorable(pointer: str | None, code: str, what: str, hint: str) -> ApiError:
    place = f"the value at {pointer}" if pointer else "the body"
    finding = FindingView(pointer or "", code, f"{place} {what}", hint)
    return ApiError("unstorable_value", f"{place[0].upper()}{place[1:]} {what}; {hint}.", findings=[finding])


def _too_deep() -> ApiError:
    finding = FindingView("", "too_deep", f"the body is nested deeper than {DEPTH_MAX} levels", "flatten it")
    return ApiError(
        "unstorable_value", f"The body is nested deeper than {DEPTH_MAX} levels; flatten it.", findings=[finding]
    )


def _malformed(body: bytes, error: msgspec.DecodeError) -> ApiError:
    message = str(error)
    found = _BYTE.search(message)
    position = min(int(found.group(1)), len(body)) if found else len(body)
    line = body.count(b"\n", 0, position) + 1
    column = position - (body.rfind(b"\n", 0, position) + 1) + 1
    what = _BYTE.sub("", message.removeprefix("JSON is malformed: ")).strip()
    if body.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)):
        what = "it begins with a byte order mark; send UTF-8 without one"
    if what == "Input data was truncated":
        what = "it ends too early, or a surrogate pair is broken"
    return ApiError(
        "malformed_json",
        f"The body is not valid JSON at line {line}, column {column}: {what}.",
        details={"line": line, "column": column},
    )


def _not_utf8(body: bytes) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f"The body is not UTF-8 at byte {error.start}; send JSON in UTF-8."
    return "The body is not UTF-8; send JSON in UTF-8."


def invalid(code: str, message: str, type: Any, body: Any = None) -> ApiError:
    """A msgspec validation error of a `body` as a problem with a pointer and a hint."""
    place = _AT.search(message)
    text = message[: place.start()] if place else message
    path = _path(place.group(1)) if place else []
    pointer = "".join(f"/{_escaped(shorten(name))}" for name in path)
    hint: str | None = None
    finding_code = "invalid_value"
    if unknown := _UNKNOWN_FIELD.match(text):
        pointer = f"{pointer}/{_escaped(shorten(unknown.group(1)))}"
        finding_code = "unknown_field"
        fields = fields_at(type, path, body)
        hint = f"the fields are: {', '.join(fields)}" if fields else "remove it, or check its spelling"
    elif _OTHER_VALUE.match(text):
        values = values_at(type, path, body)
        hint = f"use one of: {', '.join(values)}" if values else None
    elif missing := _MISSING_FIELD.match(text):
        pointer = f"{pointer}/{_escaped(missing.group(1))}"
        finding_code = "missing_field"
        values = values_at(type, [*path, missing.group(1)], body)
        hint = f"add it, one of: {', '.join(values)}" if values else "add it"
    elif _INSTANT.search(text):
        hint = "write it as 2026-03-02T09:00:00Z"
    if text.startswith("Expected "):
        text = _TYPES.sub(_as_json_has_it, text)
    text = shorten(text, 300)
    sentence = f"{text} at {pointer or 'the top'}"
    return ApiError(
        code,
        f"{sentence}{f'; {hint}' if hint else '; correct it'}.",
        findings=[FindingView(pointer, finding_code, text, hint)],
    )


def _path(place: str) -> list[str]:
    return [name or index for name, index in _PATH_PART.findall(place)]


def _as_json_has_it(types: re.Match[str]) -> str:
    names = dict.fromkeys(_JSON_NAMES.get(name, name) for name in types.group(1).split(" | "))
    return f"`{' | '.join(names)}`"


def shorten(text: str, length_max: int = 200) -> str:
    """What somebody has sent, as much of it as a sentence can hold."""
    return text if len(text) <= length_max else f"{text[:length_max]}…"


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key
