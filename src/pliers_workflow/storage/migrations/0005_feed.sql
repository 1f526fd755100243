-- The readers of the log: how far each lane of each reader has come, and which node reads in it now.
--
-- A lane is a share of the instances (by their id), so that a reader keeps the order within an instance and still does
-- several things at once. Like `service_leases` these rows belong to the installation: of a tenant they hold nothing but
-- a number. A lane is claimed for as long as its node lives, and every change of hands raises the fencing token, so a
-- reader that was slow and comes back late moves no cursor.
CREATE TABLE feed_lanes (
    -- `routing`, or `subscription/UUID`
    reader text NOT NULL CHECK (length(reader) BETWEEN 1 AND 200),
    lane smallint NOT NULL CHECK (lane >= 0),
    lanes smallint NOT NULL CHECK (lanes BETWEEN 1 AND 256),
    -- everything of this lane up to here has been handled
    position bigint NOT NULL CHECK (position >= 0),
    lease_owner text,
    lease_until timestamptz,
    fencing_token bigint NOT NULL DEFAULT 0,
    -- another node that has less than its share asks for the lane
    asked_by text,
    asked_at timestamptz,
    -- in a row, and since when; null: the last attempt went well
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    failing_since timestamptz,
    retry_at timestamptz,
    handled_at timestamptz,
    -- when it had last handled all there was
    caught_up_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (reader, lane),
    CHECK (lane < lanes),
    CHECK ((lease_until IS NULL) = (lease_owner IS NULL)),
    CHECK ((asked_by IS NULL) = (asked_at IS NULL)),
    CHECK ((failures = 0) = (failing_since IS NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Which server wrote the log last: cluster, timeline and database. When it is another one (a backup was restored, a standby
-- took over), rows that somebody has read may be gone, and the log begins a new era.
ALTER TABLE log_horizon ADD COLUMN server text;

SELECT install_engine_role();
