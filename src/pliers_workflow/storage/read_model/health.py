"""How the database is doing."""

from __future__ import annotations

from typing import Any, Final

from .. import queries
from .viewer import Reader

__all__ = ["health"]

_sql: Final = queries.load("health")


async def health(reader: Reader) -> dict[str, Any]:
    """
    Give the numbers an operator asks for first; raises when the database does not answer.

    `stray_history_rows` above 0 and a `last_partition` that is not ahead of now mean that partitions are missing
    (`storage.partitions`); `oldest_due_job_seconds` is how late the latest timer is (None: nothing is due).
    """
    row = await reader.fetchrow(_sql.health)
    assert row is not None
    return dict(row)
