-- pliers: no-transaction
-- Steps done outside: claimed in turns between definitions, bounded per queue, and incidents where no retry helps.

-- What made a history row, as far as it was missing.
ALTER TYPE workflow_action_type ADD VALUE IF NOT EXISTS 'fail_step';
ALTER TYPE workflow_action_type ADD VALUE IF NOT EXISTS 'resolve_incident';

-- Jobs -----------------------------------------------------------------------------------------------------------------

-- `resolution`: many incidents that an operator resolves at once.
ALTER TABLE workflow_jobs DROP CONSTRAINT IF EXISTS workflow_jobs_kind_check;
ALTER TABLE workflow_jobs ADD CONSTRAINT workflow_jobs_kind_check CHECK (kind IN (
    'timer', 'step', 'retry', 'trigger', 'webhook', 'notification', 'start', 'command', 'child', 'resolution')) NOT VALID;
ALTER TABLE workflow_jobs VALIDATE CONSTRAINT workflow_jobs_kind_check;

ALTER TABLE workflow_jobs DROP CONSTRAINT IF EXISTS workflow_jobs_step_check;
ALTER TABLE workflow_jobs ADD CONSTRAINT workflow_jobs_step_check
    CHECK (kind <> 'step' OR (queue IS NOT NULL AND definition_name IS NOT NULL)) NOT VALID;
ALTER TABLE workflow_jobs VALIDATE CONSTRAINT workflow_jobs_step_check;

-- A lane is what one definition has for one queue at one priority: a claim begins at a lane's watermark, so that neither
-- another definition's backlog nor what has been done already is waded through. Its condition says "not dead" where other
-- indexes say "ready": so a planner whose statistics know of one lane only cannot take the index by kind and time for as
-- good, which would read the whole backlog (it did: 390 ms for six rows).
CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_jobs_lane_idx
    ON workflow_jobs (tenant_id, queue, definition_name, priority, due_at, id) WHERE kind = 'step' AND status <> 'dead';
DROP INDEX CONCURRENTLY IF EXISTS workflow_jobs_queue_idx;

-- Limits ---------------------------------------------------------------------------------------------------------------

-- How many steps of a queue may run at once, and how many may begin in a time, on all nodes and workers together.
CREATE TABLE IF NOT EXISTS step_limits (
    tenant_id text NOT NULL REFERENCES tenants,
    -- a queue (`http`, `plugin:NAME`, `external:TOPIC`), or a type (`plugin`, `external`) for all its queues together
    queue text NOT NULL CHECK (length(queue) BETWEEN 1 AND 300),
    -- 0: nothing is begun
    max_running integer CHECK (max_running >= 0),
    -- at most so many begin in `per_seconds`, and so many at once after a pause
    rate integer CHECK (rate > 0),
    per_seconds double precision CHECK (per_seconds > 0),
    -- how many may begin now without waiting, at `refilled_at`
    tokens double precision NOT NULL DEFAULT 0,
    refilled_at timestamptz NOT NULL DEFAULT now(),
    revision integer NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by uuid,
    PRIMARY KEY (tenant_id, queue),
    CHECK ((rate IS NULL) = (per_seconds IS NULL)),
    CHECK (max_running IS NOT NULL OR rate IS NOT NULL)
) WITH (fillfactor = 50);

