-- Bearer tokens. The secret is never here, only its sha256.

-- name: create
INSERT INTO api_tokens (tenant_id, id, secret_hash, user_id, name, permissions, expires_at)
SELECT u.tenant_id, $2::text::uuid, $3, u.id, $5, $6::text[], $7
FROM users u WHERE u.tenant_id = $1 AND u.id = $4::text::uuid AND u.active
RETURNING id::text AS id;

-- name: authenticate
-- The one statement that cannot name its tenant (tenant_id): the secret says which one it is, by a unique hash of 256
-- random bits. `seconds_left` bounds how long the answer may be kept. Served by api_tokens_secret_hash_key.
SELECT t.tenant_id, t.id::text AS token_id, t.user_id::text AS user_id, u.username, t.permissions,
    extract(epoch FROM t.expires_at - now())::float8 AS seconds_left
FROM api_tokens t JOIN users u ON u.tenant_id = t.tenant_id AND u.id = t.user_id
WHERE t.secret_hash = $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now()) AND u.active;

-- name: get
SELECT t.tenant_id, t.id::text AS id, t.user_id::text AS user_id, u.username, t.name, t.permissions, t.created_at,
    t.expires_at, t.revoked_at
FROM api_tokens t JOIN users u ON u.tenant_id = t.tenant_id AND u.id = t.user_id
WHERE t.tenant_id = $1 AND t.id = $2::text::uuid;

-- name: revoke
UPDATE api_tokens SET revoked_at = now() WHERE tenant_id = $1 AND id = $2::text::uuid AND revoked_at IS NULL
RETURNING id::text AS id;

-- name: page
-- A tenant's tokens, or one user's. Served by api_tokens_pkey.
SELECT t.tenant_id, t.id::text AS id, t.user_id::text AS user_id, u.username, t.name, t.permissions, t.created_at,
    t.expires_at, t.revoked_at
FROM api_tokens t JOIN users u ON u.tenant_id = t.tenant_id AND u.id = t.user_id
WHERE t.tenant_id = $1 AND ($2::text IS NULL OR t.user_id = $2::text::uuid) AND ($3::text IS NULL OR t.id > $3::text::uuid)
ORDER BY t.id LIMIT $4;

-- name: lock_bootstrap
-- One first start at a time, whoever else is starting. The number is arbitrary, and this statement's alone.
SELECT pg_advisory_xact_lock(hashtextextended('pliers bootstrap ' || $1::text, 0)) AS tenant_id;

-- name: any_live
-- Is there a token with which somebody could administer this tenant?
SELECT EXISTS (
    SELECT FROM api_tokens t JOIN users u ON u.tenant_id = t.tenant_id AND u.id = t.user_id
    WHERE t.tenant_id = $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now()) AND u.active
);
