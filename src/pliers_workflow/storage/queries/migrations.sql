-- What the migrations runner asks; no tenant's rows are read or written here.

-- name: create_table
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY,
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: whereabouts
-- Who we are, and where our tables would be.
SELECT quote_ident(current_user) AS login, quote_ident(coalesce(current_schema(), 'public')) AS schema;

-- name: table_exists
SELECT to_regclass('schema_migrations')::text;

-- name: applied
SELECT name, sha256 FROM schema_migrations ORDER BY name;

-- name: remember
INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2);

-- name: try_lock
SELECT pg_try_advisory_lock($1);

-- name: unlock
SELECT pg_advisory_unlock($1);

-- name: server_version
SELECT current_setting('server_version_num');

-- name: encoding
SELECT current_setting('server_encoding');

-- name: set_lock_timeout
SELECT set_config('lock_timeout', $1, true);

-- name: set_session_lock_timeout
SELECT set_config('lock_timeout', $1, false);

-- name: invalid_indexes
SELECT c.relname AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace;

-- name: own_tables
-- Ordinary and partitioned tables; a partitioned one analyses its partitions with it.
SELECT c.relname AS name FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY c.relname;
