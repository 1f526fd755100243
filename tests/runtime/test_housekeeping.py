"""Upkeep goes on, whatever part of it has to wait."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg

from pliers_workflow.runtime.engine import open_engine
from pliers_workflow.settings import Settings

_NOW = datetime.now(UTC)
#: the last partition that is made ahead
_LAST = f"workflow_execution_history_{_NOW.year + (_NOW.month + 2) // 12}_{(_NOW.month + 2) % 12 + 1:02}"


async def test_a_backup_keeps_no_upkeep_waiting_but_that_of_partitions(database: str) -> None:
    """A long transaction is in the way of a partition: writers are not made to wait every few seconds, and the rest is done."""
    engine = await open_engine(Settings.model_validate({"database": {"url": database}}))
    await engine.start(services=False)
    housekeeping = engine.housekeeping
    try:
        reader = await asyncpg.connect(database)
        await reader.execute(f"DROP TABLE {_LAST}")
        await engine.pool.execute(
            "INSERT INTO idempotency_records (tenant_id, principal, route, key, body_hash, command_id, expires_at) "
            "VALUES ('default', 'p', 'r', 'k', decode(repeat('00', 32), 'hex'), 'c', now() - interval '1 s')"
        )
        await reader.execute("BEGIN; SELECT count(*) FROM workflow_execution_history")
        assert await housekeeping.tick()
        assert await engine.pool.fetchval("SELECT count(*) FROM idempotency_records WHERE key = 'k'") == 0
        began = datetime.now(UTC)
        assert await housekeeping.tick()
        assert (datetime.now(UTC) - began).total_seconds() < 1.5, "it does not wait for that lock again at once"
        await reader.close()
        housekeeping._partitions_at = float("-inf")
        assert await housekeeping.tick()
        assert await engine.pool.fetchval("SELECT to_regclass($1) IS NOT NULL", _LAST)
    finally:
        await engine.close()


async def test_more_keys_than_one_statement_takes_are_forgotten_in_one_round(database: str) -> None:
    """Else a table whose keys come faster than a thousand a second would grow for ever."""
    engine = await open_engine(Settings.model_validate({"database": {"url": database}}))
    await engine.start(services=False)
    try:
        await engine.pool.execute(
            "INSERT INTO idempotency_records (tenant_id, principal, route, key, body_hash, command_id, expires_at) "
            "SELECT 'default', 'p', 'r', n::text, decode(repeat('00', 32), 'hex'), 'c', now() + n * interval '1 day' "
            "FROM generate_series(-12000, 3) n"
        )
        assert await engine.housekeeping.tick()
        assert await engine.pool.fetchval("SELECT count(*) FROM idempotency_records") == 3
    finally:
        await engine.close()
