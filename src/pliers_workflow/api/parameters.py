"""What a request says in its query string and its headers, beside the body.

An ETag is the revision and a digest of the answer: `"7-5be0cd19137e"`. The digest is what makes another answer another tag:
what one may do with an instance depends on who asks, how a subscription is doing is no change of it, and neither counts in
its revision. `If-Match` is about lost updates, which the revision alone tells of; so it hears that part only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from .bodies import invalid
from .endpoint import invalid_parameter
from .problems import ApiError

_KEY_FORM: Final = re.compile(rb"[\x21-\x7e]{1,255}")
_ETAG_FORM: Final = re.compile(rb'"([0-9]{1,18})(?:-[0-9a-f]{12})?"')


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
        query = msgspec.convert(values, into, strict=False)
    except msgspec.ValidationError as error:
        problem = invalid("invalid_parameter", str(error), into)
        pointer = problem.findings[0].pointer.strip("/")
        raise invalid_parameter(pointer, f"is not valid: {problem.findings[0].message}") from None
    for name, attribute in zip(fields, into.__struct_fields__, strict=True):
        if name in values and getattr(query, attribute) is None:  # msgspec takes the word for the value
            raise invalid_parameter(name, "cannot be `null`", "leave it out")
        if isinstance(getattr(query, attribute), datetime) and ":" not in values.get(name, ":"):  # or a number for one
            raise invalid_parameter(name, "is not an instant", "write it as 2026-03-02T09:00:00Z")
    return query


def by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """
    Headers by name; those that come several times are one list (RFC 9110 section 5.3).

    So what has one value only is refused by its form, and nobody has to choose between two tokens or two keys:

    >>> by_name([(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")])
    {b'authorization': b'Bearer a, Bearer b'}
    """
    found = dict(headers)
    if len(found) < len(headers):
        found = {name: b", ".join([value for other, value in headers if other == name]) for name in found}
    return found


def etag(revision: int, body: bytes) -> bytes:
    """
    The tag of an answer.

    >>> etag(7, b"{}")
    b'"7-b4b8bf78e9ad"'
    """
    return b'"%d-%s"' % (revision, blake2b(body, digest_size=6).hexdigest().encode())


def names_tag(if_none_match: bytes | None, tag: bytes) -> bool:
    """
    Whether `If-None-Match` names this tag, in a list too, and weakened by a proxy that compresses (RFC 9110 section 13.1.2).

    >>> names_tag(b'"6-0123456789ab", W/"7-64e82d3cd7a8"', b'"7-64e82d3cd7a8"')
    True
    """
    if if_none_match is None:
        return False
    return any(one.strip().removeprefix(b"W/") in (tag, b"*") for one in if_none_match.split(b","))


def revision(if_match: bytes) -> int | None:
    """The revision that `If-Match` names; None for `*`, which any has."""
    value = if_match.strip()
    if value == b"*":
        return None
    if found := _ETAG_FORM.fullmatch(value):
        return int(found.group(1))
    if value.startswith(b'W/"'):
        raise ApiError("precondition_failed", "`If-Match` compares strong tags only; send the ETag as it was given.")
    raise ApiError(
        "invalid_header", '`If-Match` must be one ETag as this API gives them, its revision alone, such as "7", or *.'
    )


def idempotency_key(headers: dict[bytes, bytes]) -> str | None:
    """The `Idempotency-Key`; None where there is none."""
    raw = headers.get(b"idempotency-key")
    if raw is None:
        return None
    if not _KEY_FORM.fullmatch(raw):
        raise ApiError("invalid_header", "`Idempotency-Key` must be 1 to 255 visible ASCII characters, no blanks.")
    return raw.decode("ascii")
