"""A claim of the engine's own jobs that the database cuts short between two tenants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from pliers_workflow.runtime.jobs.service import ClaimedJob, JobService, Result, Served
from pliers_workflow.settings import Settings


class Jobs(JobService):
    """Serves timers by writing down whose they are."""

    kind = "timer"

    def __init__(self, pool: Any) -> None:
        super().__init__(pool, Settings(), owner="one")
        self.served: list[str] = []

    async def serve(self, tenant_id: str, jobs: Sequence[ClaimedJob]) -> Sequence[Result]:
        self.served += [tenant_id] * len(jobs)
        return [Served.DONE] * len(jobs)


class Breaking:
    """A pool whose connections break at the second claim."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.claims = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        async with self._pool.acquire() as connection:
            yield _Connection(self, connection)


class _Connection:
    def __init__(self, pool: Breaking, connection: Any) -> None:
        self._pool = pool
        self._connection = connection

    async def fetch(self, sql: str, *arguments: Any) -> Any:
        if "FOR UPDATE" in sql:
            self._pool.claims += 1
            if self._pool.claims == 2:
                raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return await self._connection.fetch(sql, *arguments)


async def test_what_was_claimed_before_the_database_went_away_is_served(pool: Any) -> None:
    """It is not left until its lease has lapsed, nor counted for ever as being served; the rest is claimed next time."""
    await pool.execute("INSERT INTO tenants (id, name) VALUES ('other', 'Other')")
    await pool.execute(
        "INSERT INTO workflow_jobs (tenant_id, id, kind, workflow_instance_id, name, due_at) "
        "SELECT t, gen_random_uuid(), 'timer', gen_random_uuid(), 'timer/1', now() - interval '1 s' "
        "FROM unnest(ARRAY['default', 'other']) t, generate_series(1, 3)"
    )
    jobs = Jobs(Breaking(pool))
    assert await jobs.run_due() == 3
    assert len(jobs.served) == 3
    assert jobs._held == {}
    assert await jobs.run_due() == 3
    assert sorted(jobs.served) == ["default"] * 3 + ["other"] * 3
    assert await pool.fetchval("SELECT count(*) FROM workflow_jobs") == 0
