"""Many instances at once, set-based: a tenant as it looks after years, made in seconds."""

from __future__ import annotations

from typing import Any

import asyncpg

TENANT = "default"

_DEFINITION = """
INSERT INTO workflow_definitions (tenant_id, id, name, version, title, definition, content_hash, status, published_at)
SELECT $1, number_id('d', n), 'workflow_' || n, '1.0.0', 'Workflow ' || n,
       jsonb_build_object('stateMachine', '{"states": {"review": {"name": "Review"}, "done": {}}}'::jsonb,
                          'approvalChains', '[{"steps": [{"id": "manager", "name": "Manager review"}]}]'::jsonb,
                          'access', CASE WHEN n = 3 THEN '{"view": ["role:auditors"]}' ELSE '{}' END::jsonb),
       sha256(n::text::bytea), 'active', now()
FROM generate_series(1, 20) n
"""
# An id whose first bits are a birth in steps of a minute, as real ones are; `kind` keeps the kinds of rows apart.
_NUMBER_ID = """
CREATE OR REPLACE FUNCTION number_id(kind text, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(1767225600000 + n * 60000), 12, '0') || '8' || left(md5(kind), 3) || '8'
            || substr(md5(kind || n), 1, 15))::uuid
$$
"""
_USERS = """
INSERT INTO users (tenant_id, id, username, name)
SELECT $1, number_id('u', n), 'user' || n, 'User ' || n FROM generate_series(1, 200) n
"""
_SETS = """
INSERT INTO directory_sets (tenant_id, kind, key) VALUES
    ($1, 'role', 'managers'), ($1, 'role', 'auditors'), ($1, 'group', 'board')
"""
_MEMBERS = """
INSERT INTO directory_members (tenant_id, kind, key, user_id)
SELECT $1, 'role', 'managers', number_id('u', n) FROM generate_series(1, 20) n
UNION ALL SELECT $1, 'group', 'board', number_id('u', n) FROM generate_series(1, 3) n
UNION ALL SELECT $1, 'role', 'auditors', number_id('u', n) FROM generate_series(150, 152) n
"""
# One in fifty waits; the others are done. Requesters are everybody in turn.
_INSTANCES = """
INSERT INTO workflow_instances (
    tenant_id, id, workflow_definition_id, workflow_name, workflow_version, current_state, configuration, instance_data,
    machine, revision, history_hash, status, completed_at, last_activity_at, title, requester_id, created_by, assigned_to,
    created_at, updated_at)
SELECT $1, number_id('i', n), number_id('d', 1 + n % 20), 'workflow_' || (1 + n % 20), '1.0.0',
       CASE WHEN n % 50 = 0 THEN 'review' ELSE 'done' END, ARRAY[CASE WHEN n % 50 = 0 THEN 'review' ELSE 'done' END],
       jsonb_build_object('amount', n % 1000, 'text', repeat('x', 200)), '{"format": 1}', 2, sha256(n::text::bytea),
       CASE WHEN n % 50 = 0 THEN 'waiting' ELSE 'completed' END::workflow_instance_status,
       CASE WHEN n % 50 = 0 THEN NULL ELSE born.at END, born.at, 'Instance ' || n, number_id('u', 1 + n % 200),
       number_id('u', 1 + (n / 7) % 200), CASE WHEN n % 50 = 0 THEN number_id('u', 1 + n / 50 % 20) END, born.at, born.at
FROM generate_series($2::bigint, $3::bigint) n, LATERAL (SELECT to_timestamp((1767225600000 + n * 60000) / 1000.0) AS at) born
"""
_APPROVALS = """
INSERT INTO workflow_approvals (
    tenant_id, id, workflow_instance_id, workflow_definition_id, item, chain_id, step_id, visit, round, approver_type,
    approver_key, approver_id, action, decided_by, decided_at, created_at)
SELECT $1, number_id('a' || k, n), number_id('i', n), number_id('d', 1 + n % 20), 'item/' || k, 'chain', 'manager', 1, 1,
       CASE WHEN k = 1 THEN 'user' ELSE 'role' END,
       CASE WHEN k = 1 THEN number_id('u', 1 + n / 50 % 20)::text ELSE 'managers' END,
       CASE WHEN k = 1 THEN number_id('u', 1 + n / 50 % 20) END,
       CASE WHEN n % 50 <> 0 THEN 'approve' END::approval_action,
       CASE WHEN n % 50 <> 0 THEN number_id('u', 1 + n % 20) END, CASE WHEN n % 50 <> 0 THEN born.at END, born.at
FROM generate_series($2::bigint, $3::bigint) n, generate_series(1, 2) k,
     LATERAL (SELECT to_timestamp((1767225600000 + n * 60000) / 1000.0) AS at) born
"""
_HISTORY = """
INSERT INTO workflow_execution_history (
    tenant_id, workflow_instance_id, seq, id, command_id, action_type, to_state, execution_data, executed_at, executed_by,
    previous_hash, hash)
SELECT $1, number_id('i', n), s, number_id('h' || s, n), n || '/' || s, 'start', 'review',
       '{"format": 1, "events": [{"type": "workflow.state.entered", "state": "review"}]}', born.at,
       number_id('u', 1 + n % 200), sha256(''), sha256(n::text::bytea)
FROM generate_series($2::bigint, $3::bigint) n, generate_series(1, 2) s,
     LATERAL (SELECT to_timestamp((1767225600000 + n * 60000) / 1000.0) AS at) born
"""
_JOBS = """
INSERT INTO workflow_jobs (tenant_id, id, kind, workflow_instance_id, name, due_at)
SELECT $1, number_id('j', n), 'timer', number_id('i', n), 'timer/1', now() + n * interval '1 second'
FROM generate_series($2::bigint, $3::bigint) n WHERE n % 50 = 0
"""
_KEYS = """
INSERT INTO idempotency_records (
    tenant_id, principal, route, key, body_hash, workflow_instance_id, seq, command_id, expires_at)
SELECT $1, 'user' || n % 200, 'POST /api/v1/workflow-instances/' || number_id('i', n) || '/approve', 'key' || n,
       sha256(n::text::bytea), number_id('i', n), 1, 'command' || n, now() + interval '1 day'
FROM generate_series($2::bigint, $3::bigint) n
"""


async def fill(connection: asyncpg.Connection[Any], instances: int, *, tenant_id: str = TENANT) -> None:
    """Definitions, people and so many instances with their work items, history and jobs; statistics stay as they are."""
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 0")
        # Foreign keys hold by construction; checking each would take most of the time.
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(_NUMBER_ID)
        for statement in (_DEFINITION, _USERS, _SETS, _MEMBERS):
            await connection.execute(statement, tenant_id)
        for statement in (_INSTANCES, _APPROVALS, _HISTORY, _JOBS, _KEYS):
            await connection.execute(statement, tenant_id, 1, instances)


async def number_id(connection: asyncpg.Connection[Any], kind: str, n: int) -> str:
    """The id of the n-th user (`u`), instance (`i`) …"""
    return str(await connection.fetchval("SELECT number_id($1, $2)::text", kind, n))
