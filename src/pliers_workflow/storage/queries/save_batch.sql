-- The statement that writes a batch: instances, history, work items, jobs, idempotency keys, correlation keys.
--
-- It is put together (`storage/parts.py`) from the sections of this file, in their order: of the parts below only those
-- that have rows are sent. A part is one or more CTEs and takes its rows as `given(column type, …) AS alias`, which stands
-- for an `unnest` of one parameter for each column. The types are PostgreSQL's, and say how values travel: all of a
-- column joined as one text (`split_column`, migration 0003), but `prose`, free text that may hold any character, as an
-- array.
--
-- To write a new kind of row with a batch, write its part here, joined with `saved`, so that nothing is written for an
-- instance that was overtaken; add its name to a group of `PARTS` and a collecting method to `BatchWrites`, both in
-- `storage/batch_writes.py`. A section `check_PART` is put into the answer and raises where a part did less than was asked.
--
-- `writer` announces this transaction to the relay that moves the log's horizon, before any position is taken. `locked`
-- takes the row locks in one order, leaving out what somebody else holds, has moved past the revision that was
-- interpreted, or whose directory facts are stale; everything after it touches only what it let through, or what
-- `created` has made. Positions are taken after the locks. A key that is taken fails the whole statement: the batch is
-- read again and finds it.

-- name: writer
writer AS MATERIALIZED (
    SELECT pg_advisory_xact_lock_shared(7254031)
)

-- name: changed
-- Instances that were there before, as their last command of the batch left them; data and context null: as they are.
-- Served by workflow_instances_pkey, tenants_pkey.
locked AS MATERIALIZED (
    SELECT t.*
    FROM writer, given(
        tenant_id text, id uuid, base_revision int, revision int, directory_revision bigint, history_hash bytea,
        status text, current_state text, previous_state text, configuration text, data jsonb, context jsonb, machine jsonb,
        last_activity_at timestamptz, timeout_at timestamptz, failed_at timestamptz, assigned_to uuid, title prose
    ) AS t
    JOIN workflow_instances i ON i.tenant_id = t.tenant_id AND i.id = t.id AND i.revision = t.base_revision
    JOIN tenants n ON n.id = t.tenant_id
        AND (t.directory_revision IS NULL OR n.directory_revision = t.directory_revision)
    ORDER BY t.tenant_id, t.id
    FOR NO KEY UPDATE OF i SKIP LOCKED
), changed AS (
    UPDATE workflow_instances w SET
        revision = l.revision,
        history_hash = l.history_hash,
        status = l.status::workflow_instance_status,
        current_state = coalesce(l.current_state, ''),
        previous_state = l.previous_state,
        configuration = coalesce(string_to_array(l.configuration, ' '), '{}'),
        instance_data = coalesce(l.data, w.instance_data),
        context_data = coalesce(l.context, w.context_data),
        machine = l.machine,
        last_activity_at = l.last_activity_at,
        updated_at = l.last_activity_at,
        timeout_at = l.timeout_at,
        assigned_to = l.assigned_to,
        title = l.title,
        -- one that was queued begins with the first command that makes it anything else
        started_at = CASE WHEN l.current_state IS NULL THEN w.started_at ELSE coalesce(w.started_at, l.last_activity_at) END,
        completed_at = CASE WHEN l.status = 'completed' THEN coalesce(w.completed_at, l.last_activity_at) END,
        failed_at = l.failed_at,
        cancelled_at = CASE WHEN l.status = 'cancelled' THEN coalesce(w.cancelled_at, l.last_activity_at) END
    FROM locked l
    WHERE w.tenant_id = l.tenant_id AND w.id = l.id
    RETURNING w.tenant_id, w.id, w.workflow_definition_id
)

