-- Jobs: what is due later. The rows of timers are written and dropped with the batch (`save_batch.sql`); here they are claimed.

-- name: tenants_with_due
-- Tenants that have a timer due by their own clock, so that claiming can take turns. One index probe for each tenant.
-- Served by workflow_jobs_kind_idx.
SELECT n.id
FROM tenants n
WHERE EXISTS (
    SELECT FROM workflow_jobs j
    WHERE j.tenant_id = n.id AND j.status = 'ready' AND j.due_at <= coalesce(n.virtual_now, now())
        AND j.due_at >= CASE WHEN n.virtual_now IS NULL THEN $1::timestamptz ELSE '-infinity' END
        AND j.kind = 'timer' AND (j.lease_until IS NULL OR j.lease_until <= now())
);

-- name: claim_due_timers
-- Take one tenant's timers whose hour has come, oldest first, from the watermark $2 on (a virtual clock has no watermark,
-- it may be moved over any number of timers at once); a lapsed lease may be taken again,
-- under a new token. Served by workflow_jobs_kind_idx. Changes no indexed column.
UPDATE workflow_jobs w
SET lease_owner = $4, lease_until = now() + $5::interval, fencing_token = w.fencing_token + 1, attempt = w.attempt + 1
FROM (
    SELECT j.id
    FROM workflow_jobs j
    JOIN tenants n ON n.id = j.tenant_id
    WHERE j.tenant_id = $1 AND j.status = 'ready' AND j.due_at <= coalesce(n.virtual_now, now())
        AND j.due_at >= CASE WHEN n.virtual_now IS NULL THEN $2::timestamptz ELSE '-infinity' END
        AND j.kind = 'timer' AND (j.lease_until IS NULL OR j.lease_until <= now())
    ORDER BY j.due_at, j.id
    LIMIT $3
    FOR UPDATE OF j SKIP LOCKED
) due
WHERE w.tenant_id = $1 AND w.id = due.id
RETURNING w.id::text AS id, w.workflow_instance_id::text AS instance_id, w.name, w.due_at, w.fencing_token, w.attempt;

-- name: next_due
-- Seconds until the next timer of any tenant with an ordinary clock, null when there is none; and what time it is.
-- Served by workflow_jobs_kind_idx.
SELECT now() AS now, extract(epoch FROM min(first.due_at) - now())::float8 AS seconds
FROM tenants n
CROSS JOIN LATERAL (
    SELECT j.due_at FROM workflow_jobs j
    WHERE j.tenant_id = n.id AND j.status = 'ready' AND j.due_at > now() AND j.due_at < 'infinity' AND j.kind = 'timer'
    ORDER BY j.due_at LIMIT 1
) first
WHERE n.virtual_now IS NULL;

-- name: drop_claimed
-- Forget claimed timers that turned out to be gone, unless somebody else holds them now. Served by workflow_jobs_pkey.
DELETE FROM workflow_jobs w
USING unnest($2::uuid[], $3::bigint[]) AS j (id, token)
WHERE w.tenant_id = $1 AND w.id = j.id AND w.fencing_token = j.token;

-- name: put_back
-- Leave claimed timers for later, with what went wrong; after the last attempt they are dead and counted as such.
-- Served by workflow_jobs_pkey.
UPDATE workflow_jobs w
SET lease_until = now() + least(interval '10 minutes', interval '1 second' * 2 ^ least(w.attempt, 10)),
    last_error = j.error,
    status = CASE WHEN w.attempt >= $5 THEN 'dead' ELSE w.status END
FROM unnest($2::uuid[], $3::bigint[], $4::text[]) AS j (id, token, error)
WHERE w.tenant_id = $1 AND w.id = j.id AND w.fencing_token = j.token AND w.lease_owner IS NOT NULL;

-- name: give_back
-- Leave claimed timers to others at once, because this node stops. Served by workflow_jobs_pkey.
UPDATE workflow_jobs w
SET lease_owner = NULL, lease_until = NULL
FROM unnest($2::uuid[], $3::bigint[]) AS j (id, token)
WHERE w.tenant_id = $1 AND w.id = j.id AND w.fencing_token = j.token AND w.lease_owner IS NOT NULL;
