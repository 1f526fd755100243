-- The schema of the engine: the specification's four tables made valid, and what they need around them.
--
-- Every key begins with tenant_id, so that one statement never reaches into another tenant. Foreign keys stay within our
-- own tables. What must always hold is a constraint here first, and an assertion in code second.
-- PostgreSQL 15 to 18, core only.

-- Types ---------------------------------------------------------------------------------------------------------------

CREATE DOMAIN semver AS text CHECK (
    VALUE ~ '^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})(-(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*)?$'
    AND length(VALUE) <= 100
);

CREATE TYPE workflow_status AS ENUM ('draft', 'active', 'deprecated', 'archived');
CREATE TYPE workflow_instance_status AS ENUM
    ('pending', 'running', 'waiting', 'suspended', 'completed', 'failed', 'cancelled', 'escalated');
-- The command that made a history row.
CREATE TYPE workflow_action_type AS ENUM
    ('start', 'fire', 'decide', 'update_data', 'suspend', 'resume', 'cancel', 'fire_timer',
     'complete_step', 'correlate', 'escalate', 'recall', 'claim', 'release', 'comment', 'migrate', 'repair');
CREATE TYPE workflow_execution_result AS ENUM ('success', 'failure', 'timeout', 'skipped');
CREATE TYPE approval_action AS ENUM ('approve', 'reject', 'request_changes', 'delegate', 'escalate', 'withdraw');

-- Sorts as semantic versions do (SemVer 2.0.0 section 11): compare the result under COLLATE "C".
CREATE FUNCTION semver_key(version text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ARRAY[
        lpad(split_part(split_part(version, '-', 1), '.', 1), 9, '0'),
        lpad(split_part(split_part(version, '-', 1), '.', 2), 9, '0'),
        lpad(split_part(split_part(version, '-', 1), '.', 3), 9, '0'),
        CASE WHEN position('-' IN version) = 0 THEN '1' ELSE '0' END
    ] || CASE WHEN position('-' IN version) = 0 THEN ARRAY[]::text[] ELSE (
        SELECT array_agg(CASE WHEN part ~ '^[0-9]+$' THEN '0' || lpad(length(part)::text, 4, '0') || part ELSE '1' || part END
                         ORDER BY place)
        FROM unnest(string_to_array(substr(version, position('-' IN version) + 1), '.')) WITH ORDINALITY AS p (part, place)
    ) END
$$;

-- Tenants and the directory -------------------------------------------------------------------------------------------

CREATE TABLE tenants (
    id text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name text NOT NULL,
    -- A virtual clock is moved through the API, for tests and replays; null: the database's clock.
    virtual_now timestamptz,
    -- Grows with every change of users, roles, groups and memberships; facts rest on it.
    directory_revision bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO tenants (id, name) VALUES ('default', 'Default');

CREATE TABLE users (
    tenant_id text NOT NULL REFERENCES tenants,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    username text NOT NULL CHECK (username ~ '^[^\s:/]{1,200}$'),
    name text,
    email text,
    manager_id uuid,
    attributes jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
    active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, username),
    FOREIGN KEY (tenant_id, manager_id) REFERENCES users (tenant_id, id),
    CHECK (manager_id <> id)
);

-- A role or a group of the directory; permissions of the engine are something else.
CREATE TABLE directory_sets (
    tenant_id text NOT NULL REFERENCES tenants,
    kind text NOT NULL CHECK (kind IN ('role', 'group')),
    key text NOT NULL CHECK (key ~ '^[^\s:/]{1,200}$'),
    name text,
    description text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, kind, key)
);

CREATE TABLE directory_members (
    tenant_id text NOT NULL,
    kind text NOT NULL,
    key text NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, kind, key, user_id),
    FOREIGN KEY (tenant_id, kind, key) REFERENCES directory_sets ON UPDATE CASCADE ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX directory_members_user_idx ON directory_members (tenant_id, user_id);

-- Bearer tokens. Only the hash of the secret is kept.
CREATE TABLE api_tokens (
    tenant_id text NOT NULL REFERENCES tenants,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    secret_hash bytea NOT NULL UNIQUE CHECK (length(secret_hash) = 32),
    user_id uuid NOT NULL,
    name text NOT NULL,
    permissions text[] NOT NULL DEFAULT '{}'
        CHECK (permissions <@ ARRAY['author', 'publisher', 'operator', 'auditor', 'admin']),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);

