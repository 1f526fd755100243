-- pliers: no-transaction
-- Jobs beyond timers: a queue names who serves a job, and claims of one kind do not wade through another kind's backlog.

-- who serves it: `plugin:NAME`, `http`, `external:TOPIC`; null: the engine itself, by the job's kind
ALTER TABLE workflow_jobs ADD COLUMN IF NOT EXISTS queue text;
-- the instance's definition, for fairness between definitions and for people
ALTER TABLE workflow_jobs ADD COLUMN IF NOT EXISTS definition_name varchar(255);

-- `command`: an order for another instance; `child`: the start of a sub-workflow.
ALTER TABLE workflow_jobs DROP CONSTRAINT IF EXISTS workflow_jobs_kind_check;
ALTER TABLE workflow_jobs ADD CONSTRAINT workflow_jobs_kind_check CHECK (kind IN (
    'timer', 'step', 'retry', 'trigger', 'webhook', 'notification', 'start', 'command', 'child')) NOT VALID;
ALTER TABLE workflow_jobs VALIDATE CONSTRAINT workflow_jobs_kind_check;

CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_jobs_kind_idx ON workflow_jobs (tenant_id, kind, due_at, id)
    WHERE status = 'ready';
CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_jobs_queue_idx ON workflow_jobs (tenant_id, queue, priority, due_at, id)
    WHERE status = 'ready' AND queue IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS workflow_jobs_due_idx;
