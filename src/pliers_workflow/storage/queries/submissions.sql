-- Submitted forms, their bindings, and the starts they owe: jobs of kind `start`, written with the submission and dropped
-- when the instance runs.

-- name: to_start
-- What a submission starts, with the tenant's clock; one row without binding where it starts nothing. Served by
-- submission_bindings_form_idx.
SELECT now() AS real_now, coalesce(n.virtual_now, now()) AS now, b.id::text AS id, b.workflow_name, b.version, b.condition,
    b.data_mapping::text AS data_mapping
FROM tenants n
LEFT JOIN submission_bindings b ON b.tenant_id = n.id AND b.form_id = $2 AND b.enabled AND $3 = ANY (b.trigger_events)
WHERE n.id = $1
ORDER BY b.created_at, b.id;

-- name: create
-- A submission, the starts it owes and its idempotency key: all or nothing, in one statement. No row comes back where the
-- key is taken. The jobs are due a while later: whoever submits starts them at once, and only what a crash has
-- interrupted is found due. With it, where somebody listens, the event that tells of it. Served by idempotency_records_pkey,
-- event_triggers_type_idx.
WITH claimed AS (
    INSERT INTO idempotency_records (tenant_id, principal, route, key, body_hash, subject, command_id, expires_at)
    SELECT $1, $7, $8, $9, $10, $2, $2, now() + $11::interval WHERE $9::text IS NOT NULL
    ON CONFLICT (tenant_id, principal, route, key) DO UPDATE
    SET body_hash = excluded.body_hash, subject = excluded.subject, command_id = excluded.command_id,
        expires_at = excluded.expires_at, created_at = now(), workflow_instance_id = NULL, seq = NULL
    WHERE idempotency_records.expires_at <= now()
    RETURNING true
), made AS (
    INSERT INTO form_submissions (tenant_id, id, form_id, data, submitted_by, created_at, updated_at)
    SELECT $1, $2::text::uuid, $3, $4::text::jsonb, $5::text::uuid, $6, $6
    WHERE $9::text IS NULL OR EXISTS (SELECT FROM claimed)
    RETURNING tenant_id, revision
), owed AS (
    INSERT INTO workflow_jobs (tenant_id, id, kind, workflow_instance_id, name, due_at, payload, status, last_error)
    SELECT made.tenant_id, t.id::uuid, 'start', t.instance_id::uuid, t.name, now() + $12::interval, t.payload::jsonb,
        CASE WHEN t.error IS NULL THEN 'ready' ELSE 'dead' END, t.error
    FROM made, unnest($13::text[], $14::text[], $15::text[], $16::text[], $17::text[])
        AS t (id, instance_id, name, payload, error)
), told AS (
    INSERT INTO inbound_events (
        tenant_id, id, fingerprint, type, event, received_at, open_until, forget_at, lease_until, attempt, trace)
    SELECT made.tenant_id, $18::text::uuid, $19::bytea, $20::text, $21::text::json, $6, $6, $6::timestamptz + $22::interval,
        now() + $23::interval, 1, $24::text::json
    FROM made
    WHERE EXISTS (
        SELECT FROM event_triggers t
        WHERE t.tenant_id = made.tenant_id AND t.event_type = ANY (ARRAY['submission.*', $20::text]) AND t.active)
    RETURNING true
)
SELECT tenant_id, revision, EXISTS (SELECT FROM told) AS told FROM made;

-- name: tell
-- An event about a submission, in the transaction that changes it; no row where nobody listens. Served by
-- event_triggers_type_idx.
INSERT INTO inbound_events (
    tenant_id, id, fingerprint, type, event, received_at, open_until, forget_at, lease_until, attempt, trace)
SELECT made.tenant_id, $3::text::uuid, $4::bytea, $5::text, $6::text::json, $2, $2, $2::timestamptz + $7::interval,
    now() + $8::interval, 1, $9::text::json
