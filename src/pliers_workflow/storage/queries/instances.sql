-- The two statements of the batch-first commit, and what stands around them. Each names its tenants as an array that every
-- join repeats, so that one batch may mix tenants and none can reach into another.

-- name: load_batch
-- A batch's instances, and of the requests' idempotency keys those that were used before, with each tenant's clock and
-- directory revision. Rows of kind `i` come for every instance asked for, rows of kind `k` for known keys only. Where the
-- instance stands at the revision that the node knows it at, its columns are left out.
-- Served by workflow_instances_pkey, tenants_pkey, idempotency_records_pkey.
SELECT 'i' AS kind, t.ord::int AS ord, coalesce(n.virtual_now, now()) AS now, n.directory_revision,
       c.workflow_definition_id::text AS definition_id, c.workflow_name AS definition_name,
       c.workflow_version::text AS version, i.revision, c.history_hash, c.status::text AS status, c.configuration,
       c.current_state, c.previous_state, c.instance_data::text AS data, c.context_data::text AS context,
       c.submission_data::text AS submission, c.machine::text AS machine, c.requester_id::text AS requester,
       c.created_by::text AS created_by, c.created_at, c.last_activity_at, c.submission_id::text AS submission_id,
       c.external_key, c.title, c.started_at, c.completed_at, c.failed_at, c.cancelled_at, c.timeout_at,
       c.assigned_to::text AS assigned_to,
       NULL::text AS key_instance, NULL::int AS key_seq, NULL::bytea AS key_body
FROM unnest($1::text[], $2::uuid[], $3::int[]) WITH ORDINALITY AS t (tenant_id, id, known_revision, ord)
JOIN tenants n ON n.id = t.tenant_id
LEFT JOIN workflow_instances i ON i.tenant_id = t.tenant_id AND i.id = t.id
LEFT JOIN LATERAL (SELECT i.* WHERE i.revision <> t.known_revision) c ON true
UNION ALL
SELECT 'k', q.ord::int, k.created_at, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       k.workflow_instance_id::text, k.seq, k.body_hash
FROM unnest($4::text[], $5::text[], $6::text[], $7::text[]) WITH ORDINALITY AS q (tenant_id, principal, route, key, ord)
JOIN idempotency_records k
    ON k.tenant_id = q.tenant_id AND k.principal = q.principal AND k.route = q.route AND k.key = q.key;

-- name: lock_batch
-- Wait for the row locks of a batch, in the one order that cannot deadlock. For commands that were overtaken twice: the
-- read that follows in the same transaction cannot be overtaken again. Served by workflow_instances_pkey.
SELECT i.id FROM unnest($1::text[], $2::uuid[]) AS t (tenant_id, id)
JOIN workflow_instances i ON i.tenant_id = t.tenant_id AND i.id = t.id
ORDER BY t.tenant_id, t.id
FOR NO KEY UPDATE OF i;

