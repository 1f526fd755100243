-- Reading the history of one instance. Parameters $1 to $5 are the viewer; `{visible_to}` comes from visibility.sql.

-- name: page
-- After a seq, in order; no row at all when the instance may not be seen. Served by the history's primary key.
SELECT h.id::text AS id, h.seq, h.command_id, h.action_type::text AS action_type, h.from_state, h.to_state, h.step_id,
       h.result::text AS result, h.error_message, h.execution_data, h.executed_at, h.executed_by::text AS executed_by,
       encode(h.hash, 'hex') AS hash
FROM workflow_execution_history h
WHERE h.tenant_id = $1 AND h.workflow_instance_id = $6::uuid AND h.seq > $7
    AND EXISTS (SELECT FROM workflow_instances i WHERE i.tenant_id = $1 AND i.id = $6::uuid AND {visible_to})
ORDER BY h.seq
LIMIT $8;

-- name: names
-- What people are called. Served by users_pkey.
SELECT u.id::text AS id, coalesce(u.name, u.username) AS name FROM users u WHERE u.tenant_id = $1 AND u.id = ANY ($2::uuid[]);

-- name: definition_of
-- The document an instance runs by, for the names of its states and stages. Served by both primary keys.
SELECT d.state_machine, d.approval_chains
FROM workflow_instances i JOIN workflow_definitions d ON d.tenant_id = i.tenant_id AND d.id = i.workflow_definition_id
WHERE i.tenant_id = $1 AND i.id = $2::uuid;
