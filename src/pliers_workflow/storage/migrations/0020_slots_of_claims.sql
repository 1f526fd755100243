-- A place on a limit's account is a claim's, and not the job's: the next attempt of a step is the same job. Whoever comes back
-- late with an attempt that was given up gives back its own place, and not its successor's.

-- as in the job's row; 0: of a node that did not say
ALTER TABLE step_slots ADD COLUMN fencing_token bigint NOT NULL DEFAULT 0;
