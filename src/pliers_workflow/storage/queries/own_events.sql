-- The engine's own events on their way into the inbox.

-- name: present
-- Whether a reader has lanes: it is given them when a version first listens for something. Served by feed_lanes_pkey.
SELECT EXISTS (SELECT FROM feed_lanes WHERE reader = $1);

-- name: data_of
-- What an instance holds; of one that has ended it changes no more. Served by workflow_instances_pkey.
SELECT instance_data FROM workflow_instances WHERE tenant_id = $1 AND id = $2::text::uuid;

-- name: cause
-- The last command up to a seq that says why the instance moves: a person's, an event's, or its start. Served by the
-- history's primary key.
SELECT h.executed_by IS NOT NULL AS by_person, h.execution_data #>> '{command,order,depth}' AS depth,
    h.execution_data #>> '{events,0,parent,instance}' AS parent
FROM workflow_execution_history h
WHERE h.tenant_id = $1 AND h.workflow_instance_id = $2::text::uuid AND h.seq <= $3
    AND (h.executed_by IS NOT NULL OR h.action_type IN ('start', 'correlate'))
ORDER BY h.seq DESC LIMIT 1;