-- Definitions ---------------------------------------------------------------------------------------------------------

CREATE TABLE workflow_definitions (
    tenant_id text NOT NULL REFERENCES tenants,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    name varchar(255) NOT NULL CHECK (name ~ '^[a-z][a-z0-9_.-]*$'),
    version semver NOT NULL,
    version_key text[] COLLATE "C" NOT NULL GENERATED ALWAYS AS (semver_key(version::text)) STORED,
    title varchar(500) NOT NULL,
    description text,
    definition jsonb NOT NULL CHECK (jsonb_typeof(definition) = 'object'),
    -- sha256 of the canonical document; a published version's content never changes
    content_hash bytea NOT NULL,
    state_machine jsonb NOT NULL GENERATED ALWAYS AS (definition -> 'stateMachine') STORED,
    approval_chains jsonb GENERATED ALWAYS AS (definition -> 'approvalChains') STORED,
    event_hooks jsonb GENERATED ALWAYS AS (definition -> 'eventHooks') STORED,
    timeout_config jsonb GENERATED ALWAYS AS (definition -> 'timeoutConfig') STORED,
    metadata jsonb GENERATED ALWAYS AS (definition -> 'metadata') STORED,
    -- who sees every instance; a small column of its own, because lists ask it for each row
    viewers jsonb GENERATED ALWAYS AS (definition #> '{access,view}') STORED,
    status workflow_status NOT NULL DEFAULT 'draft',
    -- counts changes of a draft, for If-Match
    revision integer NOT NULL DEFAULT 1,
    published_at timestamptz,
    archived_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid,
    updated_by uuid,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name, version),
    FOREIGN KEY (tenant_id, created_by) REFERENCES users (tenant_id, id),
    FOREIGN KEY (tenant_id, updated_by) REFERENCES users (tenant_id, id),
    CHECK ((status = 'draft') = (published_at IS NULL) OR status = 'archived')
);
CREATE INDEX idx_workflow_definitions_name ON workflow_definitions (tenant_id, name, version_key DESC);
CREATE INDEX idx_workflow_definitions_status ON workflow_definitions (tenant_id, status);
-- Versions of which people other than those concerned see every instance: few, and asked for in every list.
CREATE INDEX workflow_definitions_viewers_idx ON workflow_definitions (tenant_id, id) WHERE viewers <> '[]'::jsonb;
CREATE INDEX idx_workflow_definitions_definition_gin ON workflow_definitions USING gin (definition jsonb_path_ops);
-- One draft of a name at a time.
CREATE UNIQUE INDEX workflow_definitions_draft_key ON workflow_definitions (tenant_id, name) WHERE status = 'draft';

CREATE FUNCTION workflow_definitions_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> 'draft' AND (NEW.definition IS DISTINCT FROM OLD.definition OR NEW.version IS DISTINCT FROM OLD.version
                                  OR NEW.name IS DISTINCT FROM OLD.name) THEN
        RAISE EXCEPTION 'the content of a published workflow version is immutable'
            USING ERRCODE = 'restrict_violation', TABLE = 'workflow_definitions';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER workflow_definitions_guard BEFORE UPDATE ON workflow_definitions
    FOR EACH ROW EXECUTE FUNCTION workflow_definitions_guard();

-- Which version a name means: "active" is a row here, so that a share of new instances may go to another one.
CREATE TABLE workflow_routes (
    tenant_id text NOT NULL,
    name varchar(255) NOT NULL,
    definition_id uuid NOT NULL,
    share integer NOT NULL DEFAULT 100 CHECK (share BETWEEN 0 AND 100),
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name, definition_id),
    FOREIGN KEY (tenant_id, definition_id) REFERENCES workflow_definitions (tenant_id, id)
);

-- Submissions ---------------------------------------------------------------------------------------------------------

CREATE TABLE form_submissions (
    tenant_id text NOT NULL REFERENCES tenants,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    form_id text NOT NULL CHECK (length(form_id) BETWEEN 1 AND 255),
    data jsonb NOT NULL CHECK (jsonb_typeof(data) = 'object'),
    revision integer NOT NULL DEFAULT 1,
    submitted_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, submitted_by) REFERENCES users (tenant_id, id)
);
CREATE INDEX form_submissions_form_idx ON form_submissions (tenant_id, form_id, id);

