-- Limits of queues, and what is on their account. All served by step_limits_pkey and step_slots_pkey.

-- name: keys
-- Which queues have a limit, in all tenants; there are few, and every node asks once a second.
SELECT n.id AS tenant_id, l.queue FROM tenants n JOIN step_limits l ON l.tenant_id = n.id;

-- name: hold
-- Lock a queue's limits, always in the same order, with the tokens that each has now.
SELECT queue, max_running, rate, per_seconds,
       least(rate, tokens + date_part('epoch', clock_timestamp() - refilled_at) * rate / per_seconds) AS tokens
FROM step_limits
WHERE tenant_id = $1 AND queue = ANY ($2::text[])
ORDER BY queue
FOR UPDATE;

-- name: taken
-- Slots that are taken now; a statement of its own, to see what others wrote before we had the lock.
SELECT queue, count(*)::int AS count FROM step_slots
WHERE tenant_id = $1 AND queue = ANY ($2::text[]) AND until > now()
GROUP BY queue;

-- name: take_slots
INSERT INTO step_slots (tenant_id, queue, job_id, fencing_token, until)
SELECT $1, $2, j.id, j.token, now() + $5::interval FROM unnest($3::uuid[], $4::bigint[]) AS j (id, token)
ON CONFLICT (tenant_id, queue, job_id) DO UPDATE SET until = excluded.until, fencing_token = excluded.fencing_token;

-- name: take_tokens
UPDATE step_limits
SET tokens = least(rate, tokens + date_part('epoch', clock_timestamp() - refilled_at) * rate / per_seconds) - $3,
    refilled_at = clock_timestamp()
WHERE tenant_id = $1 AND queue = ANY ($2::text[]);

-- name: release
-- Of this claim: the next attempt of the step may have taken its place over already.
DELETE FROM step_slots
WHERE tenant_id = $1 AND queue = ANY ($2::text[]) AND job_id = $3::text::uuid AND fencing_token IN (0, $4);

-- name: sweep
-- Slots of workers that fell silent; they count for nothing any more.
DELETE FROM step_slots s USING tenants n WHERE s.tenant_id = n.id AND s.until < now() - interval '1 hour';

-- fragment: limit
l.queue, l.max_running, l.rate, l.per_seconds, l.revision, l.updated_at, l.updated_by::text AS updated_by,
(SELECT count(*)::int FROM step_slots s WHERE s.tenant_id = l.tenant_id AND s.queue = l.queue AND s.until > now()) AS running

-- name: list
SELECT {limit} FROM step_limits l WHERE l.tenant_id = $1 ORDER BY l.queue;

-- name: get
SELECT {limit} FROM step_limits l WHERE l.tenant_id = $1 AND l.queue = $2;

-- name: lock
SELECT revision FROM step_limits WHERE tenant_id = $1 AND queue = $2 FOR UPDATE;

-- name: put
-- A new rate begins with a full bucket.
INSERT INTO step_limits AS l (tenant_id, queue, max_running, rate, per_seconds, tokens, updated_by)
VALUES ($1, $2, $3, $4, $5, coalesce($4, 0), $6::text::uuid)
ON CONFLICT (tenant_id, queue) DO UPDATE SET
    max_running = excluded.max_running, rate = excluded.rate, per_seconds = excluded.per_seconds,
    tokens = excluded.tokens, refilled_at = now(), revision = l.revision + 1, updated_at = now(),
    updated_by = excluded.updated_by;

-- name: delete
DELETE FROM step_limits WHERE tenant_id = $1 AND queue = $2;
