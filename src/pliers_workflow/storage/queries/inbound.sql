-- Events from outside: kept, matched with what listens for them, and settled. `waits.sql` has those that came too early.

-- name: receive
-- Keep events; those whose fingerprint is known are left out of the answer. In one order, so that two batches of the same
-- events cannot wait for each other. Served by inbound_events_tenant_id_fingerprint_key.
INSERT INTO inbound_events (
    tenant_id, id, fingerprint, type, event, depth, received_at, received_by, event_source_id, open_until, forget_at,
    lease_until, attempt, trace
)
SELECT n.id, t.id::uuid, t.fingerprint, t.type, t.event::json, t.depth, coalesce(n.virtual_now, now()), $7::text::uuid,
    $8::text::uuid, coalesce(n.virtual_now, now()) + make_interval(secs => t.ttl),
    coalesce(n.virtual_now, now()) + greatest(make_interval(secs => t.ttl), $9::interval), now() + $10::interval, 1, t.trace::json
FROM tenants n, unnest($2::text[], $3::bytea[], $4::text[], $5::text[], $6::int[], $11::int[], $12::text[])
    AS t (id, fingerprint, type, event, depth, ttl, trace)
WHERE n.id = $1
ORDER BY t.fingerprint
ON CONFLICT (tenant_id, fingerprint) DO NOTHING
RETURNING id::text AS id, received_at, open_until;

-- fragment: columns
tenant_id, id::text AS id, type, event::text AS event, depth, received_at, received_by::text AS received_by,
event_source_id::text AS event_source_id, status, results::text AS results, open_until, forget_at, attempt,
trace::text AS trace

-- name: known
-- What became of events that came before. Served by inbound_events_tenant_id_fingerprint_key.
SELECT {columns}, fingerprint FROM inbound_events WHERE tenant_id = $1 AND fingerprint = ANY ($2::bytea[]);

-- name: get
-- Served by inbound_events_pkey.
SELECT {columns} FROM inbound_events WHERE tenant_id = $1 AND id = $2::text::uuid;

-- name: page
-- Newest first. Served by inbound_events_pkey.
SELECT {columns} FROM inbound_events
WHERE tenant_id = $1 AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR type = $3)
    AND ($4::text IS NULL OR event_source_id = $4::text::uuid) AND ($5::text IS NULL OR id < $5::text::uuid)
ORDER BY id DESC LIMIT $6;

-- name: listening
-- What listens for types of events: $2 are the patterns that match them. Served by event_triggers_type_idx.
SELECT t.event_type, t.definition_id::text AS definition_id, t.trigger_id, t.workflow_name, t.action, t.priority, t.place,
    t.rule_hash
FROM event_triggers t
WHERE t.tenant_id = $1 AND t.event_type = ANY ($2::text[]) AND t.active;

-- name: rules
-- The rules behind hashes. Served by event_triggers_pkey.
SELECT DISTINCT ON (t.rule_hash) t.rule_hash, t.rule::text AS rule
FROM unnest($2::text[]::uuid[], $3::text[]) AS asked (definition_id, trigger_id)
JOIN event_triggers t
    ON t.tenant_id = $1 AND t.definition_id = asked.definition_id AND t.trigger_id = asked.trigger_id;

-- name: silence
-- A version is not the active one any more: it starts nothing. Served by event_triggers_workflow_idx.
UPDATE event_triggers SET active = false
WHERE tenant_id = $1 AND workflow_name = $2 AND action = 'start_workflow' AND active;

-- name: listen
-- What a version that is being published listens for.
INSERT INTO event_triggers (
    tenant_id, definition_id, trigger_id, workflow_name, event_type, action, priority, place, rule, rule_hash)
SELECT $1, $2::text::uuid, t.trigger_id, $3, t.event_type, t.action, t.priority, t.place, t.rule::json, t.rule_hash
FROM unnest($4::text[], $5::text[], $6::text[], $7::int[], $8::int[], $9::text[], $10::bytea[])
    AS t (trigger_id, event_type, action, priority, place, rule, rule_hash);

-- name: forget_version
-- An archived version has no instances and gets none. Served by event_triggers_pkey.
DELETE FROM event_triggers WHERE tenant_id = $1 AND definition_id = $2::text::uuid;

-- name: settle
-- Say what became of an event; somebody else may have come to it meanwhile. Served by inbound_events_pkey.
UPDATE inbound_events SET
    status = $3, results = $4::text::jsonb, lease_until = NULL,
    forget_at = greatest(forget_at, received_at + $5::interval)
WHERE tenant_id = $1 AND id = $2::text::uuid AND status = 'received'
RETURNING true;

-- name: tenants
-- Tenants that have events, one index probe each. Served by inbound_events_forget_idx.
SELECT n.id FROM tenants n WHERE EXISTS (SELECT FROM inbound_events e WHERE e.tenant_id = n.id);

-- name: health
-- How many events of all tenants nobody has carried out yet, and the oldest of them. Served by inbound_events_owed_idx.
SELECT count(*) AS owed, min(e.id::text) AS oldest, now() AS now
FROM tenants n JOIN inbound_events e ON e.tenant_id = n.id
WHERE e.status = 'received';

