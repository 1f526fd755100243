-- Who waits for events, and events that wait for somebody. `correlation_keys` is written with the batch (`save_batch.sql`).

-- fragment: same_name
CASE WHEN k.event_type IS NULL THEN k.name = t.name ELSE t.name = 'receive' END

-- fragment: same_name_of_wait
CASE WHEN k.event_type IS NULL THEN k.name = w.name ELSE w.name = 'receive' END

-- name: find
-- Living instances by their keys: $2 are workflows, $3 names of keys (`receive` for all steps that wait), $4 keys. Served by
-- correlation_keys_key_idx.
SELECT t.ord::int AS ord, k.workflow_instance_id::text AS instance_id, k.workflow_definition_id::text AS definition_id,
    k.name, k.event_type
FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS t (workflow_name, name, key, ord)
JOIN correlation_keys k
    ON k.tenant_id = $1 AND k.key = t.key AND k.workflow_name = t.workflow_name AND {same_name}
ORDER BY t.ord, k.workflow_instance_id, k.name;

-- name: add
-- Events that nobody could take. Served by event_waits_pkey.
INSERT INTO event_waits (tenant_id, event_id, workflow_name, trigger_id, name, key, priority, open_until)
SELECT $1, $2::text::uuid, t.workflow_name, t.trigger_id, t.name, t.key, t.priority, $3
FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::int[])
    AS t (workflow_name, trigger_id, name, key, priority)
ON CONFLICT DO NOTHING;

-- name: for_instances
-- What waits for instances that have just moved, in the order of arrival. Served by correlation_keys_pkey,
-- event_waits_key_idx.
SELECT w.tenant_id, w.event_id::text AS event_id, w.workflow_name, w.trigger_id, w.key,
    k.workflow_instance_id::text AS instance_id, k.workflow_definition_id::text AS definition_id
FROM unnest($1::text[], $2::text[]) AS t (tenant_id, instance_id)
JOIN tenants n ON n.id = t.tenant_id
JOIN correlation_keys k ON k.tenant_id = t.tenant_id AND k.workflow_instance_id = t.instance_id::uuid
JOIN event_waits w
    ON w.tenant_id = k.tenant_id AND w.key = k.key AND w.workflow_name = k.workflow_name AND {same_name_of_wait}
    AND w.open_until > coalesce(n.virtual_now, now())
ORDER BY w.event_id, w.priority DESC, w.trigger_id;

-- name: for_event
-- Whom an event finds that waits. Served by event_waits_pkey, correlation_keys_key_idx.
SELECT w.tenant_id, w.event_id::text AS event_id, w.workflow_name, w.trigger_id, w.key,
    k.workflow_instance_id::text AS instance_id, k.workflow_definition_id::text AS definition_id
FROM event_waits w
JOIN correlation_keys k
    ON k.tenant_id = w.tenant_id AND k.key = w.key AND k.workflow_name = w.workflow_name AND {same_name_of_wait}
WHERE w.tenant_id = $1 AND w.event_id = $2::text::uuid
ORDER BY w.priority DESC, w.trigger_id, k.workflow_instance_id;

-- name: others
-- The instances that a waiting event may be offered to, with their revisions. Served by event_waits_pkey,
-- correlation_keys_key_idx, workflow_instances_pkey. (In steps, so that it begins with the one event whatever the planner
-- takes the tables for: young ones have no statistics.)
WITH waiting AS MATERIALIZED (
    SELECT w.tenant_id, w.key, w.workflow_name, w.name
    FROM event_waits w
    JOIN tenants n ON n.id = w.tenant_id
    WHERE w.tenant_id = $1 AND w.event_id = $2::text::uuid AND w.workflow_name = $3 AND w.trigger_id = $4
        AND w.taken_by IS NULL AND w.open_until > coalesce(n.virtual_now, now())
)
SELECT k.workflow_instance_id::text AS instance_id, k.workflow_definition_id::text AS definition_id, i.revision
FROM waiting w
JOIN correlation_keys k
    ON k.tenant_id = w.tenant_id AND k.key = w.key AND k.workflow_name = w.workflow_name AND {same_name_of_wait}
