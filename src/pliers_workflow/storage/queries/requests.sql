-- Idempotency keys of requests that are no command to an instance; `storage.instances` writes those of commands.

-- name: claim
-- Take a key, or learn that it is taken. Another transaction that holds it is waited for; an expired one counts as none.
-- Served by idempotency_records_pkey.
INSERT INTO idempotency_records (tenant_id, principal, route, key, body_hash, command_id, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + $7::interval)
ON CONFLICT (tenant_id, principal, route, key) DO UPDATE
SET body_hash = excluded.body_hash, command_id = excluded.command_id, expires_at = excluded.expires_at,
    created_at = now(), subject = NULL, workflow_instance_id = NULL, seq = NULL
WHERE idempotency_records.expires_at <= now()
RETURNING true;

-- name: known
-- Served by idempotency_records_pkey.
SELECT body_hash, subject, workflow_instance_id::text AS instance_id, seq
FROM idempotency_records
WHERE tenant_id = $1 AND principal = $2 AND route = $3 AND key = $4 AND expires_at > now();

-- name: settle
-- Say what the request has made. Served by idempotency_records_pkey.
UPDATE idempotency_records SET subject = $5
WHERE tenant_id = $1 AND principal = $2 AND route = $3 AND key = $4;

-- name: release
-- Served by idempotency_records_pkey.
DELETE FROM idempotency_records WHERE tenant_id = $1 AND principal = $2 AND route = $3 AND key = $4 AND subject IS NULL;
