"""What sources and submissions ask of the database stays on its indexes, whatever else is in the inbox."""

from __future__ import annotations

import re
from typing import Any

import asyncpg

from pliers_workflow.storage import queries
from pliers_workflow.storage.database import open_pool

SEQUENTIAL = re.compile(r"Seq Scan on (inbound_events|event_triggers|event_source_rejects)")
INBOUND = queries.load("inbound")
SOURCES = queries.load("event_sources")
SUBMISSIONS = queries.load("submissions")


async def plan(connection: Any, statement: str) -> str:
    return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN (COSTS OFF) {statement}"))


async def test_they_find_their_way_by_indexes(database: str) -> None:
    """Many events that are done, many triggers, many rejects of many sources."""
    filling = await asyncpg.connect(database)
    await filling.execute(
        """
        INSERT INTO event_sources (tenant_id, name, kind, configuration)
        SELECT 'default', 's' || n, 'nats', '{}' FROM generate_series(1, 50) n;
        INSERT INTO event_source_rejects (tenant_id, event_source_id, id, message, reason, body, size)
        SELECT 'default', s.id, gen_random_uuid(), 'm' || n, 'bad', '', 0 FROM event_sources s, generate_series(1, 200) n;
        INSERT INTO inbound_events (tenant_id, id, fingerprint, type, event, received_at, open_until, forget_at, status,
            event_source_id)
        SELECT 'default', gen_random_uuid(), sha256(n::text::bytea), 'a.b', '{}', now(), now(), now() + interval '7 d',
            'matched', (SELECT id FROM event_sources ORDER BY id LIMIT 1)
        FROM generate_series(1, 20000) n;
        INSERT INTO workflow_definitions
            (tenant_id, id, name, version, title, definition, content_hash, status, published_at)
        SELECT 'default', gen_random_uuid(), 'w' || n, '1.0.0', 'W', '{"stateMachine": {}}', ''::bytea, 'active', now()
        FROM generate_series(1, 5000) n;
        INSERT INTO event_triggers
            (tenant_id, definition_id, trigger_id, workflow_name, event_type, action, place, rule, rule_hash)
        SELECT tenant_id, id, 'go', name, 'shop.' || name, 'advance_state', 0, '{}', sha256(name::bytea)
        FROM workflow_definitions;
        ANALYZE;
        """
    )
    source = await filling.fetchval("SELECT id::text FROM event_sources LIMIT 1")
    await filling.close()
    pool = await open_pool(database, min_size=1, max_size=1, purpose="test")
    asked: list[tuple[str, tuple[str, ...]]] = [
        (INBOUND.claim_owed, ("'default'", "500", "interval '1 min'")),
        (INBOUND.claim_owed_by_source, ("'default'", f"'{source}'", "interval '1 min'")),
        (SOURCES.page_rejects, ("'default'", f"'{source}'", "NULL", "50")),
        (SOURCES.trim_rejects, ("'default'", f"'{source}'", "100")),
        (SOURCES.get_reject, ("'default'", f"'{source}'", f"'{source}'")),
        (
            SUBMISSIONS.tell,
            ("'default'", "now()", f"'{source}'", "'x'", "'submission.updated'", "'{}'", "interval '7 d'", "interval '1 s'", "NULL"),
        ),
    ]  # fmt: skip
    async with pool.acquire() as connection:
        for statement, parameters in asked:
            found = await plan(connection, _filled(statement, parameters))
            assert not SEQUENTIAL.search(found), found
    await pool.close()


def _filled(statement: str, parameters: tuple[str, ...]) -> str:
    """A statement with its parameters written into it."""
    return re.sub(r"\$(\d+)", lambda found: f"({parameters[int(found[1]) - 1]})", statement)
