"""What names mean just now, read for everybody who asks at the same time.

Every start of an instance asks which version is active, and must not be told of one that was replaced before it asked.
So nothing is kept: whoever asks while a read is under way waits for the next one, and one read serves all who wait.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pliers_workflow.storage import queries

if TYPE_CHECKING:
    import asyncpg

_sql: Final = queries.load("catalog")


class Routes:
    """Reads `workflow_routes` in batches."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool
        self._waiting: dict[tuple[str, str], asyncio.Future[tuple[str, int] | None]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def active(self, tenant_id: str, name: str) -> tuple[str, int] | None:
        """Give id and revision of the version that a name stands for, or None where none is active."""
        key = (tenant_id, name)
        answer = self._waiting.get(key)
        if answer is None:
            answer = self._waiting[key] = asyncio.get_running_loop().create_future()
            if self._reader is None:
                self._reader = asyncio.create_task(self._read(), name="routes")
        return await asyncio.shield(answer)

    async def _read(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, {}
                try:
                    rows = await self._pool.fetch(_sql.routed, [key[0] for key in asked], [key[1] for key in asked])
                except BaseException as error:
                    for answer in asked.values():
                        if not answer.done():
                            answer.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
                            answer.exception()  # whoever waits has it; nobody may be left to
                    if not isinstance(error, Exception):
                        raise
                    continue
                found: dict[int, tuple[str, int]] = {}
                for row in rows:
                    found.setdefault(row["ord"], (row["id"], row["revision"]))
                for place, answer in enumerate(asked.values(), start=1):
                    if not answer.done():
                        answer.set_result(found.get(place))
        finally:
            self._reader = None
