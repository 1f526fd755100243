-- Event subscriptions: who is to be told of a tenant's events, where and how. How far each has come is in `feed_lanes`,
-- under the reader `subscription/ID`.
CREATE TABLE event_subscriptions (
    tenant_id text NOT NULL REFERENCES tenants,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- grows with every change that its readers must know of
    revision integer NOT NULL DEFAULT 1,
    -- address and options of the sink, without secrets
    sink jsonb NOT NULL CHECK (sink ->> 'type' IN ('webhook', 'nats', 'rabbitmq', 'redis', 'kafka')),
    -- exact, or a prefix that ends in .*; empty: all
    event_types text[] NOT NULL DEFAULT '{}',
    -- names of workflows; empty: all
    definitions text[] NOT NULL DEFAULT '{}',
    -- CEL over `event`
    condition text,
    include_data boolean NOT NULL DEFAULT false,
    lanes smallint NOT NULL CHECK (lanes BETWEEN 1 AND 64),
    -- paused by a person; disabled by the engine, after it had failed for too long or was told to stop
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'disabled')),
    disabled_reason text,
    disabled_at timestamptz,
    last_error text,
    last_error_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name),
    CHECK ((state = 'disabled') = (disabled_at IS NOT NULL)),
    CHECK ((last_error IS NULL) = (last_error_at IS NULL))
);

-- What a sink is opened with. A table of its own and without a policy for tenants: no role that reads for reports sees it,
-- whatever it was granted. (As it is for now; a later release seals what is in it.)
CREATE TABLE event_subscription_secrets (
    tenant_id text NOT NULL,
    id uuid NOT NULL,
    -- {"password": …, "headers": {…}}, and of webhooks "signing": [{"secret": …, "until": …}, …], the newest first
    secrets jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, id) REFERENCES event_subscriptions ON DELETE CASCADE
);

-- The reader is meant to stand still: how far behind it is, is nobody's worry.
ALTER TABLE feed_lanes ADD COLUMN paused boolean NOT NULL DEFAULT false;

ALTER TABLE event_subscriptions ENABLE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON event_subscriptions USING (tenant_id = (SELECT session_tenant()));
ALTER TABLE event_subscription_secrets ENABLE ROW LEVEL SECURITY;

SELECT install_engine_role();
