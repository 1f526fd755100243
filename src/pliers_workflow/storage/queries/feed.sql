-- The log as its readers see it: the horizon, rows by position, and the lanes of the readers.

-- name: sequence
-- The last position given to anybody, committed or not.
SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM workflow_history_position;

-- name: writers
-- Transactions that may have taken positions and are not over: `save_batch` announces each by a shared advisory lock. An
-- advisory lock with one key of 64 bits stands in pg_locks in two halves, with objsubid 1.
SELECT DISTINCT virtualtransaction
FROM pg_locks
WHERE locktype = 'advisory' AND classid = 0 AND objid = 7254031 AND objsubid = 1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND ($1::text[] IS NULL OR virtualtransaction = ANY ($1::text[]));

-- name: move_horizon
-- It never goes back, whoever moves it. `$2` seconds ago the sequence was read. Served by log_horizon_pkey.
UPDATE log_horizon SET horizon = greatest(horizon, $1), moved_at = now() - make_interval(secs => $2::float8)
WHERE singleton;

-- name: server
-- Which server this is: the cluster, its timeline, this database.
SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
                 (SELECT timeline_id FROM pg_control_checkpoint()),
                 (SELECT oid FROM pg_database WHERE datname = current_database()));

-- name: recognize_server
-- Begin a new era when the log lives on another server than before.
UPDATE log_horizon SET server = $1, era = CASE WHEN server IS NULL THEN era ELSE gen_random_uuid() END
WHERE singleton AND server IS DISTINCT FROM $1
RETURNING era::text;

-- name: horizon
SELECT era::text AS era, horizon, extract(epoch FROM now() - moved_at)::float8 AS age FROM log_horizon;

-- fragment: row
h.position, h.tenant_id, h.workflow_instance_id::text AS instance_id, h.seq, h.from_state, h.to_state,
       h.execution_data::text AS record, i.workflow_definition_id::text AS definition_id,
       i.workflow_name AS definition_name, i.workflow_version::text AS version

-- name: tail
-- The newest rows, of all tenants: one node reads them once, for all its readers, which sort them by tenant.
-- Served by workflow_history_position_idx of each partition.
SELECT {row}
FROM workflow_execution_history h
LEFT JOIN workflow_instances i ON i.tenant_id = h.tenant_id AND i.id = h.workflow_instance_id
WHERE h.position > $1 AND h.position <= $2
ORDER BY h.position LIMIT $3;

-- name: lane_of_all
-- Older rows, for a lane of a reader of all tenants that is catching up. Served by workflow_history_position_idx.
SELECT {row}
FROM workflow_execution_history h
LEFT JOIN workflow_instances i ON i.tenant_id = h.tenant_id AND i.id = h.workflow_instance_id
WHERE h.position > $1 AND h.position <= $2 AND get_byte(uuid_send(h.workflow_instance_id), 15) % $4 = $5
ORDER BY h.position LIMIT $3;

-- name: lane_of_tenant
-- The same for a reader of one tenant.
SELECT {row}
FROM workflow_execution_history h
LEFT JOIN workflow_instances i ON i.tenant_id = h.tenant_id AND i.id = h.workflow_instance_id
WHERE h.tenant_id = $6 AND h.position > $1 AND h.position <= $2
    AND get_byte(uuid_send(h.workflow_instance_id), 15) % $4 = $5
ORDER BY h.position LIMIT $3;

-- name: add_lanes
-- Make a reader's lanes where they are missing, all beginning at one position; null: beyond every position given so far.
-- Served by feed_lanes_pkey.
INSERT INTO feed_lanes (reader, lane, lanes, position)
SELECT $1, lane, $2, coalesce($3, CASE WHEN p.is_called THEN p.last_value ELSE 0 END)
FROM workflow_history_position p, generate_series(0, $2::int - 1) AS lane
ON CONFLICT (reader, lane) DO NOTHING;

-- name: known_readers
-- Which of these readers have lanes. Served by feed_lanes_pkey.
SELECT DISTINCT reader FROM feed_lanes WHERE reader = ANY ($1::text[]);

-- name: remove_lanes
DELETE FROM feed_lanes WHERE reader = $1;

-- name: held_lanes
-- What a node holds, under which token, and who asks for it.
SELECT reader, lane, fencing_token, asked_by FROM feed_lanes WHERE lease_owner = $1 AND lease_until > now();

-- name: renew_lanes
-- The same, and the leases are prolonged.
UPDATE feed_lanes l SET lease_until = now() + make_interval(secs => $2::float8)
FROM (
    SELECT reader, lane FROM feed_lanes WHERE lease_owner = $1 AND lease_until > now()
    ORDER BY reader, lane FOR NO KEY UPDATE
) mine
WHERE l.reader = mine.reader AND l.lane = mine.lane
RETURNING l.reader, l.lane, l.fencing_token, l.asked_by;

-- name: claim_lanes
-- Take the free lanes of these readers, and those whose lease has lapsed, but for what another node has just asked for.
-- Several nodes may claim at once; each gets others.
UPDATE feed_lanes l
SET lease_owner = $2, lease_until = now() + make_interval(secs => $3::float8), fencing_token = l.fencing_token + 1,
    asked_by = NULL, asked_at = NULL
