"""Readers made from rows: made anew when a row changes, and one that cannot be read stops no other."""

from __future__ import annotations

from typing import Any, cast

from pliers_workflow.runtime.feed.reader import Reader
from pliers_workflow.runtime.feed.revised import RevisedReaders


async def test_a_row_that_cannot_be_read_is_left_to_others_until_it_changes() -> None:
    """It is tried once for each revision; the other rows have their readers all the time, and keep them."""
    tried: list[str] = []

    async def make(_: str, id: str) -> Reader | None:
        tried.append(id)
        if id == "damaged" and tried.count("damaged") == 1:
            raise ValueError("what is this?")
        return cast("Reader", object()) if id != "elsewhere" else None

    readers = RevisedReaders("subscription", make)
    rows: list[tuple[str, str, Any]] = [("t", "good", 1), ("t", "damaged", 1), ("t", "elsewhere", 1)]
    first = await readers.of(rows)
    assert len(first) == 1
    assert await readers.of(rows) == first
    assert tried == ["good", "damaged", "elsewhere"]
    mended = await readers.of([("t", "good", 1), ("t", "damaged", 2)])
    assert (mended[0], len(mended)) == (first[0], 2)
    assert await readers.of([]) == []
