-- Steps done outside: which lanes have something due, claiming it, holding it, giving it back.
--
-- A lane is what one definition has for one queue at one priority. Rows are written and dropped with the batch
-- (`save_batch.sql`); no statement that is run for each claim changes an indexed column. Statements that go by lane say
-- "not dead" and not "ready", so that no other index than that of lanes can serve them (migration 0009).

-- fragment: lanes_of_n
WITH RECURSIVE lane AS (
    (SELECT j.queue, j.definition_name, j.priority FROM workflow_jobs j
     WHERE j.tenant_id = n.id AND j.kind = 'step' AND j.status <> 'dead'
     ORDER BY j.queue, j.definition_name, j.priority LIMIT 1)
    UNION ALL
    SELECT beyond.queue, beyond.definition_name, beyond.priority
    FROM lane CROSS JOIN LATERAL (
        SELECT j.queue, j.definition_name, j.priority FROM workflow_jobs j
        WHERE j.tenant_id = n.id AND j.kind = 'step' AND j.status <> 'dead'
            AND (j.queue, j.definition_name, j.priority) > (lane.queue, lane.definition_name, lane.priority)
        ORDER BY j.queue, j.definition_name, j.priority LIMIT 1
    ) beyond
)
SELECT queue, definition_name, priority FROM lane

-- name: fresh_lanes
-- Lanes with a job that has become due since $1 and is nobody's; a virtual clock may have been moved over any time.
-- Served by workflow_jobs_kind_idx.
SELECT DISTINCT n.id AS tenant_id, j.queue, j.definition_name, j.priority
FROM tenants n
JOIN workflow_jobs j ON j.tenant_id = n.id
WHERE n.virtual_now IS NULL AND j.kind = 'step' AND j.status = 'ready' AND j.due_at >= $1 AND j.due_at <= now()
    AND j.lease_until IS NULL
UNION ALL
SELECT n.id, l.queue, l.definition_name, l.priority
FROM tenants n
CROSS JOIN LATERAL ({lanes_of_n}) l
WHERE n.virtual_now IS NOT NULL;

-- name: all_lanes
-- Every lane there is, whatever is in it: each is found by one probe beyond the one before. Served by workflow_jobs_lane_idx.
SELECT n.id AS tenant_id, l.queue, l.definition_name, l.priority
FROM tenants n
CROSS JOIN LATERAL ({lanes_of_n}) l;

-- name: claim
-- Take what is due in lanes of one tenant, from each at most its share: the oldest first, from the lane's watermark on. What
-- has a lease is somebody's, also when it has lapsed: the rescuer decides what becomes of that.
-- Served by workflow_jobs_lane_idx. Changes no indexed column.
-- (Where a row stands is asked for instead of joined by: a planner that expects many rows would read the table for the join,
-- or run what it joins several times, and then a LIMIT is none.)
WITH due AS MATERIALIZED (
    SELECT j.ctid AS place
    FROM tenants n
    CROSS JOIN unnest($2::text[], $3::text[], $4::smallint[], $5::timestamptz[], $6::text[], $7::int[])
        AS l (queue, definition_name, priority, low, low_id, share)
    CROSS JOIN LATERAL (
        SELECT j.ctid
        FROM workflow_jobs j
        WHERE j.tenant_id = n.id AND j.kind = 'step' AND j.status <> 'dead' AND j.queue = l.queue
            AND j.definition_name = l.definition_name AND j.priority = l.priority
            AND (j.due_at, j.id)
                >= (CASE WHEN n.virtual_now IS NULL THEN l.low ELSE '-infinity' END, l.low_id::uuid)
            AND j.due_at <= coalesce(n.virtual_now, now()) AND j.lease_until IS NULL
        ORDER BY j.due_at, j.id
        LIMIT l.share
        FOR UPDATE SKIP LOCKED
    ) j
    WHERE n.id = $1
)
UPDATE workflow_jobs w
SET lease_owner = $8, lease_until = now() + $9::interval, fencing_token = w.fencing_token + 1, attempt = w.attempt + 1
WHERE w.tenant_id = $1 AND w.ctid = ANY (ARRAY(SELECT place FROM due))
RETURNING w.id::text AS id, w.workflow_instance_id::text AS instance_id, w.name, w.queue, w.definition_name, w.priority,
          w.due_at, w.fencing_token AS token, w.attempt, w.payload::text AS payload, w.lease_until,
          (SELECT n.virtual_now IS NOT NULL FROM tenants n WHERE n.id = $1) AS virtual, now() AS now;

-- name: now
SELECT now();

