-- pliers: no-transaction
-- People who are asked and leave: others are asked in their place, by a command of the engine.

ALTER TYPE workflow_action_type ADD VALUE IF NOT EXISTS 'replace_approvers';

-- `departure`: instances that ask somebody who has left are looked at.
ALTER TABLE workflow_jobs DROP CONSTRAINT IF EXISTS workflow_jobs_kind_check;
ALTER TABLE workflow_jobs ADD CONSTRAINT workflow_jobs_kind_check CHECK (kind IN (
    'timer', 'step', 'retry', 'trigger', 'webhook', 'notification', 'start', 'command', 'child', 'resolution',
    'departure')) NOT VALID;
ALTER TABLE workflow_jobs VALIDATE CONSTRAINT workflow_jobs_kind_check;