-- name: claim_owed
-- Events that a crash or an overload has left, oldest first; those of an event source that is read are its reader's.
-- Served by inbound_events_owed_idx, event_sources_pkey.
UPDATE inbound_events e SET lease_until = now() + $3::interval, attempt = e.attempt + 1
FROM (
    SELECT id FROM inbound_events o
    WHERE o.tenant_id = $1 AND o.status = 'received' AND o.lease_until <= now() AND NOT EXISTS (
        SELECT FROM event_sources s WHERE s.tenant_id = $1 AND s.id = o.event_source_id AND s.enabled)
    ORDER BY o.lease_until, o.id LIMIT $2 FOR UPDATE SKIP LOCKED
) due
WHERE e.tenant_id = $1 AND e.id = due.id
RETURNING e.tenant_id, e.id::text AS id, e.type, e.event::text AS event, e.depth, e.received_at,
    e.received_by::text AS received_by, e.event_source_id::text AS event_source_id, e.status, e.results::text AS results,
    e.open_until, e.forget_at, e.attempt, e.trace::text AS trace;

-- name: claim_owed_by_source
-- What the reader of an event source before this one has left, whatever its lease. Served by inbound_events_owed_idx.
UPDATE inbound_events e SET lease_until = now() + $3::interval, attempt = e.attempt + 1
FROM (
    SELECT id FROM inbound_events
    WHERE tenant_id = $1 AND status = 'received' AND event_source_id = $2::text::uuid
    ORDER BY id FOR UPDATE
) due
WHERE e.tenant_id = $1 AND e.id = due.id
RETURNING e.tenant_id, e.id::text AS id, e.type, e.event::text AS event, e.depth, e.received_at,
    e.received_by::text AS received_by, e.event_source_id::text AS event_source_id, e.status, e.results::text AS results,
    e.open_until, e.forget_at, e.attempt, e.trace::text AS trace;

-- name: reopen
-- Let an operator's retry run what failed again. Served by inbound_events_pkey.
UPDATE inbound_events SET status = 'received', lease_until = now() + $3::interval, attempt = attempt + 1
WHERE tenant_id = $1 AND id = $2::text::uuid AND status = 'failed'
RETURNING {columns};

-- name: forget
-- Events whose id need not be known any more, by the tenant's clock. Served by inbound_events_forget_idx.
DELETE FROM inbound_events e
USING tenants n, LATERAL (
    SELECT o.id FROM inbound_events o
    WHERE o.tenant_id = n.id AND o.forget_at <= coalesce(n.virtual_now, now()) AND o.status <> 'received'
    ORDER BY o.forget_at LIMIT $2 FOR UPDATE SKIP LOCKED
) old
WHERE n.id = $1 AND e.tenant_id = n.id AND e.id = old.id;

-- name: acted
-- Which instances an event has acted on, by trigger: the keys of commands begin with the event. Served by
-- idempotency_records_pkey.
SELECT key FROM idempotency_records
WHERE tenant_id = $1 AND principal = 'engine' AND route = 'event' AND key >= $2 || '/' AND key < $2 || '0';

-- name: listener
-- One version's listener. Served by event_triggers_pkey.
SELECT t.event_type, t.definition_id::text AS definition_id, t.trigger_id, t.workflow_name, t.action, t.priority, t.place,
    t.rule_hash
FROM event_triggers t WHERE t.tenant_id = $1 AND t.definition_id = $2::text::uuid AND t.trigger_id = $3;

-- name: alike
-- The same listener in all versions of a workflow that have it unchanged; of a start the active version's, as it is now.
-- Served by event_triggers_workflow_idx.
SELECT t.event_type, t.definition_id::text AS definition_id, t.trigger_id, t.workflow_name, t.action, t.priority, t.place,
    t.rule_hash
FROM event_triggers t
WHERE t.tenant_id = $1 AND t.workflow_name = $2 AND t.trigger_id = $3 AND t.active
    AND (t.rule_hash = $4 OR t.action = 'start_workflow');

-- name: schedule
-- Triggers that act later: one job each, made once. Served by workflow_jobs_pkey.
INSERT INTO workflow_jobs (tenant_id, id, kind, name, due_at, definition_name, payload, created_at)
SELECT $1, t.id::uuid, 'trigger', t.name, t.due_at, t.definition_name, t.payload::jsonb, $2
FROM unnest($3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[])
    AS t (id, name, due_at, definition_name, payload)
ON CONFLICT (tenant_id, id) DO NOTHING;

-- name: drop_trigger
-- A delayed trigger has acted. Served by workflow_jobs_pkey.
DELETE FROM workflow_jobs WHERE tenant_id = $1 AND id = $2::text::uuid AND kind = 'trigger' AND fencing_token = $3
RETURNING true;

-- name: append
-- What became of an event later. Served by inbound_events_pkey.
UPDATE inbound_events SET
    results = CASE WHEN jsonb_array_length(results) < $4 THEN results || $3::text::jsonb ELSE results END,
    status = CASE
        WHEN status = 'failed' OR $5::text = 'failed' THEN 'failed'
        WHEN status = 'buffered' OR $5::text = 'buffered' THEN 'buffered'
        WHEN status = 'matched' OR $5::text = 'matched' THEN 'matched'
        ELSE $5::text END
WHERE tenant_id = $1 AND id = $2::text::uuid AND status <> 'received';
