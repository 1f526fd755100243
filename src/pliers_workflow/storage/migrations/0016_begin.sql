-- pliers: no-transaction
-- Instances may wait for their turn (`pending`) and begin with a command of its own.
ALTER TYPE workflow_action_type ADD VALUE IF NOT EXISTS 'begin';
