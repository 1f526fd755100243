"""Upkeep goes on, whatever part of it has to wait."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import asyncpg

from pliers_workflow.runtime.engine import Engine, open_engine
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
        housekeeping._hourly_at = float("-inf")
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


async def test_a_sweep_that_fails_keeps_no_other_from_being_done(database: str) -> None:
    """Whatever comes between, be it that two tables are away: what comes after it is done, and those before are undone by nothing."""
    engine = await open_engine(Settings.model_validate({"database": {"url": database}}))
    await engine.start(services=False)
    try:
        await engine.pool.execute(f"DROP TABLE {_LAST}; ALTER TABLE plugins RENAME TO elsewhere")
        await engine.pool.execute("ALTER TABLE workflow_jobs RENAME TO elsewhere_too")
        await _owe_event(engine, "default", "{}")
        await engine.pool.execute(
            "INSERT INTO idempotency_records (tenant_id, principal, route, key, body_hash, command_id, expires_at) "
            "VALUES ('default', 'p', 'r', 'k', decode(repeat('00', 32), 'hex'), 'c', now() - interval '1 s')"
        )
        assert await engine.housekeeping.tick()
        assert await engine.pool.fetchval("SELECT to_regclass($1) IS NOT NULL", _LAST)
        assert await engine.pool.fetchval("SELECT count(*) FROM idempotency_records") == 0
        assert await _statuses(engine) == ["unmatched"]
    finally:
        await engine.close()


async def test_what_of_one_tenant_fails_keeps_no_other_from_being_done(database: str) -> None:
    """An event that cannot be read any more is in the way of nobody's but its own tenant's, and there not of what is else."""
    engine = await open_engine(Settings.model_validate({"database": {"url": database}}))
    await engine.start(services=False)
    try:
        await engine.pool.execute("INSERT INTO tenants (id, name) VALUES ('zoo', 'Zoo')")
        await _owe_event(engine, "default", '{"id": 1}')
        await _owe_event(engine, "zoo", "{}")
        assert await engine.housekeeping.tick()
        assert await _statuses(engine) == ["received", "unmatched"]
    finally:
        await engine.close()


async def _owe_event(engine: Engine, tenant_id: str, more: str) -> None:
    """An event that nobody has carried out, with more in it, or other, than there should be."""
    event = {"specversion": "1.0", "id": "e", "source": "/s", "type": "t", **json.loads(more)}
    await engine.pool.execute(
        "INSERT INTO inbound_events (tenant_id, id, fingerprint, type, event, depth, lease_until, received_at, open_until, "
        "forget_at) VALUES ($1, gen_random_uuid(), sha256($1::text::bytea), 't', $2::text::json, 0, now(), now(), "
        "now() + interval '1 day', now() + interval '1 day')",
        tenant_id, json.dumps(event),
    )  # fmt: skip


async def _statuses(engine: Engine) -> list[str]:
    """What became of the events, by tenant."""
    rows = await engine.pool.fetch("SELECT status FROM inbound_events ORDER BY tenant_id")
    return [row["status"] for row in rows]