CROSS JOIN LATERAL (
    SELECT i.revision FROM workflow_instances i
    WHERE i.tenant_id = k.tenant_id AND i.id = k.workflow_instance_id
    OFFSET 0
) i
ORDER BY k.workflow_instance_id;

-- name: take
-- Offer a waiting event to one instance: nobody else may meanwhile. No row: it is gone, or being offered. Whoever takes up
-- a lapsed offer makes it to the same instance again, which may have taken it. Served by event_waits_pkey.
UPDATE event_waits w SET taken_by = $5::text::uuid, taken_until = now() + $6::interval
FROM tenants n
WHERE n.id = $1 AND w.tenant_id = n.id AND w.event_id = $2::text::uuid AND w.workflow_name = $3 AND w.trigger_id = $4
    AND w.open_until > coalesce(n.virtual_now, now())
    AND (w.taken_by IS NULL OR (w.taken_by = $5::text::uuid AND w.taken_until <= now()))
RETURNING coalesce((
    SELECT i.revision FROM workflow_instances i WHERE i.tenant_id = w.tenant_id AND i.id = w.taken_by), 0) AS revision;

-- name: give_back
-- The instance could not take it, and the event says why ($6, nothing where nothing is to be said), instead of what it said
-- of this instance before. Served by event_waits_pkey, inbound_events_pkey.
WITH waiting AS (
    UPDATE event_waits SET taken_by = NULL, taken_until = NULL, offered_at = now()
    WHERE tenant_id = $1 AND event_id = $2::text::uuid AND workflow_name = $3 AND trigger_id = $4
        AND taken_by = $5::text::uuid
    RETURNING tenant_id, event_id
)
UPDATE inbound_events e SET results = jsonb_path_query_array(
    jsonb_path_query_array(
        e.results, '$[*] ? (!(@.outcome == "refused" && @.workflow == $w && @.trigger == $t && @.instance == $i))',
        jsonb_build_object('w', $3::text, 't', $4::text, 'i', $5::text)) || $6::text::jsonb,
    '$[0 to $last]', jsonb_build_object('last', $7::int - 1))
FROM waiting w
WHERE e.tenant_id = w.tenant_id AND e.id = w.event_id AND NOT e.results @> $6::text::jsonb;

-- fragment: without_refusals
-- What became of an event e, without who could not take it before: $3 workflow, $4 trigger.
jsonb_path_query_array(
    e.results, '$[*] ? (!(@.outcome == "refused" && @.workflow == $w && @.trigger == $t))',
    jsonb_build_object('w', $3::text, 't', $4::text))

-- name: failed
-- Who could have taken it failed over it: it waits no more, and the event says why ($5, first). Served by event_waits_pkey,
-- inbound_events_pkey.
WITH gone AS (
    DELETE FROM event_waits
    WHERE tenant_id = $1 AND event_id = $2::text::uuid AND workflow_name = $3 AND trigger_id = $4 AND taken_by IS NULL
    RETURNING tenant_id, event_id
)
UPDATE inbound_events e SET status = 'failed', results = jsonb_path_query_array(
    $5::text::jsonb || {without_refusals}, '$[0 to $last]', jsonb_build_object('last', $6::int - 1))
FROM gone WHERE e.tenant_id = gone.tenant_id AND e.id = gone.event_id;

-- name: taken
-- The instance has taken it: it waits no more, and the event says so. Served by event_waits_pkey, inbound_events_pkey.
WITH gone AS (
    DELETE FROM event_waits
    WHERE tenant_id = $1 AND event_id = $2::text::uuid AND workflow_name = $3 AND trigger_id = $4
        AND taken_by = $5::text::uuid
    RETURNING tenant_id, event_id
)
UPDATE inbound_events e SET
    results = jsonb_path_query_array(
        {without_refusals} || $6::text::jsonb, '$[0 to $last]', jsonb_build_object('last', $7::int - 1)),
    status = CASE WHEN e.status = 'buffered' AND NOT EXISTS (
        SELECT FROM event_waits w
        WHERE w.tenant_id = $1 AND w.event_id = $2::text::uuid AND (w.workflow_name, w.trigger_id) <> ($3, $4)
    ) THEN 'matched' ELSE e.status END