-- A step of a limited queue that runs somewhere; free again when it is done, or when its worker falls silent.
CREATE TABLE IF NOT EXISTS step_slots (
    tenant_id text NOT NULL,
    -- of the limit
    queue text NOT NULL,
    job_id uuid NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, queue, job_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Incidents ------------------------------------------------------------------------------------------------------------

-- What waits for an operator, or did; written in the commit that raises or resolves it.
CREATE TABLE IF NOT EXISTS workflow_incidents (
    tenant_id text NOT NULL,
    workflow_instance_id uuid NOT NULL,
    -- the interpreter's name for it: incident/3
    incident varchar(40) NOT NULL,
    workflow_definition_id uuid NOT NULL,
    workflow_name varchar(255) NOT NULL,
    code text NOT NULL,
    -- the same for incidents of one cause
    fingerprint text NOT NULL,
    message text NOT NULL,
    state varchar(255),
    stage varchar(255),
    -- the step run, and the step's id in the definition
    step varchar(40),
    step_id varchar(255),
    attempts integer NOT NULL DEFAULT 0,
    details jsonb NOT NULL DEFAULT '{}',
    raised_at timestamptz NOT NULL,
    -- by the database's clock, where the tenant's is moved by hand
    created_at timestamptz NOT NULL DEFAULT now(),
    -- null while it is open
    resolved_at timestamptz,
    -- null: it went away by itself
    action text CHECK (action IN ('retry', 'skip', 'give_up')),
    reason text,
    resolved_by uuid,
    PRIMARY KEY (tenant_id, workflow_instance_id, incident),
    CHECK (resolved_at IS NOT NULL OR (action IS NULL AND reason IS NULL AND resolved_by IS NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
-- Operators' lists: the newest first, of one cause, of one workflow.
CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_incidents_open_idx
    ON workflow_incidents (tenant_id, raised_at, workflow_instance_id, incident) WHERE resolved_at IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_incidents_cause_idx
    ON workflow_incidents (tenant_id, fingerprint, raised_at, workflow_instance_id, incident) WHERE resolved_at IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_incidents_raised_idx
    ON workflow_incidents (tenant_id, raised_at, workflow_instance_id, incident);

-- Many incidents that an operator resolves at once: what was asked, and how far it has come.
CREATE TABLE IF NOT EXISTS incident_resolutions (
    tenant_id text NOT NULL REFERENCES tenants,
    -- also that of its job, while there is work left
    id uuid NOT NULL,
    -- {fingerprint, code, workflow, stepId}: all that are given must fit
    filter jsonb NOT NULL CHECK (jsonb_typeof(filter) = 'object'),
    action text NOT NULL CHECK (action IN ('retry', 'skip', 'give_up')),
    reason text NOT NULL,
    patch jsonb,
    output jsonb,
    -- incidents that were raised later do not belong to it
    raised_before timestamptz NOT NULL,
    -- the last incident that was handled
    seen_at timestamptz,
    seen_instance uuid,
    seen_incident varchar(40),
    handled integer NOT NULL DEFAULT 0,
    resolved integer NOT NULL DEFAULT 0,
    -- refused by their instances, the first hundred with their reasons
    refused integer NOT NULL DEFAULT 0,
    refusals jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(refusals) = 'array'),
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 50);

-- Those of releases that kept them in the instance alone.
INSERT INTO workflow_incidents (
    tenant_id, workflow_instance_id, incident, workflow_definition_id, workflow_name, code, fingerprint, message, state,
    stage, raised_at)
SELECT i.tenant_id, i.id, f.id, i.workflow_definition_id, i.workflow_name, f.incident ->> 'code',
       coalesce(f.incident ->> 'fingerprint', ''), f.incident ->> 'message', f.incident ->> 'state',
       f.incident ->> 'stage', coalesce((f.incident ->> 'raised_at')::timestamptz, i.last_activity_at)
FROM workflow_instances i, jsonb_each(i.machine -> 'incidents') AS f (id, incident)
WHERE jsonb_typeof(i.machine -> 'incidents') = 'object' AND i.status NOT IN ('completed', 'cancelled')
ON CONFLICT (tenant_id, workflow_instance_id, incident) DO NOTHING;

-- Tokens ---------------------------------------------------------------------------------------------------------------

-- Who may fetch, renew and settle external tasks, and nothing else.
ALTER TABLE api_tokens DROP CONSTRAINT IF EXISTS api_tokens_permissions_check;
ALTER TABLE api_tokens ADD CONSTRAINT api_tokens_permissions_check
    CHECK (permissions <@ ARRAY['author', 'publisher', 'operator', 'auditor', 'admin', 'events', 'worker']);

-- Guards ---------------------------------------------------------------------------------------------------------------

ALTER TABLE step_limits ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS one_tenant ON step_limits;
CREATE POLICY one_tenant ON step_limits USING (tenant_id = (SELECT session_tenant()));
ALTER TABLE step_slots ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS one_tenant ON step_slots;
CREATE POLICY one_tenant ON step_slots USING (tenant_id = (SELECT session_tenant()));
ALTER TABLE incident_resolutions ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS one_tenant ON incident_resolutions;
CREATE POLICY one_tenant ON incident_resolutions USING (tenant_id = (SELECT session_tenant()));
ALTER TABLE workflow_incidents ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS one_tenant ON workflow_incidents;
CREATE POLICY one_tenant ON workflow_incidents USING (tenant_id = (SELECT session_tenant()));
SELECT install_engine_role();
