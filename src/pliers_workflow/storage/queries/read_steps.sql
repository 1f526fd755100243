-- Reading steps: the runs of one instance, and what is at work in all of them.

-- name: step_events
-- Of one instance. Parameters $1 to $5 are the viewer; `{visible_to}` comes from visibility.sql.
-- What happened to its steps, in order; no row at all when the instance may not be seen. Served by the history's primary key.
SELECT h.seq, h.executed_at, e.event::text AS event
FROM workflow_execution_history h
CROSS JOIN LATERAL json_array_elements(h.execution_data -> 'events') WITH ORDINALITY AS e (event, place)
WHERE h.tenant_id = $1 AND h.workflow_instance_id = $6::uuid AND e.event ->> 'type' LIKE 'workflow.step.%'
    AND EXISTS (SELECT FROM workflow_instances i WHERE i.tenant_id = $1 AND i.id = $6::uuid AND {visible_to})
ORDER BY h.seq, e.place
LIMIT $7;

-- name: at_work
-- Steps that a worker is at or that wait for one, by the tenant's clock for at least $2 seconds, the longest first, from one
-- of them on ($3, $4). Served by workflow_jobs_kind_idx.
SELECT w.id::text AS id, w.workflow_instance_id::text AS instance_id, w.name, w.queue, w.definition_name AS workflow,
       coalesce(w.payload ->> 'version', '') AS version, w.payload -> 'run' ->> 'stepId' AS step_id,
       (w.payload ->> 'attempt')::int AS attempt, w.due_at, w.created_at,
       CASE WHEN w.lease_until > now() THEN w.lease_owner END AS owner,
       CASE WHEN w.lease_until > now() THEN w.lease_until END AS lease_until
FROM workflow_jobs w
WHERE w.tenant_id = $1 AND w.kind = 'step' AND w.status = 'ready'
    AND w.due_at <= (SELECT coalesce(n.virtual_now, now()) - make_interval(secs => $2) FROM tenants n WHERE n.id = $1)
    AND (w.due_at, w.id) > ($3::timestamptz, $4::text::uuid)
    AND ($5::text IS NULL OR w.definition_name = $5) AND ($6::text IS NULL OR w.queue = $6)
ORDER BY w.due_at, w.id
LIMIT $7;