-- name: created
-- Instances that start. One that is there already was started by the same command elsewhere, and counts as overtaken. Who
-- archives a version locks it: that is waited for, and then a start on it has no version and is refused.
created AS (
    INSERT INTO workflow_instances (
        tenant_id, id, revision, history_hash, status, current_state, previous_state, configuration, instance_data,
        context_data, machine, last_activity_at, updated_at, timeout_at, assigned_to, title, completed_at, failed_at,
        cancelled_at, workflow_definition_id, workflow_name, workflow_version, submission_id, submission_data,
        external_key, requester_id, created_by, created_at, started_at, parent_instance_id, parent_step
    )
    SELECT t.tenant_id, t.id, t.revision, t.history_hash, t.status::workflow_instance_status,
           coalesce(t.current_state, ''), t.previous_state, coalesce(string_to_array(t.configuration, ' '), '{}'),
           t.data, t.context, t.machine, t.last_activity_at, t.last_activity_at,
           t.timeout_at, t.assigned_to, t.title,
           CASE WHEN t.status = 'completed' THEN t.last_activity_at END,
           t.failed_at,
           CASE WHEN t.status = 'cancelled' THEN t.last_activity_at END,
           t.definition_id, t.definition_name, CASE WHEN d.status <> 'archived' THEN t.version END, t.submission_id,
           t.submission, t.external_key,
           t.requester, t.created_by, t.created_at, t.started_at, t.parent_instance_id, t.parent_step
    FROM writer, given(
        tenant_id text, id uuid, revision int, directory_revision bigint, history_hash bytea, status text,
        current_state text, previous_state text, configuration text, data jsonb, context jsonb, machine jsonb,
        last_activity_at timestamptz, timeout_at timestamptz, failed_at timestamptz, assigned_to uuid, title prose,
        definition_id uuid, definition_name text, version text, submission_id uuid, submission jsonb, external_key prose,
        requester uuid, created_by uuid, created_at timestamptz, started_at timestamptz, parent_instance_id uuid,
        parent_step text
    ) AS t
    JOIN tenants n ON n.id = t.tenant_id
        AND (t.directory_revision IS NULL OR n.directory_revision = t.directory_revision)
    JOIN workflow_definitions d ON d.tenant_id = t.tenant_id AND d.id = t.definition_id
    ORDER BY t.tenant_id, t.id
    FOR KEY SHARE OF d
    ON CONFLICT (tenant_id, id) DO NOTHING
    RETURNING tenant_id, id, workflow_definition_id
)

-- What the parts below are joined with: the instances that this statement has written.

-- name: saved_from_changed
saved AS MATERIALIZED (
    SELECT tenant_id, id, workflow_definition_id FROM changed
)

-- name: saved_from_created
saved AS MATERIALIZED (
    SELECT tenant_id, id, workflow_definition_id FROM created
)

-- name: saved_from_both
saved AS MATERIALIZED (
    SELECT tenant_id, id, workflow_definition_id FROM changed
    UNION ALL
    SELECT tenant_id, id, workflow_definition_id FROM created
)

-- name: history
-- One row for each command, in the order of the instances' locks, so that positions grow with seq.
history AS (
    INSERT INTO workflow_execution_history (
        tenant_id, workflow_instance_id, seq, id, command_id, action_type, from_state, to_state, execution_data,
        executed_at, executed_by, previous_hash, hash
    )
    SELECT h.tenant_id, h.instance_id, h.seq, h.id, h.command_id, h.action_type::workflow_action_type, h.from_state,
           h.to_state, h.record, h.executed_at, h.executed_by, h.previous_hash, h.hash
    FROM given(
        tenant_id text, instance_id uuid, seq int, id uuid, command_id text, action_type text, from_state text,
        to_state text, record json, executed_at timestamptz, executed_by uuid, previous_hash bytea, hash bytea
    ) AS h
    JOIN saved s ON s.tenant_id = h.tenant_id AND s.id = h.instance_id
    ORDER BY h.tenant_id, h.instance_id, h.seq
)

-- name: opened
-- New work items, some of them settled in the batch that opened them.
opened AS (
    INSERT INTO workflow_approvals (
        tenant_id, id, workflow_instance_id, workflow_definition_id, item, chain_id, step_id, visit, round,
        approver_type, approver_key, slot, approver_id, principal_id, timeout_at, created_at, action, comments,
        decision_data, decided_by, decided_at, delegated_to, delegated_at, weight, group_key
    )
    SELECT a.tenant_id, a.id, a.instance_id, s.workflow_definition_id, a.item, a.chain, a.stage, a.visit, a.round,
           a.approver_type, a.approver, a.slot,
           CASE WHEN a.approver_type = 'user' THEN a.approver::uuid ELSE a.decided_by END, a.principal, a.timeout_at,
           a.created_at, a.action::approval_action, a.comments, a.decision_data, a.decided_by, a.decided_at,
           a.delegated_to, CASE WHEN a.delegated_to IS NOT NULL THEN a.decided_at END, a.weight, a.group_key
    FROM given(
        tenant_id text, id uuid, instance_id uuid, item text, chain text, stage text, visit int, round int,
        approver_type text, approver text, slot int, principal uuid, timeout_at timestamptz, created_at timestamptz,
        action text, comments prose, decision_data jsonb, decided_by uuid, decided_at timestamptz, delegated_to uuid,
        weight int, group_key prose
    ) AS a
    JOIN saved s ON s.tenant_id = a.tenant_id AND s.id = a.instance_id
)

