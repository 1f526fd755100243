-- People who have left, and the instances that ask them.

-- name: schedule
-- Twice, so that what was being committed on older facts meanwhile is looked at, too.
INSERT INTO workflow_jobs (tenant_id, id, kind, name, due_at, payload)
SELECT n.id, gen_random_uuid(), 'departure', 'departure', coalesce(n.virtual_now, now()) + later, $2::text::jsonb
FROM tenants n, unnest(ARRAY[interval '0', $3::interval]) AS later
WHERE n.id = $1;

-- name: asking
-- The next instances with an open item for one of these approvers. Served by idx_workflow_approvals_approver.
SELECT DISTINCT a.workflow_instance_id::text AS id
FROM unnest($2::text[], $3::text[]) AS t (type, key)
JOIN workflow_approvals a ON a.approver_type = t.type AND a.approver_key = t.key
WHERE a.tenant_id = $1 AND a.action IS NULL AND ($4::text IS NULL OR a.workflow_instance_id > $4::text::uuid)
ORDER BY id LIMIT $5;

-- name: advance
-- So far it has come. Served by workflow_jobs_pkey.
UPDATE workflow_jobs SET payload = $4::text::jsonb WHERE tenant_id = $1 AND id = $2::text::uuid AND fencing_token = $3;
