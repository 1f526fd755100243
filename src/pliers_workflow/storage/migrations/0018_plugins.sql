-- Plugins: which node has which, and what every node may know of them.

-- Which plugins a node has, by state: [{"id": …, "version": …, "state": "ready" | "broken", "reason": …}, …]. In the node's own
-- row, so that both come and go with one heartbeat.
ALTER TABLE nodes
    ADD COLUMN plugins jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(plugins) = 'array');

-- What a plugin says of itself. A node that has it writes this down when it starts, so that nodes without it can check
-- definitions; it stays when the last of them is gone. `json` and not `jsonb`: schemas keep the order of their keys.
CREATE TABLE plugins (
    id text NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
    version text NOT NULL CHECK (length(version) BETWEEN 5 AND 110),
    title text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    description text NOT NULL DEFAULT '',
    isolation text NOT NULL CHECK (isolation IN ('thread', 'process')),
    -- seconds
    timeout double precision NOT NULL CHECK (timeout > 0),
    configuration_schema json NOT NULL,
    input_schema json NOT NULL,
    output_schema json NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    -- when a node that has it was last known to live, give or take an hour
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, version)
);

SELECT install_engine_role();
