-- Event subscriptions. Served by the primary keys of both tables unless a statement says otherwise.

-- fragment: subscription
s.tenant_id, s.id::text AS id, s.name, s.revision, s.sink, s.event_types, s.definitions, s.condition, s.include_data, s.lanes,
       s.state, s.disabled_reason, s.disabled_at, s.last_error, s.last_error_at, s.created_at, s.created_by::text AS created_by,
       s.updated_at, k.secrets

-- name: create_subscription
INSERT INTO event_subscriptions (
    tenant_id, name, sink, event_types, definitions, condition, include_data, lanes, state, created_by)
VALUES ($1, $2, $3::text::jsonb, $4, $5, $6, $7, $8, $9, $10::text::uuid)
RETURNING id::text;

-- name: put_secrets
INSERT INTO event_subscription_secrets (tenant_id, id, secrets) VALUES ($1, $2::text::uuid, $3::text::jsonb)
ON CONFLICT (tenant_id, id) DO UPDATE SET secrets = excluded.secrets;

-- name: get_subscription
SELECT {subscription}
FROM event_subscriptions s JOIN event_subscription_secrets k ON k.tenant_id = s.tenant_id AND k.id = s.id
WHERE s.tenant_id = $1 AND s.id = $2::text::uuid;

-- name: lock_subscription
-- The same, held until the end of the transaction.
SELECT {subscription}
FROM event_subscriptions s JOIN event_subscription_secrets k ON k.tenant_id = s.tenant_id AND k.id = s.id
WHERE s.tenant_id = $1 AND s.id = $2::text::uuid
FOR NO KEY UPDATE OF s;

-- name: page_subscriptions
-- By id.
SELECT {subscription}
FROM event_subscriptions s JOIN event_subscription_secrets k ON k.tenant_id = s.tenant_id AND k.id = s.id
WHERE s.tenant_id = $1 AND ($2::text IS NULL OR s.id > $2::text::uuid)
ORDER BY s.id LIMIT $3;

-- name: replace_subscription
UPDATE event_subscriptions
SET name = $3, sink = $4::text::jsonb, event_types = $5, definitions = $6, condition = $7, include_data = $8,
    revision = revision + 1, updated_at = now()
WHERE tenant_id = $1 AND id = $2::text::uuid;

-- name: set_state
-- `$4`: why the engine disabled it.
UPDATE event_subscriptions
SET state = $3, disabled_reason = $4, disabled_at = CASE WHEN $3 = 'disabled' THEN now() END,
    revision = revision + 1, updated_at = now()
WHERE tenant_id = $1 AND id = $2::text::uuid AND state <> $3
RETURNING id;

-- name: pause_lanes
-- Whether a reader is meant to stand still, so that nobody worries. Served by feed_lanes_pkey.
UPDATE feed_lanes SET paused = $2 WHERE reader = $1;

-- name: touch
-- Its readers are to look again.
UPDATE event_subscriptions SET revision = revision + 1, updated_at = now() WHERE tenant_id = $1 AND id = $2::text::uuid;

-- name: note_error
-- What went wrong last, with this revision of it ($4); its readers need not know.
UPDATE event_subscriptions SET last_error = $3, last_error_at = now()
WHERE tenant_id = $1 AND id = $2::text::uuid AND revision = $4
RETURNING id;

-- name: delete_subscription
DELETE FROM event_subscriptions WHERE tenant_id = $1 AND id = $2::text::uuid RETURNING name;

-- name: active
-- Which subscriptions are to be served, of every tenant, and their revisions: asked every second or so.
SELECT s.tenant_id, s.id::text AS id, s.revision
FROM tenants t JOIN event_subscriptions s ON s.tenant_id = t.id
WHERE s.state = 'active';

-- name: states
-- How many there are in each state, of every tenant.
SELECT s.state, count(*) AS count FROM tenants t JOIN event_subscriptions s ON s.tenant_id = t.id GROUP BY s.state;
