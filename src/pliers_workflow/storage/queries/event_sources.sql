-- Event sources and the messages they rejected. Served by the primary keys of the tables unless a statement says otherwise.

-- fragment: source
s.tenant_id, s.id::text AS id, s.name, s.configuration, s.enabled, s.revision, s.received, s.rejected, s.received_at,
s.failing_since, s.last_error, s.created_at, s.created_by::text AS created_by, s.updated_at, k.secrets

-- name: create_source
INSERT INTO event_sources (tenant_id, name, kind, configuration, enabled, created_by)
VALUES ($1, $2, $3, $4::text::jsonb, $5, $6::text::uuid)
RETURNING id::text;

-- name: reads_the_same
-- Another source ($4: than this one) that reads under the same name ($3); sources are few.
SELECT name FROM event_sources
WHERE tenant_id = $1 AND kind = $2 AND configuration -> 'broker' @> $3::text::jsonb
    AND ($4::text IS NULL OR id <> $4::text::uuid)
ORDER BY name LIMIT 1;

-- name: put_secrets
INSERT INTO event_source_secrets (tenant_id, id, secrets) VALUES ($1, $2::text::uuid, $3::text::jsonb)
ON CONFLICT (tenant_id, id) DO UPDATE SET secrets = excluded.secrets;

-- name: get_source
SELECT {source}
FROM event_sources s JOIN event_source_secrets k ON k.tenant_id = s.tenant_id AND k.id = s.id
WHERE s.tenant_id = $1 AND s.id = $2::text::uuid;

-- name: lock_source
-- The same, held until the end of the transaction.
SELECT {source}
FROM event_sources s JOIN event_source_secrets k ON k.tenant_id = s.tenant_id AND k.id = s.id
WHERE s.tenant_id = $1 AND s.id = $2::text::uuid
FOR NO KEY UPDATE OF s;

-- name: page_sources
-- By id.
SELECT {source}
FROM event_sources s JOIN event_source_secrets k ON k.tenant_id = s.tenant_id AND k.id = s.id
WHERE s.tenant_id = $1 AND ($2::text IS NULL OR s.id > $2::text::uuid)
ORDER BY s.id LIMIT $3;

-- name: replace_source
-- What went wrong with it as it was says nothing of it as it is; nor does how far it was read, unless it reads
-- the same ($6).
UPDATE event_sources
SET name = $3, configuration = $4::text::jsonb, enabled = $5, revision = revision + 1, updated_at = now(),
    failing_since = NULL, last_error = NULL,
    place = CASE WHEN configuration -> 'broker' @> $6::text::jsonb THEN place END
WHERE tenant_id = $1 AND id = $2::text::uuid;

-- name: set_enabled
UPDATE event_sources
SET enabled = $3, revision = revision + 1, updated_at = now(), failing_since = NULL, last_error = NULL
WHERE tenant_id = $1 AND id = $2::text::uuid;

-- name: delete_source
DELETE FROM event_sources WHERE tenant_id = $1 AND id = $2::text::uuid RETURNING name;

-- name: enabled
-- Which sources are to be read, of every tenant, and their revisions: asked every second or so.
SELECT s.tenant_id, s.id::text AS id, s.revision
FROM tenants t JOIN event_sources s ON s.tenant_id = t.id
WHERE s.enabled;

-- name: fence
-- Whether the one lane of a source is still held under this token; it stays so until the end of the transaction. Served by
-- feed_lanes_pkey.
SELECT true FROM feed_lanes
WHERE reader = $1 AND lane = 0 AND fencing_token = $2 AND lease_owner IS NOT NULL FOR SHARE;

-- name: get_place
SELECT place FROM event_sources WHERE tenant_id = $1 AND id = $2::text::uuid;

