-- What the engine asks of the database itself; no tenant's rows are read here.

-- name: hot_pages
-- Pages of each hot table, with all its partitions: the size the planner reckons with, known without ANALYZE.
SELECT t.name, (sum(pg_relation_size(t.relation)) / 8192)::bigint AS pages
FROM (
    SELECT n.name, to_regclass(n.name) AS relation FROM unnest($1::text[]) AS n (name)
    UNION ALL
    SELECT n.name, i.inhrelid::regclass
    FROM unnest($1::text[]) AS n (name) JOIN pg_inherits i ON i.inhparent = to_regclass(n.name)
) t
WHERE t.relation IS NOT NULL
GROUP BY t.name;

-- name: connections_allowed
-- How many connections the server lets everybody have who is no superuser.
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int;
