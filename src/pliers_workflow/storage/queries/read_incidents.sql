-- Reading incidents: operators' lists, and one instance's for whoever may see it.

-- fragment: incident
c.workflow_instance_id::text AS instance_id, c.incident, c.workflow_name AS workflow, c.code, c.fingerprint, c.message,
c.state, c.stage, c.step, c.step_id, c.attempts, c.details, c.raised_at, c.resolved_at, c.action, c.reason,
c.resolved_by::text AS resolved_by

-- fragment: fitting
($2::text IS NULL OR c.fingerprint = $2) AND ($3::text IS NULL OR c.code = $3) AND ($4::text IS NULL OR c.workflow_name = $4)
AND ($5::text IS NULL OR c.step_id = $5)

-- name: open_page
-- Open incidents, the newest first. Served by workflow_incidents_open_idx, or workflow_incidents_cause_idx.
SELECT {incident}
FROM workflow_incidents c
WHERE c.tenant_id = $1 AND c.resolved_at IS NULL AND {fitting}
    AND ($6::timestamptz IS NULL OR (c.raised_at, c.workflow_instance_id, c.incident) < ($6, $7::text::uuid, $8))
ORDER BY c.raised_at DESC, c.workflow_instance_id DESC, c.incident DESC
LIMIT $9;

-- name: page
-- All incidents, resolved ones too, the newest first. Served by workflow_incidents_raised_idx.
SELECT {incident}
FROM workflow_incidents c
WHERE c.tenant_id = $1 AND {fitting}
    AND ($6::timestamptz IS NULL OR (c.raised_at, c.workflow_instance_id, c.incident) < ($6, $7::text::uuid, $8))
ORDER BY c.raised_at DESC, c.workflow_instance_id DESC, c.incident DESC
LIMIT $9;

-- name: groups
-- Open incidents by cause, the most frequent first. Served by workflow_incidents_cause_idx.
SELECT c.fingerprint, min(c.workflow_name) AS workflow, min(c.code) AS code, min(c.step_id) AS step_id,
       min(c.stage) AS stage, (array_agg(c.message ORDER BY c.raised_at DESC))[1] AS message, count(*)::int AS count,
       min(c.raised_at) AS first_raised_at, max(c.raised_at) AS last_raised_at
FROM workflow_incidents c
WHERE c.tenant_id = $1 AND c.resolved_at IS NULL AND {fitting}
GROUP BY c.fingerprint
ORDER BY count(*) DESC, c.fingerprint
LIMIT $6;

-- name: of_instance
-- In the order in which they were raised. Served by workflow_incidents_pkey.
SELECT {incident}
FROM workflow_incidents c
WHERE c.tenant_id = $1 AND c.workflow_instance_id = $2::text::uuid
ORDER BY c.raised_at, c.incident;