-- name: note_taken
-- How many messages were taken in and rejected since it was noted last, and how far it has been read ($6: what it reads;
-- it may have been changed meanwhile, and that is the place in something else).
UPDATE event_sources SET
    received = received + $3, rejected = rejected + $4,
    received_at = CASE WHEN $3::bigint + $4::bigint > 0 THEN now() ELSE received_at END,
    place = CASE WHEN configuration -> 'broker' @> $6::text::jsonb THEN nullif($5::text::jsonb, 'null') ELSE place END
WHERE tenant_id = $1 AND id = $2::text::uuid;

-- name: note_failure
-- What went wrong, and since when; not written again while nothing is new. $4: of the revision that failed only.
UPDATE event_sources SET failing_since = coalesce(failing_since, now()), last_error = $3
WHERE tenant_id = $1 AND id = $2::text::uuid AND revision = $4
    AND (failing_since IS NULL OR last_error IS DISTINCT FROM $3);

-- name: note_recovery
UPDATE event_sources SET failing_since = NULL
WHERE tenant_id = $1 AND id = $2::text::uuid AND failing_since IS NOT NULL;

-- name: health
-- How many sources there are in every tenant, how many of them fail, and since when; and how many nobody has read for $1
-- seconds, though they are enabled. Served by feed_lanes_pkey.
SELECT count(*) FILTER (WHERE s.enabled) AS enabled, count(*) FILTER (WHERE NOT s.enabled) AS disabled,
    count(*) FILTER (WHERE s.enabled AND s.failing_since IS NOT NULL) AS failing,
    extract(epoch FROM now() - min(s.failing_since) FILTER (WHERE s.enabled))::float8 AS failing_seconds,
    count(*) FILTER (
        WHERE s.enabled AND greatest(l.lease_until, s.updated_at) < now() - make_interval(secs => $1::float8)) AS unread
FROM tenants t JOIN event_sources s ON s.tenant_id = t.id
LEFT JOIN feed_lanes l ON l.reader = 'source/' || s.id AND l.lane = 0;

-- name: add_rejects
-- One that comes again, because its acknowledgement was lost, is there already.
INSERT INTO event_source_rejects
    (tenant_id, event_source_id, id, message, reason, address, key, content_type, attributes, headers, body, size)
SELECT $1, $2::text::uuid, t.id::uuid, t.message, t.reason, t.address, t.key, t.content_type, t.attributes::jsonb,
    t.headers::jsonb, t.body, t.size
FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
            $11::bytea[], $12::int[])
    AS t (id, message, reason, address, key, content_type, attributes, headers, body, size)
ON CONFLICT (tenant_id, event_source_id, message) DO NOTHING;

-- name: trim_rejects
-- Of one source the newest $3 are kept.
DELETE FROM event_source_rejects
WHERE tenant_id = $1 AND event_source_id = $2::text::uuid AND id <= (
    SELECT o.id FROM event_source_rejects o
    WHERE o.tenant_id = $1 AND o.event_source_id = $2::text::uuid
    ORDER BY o.id DESC OFFSET $3 LIMIT 1
);

-- name: sweep_rejects
-- Those older than $1, of every tenant: ids begin with their birth.
DELETE FROM event_source_rejects r USING tenants t, event_sources s
WHERE s.tenant_id = t.id AND r.tenant_id = s.tenant_id AND r.event_source_id = s.id AND r.id < $1::text::uuid;

-- fragment: reject
id::text AS id, event_source_id::text AS event_source_id, message, reason, address, key, content_type,
attributes::text AS attributes, headers::text AS headers, body, size, rejected_at

-- name: page_rejects
-- Newest first.
SELECT {reject} FROM event_source_rejects
WHERE tenant_id = $1 AND event_source_id = $2::text::uuid AND ($3::text IS NULL OR id < $3::text::uuid)
ORDER BY id DESC LIMIT $4;

-- name: get_reject
SELECT {reject} FROM event_source_rejects
WHERE tenant_id = $1 AND event_source_id = $2::text::uuid AND id = $3::text::uuid;

-- name: drop_reject
DELETE FROM event_source_rejects
WHERE tenant_id = $1 AND event_source_id = $2::text::uuid AND id = $3::text::uuid
RETURNING message;
