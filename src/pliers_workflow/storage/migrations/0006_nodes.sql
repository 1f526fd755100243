-- pliers: no-transaction
-- What is known of every node that lives: what it does, which release it is, and whether it is about to leave.
ALTER TABLE nodes
    ADD COLUMN IF NOT EXISTS role text NOT NULL DEFAULT 'all' CHECK (role IN ('api', 'worker', 'all')),
    ADD COLUMN IF NOT EXISTS version text NOT NULL DEFAULT '',
    -- it takes no new work and will be gone soon
    ADD COLUMN IF NOT EXISTS draining boolean NOT NULL DEFAULT false;

-- Dead jobs wait for an operator; health counts them, and they are few among many.
CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_jobs_dead_idx ON workflow_jobs (tenant_id, id) WHERE status = 'dead';
