-- Events from outside: kept once, matched by rows, and waiting for those who are not waiting yet.

-- Who may send events and nothing else: another system.
ALTER TABLE api_tokens DROP CONSTRAINT api_tokens_permissions_check;
ALTER TABLE api_tokens ADD CONSTRAINT api_tokens_permissions_check
    CHECK (permissions <@ ARRAY['author', 'publisher', 'operator', 'auditor', 'admin', 'events']);

-- An event as it came, kept while its id counts as known. All instants are by the tenant's clock, leases by the database's.
CREATE TABLE inbound_events (
    tenant_id text NOT NULL REFERENCES tenants,
    -- UUIDv7, so they sort by arrival
    id uuid NOT NULL,
    -- sha256 of `source`, a NUL and `id`: the two may be long, and together they name the event
    fingerprint bytea NOT NULL CHECK (length(fingerprint) = 32),
    type varchar(255) NOT NULL,
    -- the event as expressions see it; json, because its text is what is read again
    event json NOT NULL,
    -- how many events of the engine itself led to this one
    depth integer NOT NULL DEFAULT 0 CHECK (depth >= 0),
    received_at timestamptz NOT NULL,
    -- the user whose token brought it, or the event source; neither: the engine
    received_by uuid,
    event_source_id uuid,
    -- received: owed to its triggers. buffered: somebody may begin to wait for it until `open_until`
    status text NOT NULL DEFAULT 'received'
        CHECK (status IN ('received', 'matched', 'buffered', 'unmatched', 'failed')),
    -- what became of it, for people; the first hundred
    results jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(results) = 'array'),
    open_until timestamptz NOT NULL,
    forget_at timestamptz NOT NULL,
    -- received: until then somebody is at it
    lease_until timestamptz,
    attempt integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, fingerprint),
    CHECK ((status = 'received') = (lease_until IS NOT NULL)),
    CHECK (forget_at >= open_until)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
CREATE INDEX inbound_events_forget_idx ON inbound_events (tenant_id, forget_at);
CREATE INDEX inbound_events_owed_idx ON inbound_events (tenant_id, lease_until) WHERE status = 'received';

-- What published versions listen for. Written when a version is published, so that an event finds them by its type however
-- many there are. `start_workflow` counts while the version is the active one, everything else as long as it has instances.
CREATE TABLE event_triggers (
    tenant_id text NOT NULL,
    definition_id uuid NOT NULL,
    -- the trigger's or handler's id in the document; step/ID of a receive step
    trigger_id varchar(300) NOT NULL,
    workflow_name varchar(255) NOT NULL,
    -- a type; or a prefix that ends in .*; or * for all
    event_type varchar(260) NOT NULL,
    action text NOT NULL
        CHECK (action IN ('start_workflow', 'advance_state', 'execute_step', 'escalate', 'handle', 'receive')),
    priority integer NOT NULL DEFAULT 0,
    -- document order
    place integer NOT NULL,
    active boolean NOT NULL DEFAULT true,
    -- conditions, keys, mappings; sha256 of it, by which nodes keep it compiled
    rule json NOT NULL,
    rule_hash bytea NOT NULL CHECK (length(rule_hash) = 32),
    PRIMARY KEY (tenant_id, definition_id, trigger_id),
    FOREIGN KEY (tenant_id, definition_id) REFERENCES workflow_definitions (tenant_id, id)
);
CREATE INDEX event_triggers_type_idx ON event_triggers (tenant_id, event_type) WHERE active;
CREATE INDEX event_triggers_workflow_idx ON event_triggers (tenant_id, workflow_name);

-- The keys by which events find living instances, written in the commit that makes them true. (Empty until now.)
DROP TABLE correlation_keys;
CREATE TABLE correlation_keys (
    tenant_id text NOT NULL,
    workflow_instance_id uuid NOT NULL,
    -- which of the definition's keys; step/7 of a receive step that waits
    name varchar(255) NOT NULL,
    key text NOT NULL CHECK (length(key) <= 255),
    -- of a receive step: what it waits for, as in event_triggers
    event_type varchar(260),
    workflow_name varchar(255) NOT NULL,
    workflow_definition_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, workflow_instance_id, name)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
CREATE INDEX correlation_keys_key_idx ON correlation_keys (tenant_id, key, workflow_name);

-- Events that came too early: under which key of which workflow somebody may begin to wait for them, one row for each
-- listener that found nobody.
CREATE TABLE event_waits (
    tenant_id text NOT NULL,
    event_id uuid NOT NULL,
    workflow_name varchar(255) NOT NULL,
    trigger_id varchar(300) NOT NULL,
    name varchar(255) NOT NULL,
    key text NOT NULL CHECK (length(key) <= 255),
    priority integer NOT NULL,
    open_until timestamptz NOT NULL,
    -- the instance it is being offered to, and until when nobody else may
    taken_by uuid,
    taken_until timestamptz,
    -- when the sweep offered it last
    offered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, event_id, workflow_name, trigger_id),
    FOREIGN KEY (tenant_id, event_id) REFERENCES inbound_events (tenant_id, id) ON DELETE CASCADE,
    CHECK ((taken_by IS NULL) = (taken_until IS NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
CREATE INDEX event_waits_key_idx ON event_waits (tenant_id, key, workflow_name);
CREATE INDEX event_waits_offered_idx ON event_waits (tenant_id, offered_at);
CREATE INDEX event_waits_open_idx ON event_waits (tenant_id, open_until);
CREATE INDEX event_waits_taken_idx ON event_waits (tenant_id, taken_until) WHERE taken_by IS NOT NULL;

-- Brokers whose messages are events.
CREATE TABLE event_sources (
    tenant_id text NOT NULL REFERENCES tenants,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    name varchar(255) NOT NULL CHECK (name ~ '^[a-z][a-z0-9_.-]*$'),
    kind text NOT NULL CHECK (kind IN ('nats', 'rabbitmq', 'redis', 'kafka')),
    -- where and what to read; by kind
    configuration jsonb NOT NULL CHECK (jsonb_typeof(configuration) = 'object'),
    -- never shown again
    credentials jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(credentials) = 'object'),
    enabled boolean NOT NULL DEFAULT true,
    revision integer NOT NULL DEFAULT 1,
    -- counted since it was made
    received bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    received_at timestamptz,
    -- null: the last attempt to read went well
    failing_since timestamptz,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
) WITH (fillfactor = 70);

-- Messages that are no events: kept for somebody to look at, never in the way of the next one.
CREATE TABLE event_source_rejects (
    tenant_id text NOT NULL,
    event_source_id uuid NOT NULL,
    id uuid NOT NULL,
    -- the broker's own name for the message
    message text NOT NULL,
    reason text NOT NULL,
    headers jsonb NOT NULL DEFAULT '{}',
    -- its beginning
    body bytea NOT NULL,
    size integer NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, event_source_id, id),
    UNIQUE (tenant_id, event_source_id, message),
    FOREIGN KEY (tenant_id, event_source_id) REFERENCES event_sources (tenant_id, id) ON DELETE CASCADE
);

DO $$
DECLARE
    made text;
BEGIN
    FOREACH made IN ARRAY ARRAY['inbound_events', 'event_triggers', 'correlation_keys', 'event_waits', 'event_sources',
                                'event_source_rejects'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', made);
        EXECUTE format('CREATE POLICY one_tenant ON %I USING (tenant_id = (SELECT session_tenant()))', made);
    END LOOP;
END $$;
SELECT install_engine_role();
