-- A step without an id is known by its place, which may be longer than any id: the ids of its state and of the branches
-- around it. (No table is rewritten for this, and no index.)

ALTER TABLE workflow_incidents ALTER COLUMN step_id TYPE text;