-- name: next_due
-- Seconds until the next step of any tenant with an ordinary clock; null when there is none. Served by workflow_jobs_kind_idx.
SELECT extract(epoch FROM min(first.due_at) - now())::float8
FROM tenants n
CROSS JOIN LATERAL (
    SELECT j.due_at FROM workflow_jobs j
    WHERE j.tenant_id = n.id AND j.status = 'ready' AND j.due_at > now() AND j.due_at < 'infinity' AND j.kind = 'step'
    ORDER BY j.due_at LIMIT 1
) first
WHERE n.virtual_now IS NULL;

-- name: hold
-- Prolong the leases of steps that are still ours under these tokens, and say which those are. A row that somebody has
-- locked is about to be dropped, or not: it is not waited for, counts as ours, and is asked for again next time.
-- Served by workflow_jobs_pkey. Changes no indexed column.
WITH ours AS MATERIALIZED (
    SELECT w.tenant_id, w.id
    FROM unnest($1::text[], $2::uuid[], $3::bigint[]) AS t (tenant_id, id, token)
    JOIN workflow_jobs w
        ON w.tenant_id = t.tenant_id AND w.id = t.id AND w.fencing_token = t.token AND w.lease_owner = $4
), free AS MATERIALIZED (
    SELECT w.tenant_id, w.id
    FROM ours o JOIN workflow_jobs w ON w.tenant_id = o.tenant_id AND w.id = o.id
    FOR NO KEY UPDATE OF w SKIP LOCKED
), held AS (
    UPDATE workflow_jobs w SET lease_until = now() + $5::interval
    FROM free f
    WHERE w.tenant_id = f.tenant_id AND w.id = f.id AND w.lease_owner = $4
), slots AS (
    UPDATE step_slots s SET until = now() + $5::interval
    FROM ours o
    WHERE s.tenant_id = o.tenant_id AND s.job_id = o.id AND s.queue = ANY ($6::text[])
)
SELECT o.tenant_id, o.id::text AS id FROM ours o;

-- name: give_back
-- Leave steps to others at once, or after so many seconds: a node stops, or a circuit is open. Neither counts as an attempt.
-- Served by workflow_jobs_pkey.
UPDATE workflow_jobs w
SET lease_owner = NULL, lease_until = NULL, attempt = w.attempt - 1,
    due_at = CASE WHEN n.virtual_now IS NULL THEN greatest(w.due_at, now() + make_interval(secs => j.seconds))
                  ELSE w.due_at END
FROM unnest($2::uuid[], $3::bigint[], $4::float8[]) AS j (id, token, seconds), tenants n
WHERE w.tenant_id = $1 AND n.id = w.tenant_id AND w.id = j.id AND w.fencing_token = j.token AND w.lease_owner = $5;

-- name: drop_claimed
-- Forget steps of which nobody waits for a result any more. Served by workflow_jobs_pkey.
DELETE FROM workflow_jobs w
USING unnest($2::uuid[], $3::bigint[]) AS j (id, token)
WHERE w.tenant_id = $1 AND w.id = j.id AND w.fencing_token = j.token AND w.kind = 'step';

-- name: bury
-- The engine itself could not settle this step: it waits for an operator. Served by workflow_jobs_pkey.
UPDATE workflow_jobs w
SET status = 'dead', last_error = $4, lease_owner = NULL, lease_until = NULL
WHERE w.tenant_id = $1 AND w.id = $2::text::uuid AND w.fencing_token = $3 AND w.kind = 'step';

-- name: leased
-- One page of a lane from the beginning: how many of its jobs have a lease, which leases have lapsed, and the last job seen.
-- Claims go in the same order, so what has a lease stands before what nobody has claimed. Served by workflow_jobs_lane_idx.
WITH page AS (
    SELECT j.id, j.due_at, j.lease_until, j.workflow_instance_id, j.name, j.fencing_token, j.payload
    FROM workflow_jobs j
    WHERE j.tenant_id = $1 AND j.kind = 'step' AND j.status <> 'dead' AND j.queue = $2 AND j.definition_name = $3
        AND j.priority = $4 AND (j.due_at, j.id) > ($5, $6::text::uuid)
    ORDER BY j.due_at, j.id
    LIMIT $7
)
SELECT
    (SELECT count(*) FROM page) AS seen,
    (SELECT count(*) FROM page WHERE lease_until IS NOT NULL) AS leased,
    (SELECT due_at FROM page ORDER BY due_at DESC, id DESC LIMIT 1) AS last_due_at,
    (SELECT id::text FROM page ORDER BY due_at DESC, id DESC LIMIT 1) AS last_id,
    (SELECT json_agg(json_build_object(
        'id', id, 'instance_id', workflow_instance_id, 'name', name, 'token', fencing_token,
        'attempt', payload -> 'attempt', 'trace', payload -> 'trace'))
     FROM page WHERE lease_until <= now()) AS lapsed;

-- name: requester
-- For whom an instance runs. Served by workflow_instances_pkey.
SELECT requester_id::text FROM workflow_instances WHERE tenant_id = $1 AND id = $2::text::uuid;
