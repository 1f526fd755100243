"""Cursors as callers send them: a bad one is theirs to set right."""

from __future__ import annotations

from typing import Any

from pliers_workflow.storage.identity import is_uuid
from pliers_workflow.storage.paging import BadCursor, decode_cursor

from .errors import InvalidError


def cursor_key(cursor: str | None, *types: type) -> tuple[Any, ...]:
    """Read the sort key off a cursor, Nones where the list begins; raises InvalidError for one that is none of ours."""
    if cursor is None:
        return (None,) * len(types)
    try:
        return decode_cursor(cursor, *types)
    except BadCursor as error:
        raise InvalidError("bad_cursor", f"{str(error).capitalize()}.") from None


def uuid_cursor(cursor: str | None) -> str | None:
    """Read the cursor of a list that is sorted by id."""
    (key,) = cursor_key(cursor, str)
    if key is not None and not is_uuid(key):
        raise InvalidError("bad_cursor", "The cursor is none of ours; begin the list anew, without a cursor.")
    return None if key is None else str(key)
