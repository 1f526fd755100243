-- Incidents that are resolved many at once.

-- fragment: resolution
r.id::text AS id, r.filter, r.action, r.reason, r.patch::text AS patch, r.output::text AS output, r.handled, r.resolved,
r.refused, r.refusals, r.created_by::text AS created_by, r.created_at, r.finished_at, r.raised_before, r.seen_at,
r.seen_instance::text AS seen_instance, r.seen_incident

-- name: create
-- With its job, which is its maker's for a while: most are done before they are answered.
WITH made AS (
    INSERT INTO incident_resolutions AS r (tenant_id, id, filter, action, reason, patch, output, raised_before, created_by)
    SELECT n.id, $2::text::uuid, $3::text::jsonb, $4, $5, $6::text::jsonb, $7::text::jsonb, now(), $8::text::uuid
    FROM tenants n WHERE n.id = $1
    RETURNING r.tenant_id, r.id
)
INSERT INTO workflow_jobs (tenant_id, id, kind, name, due_at, lease_owner, lease_until, fencing_token, attempt, payload)
SELECT m.tenant_id, m.id, 'resolution', 'resolution', coalesce(n.virtual_now, now()), $9, now() + $10::interval, 1, 1, '{}'
FROM made m JOIN tenants n ON n.id = m.tenant_id
RETURNING fencing_token;

-- name: get
-- Served by incident_resolutions_pkey.
SELECT {resolution} FROM incident_resolutions r WHERE r.tenant_id = $1 AND r.id = $2::text::uuid;

-- name: next
-- Open incidents that fit and were not handled yet, the oldest first. Served by workflow_incidents_open_idx, or
-- workflow_incidents_cause_idx.
SELECT c.workflow_instance_id::text AS instance_id, c.incident, c.raised_at
FROM workflow_incidents c
WHERE c.tenant_id = $1 AND c.resolved_at IS NULL
    AND ($2::text IS NULL OR c.fingerprint = $2) AND ($3::text IS NULL OR c.code = $3)
    AND ($4::text IS NULL OR c.workflow_name = $4) AND ($5::text IS NULL OR c.step_id = $5)
    AND c.created_at <= $6
    AND ($7::timestamptz IS NULL OR (c.raised_at, c.workflow_instance_id, c.incident) > ($7, $8::text::uuid, $9))
ORDER BY c.raised_at, c.workflow_instance_id, c.incident
LIMIT $10;

-- name: advance
-- So far it has come. Whoever was slow and comes back late finds that somebody else has moved it.
UPDATE incident_resolutions r
SET handled = r.handled + $3, resolved = r.resolved + $4, refused = r.refused + $5,
    refusals = CASE WHEN jsonb_array_length(r.refusals) < 100 THEN r.refusals || $6::text::jsonb ELSE r.refusals END,
    seen_at = coalesce($7, r.seen_at), seen_instance = coalesce($8::text::uuid, r.seen_instance),
    seen_incident = coalesce($9, r.seen_incident), finished_at = CASE WHEN $10 THEN now() END
WHERE r.tenant_id = $1 AND r.id = $2::text::uuid AND r.handled = $11 AND r.finished_at IS NULL
RETURNING {resolution};
