"""Readers that are rows of a table, made anew when their row has changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from ..failures import DATABASE_AWAY

if TYPE_CHECKING:
    from .reader import Reader

_log = structlog.get_logger(__name__)

Make: TypeAlias = "Callable[[str, str], Awaitable[Reader | None]]"
"""Makes the reader of a tenant's row, by tenant and id; None: not on this node, or the row is gone."""


class RevisedReaders:
    """
    The readers of one table, as this node made them last.

    A row that cannot be read (of a newer release, or damaged) must not stop all readers of the node: it is said once, and
    left to others until it is changed.
    """

    def __init__(self, what: str, make: Make) -> None:
        """`what` they are, for the log: `subscription`."""
        self._what = what
        self._make = make
        #: by tenant and id, with the revision they were made for; None: not here
        self._made: dict[tuple[str, str], tuple[int, Reader | None]] = {}

    async def of(self, rows: Iterable[Sequence[Any]]) -> Sequence[Reader]:
        """The readers of these rows, each a tenant, an id and a revision; others are forgotten."""
        wanted = {(row[0], row[1]): row[2] for row in rows}
        self._made = {key: made for key, made in self._made.items() if key in wanted}
        for key, revision in wanted.items():
            made = self._made.get(key)
            if made is None or made[0] != revision:
                self._made[key] = (revision, await self._try(*key))
        return [reader for _, reader in self._made.values() if reader is not None]

    async def _try(self, tenant_id: str, id: str) -> Reader | None:
        try:
            return await self._make(tenant_id, id)
        except DATABASE_AWAY:
            raise
        except Exception as error:
            # No traceback: some show what variables hold, and here they hold secrets.
            _log.error(f"{self._what}_not_readable", tenant=tenant_id, id=id, error=repr(error))
            return None
