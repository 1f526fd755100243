"""Whether the database answers: asked by anybody as often as they like, looked up at most once a second."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import Pool

_KEPT_FOR: Final = 1.0
_TIMEOUT: Final = 2.0


class DatabaseCheck:
    """Asks `SELECT 1`; those who ask at the same time share the answer."""

    def __init__(self, pool: Pool[Any]) -> None:
        self._pool = pool
        self._asked_at = float("-inf")
        self._answer: asyncio.Task[str | None] | None = None

    async def problem(self) -> str | None:
        """None: it answers; else what is wrong, in one word."""
        now = time.monotonic()
        if self._answer is None or (self._answer.done() and now - self._asked_at >= _KEPT_FOR):
            self._asked_at = now
            self._answer = asyncio.create_task(self._ask())
        return await asyncio.shield(self._answer)

    async def _ask(self) -> str | None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._pool.fetchval("SELECT 1")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError):
            return "database_unreachable"
        return None
