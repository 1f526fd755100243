"""Rows of definitions as the catalogue gives them, and what is said of those that are not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pliers_workflow.definition import versions
from pliers_workflow.definition.canonical import content_hash
from pliers_workflow.storage import canonical

from ..errors import InvalidError, NotFoundError, PreconditionFailedError
from ..rows import DefinitionRow, DefinitionSummary

if TYPE_CHECKING:
    import asyncpg


def fitting(rows: Sequence[asyncpg.Record], version_or_range: str) -> asyncpg.Record | None:
    """The first that fits; the rows stand in order of preference."""
    try:
        return next((row for row in rows if versions.matches(version_or_range, row["version"])), None)
    except ValueError as error:
        raise InvalidError("bad_format", f"{version_or_range!r} is no version and no range: {error}") from None


def is_version(text: str) -> bool:
    """Whether a text is a semantic version."""
    try:
        versions.parse(text)
    except ValueError:
        return False
    return True


def check_match(row: asyncpg.Record, if_match: int | None) -> None:
    """Raise PreconditionFailedError where a version has changed since whoever asks has read it."""
    if if_match is not None and row["revision"] != if_match:
        raise PreconditionFailedError(
            "revision_conflict",
            "The workflow has changed since you read it; read it again and repeat what still makes sense.",
            {"revision": row["revision"], "id": row["id"]},
        )


def unknown(ref: str) -> NotFoundError:
    """The error for a reference that leads nowhere."""
    return NotFoundError("unknown_workflow", f"There is no workflow {ref[:300]}.")


def columns(document: dict[str, Any]) -> tuple[str, str, str | None, str, bytes]:
    """Version, title, description, document and hash, as the statements take them."""
    return (
        document["version"],
        document["title"],
        document.get("description"),
        canonical.encode(document).decode(),
        bytes.fromhex(content_hash(document)),
    )


def row_of(record: asyncpg.Record) -> DefinitionRow:
    """A version with its document."""
    return DefinitionRow.of(record, definition=canonical.decode(record["definition"]))


def summary_of(row: DefinitionRow) -> DefinitionSummary:
    """A version without its document."""
    return DefinitionSummary(**{name: getattr(row, name) for name in DefinitionSummary.__struct_fields__})
