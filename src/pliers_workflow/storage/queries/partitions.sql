-- Upkeep of the history's partitions, which all tenants share.

-- name: made
-- The months that have a partition.
SELECT to_date(right(c.relname, 7), 'YYYY_MM') AS month
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'workflow_execution_history'::regclass AND c.relname ~ '_[0-9]{4}_[0-9]{2}$';

-- name: stray_months
-- Months of birth in the default partition, with how many rows each has there; of many rows a sample.
SELECT date_trunc('month', to_timestamp(('x' || lpad(left(replace(s.id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint
                                        / 1000.0) AT TIME ZONE 'UTC')::date AS month,
       count(*) AS rows
FROM (SELECT d.workflow_instance_id AS id FROM workflow_execution_history_default d LIMIT 60000) s
GROUP BY month
ORDER BY month
LIMIT 24;

-- name: patience
SELECT set_config('lock_timeout', '2s', true);

-- name: take_turn
-- One node at a time makes partitions; the others wait here, not behind a table.
SELECT pg_advisory_xact_lock(7254032);

-- name: make
SELECT make_history_partition($1::date);

-- name: stray_rows
SELECT count(*) FROM (SELECT FROM workflow_execution_history_default LIMIT 10000) s;
