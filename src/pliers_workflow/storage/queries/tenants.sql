-- Tenants: the one table whose rows are tenants themselves.

-- name: create
INSERT INTO tenants (id, name, virtual_now) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING
RETURNING id AS tenant_id, name, virtual_now, directory_revision, created_at;

-- name: get
-- Served by tenants_pkey.
SELECT id AS tenant_id, name, virtual_now, directory_revision, created_at FROM tenants WHERE id = $1;

-- name: page
-- Of all tenants, or of one. Served by tenants_pkey.
SELECT id AS tenant_id, name, virtual_now, directory_revision, created_at FROM tenants
WHERE ($1::text IS NULL OR id > $1) AND ($3::text IS NULL OR id = $3) ORDER BY id LIMIT $2;

-- name: move_clock
-- Forwards only: time never goes back within an instance. Served by tenants_pkey.
UPDATE tenants SET virtual_now = $2 WHERE id = $1 AND virtual_now <= $2
RETURNING id AS tenant_id, name, virtual_now, directory_revision, created_at;

-- name: anything_due
-- Whether a tenant has jobs that are due by its own clock and that the engine itself sees to: a step that waits for a worker
-- outside is not ours to hurry. Served by workflow_jobs_due_idx.
SELECT EXISTS (
    SELECT FROM workflow_jobs j
    JOIN tenants n ON n.id = j.tenant_id
    WHERE j.tenant_id = $1 AND j.status = 'ready' AND j.due_at <= coalesce(n.virtual_now, now())
        AND (j.queue IS NULL OR j.queue NOT LIKE 'external:%')
);
