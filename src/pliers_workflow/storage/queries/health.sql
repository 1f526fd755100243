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
    (SELECT extract(epoch FROM now() - min(due_at))::float8 FROM (
        SELECT min(j.due_at) AS due_at FROM tenants t
        CROSS JOIN unnest(ARRAY[
            'timer', 'step', 'retry', 'trigger', 'webhook', 'notification', 'start', 'command', 'child']) AS k (kind)
        CROSS JOIN LATERAL (
            SELECT due_at FROM workflow_jobs w
            WHERE w.tenant_id = t.id AND w.kind = k.kind AND w.status = 'ready' ORDER BY due_at, id LIMIT 1
        ) j WHERE t.virtual_now IS NULL AND j.due_at <= now()) o) AS oldest_due_job_seconds,
    (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections,
    current_setting('max_connections')::int AS connections_max;
