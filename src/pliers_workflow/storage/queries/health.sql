-- How the database is doing; about the whole installation, so no tenant is named.

-- name: health
SELECT
    current_setting('server_version') AS server_version,
    now() AS now,
    (SELECT name FROM schema_migrations ORDER BY name DESC LIMIT 1) AS schema,
    pg_database_size(current_database()) AS database_bytes,
    (SELECT count(*) FROM (SELECT FROM workflow_execution_history_default LIMIT 10000) s) AS stray_history_rows,
    (SELECT max(to_date(right(c.relname, 7), 'YYYY_MM'))
     FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'workflow_execution_history'::regclass AND c.relname ~ '_[0-9]{4}_[0-9]{2}$') AS last_partition,
    (SELECT horizon FROM log_horizon) AS log_horizon,
    (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections,
    current_setting('max_connections')::int AS connections_max;

-- name: due_jobs
-- Of each kind: jobs that are due and taken by nobody, since when the oldest is, and those that somebody works on; of one
-- tenant up to $2 are counted. A virtual clock may stand still for years, so nothing of it is late.
-- Served by workflow_jobs_kind_idx.
SELECT k.kind, sum(j.due)::bigint AS due, sum(j.held)::bigint AS held,
       max(CASE WHEN n.virtual_now IS NULL THEN j.oldest_seconds END)::float8 AS oldest_seconds
FROM tenants n
CROSS JOIN unnest($1::text[]) AS k (kind)
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE s.free) AS due, count(*) FILTER (WHERE NOT s.free) AS held,
           extract(epoch FROM now() - min(s.due_at) FILTER (WHERE s.free)) AS oldest_seconds
    FROM (
        SELECT w.due_at, w.lease_until IS NULL OR w.lease_until <= now() AS free
        FROM workflow_jobs w
        WHERE w.tenant_id = n.id AND w.kind = k.kind AND w.status = 'ready' AND w.due_at <= coalesce(n.virtual_now, now())
        ORDER BY w.due_at LIMIT $2
    ) s
) j
GROUP BY k.kind HAVING sum(j.due) + sum(j.held) > 0
ORDER BY k.kind;

-- name: running_steps
-- Steps whose lease lasts, by type (the queue without what follows its colon), and for how long the oldest of them has been
-- due; of one tenant the first $1 that are due are looked at, among which are those that were claimed first. A virtual clock
-- may stand still for years, so nothing of it takes long. Served by workflow_jobs_kind_idx.
SELECT split_part(s.queue, ':', 1) AS type, count(*) AS running,
       extract(epoch FROM now() - min(s.due_at) FILTER (WHERE n.virtual_now IS NULL))::float8 AS oldest_seconds
FROM tenants n
CROSS JOIN LATERAL (
    SELECT w.queue, w.due_at, w.lease_until
    FROM workflow_jobs w
    WHERE w.tenant_id = n.id AND w.kind = 'step' AND w.status = 'ready' AND w.due_at <= coalesce(n.virtual_now, now())
    ORDER BY w.due_at LIMIT $1
) s
WHERE s.lease_until > now()
GROUP BY 1 ORDER BY 1;

-- name: dead_jobs
-- Jobs that no retry is left to; up to 10,000 are counted. Served by workflow_jobs_dead_idx.
SELECT count(*) FROM (
    SELECT FROM tenants n JOIN workflow_jobs w ON w.tenant_id = n.id WHERE w.status = 'dead' LIMIT 10000
) s;