-- name: save_batch
-- Write all of a batch: instances, history, work items, jobs, idempotency keys.
--
-- `writer` announces this transaction to the relay that moves the log's horizon, before any position is taken. `locked`
-- takes the row locks in one order, leaving out what somebody else holds, has moved past the revision that was
-- interpreted, or whose directory facts are stale; everything after it touches only what it let through, or what
-- `created` has made. Positions are taken after the locks. A key that is taken fails the whole statement: the batch is
-- read again and finds it. Columns come joined (`split_column`), those of free text as arrays. The answer names the
-- instances written; the others were overtaken.
WITH writer AS MATERIALIZED (
    SELECT pg_advisory_xact_lock_shared(7254031)
), locked AS MATERIALIZED (
    SELECT t.*
    FROM writer, unnest(
        split_column($1), split_column($2)::uuid[], split_column($3)::int[], split_column($4)::int[],
        split_column($5)::bigint[], split_column($6)::bytea[], split_column($7), split_column($8), split_column($9),
        split_column($10), split_column($11), split_column($12), split_column($13), split_column($14)::timestamptz[],
        split_column($15)::timestamptz[], split_column($16)::uuid[], $17::text[], split_column($18)::int[]
    ) AS t (
        tenant_id, id, base_revision, revision, directory_revision, history_hash, status, current_state, previous_state,
        configuration, data, context, machine, last_activity_at, timeout_at, assigned_to, title, ord
    )
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
        current_state = l.current_state,
        previous_state = l.previous_state,
        configuration = string_to_array(l.configuration, ' '),
        instance_data = CASE WHEN l.data IS NULL THEN w.instance_data ELSE l.data::jsonb END,
        context_data = CASE WHEN l.context IS NULL THEN w.context_data ELSE l.context::jsonb END,
        machine = l.machine::jsonb,
        last_activity_at = l.last_activity_at,
        updated_at = l.last_activity_at,
        timeout_at = l.timeout_at,
        assigned_to = l.assigned_to,
        title = l.title,
        completed_at = CASE WHEN l.status = 'completed' THEN coalesce(w.completed_at, l.last_activity_at) END,
        failed_at = CASE WHEN l.status = 'failed' THEN coalesce(w.failed_at, l.last_activity_at) END,
        cancelled_at = CASE WHEN l.status = 'cancelled' THEN coalesce(w.cancelled_at, l.last_activity_at) END
    FROM locked l
    WHERE w.tenant_id = l.tenant_id AND w.id = l.id
    RETURNING w.tenant_id, w.id, w.workflow_definition_id, l.ord
), created AS (
    INSERT INTO workflow_instances (
        tenant_id, id, revision, history_hash, status, current_state, previous_state, configuration, instance_data,
        context_data, machine, last_activity_at, updated_at, timeout_at, assigned_to, title, completed_at, failed_at,
        cancelled_at, workflow_definition_id, workflow_name, workflow_version, submission_id, submission_data,
        external_key, requester_id, created_by, created_at, started_at
    )
    SELECT t.tenant_id, t.id, t.revision, t.history_hash, t.status::workflow_instance_status, t.current_state,
           t.previous_state, string_to_array(t.configuration, ' '), t.data::jsonb, t.context::jsonb, t.machine::jsonb,
           t.last_activity_at, t.last_activity_at, t.timeout_at, t.assigned_to, t.title,
           CASE WHEN t.status = 'completed' THEN t.last_activity_at END,
           CASE WHEN t.status = 'failed' THEN t.last_activity_at END,
           CASE WHEN t.status = 'cancelled' THEN t.last_activity_at END,
           t.definition_id, t.definition_name, t.version, t.submission_id, t.submission::jsonb, t.external_key,
           t.requester, t.created_by, t.created_at, t.started_at
    FROM writer, unnest(
        split_column($19), split_column($20)::uuid[], split_column($21)::int[], split_column($22)::bigint[],
        split_column($23)::bytea[], split_column($24), split_column($25), split_column($26), split_column($27),
        split_column($28), split_column($29), split_column($30), split_column($31)::timestamptz[],
        split_column($32)::timestamptz[], split_column($33)::uuid[], $34::text[], split_column($35)::uuid[],
        split_column($36), split_column($37), split_column($38)::uuid[], split_column($39), $40::text[],
        split_column($41)::uuid[], split_column($42)::uuid[], split_column($43)::timestamptz[],
        split_column($44)::timestamptz[]
    ) AS t (
        tenant_id, id, revision, directory_revision, history_hash, status, current_state, previous_state,
        configuration, data, context, machine, last_activity_at, timeout_at, assigned_to,
        title, definition_id, definition_name, version, submission_id, submission, external_key, requester,
        created_by, created_at, started_at
    )
    JOIN tenants n ON n.id = t.tenant_id
        AND (t.directory_revision IS NULL OR n.directory_revision = t.directory_revision)
    ORDER BY t.tenant_id, t.id
    ON CONFLICT (tenant_id, id) DO NOTHING
    RETURNING tenant_id, id, workflow_definition_id
), saved AS MATERIALIZED (
    SELECT tenant_id, id, workflow_definition_id FROM changed
    UNION ALL
    SELECT tenant_id, id, workflow_definition_id FROM created
), logged AS (
    INSERT INTO workflow_execution_history (
        tenant_id, workflow_instance_id, seq, id, command_id, action_type, from_state, to_state, execution_data,
        executed_at, executed_by, previous_hash, hash
    )
    SELECT h.tenant_id, h.instance_id, h.seq, h.id, h.command_id, h.action_type::workflow_action_type, h.from_state,
           h.to_state, h.record::json, h.executed_at, h.executed_by, h.previous_hash, h.hash
    FROM unnest(
        split_column($45), split_column($46)::uuid[], split_column($47)::int[], split_column($48)::uuid[],
        split_column($49), split_column($50), split_column($51), split_column($52), split_column($53),
        split_column($54)::timestamptz[], split_column($55)::uuid[], split_column($56)::bytea[],
        split_column($57)::bytea[]
    ) AS h (
        tenant_id, instance_id, seq, id, command_id, action_type, from_state, to_state, record, executed_at,
        executed_by, previous_hash, hash
    )
    JOIN saved s ON s.tenant_id = h.tenant_id AND s.id = h.instance_id
    ORDER BY h.tenant_id, h.instance_id, h.seq
), opened AS (
    INSERT INTO workflow_approvals (
        tenant_id, id, workflow_instance_id, workflow_definition_id, item, chain_id, step_id, visit, round,
        approver_type, approver_key, slot, approver_id, principal_id, timeout_at, created_at, action, comments,
        decision_data, decided_by, decided_at, delegated_to, delegated_at, weight, group_key
    )
    SELECT a.tenant_id, a.id, a.instance_id, s.workflow_definition_id, a.item, a.chain, a.stage, a.visit, a.round,
           a.approver_type, a.approver, a.slot,
           CASE WHEN a.approver_type = 'user' THEN a.approver::uuid ELSE a.decided_by END, a.principal, a.timeout_at,
           a.created_at, a.action::approval_action, a.comments, a.decision_data::jsonb, a.decided_by, a.decided_at,
           a.delegated_to, CASE WHEN a.delegated_to IS NOT NULL THEN a.decided_at END, a.weight, a.group_key
    FROM unnest(
        split_column($58), split_column($59)::uuid[], split_column($60)::uuid[], split_column($61),
        split_column($62), split_column($63), split_column($64)::int[], split_column($65)::int[], split_column($66),
        split_column($67), split_column($68)::int[], split_column($69)::uuid[], split_column($70)::timestamptz[],
        split_column($71)::timestamptz[], split_column($72), $73::text[], split_column($74),
        split_column($75)::uuid[], split_column($76)::timestamptz[], split_column($77)::uuid[],
        split_column($78)::int[], $79::text[]
    ) AS a (
        tenant_id, id, instance_id, item, chain, stage, visit, round, approver_type, approver, slot, principal,
        timeout_at, created_at, action, comments, decision_data, decided_by, decided_at, delegated_to, weight, group_key
    )
    JOIN saved s ON s.tenant_id = a.tenant_id AND s.id = a.instance_id
), wanted AS MATERIALIZED (
    SELECT a.*
    FROM unnest(
        split_column($80), split_column($81)::uuid[], split_column($82), split_column($83), $84::text[],
        split_column($85), split_column($86)::uuid[], split_column($87)::timestamptz[], split_column($88)::uuid[],
        split_column($89)::int[], $90::text[], split_column($91)::uuid[]
    ) AS a (
        tenant_id, instance_id, item, action, comments, decision_data, decided_by, decided_at, delegated_to, weight,
        group_key, principal
    )
    JOIN saved s ON s.tenant_id = a.tenant_id AND s.id = a.instance_id
), settled AS (
    UPDATE workflow_approvals w SET
        action = a.action::approval_action,
        comments = a.comments,
        decision_data = a.decision_data::jsonb,
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
), scheduled AS (
    INSERT INTO workflow_jobs (tenant_id, id, kind, workflow_instance_id, name, due_at, clock, created_at)
    SELECT j.tenant_id, j.id, 'timer', j.instance_id, j.name, j.due_at, j.clock::jsonb, j.created_at
    FROM unnest(
        split_column($92), split_column($93)::uuid[], split_column($94)::uuid[], split_column($95),
        split_column($96)::timestamptz[], split_column($97), split_column($98)::timestamptz[]
    ) AS j (tenant_id, id, instance_id, name, due_at, clock, created_at)
    JOIN saved s ON s.tenant_id = j.tenant_id AND s.id = j.instance_id
    ON CONFLICT (tenant_id, id) DO UPDATE SET due_at = excluded.due_at, clock = excluded.clock,
        lease_owner = NULL, lease_until = NULL, attempt = 0, status = 'ready'
), dropped AS (
    DELETE FROM workflow_jobs w
    USING unnest(
        split_column($99), split_column($100)::uuid[], split_column($101)::uuid[]
    ) AS j (tenant_id, instance_id, id), saved s
    WHERE s.tenant_id = j.tenant_id AND s.id = j.instance_id
        AND w.tenant_id = j.tenant_id AND w.id = j.id
), keyed AS (
    INSERT INTO idempotency_records (
        tenant_id, principal, route, key, body_hash, workflow_instance_id, seq, command_id, created_at, expires_at)
    SELECT k.tenant_id, k.principal, k.route, k.key, k.body_hash, k.instance_id, k.seq, k.command_id, now(),
           now() + $110::interval
    FROM unnest(
        split_column($102), split_column($103), split_column($104), split_column($105), split_column($106)::bytea[],
        split_column($107)::uuid[], split_column($108)::int[], split_column($109)
    ) AS k (tenant_id, principal, route, key, body_hash, instance_id, seq, command_id)
    JOIN saved s ON s.tenant_id = k.tenant_id AND s.id = k.instance_id
    ORDER BY k.tenant_id, k.principal, k.route, k.key
)
SELECT
    (SELECT array_agg(id::text) FROM saved) AS saved,
    require_count((SELECT count(*) FROM settled), (SELECT count(*) FROM wanted), 'settled work items');

-- name: applied_commands
-- Of commands whose commit is uncertain, those that are in the history after all. Served by the history's primary key.
SELECT h.workflow_instance_id::text AS instance_id, h.seq, h.command_id
FROM unnest($1::text[], $2::uuid[], $3::int[], $4::text[]) AS t (tenant_id, id, base_revision, command_id)
JOIN workflow_execution_history h
    ON h.tenant_id = t.tenant_id AND h.workflow_instance_id = t.id AND h.seq > t.base_revision
    AND h.command_id = t.command_id;

-- name: history_until
-- The history rows of one instance up to a seq, in order, to fold. Served by the history's primary key.
SELECT seq, command_id, execution_data::text AS record, executed_at, previous_hash, hash
FROM workflow_execution_history
WHERE tenant_id = $1 AND workflow_instance_id = $2 AND seq <= $3
ORDER BY seq;
