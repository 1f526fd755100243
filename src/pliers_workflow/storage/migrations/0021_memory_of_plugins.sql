-- Plugins: how much memory one may have that runs in a process of its own.

ALTER TABLE plugins
    -- MiB; null: no bound of its own
    ADD COLUMN memory integer CHECK (memory > 0);
