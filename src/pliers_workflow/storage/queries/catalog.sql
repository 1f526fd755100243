-- Versions of workflow definitions. What is changed under a name is changed under that name's lock.

-- name: lock_name
-- One change of a name at a time, also of a name that has no row yet.
SELECT pg_advisory_xact_lock(hashtextextended('pliers definition ' || $1::text || ' ' || $2::text, 0)) AS tenant_id;

-- name: siblings
-- All versions of a name, highest first, without their documents. Served by idx_workflow_definitions_name.
SELECT id::text AS id, version::text AS version, status::text AS status, revision, published_at
FROM workflow_definitions WHERE tenant_id = $1 AND name = $2 ORDER BY version_key DESC;

-- name: by_id
-- Served by workflow_definitions_pkey.
SELECT id::text AS id, tenant_id, name, version::text AS version, title, description, status::text AS status, revision,
    created_at, updated_at, published_at, archived_at, created_by::text AS created_by, updated_by::text AS updated_by,
    definition::text AS definition, content_hash
FROM workflow_definitions WHERE tenant_id = $1 AND id = $2::text::uuid;

-- name: by_name
-- What a name means: its active version, else its draft, else the highest of the rest. Served by
-- idx_workflow_definitions_name.
SELECT d.id::text AS id, d.tenant_id, d.name, d.version::text AS version, d.title, d.description,
    d.status::text AS status, d.revision, d.created_at, d.updated_at, d.published_at, d.archived_at,
    d.created_by::text AS created_by, d.updated_by::text AS updated_by, d.definition::text AS definition, d.content_hash
FROM workflow_definitions d
WHERE d.tenant_id = $1 AND d.name = $2 AND (d.status <> 'archived' OR d.published_at IS NOT NULL)
ORDER BY array_position(ARRAY['active', 'draft', 'deprecated', 'archived'], d.status::text), d.version_key DESC LIMIT 1;

-- name: by_version
-- Served by workflow_definitions_tenant_id_name_version_key.
SELECT id::text AS id, tenant_id, name, version::text AS version, title, description, status::text AS status, revision,
    created_at, updated_at, published_at, archived_at, created_by::text AS created_by, updated_by::text AS updated_by,
    definition::text AS definition, content_hash
FROM workflow_definitions
WHERE tenant_id = $1 AND name = $2 AND version = $3 AND (status <> 'archived' OR published_at IS NOT NULL);

-- name: routed
-- The versions that names stand for now, with what tells whether a kept row is still the same. Many names at once.
-- Served by workflow_routes_pkey, workflow_definitions_pkey.
SELECT t.ord::int AS ord, d.id::text AS id, d.revision
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t (tenant_id, name, ord)
JOIN workflow_routes r ON r.tenant_id = t.tenant_id AND r.name = t.name
JOIN workflow_definitions d ON d.tenant_id = r.tenant_id AND d.id = r.definition_id AND d.status = 'active'
ORDER BY t.ord, r.share DESC, d.version_key DESC;

-- name: published
-- The versions of a name that may be started, or ($3) were so until a newer one came; highest first. Served by
-- idx_workflow_definitions_name.
SELECT id::text AS id, version::text AS version, status::text AS status, revision
FROM workflow_definitions
WHERE tenant_id = $1 AND name = $2 AND (status = 'active' OR ($3 AND status = 'deprecated'))
ORDER BY status = 'active' DESC, version_key DESC;

-- name: page_names
-- One row for each name: what it means. Served by idx_workflow_definitions_name.
SELECT DISTINCT ON (name) id::text AS id, tenant_id, name, version::text AS version, title, description,
    status::text AS status, revision, created_at, updated_at, published_at, archived_at, created_by::text AS created_by,
    updated_by::text AS updated_by
FROM workflow_definitions
WHERE tenant_id = $1 AND status <> 'archived' AND ($2::text IS NULL OR name > $2)
    AND ($3::text IS NULL OR starts_with(name, $3))
ORDER BY name, array_position(ARRAY['active', 'draft', 'deprecated'], status::text), version_key DESC
LIMIT $4;

