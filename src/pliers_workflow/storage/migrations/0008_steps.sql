-- pliers: no-transaction
-- Workflows that other workflows' steps have started know whom they run for.

ALTER TABLE workflow_instances ADD COLUMN IF NOT EXISTS parent_instance_id uuid;
-- the parent's step run, such as step/7
ALTER TABLE workflow_instances ADD COLUMN IF NOT EXISTS parent_step varchar(40);

-- A parent's children; the columns never change, so updates of an instance leave this index alone.
CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_instances_parent_idx
    ON workflow_instances (tenant_id, parent_instance_id, id) WHERE parent_instance_id IS NOT NULL;
