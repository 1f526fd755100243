-- Who may see which rows when it is not the engine that asks, and partitions that the engine may make without owning them.
--
-- The engine's statements name their tenant themselves; its role, `pliers_engine`, sees all rows (a tenant's policy would
-- keep `jsonb @>` from its index: 0.2 ms became 43). Everybody else, for reporting and SQL by hand, sees one tenant at a
-- time and must say which: SET pliers.tenant = 'default'. Without it a query fails; it does not come back empty.
-- The owner of the tables is exempt, as PostgreSQL has it: use its login for migrations only.

-- The tenant of this session. A setting that was SET LOCAL once is empty afterwards, which is as good as missing.
CREATE FUNCTION session_tenant() RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    tenant text := current_setting('pliers.tenant');
BEGIN
    IF tenant = '' THEN
        RAISE EXCEPTION 'unrecognized configuration parameter "pliers.tenant"'
            USING ERRCODE = 'undefined_object', HINT = 'Say which tenant: SET pliers.tenant = ''default''';
    END IF;
    RETURN tenant;
END $$;

DO $$
DECLARE
    guarded record;
BEGIN
    FOR guarded IN
        SELECT c.oid::regclass AS name, a.attname AS tenant
        FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid
            AND a.attname = CASE WHEN c.relname = 'tenants' THEN 'id' ELSE 'tenant_id' END
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT a.attisdropped
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', guarded.name);
        -- As a sub-select it is asked once for each statement, and an index on the tenant serves it.
        EXECUTE format('CREATE POLICY one_tenant ON %s USING (%I = (SELECT session_tenant()))', guarded.name, guarded.tenant);
    END LOOP;
END $$;

-- Gives the role `pliers_engine` all it needs. Run it again, as the tables' owner, when the role was made afterwards, and at
-- the end of every migration that makes tables. True when the role is there.
CREATE FUNCTION install_engine_role() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    guarded regclass;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pliers_engine') THEN
        RETURN false;
    END IF;
    FOR guarded IN
        SELECT c.oid::regclass FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND c.relrowsecurity
            AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'engine')
    LOOP
        EXECUTE format('CREATE POLICY engine ON %s TO pliers_engine USING (true) WITH CHECK (true)', guarded);
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO pliers_engine', current_schema());
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO pliers_engine', current_schema());
    EXECUTE format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %I TO pliers_engine', current_schema());
    -- What is for ever, the engine cannot take back either.
    REVOKE UPDATE, DELETE ON workflow_execution_history, audit_log FROM pliers_engine;
    REVOKE INSERT, UPDATE, DELETE ON schema_migrations FROM pliers_engine;
    GRANT EXECUTE ON FUNCTION make_history_partition(date) TO pliers_engine;
    RETURN true;
END $$;

-- Truncating is changing.
CREATE TRIGGER workflow_execution_history_no_truncate BEFORE TRUNCATE ON workflow_execution_history
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The smallest UUID of a moment: 48 bits of milliseconds since 1970 (RFC 9562, UUIDv7), then nothing.
CREATE FUNCTION lowest_id(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Makes the partition for the instances born in a month (UTC) and gives its name; null when it is there already.
--
-- The table is made beside the log and then attached, which lets readers and writers of the log go on. Rows of that month
-- that have fallen into the default partition are carried over, so a partition made too late mends what was missing.
-- It belongs to the owner of the log: the engine may call it, and cannot do anything else to tables.
CREATE FUNCTION make_history_partition(month date) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    first_day date := date_trunc('month', month)::date;
    low uuid := lowest_id(first_day::timestamp AT TIME ZONE 'UTC');
    high uuid := lowest_id((first_day + interval '1 month') AT TIME ZONE 'UTC');
    partition text := 'workflow_execution_history_' || to_char(first_day, 'YYYY_MM');
    strays boolean;
BEGIN
    IF first_day NOT BETWEEN '1970-01-01' AND '9999-12-01' THEN
        RAISE EXCEPTION 'no instance is born in %', month USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF to_regclass(partition) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE workflow_execution_history INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition);
    -- Asked for by name a partition does not pass the policies of the log, so it has its own.
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', partition);
    EXECUTE format('CREATE POLICY one_tenant ON %I USING (tenant_id = (SELECT session_tenant()))', partition);
    SELECT EXISTS (
        SELECT FROM workflow_execution_history_default d
        WHERE d.workflow_instance_id >= low AND d.workflow_instance_id < high
    ) INTO strays;
    IF strays THEN
        LOCK TABLE workflow_execution_history_default IN ACCESS EXCLUSIVE MODE;
        ALTER TABLE workflow_execution_history_default DISABLE TRIGGER USER;
        EXECUTE format(
            'WITH moved AS (DELETE FROM workflow_execution_history_default d '
            'WHERE d.workflow_instance_id >= $1 AND d.workflow_instance_id < $2 RETURNING *) INSERT INTO %I SELECT * FROM moved',
            partition) USING low, high;
        ALTER TABLE workflow_execution_history_default ENABLE TRIGGER USER;
    END IF;
    EXECUTE format('ALTER TABLE workflow_execution_history ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', partition, low, high);
    RETURN partition;
END $$;
REVOKE EXECUTE ON FUNCTION make_history_partition(date) FROM PUBLIC;

-- What runs with the owner's rights finds the owner's tables, and nobody's temporary ones in their place.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION make_history_partition(date) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION install_engine_role() SET search_path = %I, pg_temp', current_schema());
END $$;

-- Where we may make roles, the engine's is made here; elsewhere (some managed servers) an administrator makes it, and the
-- owner calls install_engine_role() after that. Roles belong to the whole server, so another database may be first.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pliers_engine') THEN
        CREATE ROLE pliers_engine NOLOGIN;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'this user may not make roles; row level security guards everybody but the owner of the tables';
    WHEN duplicate_object OR unique_violation THEN
        NULL;
END $$;
SELECT install_engine_role();

-- This month and the next ones; from now on `storage.partitions` keeps them made ahead.
SELECT make_history_partition((date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead))::date)
FROM generate_series(0, 3) AS ahead;
