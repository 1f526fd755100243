-- Nodes: processes of the engine on this database. They belong to the installation, so no tenant is named.

-- name: beat
-- Say that this node lives, and forget those that have been silent for $8 seconds. The answer names the others that live.
-- Served by nodes_pkey; there are few rows.
WITH silent AS (
    DELETE FROM nodes WHERE id IN (
        SELECT id FROM nodes WHERE seen_at < now() - make_interval(secs => $8::float8) AND id <> $1::uuid
        FOR UPDATE SKIP LOCKED
    )
), alive AS (
    INSERT INTO nodes (id, name, role, version, format, draining, started_at, plugins)
    VALUES ($1::uuid, $2, $3, $4, $5, $6, $7, $9::jsonb)
    ON CONFLICT (id) DO UPDATE SET seen_at = now(), draining = excluded.draining
)
SELECT n.id::text AS id, n.name, n.role, n.version, n.format, n.draining
FROM nodes n
WHERE n.id <> $1::uuid AND n.seen_at >= now() - make_interval(secs => $8::float8);

-- name: leave
-- Served by nodes_pkey.
DELETE FROM nodes WHERE id = $1::uuid;

-- name: every_node
-- All that have not been swept, longest running first.
SELECT id::text AS id, name, role, version, format, draining, started_at, seen_at,
       extract(epoch FROM now() - seen_at)::float8 AS silent_seconds
FROM nodes ORDER BY started_at, id;

-- name: notify
-- Tell the other nodes; in a transaction of its own, which writes nothing and so waits for no disk.
SELECT pg_notify('pliers_wakeups', $1);

-- name: clock
-- What time it is, for a node that asks how far its own clock is off.
SELECT clock_timestamp();