FROM (
    SELECT reader, lane FROM feed_lanes
    WHERE reader = ANY ($1::text[]) AND (lease_until IS NULL OR lease_until <= now())
        AND (asked_by IS NULL OR asked_by = $2 OR asked_at < now() - interval '5 seconds')
    ORDER BY reader, lane FOR NO KEY UPDATE SKIP LOCKED
) free
WHERE l.reader = free.reader AND l.lane = free.lane
RETURNING l.reader, l.lane, l.lanes, l.position, l.fencing_token, l.failures,
          coalesce(extract(epoch FROM now() - l.failing_since), 0)::float8 AS failing,
          coalesce(extract(epoch FROM l.retry_at - now()), 0)::float8 AS retry_in;

-- name: ask_for_lanes
-- A node with less than its share of these readers' lanes asks those with more than theirs for what it lacks. The share is
-- what each has when all are dealt out evenly to those who hold any, and to the one that asks.
WITH live AS (
    SELECT reader, lane, lease_owner, asked_by IS NOT NULL AND asked_at >= now() - interval '5 seconds' AS asked
    FROM feed_lanes WHERE reader = ANY ($1::text[]) AND lease_until > now()
), share AS (
    SELECT count(*) / (count(DISTINCT lease_owner) FILTER (WHERE lease_owner <> $2) + 1) AS lanes,
           count(*) FILTER (WHERE lease_owner = $2 OR asked) AS mine
    FROM live
), spare AS (
    SELECT s.reader, s.lane, row_number() OVER (ORDER BY s.place DESC) AS turn
    FROM (
        SELECT reader, lane, asked, row_number() OVER (PARTITION BY lease_owner ORDER BY asked DESC, random()) AS place
        FROM live WHERE lease_owner <> $2
    ) s, share
    WHERE s.place > share.lanes AND NOT s.asked
)
UPDATE feed_lanes l SET asked_by = $2, asked_at = now()
FROM spare, share
WHERE spare.turn <= share.lanes - share.mine AND l.reader = spare.reader AND l.lane = spare.lane
RETURNING l.reader, l.lane;

-- name: advance_lanes
-- Move the cursors of lanes that are still held under these tokens; `handled` false: there was nothing for the reader.
UPDATE feed_lanes l
SET position = a.position,
    handled_at = CASE WHEN a.handled THEN now() ELSE l.handled_at END,
    caught_up_at = CASE WHEN a.caught_up THEN now() ELSE l.caught_up_at END,
    failures = 0, failing_since = NULL, retry_at = NULL
FROM unnest($1::text[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bool[], $6::bool[])
    AS a (reader, lane, token, position, handled, caught_up)
WHERE l.reader = a.reader AND l.lane = a.lane AND l.fencing_token = a.token AND l.lease_owner IS NOT NULL
RETURNING l.reader, l.lane;

-- name: note_failure
-- A lane's attempt failed, and it waits; how long it has been failing.
UPDATE feed_lanes
SET failures = failures + 1, failing_since = coalesce(failing_since, now()),
    retry_at = now() + make_interval(secs => $4::float8), position = greatest(position, $5)
WHERE reader = $1 AND lane = $2 AND fencing_token = $3 AND lease_owner IS NOT NULL
RETURNING failures, extract(epoch FROM now() - failing_since)::float8 AS failing;

-- name: release_lanes
-- Give lanes back, so that nobody has to wait for the leases to lapse.
UPDATE feed_lanes l SET lease_owner = NULL, lease_until = NULL
FROM unnest($1::text[], $2::smallint[], $3::bigint[]) AS a (reader, lane, token)
WHERE l.reader = a.reader AND l.lane = a.lane AND l.fencing_token = a.token AND l.lease_owner = $4;

-- name: seek
-- Set a reader to another position: who holds its lanes loses them, and whoever takes them next begins there, at once.
UPDATE feed_lanes l
SET position = $2, fencing_token = l.fencing_token + 1, lease_owner = NULL, lease_until = NULL,
    failures = 0, failing_since = NULL, retry_at = NULL, caught_up_at = now()
FROM (SELECT reader, lane FROM feed_lanes WHERE reader = $1 ORDER BY lane FOR UPDATE) mine
WHERE l.reader = mine.reader AND l.lane = mine.lane;

-- name: readers
-- How far each reader is behind: positions of all tenants that its slowest lane has not passed, and seconds since that lane
-- had handled all there was (0: it has; null: it is meant to stand still). Lanes of event sources are not of the log.
SELECT l.reader, count(*) AS lanes, count(l.lease_owner) FILTER (WHERE l.lease_until > now()) AS held,
       min(l.position) AS position, greatest(h.horizon - min(l.position), 0) AS lag,
       max(CASE WHEN l.paused THEN NULL WHEN l.position >= h.horizon THEN 0 ELSE extract(epoch FROM now() - l.caught_up_at) END)::float8 AS lag_seconds,
       sum(l.failures) AS failures, min(l.failing_since) AS failing_since, max(l.handled_at) AS handled_at
FROM feed_lanes l CROSS JOIN log_horizon h
WHERE CASE WHEN $1::text[] IS NULL THEN NOT starts_with(l.reader, 'source/') ELSE l.reader = ANY ($1::text[]) END
GROUP BY l.reader, h.horizon ORDER BY l.reader;

-- name: forgive
-- Forget a reader's failures: its lanes try again at once, when they are taken.
UPDATE feed_lanes SET failures = 0, failing_since = NULL, retry_at = NULL WHERE reader = $1;
