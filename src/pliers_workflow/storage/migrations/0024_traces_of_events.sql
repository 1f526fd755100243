-- Events from outside: to what trace all belongs that one leads to, however long it waits before it acts.

ALTER TABLE inbound_events
    -- {parent, state}; null: none
    ADD COLUMN trace json;