FROM gone WHERE e.tenant_id = gone.tenant_id AND e.id = gone.event_id;

-- name: awaiting
-- The steps of an instance that wait under a key, and for what. Served by correlation_keys_pkey.
SELECT name, event_type FROM correlation_keys
WHERE tenant_id = $1 AND workflow_instance_id = $2::text::uuid AND key = $3 AND event_type IS NOT NULL
ORDER BY name;

-- name: of_event
-- For whom an event waits. Served by event_waits_pkey.
SELECT workflow_name, trigger_id, name, key, open_until FROM event_waits
WHERE tenant_id = $1 AND event_id = $2::text::uuid ORDER BY priority DESC, workflow_name, trigger_id;

-- name: lapsed
-- Offers whose node has died, oldest first. Served by event_waits_taken_idx.
SELECT w.tenant_id, w.event_id::text AS event_id, w.workflow_name, w.trigger_id, w.key, w.taken_by::text AS instance_id,
    i.workflow_definition_id::text AS definition_id
FROM event_waits w
JOIN workflow_instances i ON i.tenant_id = w.tenant_id AND i.id = w.taken_by
WHERE w.tenant_id = $1 AND w.taken_by IS NOT NULL AND w.taken_until <= now()
ORDER BY w.taken_until LIMIT $2;

-- name: overlooked
-- Events that wait, those first that were offered longest ago, and whether somebody has their key all the same: the safety
-- net. They count as offered now. Served by event_waits_offered_idx, correlation_keys_key_idx.
UPDATE event_waits w SET offered_at = now()
FROM (
    SELECT o.event_id, o.workflow_name, o.trigger_id FROM event_waits o
    WHERE o.tenant_id = $1 AND o.offered_at <= now() - $2::interval AND o.taken_by IS NULL
    ORDER BY o.offered_at LIMIT $3 FOR UPDATE SKIP LOCKED
) old
WHERE w.tenant_id = $1 AND w.event_id = old.event_id AND w.workflow_name = old.workflow_name
    AND w.trigger_id = old.trigger_id
RETURNING w.event_id::text AS event_id, EXISTS (
    SELECT FROM correlation_keys k
    WHERE k.tenant_id = $1 AND k.key = w.key AND k.workflow_name = w.workflow_name AND {same_name_of_wait}) AS found;

-- name: close
-- Nobody came: by the tenant's clock these wait no more, and their events say so. Served by event_waits_open_idx.
WITH closed AS (
    DELETE FROM event_waits w USING tenants n
    WHERE n.id = $1 AND w.tenant_id = n.id AND w.open_until <= coalesce(n.virtual_now, now())
        AND (w.taken_by IS NULL OR w.taken_until <= now() - interval '1 minute')
    RETURNING w.tenant_id, w.event_id, w.workflow_name, w.trigger_id
)
UPDATE inbound_events e SET status = CASE
    WHEN e.results @? '$[*] ? (@.outcome == "started" || @.outcome == "delivered" || @.outcome == "scheduled")'
    THEN 'matched' ELSE 'unmatched' END
FROM (SELECT DISTINCT tenant_id, event_id FROM closed) c
WHERE e.tenant_id = c.tenant_id AND e.id = c.event_id AND e.status = 'buffered'
    AND NOT EXISTS (
        SELECT FROM event_waits w
        WHERE w.tenant_id = e.tenant_id AND w.event_id = e.id AND NOT EXISTS (
            SELECT FROM closed x
            WHERE x.tenant_id = w.tenant_id AND x.event_id = w.event_id AND x.workflow_name = w.workflow_name
                AND x.trigger_id = w.trigger_id));
