"""What a request says in its query string and its headers, beside the body."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from .bodies import invalid
from .endpoint import invalid_parameter
from .problems import ApiError

_KEY_FORM: Final = re.compile(rb"[\x21-\x7e]{1,255}")
_ETAG_FORM: Final = re.compile(rb'"([0-9]{1,18})"')


class _NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    pass


def read_query(into: type[msgspec.Struct] | None, query_string: bytes) -> Any:
    """The query string as this type; None: there must be none. Raises ApiError for what is not understood."""
    into = into or _NoQuery
    if not query_string:
        return into()
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, max_num_fields=50, errors="strict")
    except (UnicodeDecodeError, ValueError):
        raise ApiError(
            "invalid_parameter", "The query string is not percent-encoded UTF-8, or has over 50 fields."
        ) from None
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise invalid_parameter(name[:100], "is given twice", "give it once")
            seen.add(name)
    for name, value in pairs:
        if "\0" in name or "\0" in value:
            raise invalid_parameter(name.replace("\0", "")[:100], "contains a NUL character", "remove it")
    fields = into.__struct_encode_fields__
    for name in values:
        if name not in fields:
            known = ", ".join(fields)
            raise invalid_parameter(
                name[:100], "is unknown here", f"known: {known}" if known else "there are none here"
            )
    try:
        return msgspec.convert(values, into, strict=False)
    except msgspec.ValidationError as error:
        problem = invalid("invalid_parameter", str(error), into)
        pointer = problem.findings[0].pointer.strip("/")
        raise invalid_parameter(pointer, f"is not valid: {problem.findings[0].message}") from None


def revision(if_match: bytes) -> int | None:
    """The revision that `If-Match` names; None for `*`, which any has."""
    value = if_match.strip()
    if value == b"*":
        return None
    if found := _ETAG_FORM.fullmatch(value):
        return int(found.group(1))
    if value.startswith(b'W/"'):
        raise ApiError("precondition_failed", "`If-Match` compares strong tags only; send the ETag as it was given.")
    raise ApiError("invalid_header", '`If-Match` must be one ETag as this API gives them, such as "7", or *.')


def idempotency_key(headers: dict[bytes, bytes]) -> str | None:
    """The `Idempotency-Key`; None where there is none."""
    raw = headers.get(b"idempotency-key")
    if raw is None:
        return None
    if not _KEY_FORM.fullmatch(raw):
        raise ApiError("invalid_header", "`Idempotency-Key` must be 1 to 255 visible ASCII characters, no blanks.")
    return raw.decode("ascii")
