"""Pages of a list: a slice, and an opaque cursor that says where the next one begins.

A cursor holds the sort key of the last row given (keyset pagination), never an offset: rows that come or go in between
move nothing. It is unsigned, so whoever takes one apart learns no more than the row they have already seen, and every
query that continues from it names its tenant all the same.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Struct

Row = TypeVar("Row")
Item = TypeVar("Item")

#: The most rows a page may have.
LIMIT_MAX = 500

#: what a `bigint` holds; a greater number is no sort key of ours, and the database would not take it
_BIGINT = range(-(2**63), 2**63)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_BAD = "the cursor is none of ours; begin the list anew, without a cursor"


class BadCursor(ValueError):
    """The cursor is none of ours; begin the list anew, without a cursor."""


class Page(Struct, Generic[Item], frozen=True):
    """A slice of a list."""

    items: tuple[Item, ...]
    #: give it back to get the next page; None: this was the last
    next_cursor: str | None = None


def encode_cursor(*key: str | int) -> str:
    """
    Make a cursor of a sort key.

    >>> decode_cursor(encode_cursor("expense", 3), str, int)
    ('expense', 3)
    """
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def decode_cursor(cursor: str, *types: type) -> tuple[Any, ...]:
    """
    Read the sort key off a cursor; raises `BadCursor` unless it has exactly these types.

    >>> decode_cursor("cursor", str)
    Traceback (most recent call last):
    pliers_workflow.storage.paging.BadCursor: the cursor is none of ours; begin the list anew, without a cursor
    """
    try:
        raw = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key = msgspec.json.decode(raw, type=list[str | int])
    except (ValueError, msgspec.MsgspecError):
        raise BadCursor(_BAD) from None
    fits = len(key) == len(types) and all(type(part) is kind for part, kind in zip(key, types, strict=True))
    if not fits or not all(part in _BIGINT if isinstance(part, int) else "\0" not in part for part in key):
        raise BadCursor(_BAD)
    return tuple(key)


def as_number(at: datetime) -> int:
    """
    An instant as a part of a sort key: microseconds since 1970, which is how exact the database is.

    >>> as_number(datetime(2026, 3, 2, 9, tzinfo=UTC))
    1772442000000000
    """
    return (at - _EPOCH) // _MICROSECOND


def as_instant(number: int) -> datetime:
    """
    The instant that a cursor has as a number; raises `BadCursor` where that is none of a database's.

    >>> as_instant(1772442000000000)
    datetime.datetime(2026, 3, 2, 9, 0, tzinfo=datetime.timezone.utc)
    """
    if not 0 <= number < 2**57:
        raise BadCursor(_BAD)
    return _EPOCH + number * _MICROSECOND


def make_page(
    rows: Sequence[Row], limit: int, read: Callable[[Row], Item], key: Callable[[Row], tuple[str | int, ...]]
) -> Page[Item]:
    """Make a page of `limit` items out of up to `limit + 1` rows: the one too many says that there are more."""
    kept = rows[:limit]
    following = encode_cursor(*key(kept[-1])) if len(rows) > limit and kept else None
    return Page(tuple(read(row) for row in kept), following)
