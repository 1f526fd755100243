-- Jobs that the engine itself could not settle.

-- fragment: job
id::text AS id, kind, name, queue, workflow_instance_id::text AS instance_id, definition_name, attempt, last_error AS error,
due_at, created_at

-- name: page
-- Served by workflow_jobs_dead_idx.
SELECT {job} FROM workflow_jobs
WHERE tenant_id = $1 AND status = 'dead' AND ($2::text IS NULL OR kind = $2)
    AND ($3::text IS NULL OR workflow_instance_id = $3::text::uuid) AND ($4::text IS NULL OR id > $4::text::uuid)
ORDER BY id LIMIT $5;

-- name: lock
-- Served by workflow_jobs_pkey.
SELECT {job}, payload::text AS payload FROM workflow_jobs WHERE tenant_id = $1 AND id = $2::text::uuid AND status = 'dead' FOR UPDATE;

-- name: get
-- Served by workflow_jobs_pkey.
SELECT {job} FROM workflow_jobs WHERE tenant_id = $1 AND id = $2::text::uuid;

-- name: retry
-- As if it had never been tried; due now, where a watermark may have passed it. Served by workflow_jobs_pkey.
UPDATE workflow_jobs w
SET status = 'ready', attempt = 0, fencing_token = w.fencing_token + 1, lease_owner = NULL, lease_until = NULL,
    due_at = CASE WHEN n.virtual_now IS NULL THEN now() ELSE w.due_at END
FROM tenants n
WHERE w.tenant_id = $1 AND w.id = $2::text::uuid AND n.id = w.tenant_id;

-- name: discard
-- Served by workflow_jobs_pkey.
DELETE FROM workflow_jobs WHERE tenant_id = $1 AND id = $2::text::uuid AND status = 'dead';

-- name: turn_into_order
-- Instead of what it was, the job ($2) is an order ($4), under an id of its own ($3): what was done under the old one, if
-- anything, was something else. Served by workflow_jobs_pkey.
UPDATE workflow_jobs w
SET id = $3::text::uuid, kind = 'command', payload = $4::text::jsonb, status = 'ready', attempt = 0, last_error = NULL,
    fencing_token = w.fencing_token + 1, lease_owner = NULL, lease_until = NULL,
    due_at = CASE WHEN n.virtual_now IS NULL THEN now() ELSE w.due_at END
FROM tenants n
WHERE w.tenant_id = $1 AND w.id = $2::text::uuid AND w.status = 'dead' AND n.id = w.tenant_id;
