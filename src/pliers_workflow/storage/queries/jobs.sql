-- Jobs that the engine serves itself, claimed by kind. Their rows are written and dropped with the batch (`save_batch.sql`).

-- name: tenants_with_due
-- Tenants that have a job of this kind due by their own clock, so that claiming can take turns, but for those of which
-- that is known. One index probe for each tenant. Served by workflow_jobs_kind_idx.
SELECT n.id
FROM tenants n
WHERE n.id <> ALL ($3::text[]) AND EXISTS (
    SELECT FROM workflow_jobs j
    WHERE j.tenant_id = n.id AND j.status = 'ready' AND j.due_at <= coalesce(n.virtual_now, now())
        AND j.due_at >= CASE WHEN n.virtual_now IS NULL THEN $1::timestamptz ELSE '-infinity' END
        AND j.kind = $2 AND (j.lease_until IS NULL OR j.lease_until <= now())
);

-- name: claim_due
-- Take one tenant's jobs of a kind whose hour has come, oldest first, from the watermark ($2, $7) on (a virtual clock has no
-- watermark, it may be moved over any number of jobs at once); a lapsed lease may be taken again, under a new token.
-- Served by workflow_jobs_kind_idx. Changes no indexed column.
-- (The tenant's clock is asked for as a value: joined, it bounds the index only where the planner likes, and else a claim
-- that finds fewer than it may take reads every job that is due some day. Where a row stands is asked for instead of joined
-- by: a planner that expects many rows would read the table for the join, or run what it joins several times, and then a
-- LIMIT is none.)
WITH due AS MATERIALIZED (
    SELECT j.ctid AS place
    FROM workflow_jobs j
    WHERE j.tenant_id = $1 AND j.kind = $6 AND j.status = 'ready'
        AND j.due_at <= (SELECT coalesce(n.virtual_now, now()) FROM tenants n WHERE n.id = $1)
        AND (j.due_at, j.id) >= (
            (SELECT CASE WHEN n.virtual_now IS NULL THEN $2::timestamptz ELSE '-infinity' END FROM tenants n WHERE n.id = $1),
            $7::text::uuid)
        AND (j.lease_until IS NULL OR j.lease_until <= now())
    ORDER BY j.due_at, j.id
    LIMIT $3
    FOR UPDATE OF j SKIP LOCKED
)
UPDATE workflow_jobs w
SET lease_owner = $4, lease_until = now() + $5::interval, fencing_token = w.fencing_token + 1, attempt = w.attempt + 1
WHERE w.tenant_id = $1 AND w.ctid = ANY (ARRAY(SELECT place FROM due))
RETURNING w.id::text AS id, w.workflow_instance_id::text AS instance_id, w.name, w.due_at, w.fencing_token, w.attempt,
          w.payload::text AS payload;

-- name: next_due
-- Seconds until the next job of a kind, of any tenant with an ordinary clock, null when there is none; and what time it is.
-- Served by workflow_jobs_kind_idx.
SELECT now() AS now, extract(epoch FROM min(first.due_at) - now())::float8 AS seconds
FROM tenants n
CROSS JOIN LATERAL (
    SELECT j.due_at FROM workflow_jobs j
    WHERE j.tenant_id = n.id AND j.status = 'ready' AND j.due_at > now() AND j.due_at < 'infinity' AND j.kind = $1
    ORDER BY j.due_at LIMIT 1
) first
WHERE n.virtual_now IS NULL;

-- name: drop_claimed
-- Forget claimed jobs that turned out to be gone, unless somebody else holds them now. Served by workflow_jobs_pkey.
DELETE FROM workflow_jobs w
USING unnest($2::uuid[], $3::bigint[]) AS j (id, token)
WHERE w.tenant_id = $1 AND w.id = j.id AND w.fencing_token = j.token;

-- name: put_back
-- Leave claimed jobs for later: with what went wrong ($4), after a delay that grows with the attempts, or for so many
-- seconds ($7), which does not count as an attempt. After the last attempt ($5), or for good ($6), they are dead. The time
-- that they are due moves, so that a claim from the watermark finds them; where it is a virtual clock's, which may never
-- move again, a lease that nobody holds keeps them back. Served by workflow_jobs_pkey.
UPDATE workflow_jobs w
SET due_at = CASE WHEN later.virtual THEN w.due_at ELSE now() + later.delay END,
    lease_owner = CASE WHEN later.virtual THEN 'nobody' END,
    lease_until = CASE WHEN later.virtual THEN now() + later.delay END,
    attempt = w.attempt - CASE WHEN later.uncounted THEN 1 ELSE 0 END,
    last_error = coalesce(later.error, w.last_error),
    status = CASE WHEN later.final OR (NOT later.uncounted AND w.attempt >= $5) THEN 'dead' ELSE w.status END
FROM (
    SELECT o.id, o.token, j.error, j.final, j.seconds IS NOT NULL AS uncounted, n.virtual_now IS NOT NULL AS virtual,
           least(make_interval(mins => 10),
                 make_interval(secs => coalesce(j.seconds, 2 ^ least(o.attempt, 10)))) AS delay
    FROM (
        SELECT j.tenant_id, j.id, j.fencing_token AS token, j.attempt
        FROM workflow_jobs j WHERE j.tenant_id = $1 AND j.id = ANY ($2::uuid[])
    ) o
    JOIN tenants n ON n.id = o.tenant_id
    JOIN unnest($2::uuid[], $3::bigint[], $4::text[], $6::boolean[], $7::float8[]) AS j (id, token, error, final, seconds)
        ON j.id = o.id AND j.token = o.token
) later
WHERE w.tenant_id = $1 AND w.id = later.id AND w.fencing_token = later.token AND w.lease_owner IS NOT NULL;

-- name: give_back
-- Leave claimed jobs to others at once, because this node stops. That they were claimed does not count; they are due now,
-- where a watermark may have passed them. Served by workflow_jobs_pkey.
UPDATE workflow_jobs w
SET lease_owner = NULL, lease_until = NULL, attempt = w.attempt - 1,
    due_at = CASE WHEN n.virtual_now IS NULL THEN greatest(w.due_at, now()) ELSE w.due_at END
FROM unnest($2::uuid[], $3::bigint[]) AS j (id, token), tenants n
WHERE w.tenant_id = $1 AND w.id = j.id AND w.fencing_token = j.token AND w.lease_owner IS NOT NULL AND n.id = w.tenant_id;

-- name: owes_start
-- Whether an instance ($2) still owes the start of another ($3); a dead one may be retried. Served by
-- workflow_jobs_name_key.
SELECT EXISTS (
    SELECT FROM workflow_jobs
    WHERE tenant_id = $1 AND workflow_instance_id = $2::text::uuid AND kind = 'child' AND payload ->> 'to' = $3
);

-- name: drop_dead_start
-- An instance ($2) does not need another ($3) any more, whose start is dead: it cannot be retried from now on. Served by
-- workflow_jobs_name_key.
DELETE FROM workflow_jobs
WHERE tenant_id = $1 AND workflow_instance_id = $2::text::uuid AND kind = 'child' AND status = 'dead'
    AND payload ->> 'to' = $3;
