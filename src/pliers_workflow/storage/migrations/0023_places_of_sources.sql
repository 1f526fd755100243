-- Event sources: how far each has been read, so that whoever reads next goes on there when the broker does not know it.

ALTER TABLE event_sources
    -- by the broker's own count; null: nobody has read it
    ADD COLUMN place jsonb;