-- name: page_versions
-- Versions by name, highest first; of one name ($2), of one status ($3). Archived drafts are gone. Served by
-- idx_workflow_definitions_name.
SELECT id::text AS id, tenant_id, name, version::text AS version, title, description, status::text AS status, revision,
    created_at, updated_at, published_at, archived_at, created_by::text AS created_by, updated_by::text AS updated_by
FROM workflow_definitions
WHERE tenant_id = $1 AND ($2::text IS NULL OR name = $2) AND ($3::text IS NULL OR status = $3::text::workflow_status)
    AND ($4::text IS NULL OR starts_with(name, $4)) AND (status <> 'archived' OR published_at IS NOT NULL)
    AND ($5::text IS NULL OR name > $5 OR (name = $5 AND version_key < semver_key($6::text)))
ORDER BY name, version_key DESC LIMIT $7;

-- name: insert_draft
INSERT INTO workflow_definitions
    (tenant_id, name, version, title, description, definition, content_hash, revision, created_by, updated_by)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8, $9::text::uuid, $9::text::uuid)
RETURNING id::text AS id;

-- name: replace_draft
UPDATE workflow_definitions
SET version = $3, title = $4, description = $5, definition = $6::text::jsonb, content_hash = $7, revision = $8,
    updated_by = $9::text::uuid, updated_at = now()
WHERE tenant_id = $1 AND id = $2::text::uuid AND status = 'draft'
RETURNING id::text AS id;

-- name: drop_archived_draft
-- Make room for a version number that an archived draft holds; nothing ever ran on it.
DELETE FROM workflow_definitions
WHERE tenant_id = $1 AND name = $2 AND version = $3 AND status = 'archived' AND published_at IS NULL;

-- name: deprecate
UPDATE workflow_definitions SET status = 'deprecated', revision = $3, updated_at = now(), updated_by = $4::text::uuid
WHERE tenant_id = $1 AND name = $2 AND status = 'active'
RETURNING id::text AS id;

-- name: activate
UPDATE workflow_definitions
SET status = 'active', published_at = now(), revision = $3, updated_at = now(), updated_by = $4::text::uuid
WHERE tenant_id = $1 AND id = $2::text::uuid AND status = 'draft'
RETURNING id::text AS id;

-- name: clear_routes
DELETE FROM workflow_routes WHERE tenant_id = $1 AND name = $2;

-- name: add_route
INSERT INTO workflow_routes (tenant_id, name, definition_id) VALUES ($1, $2, $3::text::uuid);

-- name: drop_route
DELETE FROM workflow_routes WHERE tenant_id = $1 AND definition_id = $2::text::uuid AND name = $3;

-- name: lock_versions
-- Wait for instances that are being started on these versions (their foreign key holds the row), then count them.
SELECT id FROM workflow_definitions WHERE tenant_id = $1 AND id = ANY ($2::text[]::uuid[]) ORDER BY id FOR UPDATE;

-- name: live_instances
-- A version that still has an instance which has not ended; one that is failed until somebody resolves its incidents
-- (`halted`) has not. Served by idx_workflow_instances_workflow_id.
SELECT d.id::text AS id
FROM unnest($2::text[]::uuid[]) AS d (id)
WHERE EXISTS (
    SELECT FROM workflow_instances i
    WHERE i.tenant_id = $1 AND i.workflow_definition_id = d.id
        AND (i.status NOT IN ('completed', 'cancelled', 'failed') OR (i.status = 'failed' AND i.machine -> 'halted' = 'true')));

-- name: bindings_of
-- Standing orders for a name. Served by submission_bindings_workflow_idx.
SELECT id::text AS id, form_id, version FROM submission_bindings WHERE tenant_id = $1 AND workflow_name = $2 AND enabled
ORDER BY id;

-- name: archive
UPDATE workflow_definitions
SET status = 'archived', archived_at = now(), revision = $3, updated_at = now(), updated_by = $4::text::uuid
WHERE tenant_id = $1 AND id = $2::text::uuid AND status <> 'archived'
RETURNING id::text AS id;

-- name: head
-- What tells whether a kept row is still the same. Served by workflow_definitions_pkey.
SELECT revision FROM workflow_definitions WHERE tenant_id = $1 AND id = $2::text::uuid;