FROM (SELECT $1::text AS tenant_id) made
WHERE EXISTS (
    SELECT FROM event_triggers t
    WHERE t.tenant_id = made.tenant_id AND t.event_type = ANY (ARRAY['submission.*', $5::text]) AND t.active)
RETURNING true;

-- name: add_jobs
INSERT INTO workflow_jobs (tenant_id, id, kind, workflow_instance_id, name, due_at, payload, status, last_error)
SELECT $1, t.id::uuid, 'start', t.instance_id::uuid, t.name, now() + $2::interval, t.payload::jsonb,
    CASE WHEN t.error IS NULL THEN 'ready' ELSE 'dead' END, t.error
FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) AS t (id, instance_id, name, payload, error);

-- fragment: submission
s.tenant_id, s.id::text AS id, s.form_id, s.data::text AS data, s.revision, s.submitted_by::text AS submitted_by,
u.username AS submitted_by_username, s.created_at, s.updated_at,
ARRAY(SELECT i.id::text FROM workflow_instances i WHERE i.tenant_id = s.tenant_id AND i.submission_id = s.id ORDER BY i.id)
    AS instances

-- name: get
-- Served by form_submissions_pkey, idx_workflow_instances_submission.
SELECT {submission}
FROM form_submissions s JOIN users u ON u.tenant_id = s.tenant_id AND u.id = s.submitted_by
WHERE s.tenant_id = $1 AND s.id = $2::text::uuid;

-- name: update
-- Unless somebody was faster: $5 is the revision it rests on. Served by form_submissions_pkey.
UPDATE form_submissions SET data = $3::text::jsonb, revision = revision + 1, updated_at = greatest($4, updated_at)
WHERE tenant_id = $1 AND id = $2::text::uuid AND revision = $5
RETURNING revision;

-- name: tenant_now
-- What time it is for a tenant: tenant_id, by the clock it lives by.
SELECT coalesce(virtual_now, now()) FROM tenants WHERE id = $1;

-- name: page
-- Newest first. Served by form_submissions_pkey, or form_submissions_form_idx where a form is given.
SELECT {submission}
FROM form_submissions s JOIN users u ON u.tenant_id = s.tenant_id AND u.id = s.submitted_by
WHERE s.tenant_id = $1 AND ($2::text IS NULL OR s.form_id = $2) AND ($3::text IS NULL OR s.submitted_by = $3::text::uuid)
    AND ($4::text IS NULL OR s.id < $4::text::uuid)
ORDER BY s.id DESC LIMIT $5;

-- name: drop_jobs
-- Starts that are done. Served by workflow_jobs_pkey.
DELETE FROM workflow_jobs j USING unnest($1::text[], $2::text[]) AS t (tenant_id, id)
WHERE j.tenant_id = t.tenant_id AND j.id = t.id::uuid AND j.kind = 'start';

-- name: bury_job
-- No use in trying again by itself. Whoever has it tried again has the version asked for again, too. Served by
-- workflow_jobs_pkey.
UPDATE workflow_jobs
SET status = 'dead', last_error = $3, lease_owner = NULL, lease_until = NULL, payload = payload - 'definition'
WHERE tenant_id = $1 AND id = $2::text::uuid AND kind = 'start';

-- name: wake_job
-- Try a dead start again; it is this caller's for as long as the lease. Served by workflow_jobs_pkey.
UPDATE workflow_jobs
SET status = 'ready', last_error = NULL, due_at = now(), attempt = attempt + 1, fencing_token = fencing_token + 1,
    lease_owner = 'retry', lease_until = now() + $3::interval
WHERE tenant_id = $1 AND id = $2::text::uuid AND kind = 'start' AND status = 'dead'
RETURNING tenant_id, id::text AS id, workflow_instance_id::text AS instance_id, payload::text AS payload;

