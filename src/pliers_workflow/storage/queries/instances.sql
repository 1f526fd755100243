-- What the batch-first commit reads, and what stands around it; the statement that writes is in `save_batch.sql`. Each names
-- its tenants as an array that every join repeats, so that one batch may mix tenants and none can reach into another.

-- name: load_batch
-- A batch's instances, and of the requests' idempotency keys those that were used before, with each tenant's clock and
-- directory revision. Rows of kind `i` come for every instance asked for, rows of kind `k` for known keys only. Where the
-- instance stands at the revision that the node knows it at, its columns are left out. Parameters are joined columns, as in
-- save_batch.sql: encoding arrays element by element is what takes the driver longest.
-- Served by workflow_instances_pkey, tenants_pkey, idempotency_records_pkey.
SELECT 'i' AS kind, t.ord::int AS ord, coalesce(n.virtual_now, now()) AS now, n.directory_revision,
       c.workflow_definition_id::text AS definition_id, c.workflow_name AS definition_name,
       c.workflow_version::text AS version, i.revision, c.history_hash, c.status::text AS status, c.configuration,
       c.current_state, c.previous_state, c.instance_data::text AS data, c.context_data::text AS context,
       c.submission_data::text AS submission, c.machine::text AS machine, c.requester_id::text AS requester,
       c.created_by::text AS created_by, c.created_at, c.last_activity_at, c.submission_id::text AS submission_id,
       c.external_key, c.title, c.started_at, c.completed_at, c.failed_at, c.cancelled_at, c.timeout_at,
       c.assigned_to::text AS assigned_to,
       NULL::text AS key_instance, NULL::int AS key_seq, NULL::bytea AS key_body
FROM unnest(split_column($1), split_column($2)::uuid[], split_column($3)::int[])
    WITH ORDINALITY AS t (tenant_id, id, known_revision, ord)
JOIN tenants n ON n.id = t.tenant_id
LEFT JOIN workflow_instances i ON i.tenant_id = t.tenant_id AND i.id = t.id
LEFT JOIN LATERAL (SELECT i.* WHERE i.revision <> t.known_revision) c ON true
UNION ALL
SELECT 'k', q.ord::int, k.created_at, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       k.workflow_instance_id::text, k.seq, k.body_hash
FROM unnest(split_column($4), split_column($5), split_column($6), split_column($7))
    WITH ORDINALITY AS q (tenant_id, principal, route, key, ord)
JOIN idempotency_records k
    ON k.tenant_id = q.tenant_id AND k.principal = q.principal AND k.route = q.route AND k.key = q.key;

-- name: lock_batch
-- Wait for the row locks of a batch, in the one order that cannot deadlock. For commands that were overtaken twice: the
-- read that follows in the same transaction cannot be overtaken again. Served by workflow_instances_pkey.
SELECT i.id FROM unnest($1::text[], $2::uuid[]) AS t (tenant_id, id)
JOIN workflow_instances i ON i.tenant_id = t.tenant_id AND i.id = t.id
ORDER BY t.tenant_id, t.id
FOR NO KEY UPDATE OF i;

-- name: applied_commands
-- Of commands whose commit is uncertain, those that are in the history after all. Served by the history's primary key.
SELECT h.workflow_instance_id::text AS instance_id, h.seq, h.command_id
FROM unnest($1::text[], $2::uuid[], $3::int[], $4::text[]) AS t (tenant_id, id, base_revision, command_id)
JOIN workflow_execution_history h
    ON h.tenant_id = t.tenant_id AND h.workflow_instance_id = t.id AND h.seq > t.base_revision
    AND h.command_id = t.command_id;

-- name: history_until
-- The history rows of one instance up to a seq, in order, to fold. Served by the history's primary key.
SELECT seq, command_id, execution_data::text AS record, executed_at, previous_hash, hash
FROM workflow_execution_history
WHERE tenant_id = $1 AND workflow_instance_id = $2 AND seq <= $3
ORDER BY seq;
