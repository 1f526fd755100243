"""What all bodies, queries and answers share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from msgspec import Meta, Struct

Item = TypeVar("Item")

Json = dict[str, Any]
#: a user id or a username
Person = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\s:/]+$", description="A username or user id.")]
Uuid = Annotated[str, Meta(pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
ShortText = Annotated[str, Meta(max_length=500)]
LongText = Annotated[str, Meta(max_length=10_000)]
Limit = Annotated[int, Meta(ge=1, le=200, description="How many items a page may have.")]
Cursor = Annotated[str, Meta(min_length=1, max_length=2000, description="`nextCursor` of the page before.")]
#: with its time zone
Instant = Annotated[datetime, Meta(tz=True)]
Permission = Literal["author", "publisher", "operator", "auditor", "events", "worker", "admin"]


class Input(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Base of bodies and queries."""


class View(Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of answers."""

    @classmethod
    def of(cls, row: object, **other: Any) -> Self:
        """Make it of what the row has under the names of its fields, and of `other` where they differ."""
        named = {name: getattr(row, name) for name in cls.__struct_fields__ if name not in other}
        return cls(**named, **other)


class Page(View, Generic[Item], frozen=True, kw_only=True):
    """A page of a list. `nextCursor` is null on the last one."""

    items: list[Item]
    next_cursor: str | None


class PageQuery(Input, frozen=True, kw_only=True):
    """A page of a list without filters."""

    limit: Limit = 50
    cursor: Cursor | None = None