CREATE TABLE submission_bindings (
    tenant_id text NOT NULL REFERENCES tenants,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    form_id text NOT NULL CHECK (length(form_id) BETWEEN 1 AND 255),
    trigger_events text[] NOT NULL CHECK (
        cardinality(trigger_events) > 0 AND trigger_events <@ ARRAY['submission.created', 'submission.updated']),
    workflow_name varchar(255) NOT NULL,
    -- a version, or a range such as ^1.2; null: the active one
    version text,
    condition text,
    data_mapping jsonb NOT NULL DEFAULT '{}',
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX submission_bindings_form_idx ON submission_bindings (tenant_id, form_id) WHERE enabled;
CREATE INDEX submission_bindings_workflow_idx ON submission_bindings (tenant_id, workflow_name);

-- Instances -----------------------------------------------------------------------------------------------------------

CREATE TABLE workflow_instances (
    tenant_id text NOT NULL,
    id uuid NOT NULL,
    workflow_definition_id uuid NOT NULL,
    workflow_name varchar(255) NOT NULL,
    workflow_version semver NOT NULL,
    submission_id uuid,
    external_key text,

    current_state varchar(255) NOT NULL,
    previous_state varchar(255),
    configuration text[] NOT NULL,
    instance_data jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(instance_data) = 'object'),
    context_data jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(context_data) = 'object'),
    -- the submission as it was at the start, for expressions
    submission_data jsonb NOT NULL DEFAULT '{}',
    -- the interpreter's own state, with its format number
    machine jsonb NOT NULL,
    -- seq of the last history row, and its hash
    revision integer NOT NULL CHECK (revision > 0),
    history_hash bytea NOT NULL CHECK (length(history_hash) = 32),

    status workflow_instance_status NOT NULL DEFAULT 'pending',
    started_at timestamptz,
    completed_at timestamptz,
    failed_at timestamptz,
    cancelled_at timestamptz,
    last_activity_at timestamptz NOT NULL,
    timeout_at timestamptz,
    sla_breach_at timestamptz,
    escalated_at timestamptz,

    title text,
    requester_id uuid,
    created_by uuid,
    assigned_to uuid,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,

    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, workflow_definition_id) REFERENCES workflow_definitions (tenant_id, id),
    FOREIGN KEY (tenant_id, submission_id) REFERENCES form_submissions (tenant_id, id),
    CHECK ((status = 'completed') = (completed_at IS NOT NULL)),
    CHECK ((status = 'failed') = (failed_at IS NOT NULL)),
    CHECK ((status = 'cancelled') = (cancelled_at IS NOT NULL)),
    CHECK (status NOT IN ('completed', 'failed', 'cancelled') OR timeout_at IS NULL)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
CREATE INDEX idx_workflow_instances_workflow_id ON workflow_instances (tenant_id, workflow_definition_id, id);
CREATE INDEX idx_workflow_instances_status ON workflow_instances (tenant_id, status, id)
    WHERE status NOT IN ('completed', 'cancelled');
CREATE INDEX idx_workflow_instances_state ON workflow_instances (tenant_id, current_state, id)
    WHERE status NOT IN ('completed', 'cancelled', 'failed');
CREATE INDEX idx_workflow_instances_submission ON workflow_instances (tenant_id, submission_id) WHERE submission_id IS NOT NULL;
CREATE INDEX idx_workflow_instances_assigned ON workflow_instances (tenant_id, assigned_to, id) WHERE assigned_to IS NOT NULL;
CREATE INDEX idx_workflow_instances_requester ON workflow_instances (tenant_id, requester_id, id);
-- Those that somebody started for another person; the others are found by their requester.
CREATE INDEX workflow_instances_created_by_idx ON workflow_instances (tenant_id, created_by, id)
    WHERE created_by IS DISTINCT FROM requester_id;
CREATE INDEX idx_workflow_instances_timeout ON workflow_instances (tenant_id, timeout_at) WHERE timeout_at IS NOT NULL;
CREATE INDEX idx_workflow_instances_data_gin ON workflow_instances USING gin (instance_data jsonb_path_ops);
CREATE UNIQUE INDEX workflow_instances_external_key ON workflow_instances (tenant_id, workflow_name, external_key)
    WHERE external_key IS NOT NULL;

