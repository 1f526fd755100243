-- People, roles and groups. Every change first takes the tenant's row by raising its directory revision: changes follow one
-- another, and facts that rest on an older revision are known to be old.

-- name: bump
-- Served by tenants_pkey.
UPDATE tenants SET directory_revision = directory_revision + 1 WHERE id = $1 RETURNING directory_revision;

-- name: revision
SELECT directory_revision FROM tenants WHERE id = $1;

-- fragment: person
u.id::text AS id, u.tenant_id, u.username, u.name, u.email, m.username AS manager, u.manager_id::text AS manager_id,
u.active, u.attributes::text AS attributes, u.created_at, u.updated_at,
(extract(epoch FROM u.updated_at) * 1000000)::bigint AS revision,
ARRAY(SELECT d.key FROM directory_members d WHERE d.tenant_id = u.tenant_id AND d.user_id = u.id AND d.kind = 'role'
      ORDER BY d.key COLLATE "C") AS roles,
ARRAY(SELECT d.key FROM directory_members d WHERE d.tenant_id = u.tenant_id AND d.user_id = u.id AND d.kind = 'group'
      ORDER BY d.key COLLATE "C") AS groups

-- name: user_by_id
-- Served by users_pkey, directory_members_user_idx.
SELECT {person} FROM users u LEFT JOIN users m ON m.tenant_id = u.tenant_id AND m.id = u.manager_id
WHERE u.tenant_id = $1 AND u.id = $2::text::uuid;

-- name: user_by_name
-- Served by users_tenant_id_username_key, directory_members_user_idx.
SELECT {person} FROM users u LEFT JOIN users m ON m.tenant_id = u.tenant_id AND m.id = u.manager_id
WHERE u.tenant_id = $1 AND u.username = $2;

-- name: page_users
-- By username. Served by users_tenant_id_username_key.
SELECT {person} FROM users u LEFT JOIN users m ON m.tenant_id = u.tenant_id AND m.id = u.manager_id
WHERE u.tenant_id = $1 AND ($2::text IS NULL OR u.username > $2) AND ($3::boolean IS NULL OR u.active = $3)
    AND ($4::text IS NULL OR starts_with(u.username, $4))
    AND ($5::text IS NULL OR EXISTS (
        SELECT FROM directory_members d
        WHERE d.tenant_id = u.tenant_id AND d.user_id = u.id AND d.kind = 'role' AND d.key = $5))
    AND ($6::text IS NULL OR EXISTS (
        SELECT FROM directory_members d
        WHERE d.tenant_id = u.tenant_id AND d.user_id = u.id AND d.kind = 'group' AND d.key = $6))
ORDER BY u.username LIMIT $7;

-- name: ids_of
-- Users by id or by username, several at once. Served by users_pkey, users_tenant_id_username_key.
SELECT t.ref, u.id::text AS id
FROM unnest($2::text[]) AS t (ref) JOIN users u ON u.tenant_id = $1 AND u.username = t.ref
UNION ALL
SELECT u.id::text, u.id::text FROM users u WHERE u.tenant_id = $1 AND u.id = ANY ($3::text[]::uuid[]);

-- name: create_user
INSERT INTO users (tenant_id, username, name, email, manager_id, attributes, active)
VALUES ($1, $2, $3, $4, $5::text::uuid, $6::text::jsonb, $7)
ON CONFLICT (tenant_id, username) DO NOTHING
RETURNING id::text AS id;

-- name: update_user
-- `updated_at` grows with every change, because it is the revision too.
UPDATE users
SET username = $3, name = $4, email = $5, manager_id = $6::text::uuid, attributes = $7::text::jsonb, active = $8,
    updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
WHERE tenant_id = $1 AND id = $2::text::uuid
RETURNING id::text AS id;

-- name: touch_users
-- Memberships are shown with a user, so a change of them changes the user's revision.
UPDATE users SET updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
WHERE tenant_id = $1 AND id = ANY ($2::text[]::uuid[]);

-- name: touch_members
-- The same where a whole set goes. Served by directory_members_pkey, users_pkey.
UPDATE users u SET updated_at = greatest(clock_timestamp(), u.updated_at + interval '1 microsecond')
FROM directory_members d
WHERE u.tenant_id = $1 AND d.tenant_id = $1 AND d.kind = $2 AND d.key = $3 AND u.id = d.user_id;

-- name: touch_managed
-- The username of a user's manager is shown with them, too. A manager is renamed seldom: all users of the tenant are read.
UPDATE users SET updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
WHERE tenant_id = $1 AND manager_id = $2::text::uuid;

-- name: who_leaves
-- As whom those of these people are asked who are active as yet. Served by users_tenant_id_username_key,
-- directory_members_user_idx.
SELECT 'user' AS kind, u.id::text AS key
FROM users u WHERE u.tenant_id = $1 AND u.username = ANY ($2::text[]) AND u.active
UNION
SELECT d.kind, d.key
FROM users u JOIN directory_members d ON d.tenant_id = u.tenant_id AND d.user_id = u.id
WHERE u.tenant_id = $1 AND u.username = ANY ($2::text[]) AND u.active;

-- name: upsert_users
INSERT INTO users (tenant_id, username, name, email, attributes, active)
SELECT $1, t.username, t.name, t.email, t.attributes::jsonb, t.active
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[]) AS t (username, name, email, attributes, active)
ON CONFLICT (tenant_id, username) DO UPDATE
SET name = excluded.name, email = excluded.email, attributes = excluded.attributes, active = excluded.active,
    updated_at = greatest(clock_timestamp(), users.updated_at + interval '1 microsecond')
