"""What an event asks of the database stays on its indexes, however many definitions, instances and events there are."""

from __future__ import annotations

import re
from typing import Any

import asyncpg

from pliers_workflow.definition.listening import patterns
from pliers_workflow.runtime.inbound.rules import Rules
from pliers_workflow.storage import queries
from pliers_workflow.storage.database import open_pool

DEFINITIONS = 10_000
INSTANCES = 20_000
EVENTS = 5_000
SEQUENTIAL = re.compile(r"Seq Scan on (inbound_events|event_triggers|correlation_keys|event_waits)")

INBOUND = queries.load("inbound")
WAITS = queries.load("waits")


async def fill(connection: asyncpg.Connection[Any]) -> None:
    """Definitions with a trigger each, instances with a key each, events that wait; half of it in another tenant."""
    await connection.execute(
        f"""
        INSERT INTO tenants (id, name) VALUES ('other', 'Other');
        INSERT INTO workflow_definitions (tenant_id, id, name, version, title, definition, content_hash, status, published_at)
        SELECT t, gen_random_uuid(), 'w' || n, '1.0.0', 'W', '{{"stateMachine": {{}}}}', ''::bytea, 'active', now()
        FROM generate_series(1, {DEFINITIONS}) n, unnest(ARRAY['default', 'other']) t;
        INSERT INTO event_triggers (tenant_id, definition_id, trigger_id, workflow_name, event_type, action, place, rule, rule_hash)
        SELECT tenant_id, id, 'go', name, 'shop.' || name || '.paid', 'advance_state', 0,
            ('{{"action":"advance_state","correlation":"order","key":"event.data.order + ''' || name || '''"}}')::json,
            sha256(name::bytea)
        FROM workflow_definitions;
        INSERT INTO correlation_keys
            (tenant_id, workflow_instance_id, name, key, workflow_name, workflow_definition_id, created_at)
        SELECT t, gen_random_uuid(), 'order', 'k' || n, 'w' || n % 100, gen_random_uuid(), now()
        FROM generate_series(1, {INSTANCES}) n, unnest(ARRAY['default', 'other']) t;
        INSERT INTO inbound_events (tenant_id, id, fingerprint, type, event, received_at, open_until, forget_at, status)
        SELECT t, gen_random_uuid(), sha256((t || n)::bytea), 'shop.w1.paid', '{{}}', now(), now() + interval '1 h',
            now() + interval '7 d', 'buffered'
        FROM generate_series(1, {EVENTS}) n, unnest(ARRAY['default', 'other']) t;
        INSERT INTO event_waits (tenant_id, event_id, workflow_name, trigger_id, name, key, priority, open_until)
        SELECT tenant_id, id, 'w1', 'go', 'order', 'e' || id, 0, open_until FROM inbound_events;
        """
    )
    await connection.execute("ANALYZE")


async def plan(connection: Any, statement: str, *parameters: Any) -> str:
    """The plan of a statement with these parameters."""
    return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN (COSTS OFF) {statement}", *parameters))


async def test_events_find_their_way_by_indexes(database: str) -> None:
    """Ten thousand definitions, tens of thousands of keys and events, in two tenants: no statement reads a table from end to end."""
    filling = await asyncpg.connect(database)
    await fill(filling)
    await filling.close()
    pool = await open_pool(database, min_size=1, max_size=2)
    async with pool.acquire() as connection:
        event = await connection.fetchval("SELECT id::text FROM inbound_events WHERE tenant_id = 'default' LIMIT 1")
        instances = [
            row[0]
            for row in await connection.fetch(
                "SELECT workflow_instance_id::text FROM correlation_keys WHERE tenant_id = 'default' LIMIT 100"
            )
        ]
        cases: list[tuple[str, tuple[Any, ...], str]] = [
            (INBOUND.listening, ("default", list(patterns("shop.w77.paid"))), "event_triggers_type_idx"),
            (INBOUND.known, ("default", [bytes(32)] * 5), "inbound_events_tenant_id_fingerprint_key"),
            (INBOUND.get, ("default", event), "inbound_events_pkey"),
            (WAITS.find, ("default", ["w7"] * 20, ["order"] * 20, [f"k{n}" for n in range(20)]), "correlation_keys_key_idx"),
            (WAITS.for_instances, (["default"] * 100, instances), "event_waits_key_idx"),
            (WAITS.for_event, ("default", event), "event_waits_pkey"),
            (WAITS.others, ("default", event, "w1", "go"), "event_waits_pkey"),
        ]  # fmt: skip
        for statement, parameters, index in cases:
            found = await plan(connection, statement, *parameters)
            assert index in found, found
            assert not SEQUENTIAL.search(found), found
    rules = Rules(pool)
    (candidate,) = (await rules.listening("default", ["shop.w4711.paid"]))["shop.w4711.paid"]
    assert candidate.workflow == "w4711"
    pool.terminate()
