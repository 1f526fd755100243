-- The audit log. A row is written by two statements after the lock, because a statement sees the world as it was before it
-- waited.

-- name: lock_chain
-- Hold the tenant's chain until the end of the transaction. Served by tenants_pkey.
SELECT clock_timestamp() AS now FROM tenants WHERE id = $1 FOR NO KEY UPDATE;

-- name: last_row
-- Where the chain ends. Served by audit_log_pkey.
SELECT seq, hash, executed_at FROM audit_log WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1;

-- name: append
INSERT INTO audit_log (tenant_id, seq, action, subject, record, executed_at, executed_by, previous_hash, hash)
VALUES ($1, $2, $3, $4, $5::text::json, $6, $7::text::uuid, $8, $9);

-- name: rows_after
-- The chain in its order, for verifying it. Served by audit_log_pkey.
SELECT seq, action, subject, record::text AS record, executed_at, executed_by::text AS executed_by, previous_hash, hash
FROM audit_log WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT $3;

-- name: page
-- Newest first. Served by audit_log_pkey, or audit_log_subject_idx where a subject is given.
SELECT tenant_id, seq, action, subject, record::text AS record, executed_at, executed_by::text AS executed_by, hash
FROM audit_log
WHERE tenant_id = $1 AND ($2::bigint IS NULL OR seq < $2) AND ($3::text IS NULL OR action = $3)
    AND ($4::text IS NULL OR subject = $4)
ORDER BY seq DESC LIMIT $5;
