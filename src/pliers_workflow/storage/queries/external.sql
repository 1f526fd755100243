-- External tasks: steps that workers outside have fetched. Claiming them is in `steps.sql`. The owner of such a lease ends in
-- 32 digits that name the fetch; the worker who fetched knows them and nobody else.

-- name: task
-- A task while the lease that this token names lasts. Served by workflow_jobs_pkey and step_slots_pkey.
SELECT w.workflow_instance_id::text AS instance_id, w.name, w.queue, (w.payload ->> 'attempt')::int AS attempt,
       (w.payload -> 'trace')::text AS trace,
       EXISTS (
           SELECT FROM step_slots s
           WHERE s.tenant_id = w.tenant_id AND s.job_id = w.id
               AND s.queue IN (w.queue, split_part(w.queue, ':', 1))
       ) AS limited
FROM workflow_jobs w
WHERE w.tenant_id = $1 AND w.id = $2::text::uuid AND w.kind = 'step' AND w.status = 'ready'
    AND w.queue LIKE 'external:%' AND w.fencing_token = $3 AND right(w.lease_owner, 32) = $4 AND w.lease_until > now();

-- name: give_back
-- Leave a task to others at once: its worker stops. It counts as no attempt, and its places on limits' accounts are free. As with
-- other steps it is due now and not then, so that no claim's watermark is past it; a clock that is moved by hand stands.
-- Served by workflow_jobs_pkey and step_slots_pkey.
WITH held AS (
    UPDATE workflow_jobs w
    SET lease_owner = NULL, lease_until = NULL, attempt = w.attempt - 1,
        due_at = CASE WHEN n.virtual_now IS NULL THEN greatest(w.due_at, now()) ELSE w.due_at END
    FROM tenants n
    WHERE w.tenant_id = $1 AND n.id = w.tenant_id AND w.id = $2::text::uuid AND w.kind = 'step' AND w.status = 'ready'
        AND w.queue LIKE 'external:%' AND w.fencing_token = $3 AND right(w.lease_owner, 32) = $4 AND w.lease_until > now()
    RETURNING w.tenant_id, w.id, w.queue
), slots AS (
    DELETE FROM step_slots s USING held
    WHERE s.tenant_id = held.tenant_id AND s.job_id = held.id
        AND s.queue IN (held.queue, split_part(held.queue, ':', 1))
)
SELECT queue FROM held;

-- name: renew
-- Prolong a lease that lasts, from now on, with its places on limits' accounts. Served by workflow_jobs_pkey and
-- step_slots_pkey. Changes no indexed column.
WITH held AS (
    UPDATE workflow_jobs w SET lease_until = now() + $5::interval
    WHERE w.tenant_id = $1 AND w.id = $2::text::uuid AND w.kind = 'step' AND w.status = 'ready'
        AND w.queue LIKE 'external:%' AND w.fencing_token = $3 AND right(w.lease_owner, 32) = $4 AND w.lease_until > now()
    RETURNING w.tenant_id, w.id, w.queue, w.lease_until
), slots AS (
    UPDATE step_slots s SET until = held.lease_until
    FROM held
    WHERE s.tenant_id = held.tenant_id AND s.job_id = held.id
        AND s.queue IN (held.queue, split_part(held.queue, ':', 1))
)
SELECT lease_until FROM held;