-- name: get_job
-- Served by workflow_jobs_pkey.
SELECT tenant_id, id::text AS id, workflow_instance_id::text AS instance_id, status, payload::text AS payload, last_error
FROM workflow_jobs WHERE tenant_id = $1 AND id = $2::text::uuid AND kind = 'start';

-- name: jobs_of
-- The starts a submission still owes. Ids of jobs begin with the birth of their submission, so this is a small range of
-- workflow_jobs_pkey.
SELECT tenant_id, id::text AS id, workflow_instance_id::text AS instance_id, status, payload::text AS payload, last_error
FROM workflow_jobs
WHERE tenant_id = $1 AND id >= $3::text::uuid AND id < $4::text::uuid AND kind = 'start' AND payload ->> 'submission' = $2
ORDER BY id;

-- name: claim_pending
-- Starts that were owed before now and not done, of all tenants. The lease keeps two nodes from doing the same work; if
-- they did, the second start would find the instance of the first. Served by workflow_jobs_kind_idx.
-- (Materialized: run again for each row of a join, a LIMIT would be none.)
WITH due AS MATERIALIZED (
    SELECT j.tenant_id, j.id
    FROM tenants n
    CROSS JOIN LATERAL (
        SELECT j.tenant_id, j.id FROM workflow_jobs j
        WHERE j.tenant_id = n.id AND j.status = 'ready' AND j.kind = 'start' AND j.due_at <= now()
            AND (j.lease_until IS NULL OR j.lease_until <= now())
        ORDER BY j.due_at, j.id LIMIT $1 FOR UPDATE SKIP LOCKED
    ) j
)
UPDATE workflow_jobs w
SET lease_owner = 'starts', lease_until = now() + $2::interval, fencing_token = w.fencing_token + 1, attempt = w.attempt + 1
FROM due
WHERE w.tenant_id = due.tenant_id AND w.id = due.id
RETURNING w.tenant_id, w.id::text AS id, w.workflow_instance_id::text AS instance_id, w.payload::text AS payload;

-- name: page_failed
-- Starts that could not be made, oldest first. Served by workflow_jobs_pkey; there are few jobs of this kind.
SELECT tenant_id, id::text AS id, workflow_instance_id::text AS instance_id, payload::text AS payload, last_error
FROM workflow_jobs
WHERE tenant_id = $1 AND kind = 'start' AND status = 'dead' AND ($2::text IS NULL OR id > $2::text::uuid)
ORDER BY id LIMIT $3;

-- fragment: binding
tenant_id, id::text AS id, form_id, trigger_events, workflow_name, version, condition, data_mapping::text AS data_mapping,
enabled, created_at, created_by::text AS created_by

-- name: get_binding
-- Served by submission_bindings_pkey.
SELECT {binding} FROM submission_bindings WHERE tenant_id = $1 AND id = $2::text::uuid;

-- name: page_bindings
-- By id. Served by submission_bindings_pkey.
SELECT {binding} FROM submission_bindings
WHERE tenant_id = $1 AND ($2::text IS NULL OR form_id = $2) AND ($3::text IS NULL OR workflow_name = $3)
    AND ($4::text IS NULL OR id > $4::text::uuid)
ORDER BY id LIMIT $5;

-- name: create_binding
INSERT INTO submission_bindings
    (tenant_id, form_id, trigger_events, workflow_name, version, condition, data_mapping, enabled, created_by)
VALUES ($1, $2, $3::text[], $4, $5, $6, $7::text::jsonb, $8, $9::text::uuid)
RETURNING {binding};

-- name: replace_binding
UPDATE submission_bindings
SET form_id = $3, trigger_events = $4::text[], workflow_name = $5, version = $6, condition = $7,
    data_mapping = $8::text::jsonb, enabled = $9
WHERE tenant_id = $1 AND id = $2::text::uuid
RETURNING {binding};

-- name: delete_binding
DELETE FROM submission_bindings WHERE tenant_id = $1 AND id = $2::text::uuid RETURNING {binding};
