-- Upkeep by the node that holds the lease.

-- name: sweep_idempotency
-- Forget idempotency keys that have expired, of all tenants, a bounded number at a time.
-- Served by idempotency_records_expiry_idx.
DELETE FROM idempotency_records k
USING (
    SELECT tenant_id, principal, route, key FROM idempotency_records
    WHERE expires_at < now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
) old
WHERE k.tenant_id = old.tenant_id AND k.principal = old.principal AND k.route = old.route AND k.key = old.key;
