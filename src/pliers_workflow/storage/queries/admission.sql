-- Instances that wait for their turn. The row in `workflow_instances` is their place in the queue: ids grow with the time of
-- birth.

-- name: tenants_with_pending
-- Served by idx_workflow_instances_status: one probe for each tenant.
SELECT n.id FROM tenants n
WHERE EXISTS (SELECT FROM workflow_instances i WHERE i.tenant_id = n.id AND i.status = 'pending');

-- name: admissible
-- Those of a tenant whose turn it is, oldest first, at most $3: as many as there is room for when $2 may be under way (0: any
-- number). Both are seen at one moment, so two that ask at once find the same ones. With the trace that their starts belong to.
-- Served by idx_workflow_instances_status, and the history's primary key.
SELECT i.id::text AS id, (
    SELECT h.execution_data -> 'command' -> 'trace' FROM workflow_execution_history h
    WHERE h.tenant_id = $1 AND h.workflow_instance_id = i.id AND h.seq = 1
)::text AS trace
FROM workflow_instances i
WHERE i.tenant_id = $1 AND i.status = 'pending'
ORDER BY i.id
LIMIT CASE WHEN $2::int = 0 THEN $3::int ELSE least($3::int, $2::int - (
    SELECT count(*)::int FROM (
        SELECT FROM workflow_instances r
        WHERE r.tenant_id = $1 AND r.status IN ('running', 'waiting', 'suspended', 'escalated') LIMIT $2::int
    ) s
)) END;

-- name: queue
-- How many wait in all tenants (up to 10,000 are counted of each), and for how long the one that has waited longest.
-- Served by idx_workflow_instances_status.
SELECT coalesce(sum(q.waiting), 0)::bigint AS waiting,
       max(CASE WHEN n.virtual_now IS NULL THEN extract(epoch FROM now() - q.oldest) END)::float8 AS oldest_seconds
FROM tenants n
CROSS JOIN LATERAL (
    SELECT count(*) AS waiting, min(s.created_at) AS oldest FROM (
        SELECT i.created_at FROM workflow_instances i
        WHERE i.tenant_id = n.id AND i.status = 'pending' ORDER BY i.id LIMIT 10000
    ) s
) q
WHERE q.waiting > 0;
