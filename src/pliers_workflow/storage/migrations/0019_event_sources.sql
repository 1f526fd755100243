-- Event sources: what 0007 laid down for brokers whose messages are events, as it came to be used. (Empty until now.)

-- What a source is opened with lies apart, as that of subscriptions does: no role that reads for reports sees it.
ALTER TABLE event_sources DROP COLUMN credentials;
CREATE TABLE event_source_secrets (
    tenant_id text NOT NULL,
    id uuid NOT NULL,
    -- {"password": …} or {"token": …}
    secrets jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(secrets) = 'object'),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, id) REFERENCES event_sources (tenant_id, id) ON DELETE CASCADE
);
ALTER TABLE event_source_secrets ENABLE ROW LEVEL SECURITY;

-- What else is needed to read a message again: where it lay, under which key, and what it was called.
ALTER TABLE event_source_rejects
    ADD COLUMN address text NOT NULL DEFAULT '',
    ADD COLUMN key text,
    ADD COLUMN content_type text,
    -- null: not the form with attributes beside the body
    ADD COLUMN attributes jsonb CHECK (jsonb_typeof(attributes) = 'object');

SELECT install_engine_role();
