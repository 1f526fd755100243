-- Reading instances. Parameters $1 to $5 are the viewer (see visibility.sql); `{visible_to}` comes from there.

-- fragment: columns
i.id::text AS id, i.workflow_definition_id::text AS definition_id, i.workflow_name AS definition_name,
i.workflow_version::text AS version, i.revision, i.status::text AS status, i.configuration, i.current_state,
i.previous_state, i.instance_data AS data, i.context_data AS context, i.submission_data AS submission,
i.machine::text AS machine, i.requester_id::text AS requester, i.created_by::text AS created_by, i.created_at,
i.last_activity_at, i.submission_id::text AS submission_id, i.external_key, i.title, i.started_at, i.completed_at,
i.failed_at, i.cancelled_at, i.timeout_at, i.assigned_to::text AS assigned_to, i.sla_breach_at, i.escalated_at

-- name: get_instance
-- Served by workflow_instances_pkey.
SELECT {columns} FROM workflow_instances i
WHERE i.tenant_id = $1 AND i.id = $6::uuid AND {visible_to};

-- name: is_visible
-- Served by workflow_instances_pkey.
SELECT true FROM workflow_instances i
WHERE i.tenant_id = $1 AND i.id = $6::uuid AND {visible_to};

-- name: list_all
-- The newest first, for a viewer who sees all ($2, the same as $5 elsewhere: nothing is listed without it).
--
-- `{rows}` is a number: as a parameter it would hide from the planner that few rows are wanted, and every call would be
-- planned anew, which costs more than the rest. `{filters}` is the place of the filters below that are wanted.
-- Served by workflow_instances_pkey, or by the index of a filter.
SELECT {columns} FROM workflow_instances i
WHERE i.tenant_id = $1 AND $2::boolean AND i.id < $3::uuid {filters}
ORDER BY i.id DESC
LIMIT {rows};

-- name: list_of_workflow
-- The same of one workflow ($4), by the newest of each of its versions: no index has the workflow's name, and reading on
-- until enough of one workflow were found could take all there are.
-- Served by workflow_definitions_tenant_id_name_version_key, idx_workflow_instances_workflow_id, workflow_instances_pkey.
SELECT {columns}
FROM (
    SELECT one.id FROM workflow_definitions d
    CROSS JOIN LATERAL (
        SELECT i.id FROM workflow_instances i
        WHERE i.tenant_id = $1 AND $2::boolean AND i.workflow_definition_id = d.id AND i.id < $3::uuid {filters}
        ORDER BY i.id DESC
        LIMIT {rows}
    ) one
    WHERE d.tenant_id = $1 AND d.name = $4::text
    ORDER BY one.id DESC
    LIMIT {rows}
) newest
CROSS JOIN LATERAL (
    SELECT * FROM workflow_instances WHERE tenant_id = $1 AND id = newest.id OFFSET 0
) i
ORDER BY i.id DESC;

