-- Who may see an instance: the one place that says so. Every read of instances, work items and history passes it.
--
-- It speaks of the row `i` of workflow_instances, and of the viewer as parameters that every reading statement has:
-- $1 tenant, $2 user id, $3 role keys, $4 group keys, $5 whether they see all (operators, auditors, the engine itself).

-- name: visible_to
(
    $5::boolean
    OR i.requester_id = $2::uuid
    OR i.created_by = $2::uuid
    OR EXISTS (
        SELECT FROM workflow_approvals v
        WHERE v.tenant_id = i.tenant_id AND v.workflow_instance_id = i.id
            AND (v.decided_by = $2::uuid
                OR (v.approver_type = 'user' AND v.approver_key = $2::uuid::text)
                OR (v.approver_type = 'role' AND v.approver_key = ANY ($3::text[]))
                OR (v.approver_type = 'group' AND v.approver_key = ANY ($4::text[])))
    )
    OR EXISTS (
        SELECT FROM workflow_definitions d
        WHERE d.tenant_id = i.tenant_id AND d.id = i.workflow_definition_id AND d.viewers <> '[]'::jsonb
            AND d.viewers ?| (
                SELECT ARRAY['anyone', 'user:' || u.username]
                    || array(SELECT 'role:' || r FROM unnest($3::text[]) r)
                    || array(SELECT 'group:' || g FROM unnest($4::text[]) g)
                FROM users u WHERE u.tenant_id = $1 AND u.id = $2::uuid)
    )
)
