-- Plugins: what each says of itself, and which nodes have it. They belong to the installation, so no tenant is named; the
-- jobs that wait for one belong to tenants.

-- name: register
-- A node that has these plugins starts. The same version again replaces what was known of it. Served by plugins_pkey.
INSERT INTO plugins (id, version, title, description, isolation, timeout, memory,
                     configuration_schema, input_schema, output_schema)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::float8[], $7::integer[],
                     $8::json[], $9::json[], $10::json[])
ON CONFLICT (id, version) DO UPDATE
SET title = excluded.title, description = excluded.description, isolation = excluded.isolation,
    timeout = excluded.timeout, memory = excluded.memory, configuration_schema = excluded.configuration_schema,
    input_schema = excluded.input_schema, output_schema = excluded.output_schema, seen_at = now();

-- name: registered
-- Every version of these plugins; null: of all. There are few rows. Served by plugins_pkey.
SELECT id, version, title, description, isolation, timeout, memory, configuration_schema::text AS configuration_schema,
       input_schema::text AS input_schema, output_schema::text AS output_schema, registered_at
FROM plugins
WHERE $1::text[] IS NULL OR id = ANY ($1)
ORDER BY id, version;

-- name: holders
-- Which node that lives has which plugin, and whether it runs steps now. There are few rows.
SELECT n.name AS node, n.role, n.draining, p.id, p.version, p.state, p.reason
FROM nodes n
CROSS JOIN LATERAL jsonb_to_recordset(n.plugins) AS p (id text, version text, state text, reason text)
WHERE n.seen_at >= now() - make_interval(secs => $1::float8)
ORDER BY p.id, n.name;

-- name: keep
-- Remember when each was last seen, and forget what no node has had for $1 days. There are few rows.
WITH had AS (
    SELECT DISTINCT p.id, p.version FROM nodes n CROSS JOIN LATERAL jsonb_to_recordset(n.plugins) AS p (id text, version text)
), seen AS (
    UPDATE plugins SET seen_at = now() FROM had WHERE plugins.id = had.id AND plugins.version = had.version
)
DELETE FROM plugins
WHERE seen_at < now() - make_interval(days => $1)
    AND NOT EXISTS (SELECT FROM had WHERE had.id = plugins.id AND had.version = plugins.version);

-- name: waiting
-- Plugins for which a step is due that nobody has. Each queue is found by one probe beyond the one before, and in it one step;
-- a clock that is moved by hand is the tenant's own affair. Served by workflow_jobs_lane_idx.
SELECT DISTINCT substr(w.queue, 8) AS id
FROM tenants n
CROSS JOIN LATERAL (
    WITH RECURSIVE q AS (
        (SELECT j.queue FROM workflow_jobs j
         WHERE j.tenant_id = n.id AND j.kind = 'step' AND j.status <> 'dead' ORDER BY j.queue LIMIT 1)
        UNION ALL
        SELECT beyond.queue
        FROM q CROSS JOIN LATERAL (
            SELECT j.queue FROM workflow_jobs j
            WHERE j.tenant_id = n.id AND j.kind = 'step' AND j.status <> 'dead' AND j.queue > q.queue
            ORDER BY j.queue LIMIT 1
        ) beyond
    )
    SELECT q.queue FROM q WHERE q.queue LIKE 'plugin:%'
) w
WHERE EXISTS (
    SELECT FROM workflow_jobs j
    WHERE j.tenant_id = n.id AND j.kind = 'step' AND j.status <> 'dead' AND j.queue = w.queue
        AND j.due_at <= coalesce(n.virtual_now, now()) AND j.lease_until IS NULL
)
ORDER BY 1;