-- name: settled
-- Work items that were open before the batch, and end. Served by workflow_approvals_pkey.
wanted AS MATERIALIZED (
    SELECT a.*
    FROM given(
        tenant_id text, instance_id uuid, item text, action text, comments prose, decision_data jsonb, decided_by uuid,
        decided_at timestamptz, delegated_to uuid, weight int, group_key prose, principal uuid
    ) AS a
    JOIN saved s ON s.tenant_id = a.tenant_id AND s.id = a.instance_id
), settled AS (
    UPDATE workflow_approvals w SET
        action = a.action::approval_action,
        comments = a.comments,
        decision_data = a.decision_data,
        decided_by = a.decided_by,
        decided_at = a.decided_at,
        approver_id = coalesce(w.approver_id, a.decided_by),
        principal_id = coalesce(a.principal, w.principal_id),
        delegated_to = a.delegated_to,
        delegated_at = CASE WHEN a.delegated_to IS NOT NULL THEN a.decided_at END,
        weight = a.weight,
        group_key = a.group_key
    FROM wanted a
    -- Open means that `action` is null, too; asked that way, a planner without statistics takes the partial index of all
    -- open items for as short as the primary key, and reads them all for every decision.
    WHERE w.tenant_id = a.tenant_id AND w.workflow_instance_id = a.instance_id AND w.item = a.item
        AND w.decided_at IS NULL
    RETURNING 1
)

-- name: check_settled
require_count((SELECT count(*) FROM settled), (SELECT count(*) FROM wanted), 'settled work items')

-- name: jobs
-- What is due later or done elsewhere, new or anew. Whoever held the lease of a job that is written anew holds it no more.
-- A clock that is moved by a command that belongs to no trace keeps the one it has.
jobs AS (
    INSERT INTO workflow_jobs AS w (
        tenant_id, id, workflow_instance_id, kind, name, due_at, priority, queue, definition_name, payload,
        clock, created_at
    )
    SELECT j.tenant_id, j.id, j.instance_id, j.kind, j.name, j.due_at, j.priority, j.queue, j.definition_name,
           coalesce(j.payload, '{}'), j.clock, j.created_at
    FROM given(
        tenant_id text, id uuid, instance_id uuid, kind text, name text, due_at timestamptz, priority smallint,
        queue text, definition_name text, payload jsonb, clock jsonb, created_at timestamptz
    ) AS j
    JOIN saved s ON s.tenant_id = j.tenant_id AND s.id = j.instance_id
    ON CONFLICT (tenant_id, id) DO UPDATE SET
        due_at = excluded.due_at, priority = excluded.priority, queue = excluded.queue,
        payload = CASE WHEN w.kind = 'timer' AND excluded.payload = '{}' THEN w.payload ELSE excluded.payload END,
        clock = excluded.clock,
        lease_owner = NULL, lease_until = NULL, fencing_token = w.fencing_token + 1, attempt = 0, last_error = NULL,
        status = 'ready'
)

-- name: dropped
-- Jobs that are not needed any more. Served by workflow_jobs_pkey.
dropped AS (
    DELETE FROM workflow_jobs w
    USING given(tenant_id text, instance_id uuid, id uuid) AS j, saved s
    WHERE s.tenant_id = j.tenant_id AND s.id = j.instance_id
        AND w.tenant_id = j.tenant_id AND w.id = j.id
)