RETURNING id::text AS id, username;

-- name: set_managers
-- By username; a null takes the manager away. Answers those who could be set: who is missing has an unknown manager.
UPDATE users u SET manager_id = m.id
FROM unnest($2::text[], $3::text[]) AS t (username, manager)
LEFT JOIN users m ON m.tenant_id = $1 AND m.username = t.manager
WHERE u.tenant_id = $1 AND u.username = t.username AND (t.manager IS NULL OR m.id IS NOT NULL)
RETURNING u.username;

-- name: upsert_set
INSERT INTO directory_sets (tenant_id, kind, key, name, description) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, kind, key) DO UPDATE SET name = excluded.name, description = excluded.description
RETURNING xmax = 0 AS made;

-- name: make_sets
-- Those that are missing.
INSERT INTO directory_sets (tenant_id, kind, key) SELECT $1, t.kind, t.key FROM unnest($2::text[], $3::text[]) AS t (kind, key)
ON CONFLICT (tenant_id, kind, key) DO NOTHING;

-- name: delete_set
DELETE FROM directory_sets WHERE tenant_id = $1 AND kind = $2 AND key = $3 RETURNING key;

-- name: set_members_of_set
-- Exactly these users. Served by directory_members_pkey.
DELETE FROM directory_members WHERE tenant_id = $1 AND kind = $2 AND key = $3 AND user_id <> ALL ($4::text[]::uuid[])
RETURNING user_id::text AS user_id;

-- name: add_members
-- Served by directory_members_pkey.
INSERT INTO directory_members (tenant_id, kind, key, user_id)
SELECT $1, t.kind, t.key, t.user_id::uuid FROM unnest($2::text[], $3::text[], $4::text[]) AS t (kind, key, user_id)
ON CONFLICT DO NOTHING
RETURNING user_id::text AS user_id;

-- name: remove_member
DELETE FROM directory_members WHERE tenant_id = $1 AND kind = $2 AND key = $3 AND user_id = $4::text::uuid
RETURNING user_id::text AS user_id;

-- name: leave_others
-- Take users out of all sets of a kind but the ones named for them. Served by directory_members_user_idx.
DELETE FROM directory_members d
WHERE d.tenant_id = $1 AND d.kind = $2 AND d.user_id = ANY ($3::text[]::uuid[])
    AND NOT EXISTS (
        SELECT FROM unnest($4::text[], $5::text[]) AS t (user_id, key) WHERE t.user_id::uuid = d.user_id AND t.key = d.key)
RETURNING d.kind, d.key;

-- name: set_by_key
-- Served by directory_sets_pkey, directory_members_pkey.
SELECT s.tenant_id, s.kind, s.key, s.name, s.description, s.created_at,
    (SELECT count(*) FROM directory_members d WHERE d.tenant_id = s.tenant_id AND d.kind = s.kind AND d.key = s.key) AS member_count
FROM directory_sets s WHERE s.tenant_id = $1 AND s.kind = $2 AND s.key = $3;

-- name: page_sets
-- By key. Served by directory_sets_pkey, directory_members_pkey.
SELECT s.tenant_id, s.kind, s.key, s.name, s.description, s.created_at,
    (SELECT count(*) FROM directory_members d WHERE d.tenant_id = s.tenant_id AND d.kind = s.kind AND d.key = s.key) AS member_count
FROM directory_sets s
WHERE s.tenant_id = $1 AND s.kind = $2 AND ($3::text IS NULL OR s.key > $3) AND ($4::text IS NULL OR starts_with(s.key, $4))
ORDER BY s.key LIMIT $5;

-- name: facts
-- What the interpreter wants to know of people: any number of keys in one statement. Served by users_pkey,
-- users_tenant_id_username_key, directory_members_user_idx, directory_sets_pkey, directory_members_pkey.
SELECT 'user' AS kind, u.id::text AS key, u.username, u.active, u.name, u.email, m.username AS manager,
    u.attributes::text AS attributes,
    ARRAY(SELECT d.key FROM directory_members d WHERE d.tenant_id = $1 AND d.user_id = u.id AND d.kind = 'role'
          ORDER BY d.key COLLATE "C") AS roles,
    ARRAY(SELECT d.key FROM directory_members d WHERE d.tenant_id = $1 AND d.user_id = u.id AND d.kind = 'group'
          ORDER BY d.key COLLATE "C") AS groups,
    NULL::text[] AS members
FROM users u LEFT JOIN users m ON m.tenant_id = $1 AND m.id = u.manager_id
WHERE u.tenant_id = $1 AND u.id = ANY ($2::text[]::uuid[])
UNION ALL
SELECT 'username', u.username, u.id::text, u.active, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM users u WHERE u.tenant_id = $1 AND u.username = ANY ($3::text[])
UNION ALL
SELECT s.kind, s.key, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    ARRAY(SELECT d.user_id::text FROM directory_members d JOIN users u ON u.tenant_id = $1 AND u.id = d.user_id AND u.active
          WHERE d.tenant_id = $1 AND d.kind = s.kind AND d.key = s.key ORDER BY d.user_id)
FROM unnest($4::text[], $5::text[]) AS t (kind, key)
JOIN directory_sets s ON s.tenant_id = $1 AND s.kind = t.kind AND s.key = t.key;