-- The one log ---------------------------------------------------------------------------------------------------------

-- CACHE 1: a position is taken after the row locks, so positions grow in commit order within an instance.
CREATE SEQUENCE workflow_history_position AS bigint CACHE 1;

-- One row for each accepted command, append-only. `execution_data` is kept as json, not jsonb: its text is the very
-- bytes that `hash` covers, and jsonb does not keep them (docs/decisions/0004).
CREATE TABLE workflow_execution_history (
    tenant_id text NOT NULL,
    workflow_instance_id uuid NOT NULL,
    seq integer NOT NULL CHECK (seq > 0),
    -- derived from instance and seq
    id uuid NOT NULL,
    position bigint NOT NULL DEFAULT nextval('workflow_history_position'),
    command_id text NOT NULL,
    step_id varchar(255),
    action_type workflow_action_type NOT NULL,
    from_state varchar(255),
    to_state varchar(255),
    -- {format, command, now, facts, events}
    execution_data json NOT NULL,
    result workflow_execution_result NOT NULL DEFAULT 'success',
    error_message text,
    execution_time_ms integer,
    executed_at timestamptz NOT NULL,
    executed_by uuid,
    previous_hash bytea NOT NULL,
    hash bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, workflow_instance_id, seq)
) PARTITION BY RANGE (workflow_instance_id);
CREATE INDEX idx_workflow_history_executed_at ON workflow_execution_history (tenant_id, executed_at);
CREATE INDEX workflow_history_position_idx ON workflow_execution_history (position);
-- The engine never stops for want of a partition; rows in here raise an alarm.
CREATE TABLE workflow_execution_history_default PARTITION OF workflow_execution_history DEFAULT;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER workflow_execution_history_append_only BEFORE UPDATE OR DELETE ON workflow_execution_history
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Asserts inside a statement that each of its parts did what it was asked, before anything is committed.
CREATE FUNCTION require_count(done bigint, wanted bigint, what text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF done <> wanted THEN
        RAISE EXCEPTION '% of % % were written', done, wanted, what USING ERRCODE = 'assert_failure';
    END IF;
    RETURN done;
END $$;

-- How far the log is complete: every row at or below `horizon` is visible to everybody.
CREATE TABLE log_horizon (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    era uuid NOT NULL DEFAULT gen_random_uuid(),
    horizon bigint NOT NULL DEFAULT 0,
    moved_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO log_horizon DEFAULT VALUES;

-- What has no instance: publishing, directory, tokens, denied attempts, administration. One chain per tenant.
CREATE TABLE audit_log (
    tenant_id text NOT NULL REFERENCES tenants,
    seq bigint NOT NULL CHECK (seq > 0),
    action text NOT NULL,
    subject text NOT NULL,
    record json NOT NULL,
    executed_at timestamptz NOT NULL,
    executed_by uuid,
    previous_hash bytea NOT NULL,
    hash bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, seq)
);
CREATE INDEX audit_log_subject_idx ON audit_log (tenant_id, subject, seq);
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Approvals -----------------------------------------------------------------------------------------------------------

-- Work items: open while `action` is null.
CREATE TABLE workflow_approvals (
    tenant_id text NOT NULL,
    id uuid NOT NULL,
    workflow_instance_id uuid NOT NULL,
    workflow_definition_id uuid NOT NULL,
    -- the interpreter's name for it: item/3
    item varchar(40) NOT NULL,
    chain_id varchar(255) NOT NULL,
    step_id varchar(255) NOT NULL,
    visit integer NOT NULL,
    round integer NOT NULL,
    -- asked: a person, or one of a role or group
    approver_type text NOT NULL CHECK (approver_type IN ('user', 'role', 'group')),
    approver_key text NOT NULL,
    slot integer NOT NULL DEFAULT 1,
    -- the person asked; for a role or group null until one of its members has claimed or decided
    approver_id uuid,
    claimed_by uuid,
    claimed_at timestamptz,
    -- in whose place
    principal_id uuid,
    action approval_action,
    comments text,
    decision_data jsonb,
    decided_by uuid,
    decided_at timestamptz,
    weight integer NOT NULL DEFAULT 1,
    group_key text,
    timeout_at timestamptz,
    delegated_to uuid,
    delegated_at timestamptz,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, workflow_instance_id, item),
    UNIQUE (tenant_id, workflow_instance_id, step_id, visit, round, approver_type, approver_key, slot),
    CHECK ((action IS NULL) = (decided_at IS NULL)),
    CHECK (action IS NULL OR action = 'withdraw' OR decided_by IS NOT NULL),
    CHECK ((approver_type = 'user') = (approver_id IS NOT NULL) OR approver_type <> 'user'),
    CHECK ((action = 'delegate') = (delegated_to IS NOT NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
CREATE UNIQUE INDEX workflow_approvals_id_key ON workflow_approvals (tenant_id, id);
-- Inboxes: open items of a person, of a role, of a group, longest waiting first.
CREATE INDEX idx_workflow_approvals_approver ON workflow_approvals
    (tenant_id, approver_type, approver_key, created_at, id) WHERE action IS NULL;
-- Who was ever asked may see the instance, also when the item was withdrawn.
CREATE INDEX workflow_approvals_asked_idx ON workflow_approvals
    (tenant_id, approver_type, approver_key, workflow_instance_id);
CREATE INDEX workflow_approvals_decided_by_idx ON workflow_approvals (tenant_id, decided_by, workflow_instance_id)
    WHERE decided_by IS NOT NULL;
CREATE INDEX idx_workflow_approvals_timeout ON workflow_approvals (tenant_id, timeout_at)
    WHERE timeout_at IS NOT NULL AND action IS NULL;

-- Jobs ----------------------------------------------------------------------------------------------------------------

-- Everything due later or done outside. No claim changes an indexed column.
CREATE TABLE workflow_jobs (
    tenant_id text NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('timer', 'step', 'retry', 'trigger', 'webhook', 'notification', 'start', 'command')),
    workflow_instance_id uuid,
    -- the interpreter's name for it: timer/7, step/2
    name text NOT NULL,
    -- infinity: paused
    due_at timestamptz NOT NULL,
    -- lower first
    priority smallint NOT NULL DEFAULT 0,
    -- hash lane, for order within an instance
    lane smallint NOT NULL DEFAULT 0,
    lease_owner text,
    lease_until timestamptz,
    fencing_token bigint NOT NULL DEFAULT 0,
    attempt integer NOT NULL DEFAULT 0,
    attempts_max integer NOT NULL DEFAULT 1,
    idempotency_key text,
    trace_context text,
    -- {budget, used, calendar, paused_at} of a clock, in milliseconds
    clock jsonb,
    payload jsonb NOT NULL DEFAULT '{}',
    last_error text,
    -- dead: no retry is left; an incident stands for it
    status text NOT NULL DEFAULT 'ready' CHECK (status IN ('ready', 'dead')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CHECK ((lease_until IS NULL) = (lease_owner IS NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000);
CREATE UNIQUE INDEX workflow_jobs_name_key ON workflow_jobs (tenant_id, workflow_instance_id, name);
CREATE INDEX workflow_jobs_due_idx ON workflow_jobs (tenant_id, due_at, id) WHERE status = 'ready';

-- Requests ------------------------------------------------------------------------------------------------------------

-- A mutating request with an Idempotency-Key, written in its command's own commit; the answer is rebuilt from the history.
CREATE TABLE idempotency_records (
    tenant_id text NOT NULL,
    principal text NOT NULL,
    route text NOT NULL,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    body_hash bytea NOT NULL CHECK (length(body_hash) = 32),
    workflow_instance_id uuid,
    seq integer,
    -- what was made, where that is no instance: a definition, a submission
    subject text,
    command_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, principal, route, key)
);
CREATE INDEX idempotency_records_expiry_idx ON idempotency_records (expires_at);

-- Events from outside find waiting instances by these (filled with a later release).
CREATE TABLE correlation_keys (
    tenant_id text NOT NULL,
    key text NOT NULL,
    workflow_instance_id uuid NOT NULL,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key, workflow_instance_id, name)
);

-- Services of which one runs at a time: relay, pruner, rescuer, partition keeper.
CREATE TABLE service_leases (
    service text PRIMARY KEY,
    owner text NOT NULL,
    until timestamptz NOT NULL,
    fencing_token bigint NOT NULL DEFAULT 1
);

-- Nodes that are alive, with the record formats they read and write.
CREATE TABLE nodes (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    format integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);