-- name: list_visible
-- The same for somebody who sees only some: each way of being concerned gives its newest, and of these the newest are
-- taken. It finds what `visible_to` lets through, without looking at what it would not (a test compares the two).
-- Served by idx_workflow_instances_requester, workflow_instances_created_by_idx, workflow_approvals_decided_by_idx,
-- workflow_approvals_asked_idx, workflow_definitions_viewers_idx with idx_workflow_instances_workflow_id.
WITH concerned AS (
    (SELECT i.id FROM workflow_instances i
     WHERE i.tenant_id = $1 AND i.requester_id = $2::uuid AND i.id < $6::uuid {filters}
     ORDER BY i.id DESC LIMIT {rows})
    UNION
    (SELECT i.id FROM workflow_instances i
     WHERE i.tenant_id = $1 AND i.created_by = $2::uuid AND i.created_by IS DISTINCT FROM i.requester_id
         AND i.id < $6::uuid {filters}
     ORDER BY i.id DESC LIMIT {rows})
    UNION
    (SELECT DISTINCT i.id FROM workflow_approvals a
     JOIN workflow_instances i ON i.tenant_id = a.tenant_id AND i.id = a.workflow_instance_id
     WHERE a.tenant_id = $1 AND a.decided_by = $2::uuid AND a.workflow_instance_id < $6::uuid {filters}
     ORDER BY i.id DESC LIMIT {rows})
    UNION
    (SELECT asked.id
     FROM (
         SELECT 'user' AS type, $2::uuid::text AS key
         UNION ALL SELECT 'role', r FROM unnest($3::text[]) r
         UNION ALL SELECT 'group', g FROM unnest($4::text[]) g
     ) who
     CROSS JOIN LATERAL (
         SELECT DISTINCT i.id FROM workflow_approvals a
         JOIN workflow_instances i ON i.tenant_id = a.tenant_id AND i.id = a.workflow_instance_id
         WHERE a.tenant_id = $1 AND a.approver_type = who.type AND a.approver_key = who.key
             AND a.workflow_instance_id < $6::uuid {filters}
         ORDER BY i.id DESC LIMIT {rows}
     ) asked)
    UNION
    (SELECT shown.id
     FROM workflow_definitions d
     CROSS JOIN LATERAL (
         SELECT i.id FROM workflow_instances i
         WHERE i.tenant_id = $1 AND i.workflow_definition_id = d.id AND i.id < $6::uuid {filters}
         ORDER BY i.id DESC LIMIT {rows}
     ) shown
     WHERE d.tenant_id = $1 AND d.viewers <> '[]'::jsonb
         AND d.viewers ?| (
             SELECT ARRAY['anyone', 'user:' || u.username]
                 || array(SELECT 'role:' || r FROM unnest($3::text[]) r)
                 || array(SELECT 'group:' || g FROM unnest($4::text[]) g)
             FROM users u WHERE u.tenant_id = $1 AND u.id = $2::uuid))
)
SELECT {columns} FROM workflow_instances i
WHERE i.tenant_id = $1 AND $5::boolean IS NOT NULL
    AND i.id IN (SELECT c.id FROM concerned c ORDER BY c.id DESC LIMIT {rows})
ORDER BY i.id DESC;

-- name: list_visible_live
-- The same where only instances of some statuses ($7) are wanted, none of them an end: these are few beside what somebody
-- has been concerned with in years, and each is looked at until enough are found that they may see.
-- Served by idx_workflow_instances_status, and what serves `visible_to`: workflow_approvals_pkey, workflow_definitions_pkey.
SELECT {columns}
FROM (
    SELECT one.id FROM unnest($7::text[]) AS s (status)
    CROSS JOIN LATERAL (
        SELECT i.id FROM workflow_instances i
        WHERE i.tenant_id = $1 AND i.status = s.status::workflow_instance_status AND i.status NOT IN ('completed', 'cancelled')
            AND i.id < $6::uuid AND {visible_to} {filters}
        ORDER BY i.id DESC
        LIMIT {rows}
    ) one
    ORDER BY one.id DESC
    LIMIT {rows}
) newest
CROSS JOIN LATERAL (
    SELECT * FROM workflow_instances WHERE tenant_id = $1 AND id = newest.id OFFSET 0
) i
ORDER BY i.id DESC;

-- The filters; `$value` becomes a parameter. None of them is a statement: they are put into the lists above.
-- name: filter_definition_id
i.workflow_definition_id = $value::uuid
-- name: filter_definition_name
i.workflow_name = $value::text
-- name: filter_version
i.workflow_version::text = $value::text
-- name: filter_state
i.current_state = $value::text
-- name: filter_assigned_to
i.assigned_to = $value::uuid
-- name: filter_requester
i.requester_id = $value::uuid
-- name: filter_submission_id
i.submission_id = $value::uuid
-- name: filter_external_key
i.external_key = $value::text
-- name: filter_created_after
i.created_at >= $value::timestamptz
-- name: filter_created_before
i.created_at < $value::timestamptz