-- name: incidents
-- New incidents, some of them resolved in the batch that raised them.
incidents AS (
    INSERT INTO workflow_incidents AS w (
        tenant_id, workflow_instance_id, incident, workflow_definition_id, workflow_name, code, fingerprint, message, state,
        stage, step, step_id, attempts, details, raised_at, resolved_at, action, reason, resolved_by
    )
    SELECT c.tenant_id, c.instance_id, c.incident, s.workflow_definition_id, c.workflow_name, c.code, c.fingerprint,
           c.message, c.state, c.stage, c.step, c.step_id, c.attempts, coalesce(c.details, '{}'), c.raised_at,
           c.resolved_at, c.action, c.reason, c.resolved_by
    FROM given(
        tenant_id text, instance_id uuid, incident text, workflow_name text, code prose, fingerprint prose, message prose,
        state text, stage text, step text, step_id text, attempts int, details jsonb, raised_at timestamptz,
        resolved_at timestamptz, action text, reason prose, resolved_by uuid
    ) AS c
    JOIN saved s ON s.tenant_id = c.tenant_id AND s.id = c.instance_id
    ON CONFLICT (tenant_id, workflow_instance_id, incident) DO UPDATE SET
        code = excluded.code, fingerprint = excluded.fingerprint, message = excluded.message,
        attempts = excluded.attempts, details = excluded.details, raised_at = excluded.raised_at, created_at = now(),
        resolved_at = excluded.resolved_at, action = excluded.action, reason = excluded.reason,
        resolved_by = excluded.resolved_by
)

-- name: resolved
-- Incidents that were open before the batch, and end. Served by workflow_incidents_pkey.
resolved AS (
    UPDATE workflow_incidents w
    SET resolved_at = c.resolved_at, action = c.action, reason = c.reason, resolved_by = c.resolved_by
    FROM given(
        tenant_id text, instance_id uuid, incident text, resolved_at timestamptz, action text, reason prose,
        resolved_by uuid
    ) AS c
    JOIN saved s ON s.tenant_id = c.tenant_id AND s.id = c.instance_id
    WHERE w.tenant_id = c.tenant_id AND w.workflow_instance_id = c.instance_id AND w.incident = c.incident
)

-- name: keys
-- Idempotency keys that commands came with, kept for `ttl` seconds.
keys AS (
    INSERT INTO idempotency_records (
        tenant_id, principal, route, key, body_hash, workflow_instance_id, seq, command_id, created_at, expires_at)
    SELECT k.tenant_id, k.principal, k.route, k.key, k.body_hash, k.instance_id, k.seq, k.command_id, now(),
           now() + make_interval(secs => k.ttl)
    FROM given(
        tenant_id text, principal text, route text, key text, body_hash bytea, instance_id uuid, seq int,
        command_id text, ttl bigint
    ) AS k
    JOIN saved s ON s.tenant_id = k.tenant_id AND s.id = k.instance_id
    ORDER BY k.tenant_id, k.principal, k.route, k.key
)

-- name: correlated
-- Keys by which events from outside find instances, new or other than before. Served by correlation_keys_pkey.
correlated AS (
    INSERT INTO correlation_keys AS w (
        tenant_id, workflow_instance_id, name, key, event_type, workflow_name, workflow_definition_id, created_at)
    SELECT c.tenant_id, c.instance_id, c.name, c.key, c.event_type, c.workflow_name, s.workflow_definition_id,
           c.created_at
    FROM given(
        tenant_id text, instance_id uuid, name text, key prose, event_type text, workflow_name text,
        created_at timestamptz
    ) AS c
    JOIN saved s ON s.tenant_id = c.tenant_id AND s.id = c.instance_id
    ON CONFLICT (tenant_id, workflow_instance_id, name) DO UPDATE SET
        key = excluded.key, event_type = excluded.event_type, created_at = excluded.created_at
)

-- name: uncorrelated
-- Keys that instances have no more. Served by correlation_keys_pkey.
uncorrelated AS (
    DELETE FROM correlation_keys w
    USING given(tenant_id text, instance_id uuid, name text) AS c, saved s
    WHERE s.tenant_id = c.tenant_id AND s.id = c.instance_id
        AND w.tenant_id = c.tenant_id AND w.workflow_instance_id = c.instance_id AND w.name = c.name
)

-- name: answer
-- The instances written; the others were overtaken.
(SELECT array_agg(id::text) FROM saved)
