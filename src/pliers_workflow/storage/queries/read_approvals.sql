-- Reading work items. Parameters $1 to $5 are the viewer (see visibility.sql); `{visible_to}` comes from there.

-- fragment: columns
a.id::text AS id, a.workflow_instance_id::text AS instance_id, a.item, a.chain_id AS chain, a.step_id AS stage, a.visit,
a.round, a.approver_type, a.approver_key, a.slot, a.approver_id::text AS approver_id, a.principal_id::text AS principal,
a.action::text AS action, a.comments, a.decision_data, a.decided_by::text AS decided_by, a.decided_at, a.weight,
a.group_key AS "group", a.timeout_at, a.delegated_to::text AS delegated_to, a.delegated_at, a.created_at

-- name: of_instance
-- The work items of one instance, oldest first; with $7 those settled too. Served by workflow_approvals_pkey.
SELECT {columns}
FROM workflow_instances i
JOIN workflow_approvals a ON a.tenant_id = i.tenant_id AND a.workflow_instance_id = i.id
WHERE i.tenant_id = $1 AND i.id = $6::uuid AND (a.action IS NULL OR $7::boolean) AND {visible_to}
ORDER BY a.created_at, length(a.item), a.item;

-- name: inbox
-- What a person ($6) is asked to decide, waiting longest first, after the item ($7, $8). Per way of being asked the first
-- few are taken off an index, then merged. A stage that asks a person twice (by name and by role) is shown once (by
-- name, where it is), and not at all when they have voted in it already. $9: data fields wanted. `{filters}` is the place
-- of those below that are wanted: nothing is asked of the instances of items that a page does not show, and one plan
-- serves all calls. What a shown item needs of other tables is looked up by its key (OFFSET 0 keeps it so: a planner without
-- statistics joins all instances with all workflows).
-- Served by idx_workflow_approvals_approver, workflow_approvals_pkey, workflow_instances_pkey, workflow_definitions_pkey,
-- users_pkey.
WITH viewer AS (
    SELECT $2::uuid, $3::text[], $4::text[], $5::boolean
), who AS MATERIALIZED (
    SELECT 'user' AS type, $6::uuid::text AS key
    UNION ALL
    SELECT m.kind, m.key FROM directory_members m WHERE m.tenant_id = $1 AND m.user_id = $6::uuid
)
SELECT {columns},
    i.workflow_definition_id::text AS definition_id, i.workflow_name AS definition_name,
    i.workflow_version::text AS version, d.title AS definition_title, i.title, i.current_state, i.status::text AS status,
    i.revision, i.created_at AS started_at, i.requester_id::text AS requester, r.username AS requester_username,
    r.name AS requester_name,
    (SELECT jsonb_object_agg(f, i.instance_data -> f) FROM unnest($9::text[]) f WHERE i.instance_data ? f) AS data
FROM (
    SELECT first.* FROM who w
    CROSS JOIN LATERAL (
        SELECT a.* FROM workflow_approvals a
        WHERE a.tenant_id = $1 AND a.approver_type = w.type AND a.approver_key = w.key AND a.action IS NULL
            AND (a.created_at, a.id) > ($7::timestamptz, $8::uuid)
            AND (a.claimed_by IS NULL OR a.claimed_by = $6::uuid)
            AND NOT EXISTS (
                SELECT FROM workflow_approvals o
                WHERE o.tenant_id = $1 AND o.workflow_instance_id = a.workflow_instance_id AND o.step_id = a.step_id
                    AND o.visit = a.visit AND o.round = a.round
                    AND ((o.decided_by = $6::uuid AND o.action IN ('approve', 'reject'))
                        OR (o.action IS NULL
                            AND (o.approver_type <> 'user', o.created_at, o.id) < (a.approver_type <> 'user', a.created_at, a.id)
                            AND (o.approver_type, o.approver_key) IN (SELECT w2.type, w2.key FROM who w2)))) {filters}
        ORDER BY a.created_at, a.id
        LIMIT {rows}
    ) first
    ORDER BY first.created_at, first.id
    LIMIT {rows}
) a
CROSS JOIN LATERAL (
    SELECT * FROM workflow_instances WHERE tenant_id = $1 AND id = a.workflow_instance_id OFFSET 0
) i
CROSS JOIN LATERAL (
    SELECT title FROM workflow_definitions WHERE tenant_id = $1 AND id = i.workflow_definition_id OFFSET 0
) d
LEFT JOIN LATERAL (
    SELECT username, name FROM users WHERE tenant_id = $1 AND id = i.requester_id OFFSET 0
) r ON true
ORDER BY a.created_at, a.id;

-- The filters; `$value` becomes a parameter. Neither is a statement: they are put into the inbox. Served by
-- workflow_instances_pkey.
-- name: filter_visible
-- For somebody else's inbox.
EXISTS (
    SELECT FROM workflow_instances i
    WHERE i.tenant_id = $1 AND i.id = a.workflow_instance_id AND {visible_to}
)
-- name: filter_workflow
EXISTS (
    SELECT FROM workflow_instances i
    WHERE i.tenant_id = $1 AND i.id = a.workflow_instance_id AND i.workflow_name = $value::text
)
