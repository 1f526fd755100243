-- Reading the step runs of one instance. Parameters $1 to $5 are the viewer; `{visible_to}` comes from visibility.sql.

-- name: step_events
-- What happened to its steps, in order; no row at all when the instance may not be seen. Served by the history's primary key.
SELECT h.seq, h.executed_at, e.event::text AS event
FROM workflow_execution_history h
CROSS JOIN LATERAL json_array_elements(h.execution_data -> 'events') WITH ORDINALITY AS e (event, place)
WHERE h.tenant_id = $1 AND h.workflow_instance_id = $6::uuid AND e.event ->> 'type' LIKE 'workflow.step.%'
    AND EXISTS (SELECT FROM workflow_instances i WHERE i.tenant_id = $1 AND i.id = $6::uuid AND {visible_to})
ORDER BY h.seq, e.place
LIMIT $7;
