-- Leases of services, which work for all tenants. Served by service_leases_pkey.

-- name: acquire
-- Take it when it is free or lapsed (the token grows) or ours (it stays); no row while another one holds it.
INSERT INTO service_leases AS l (service, owner, until)
VALUES ($1, $2, now() + make_interval(secs => $3::float8))
ON CONFLICT (service) DO UPDATE SET
    owner = excluded.owner,
    until = excluded.until,
    fencing_token = l.fencing_token + CASE WHEN l.owner = excluded.owner AND l.until > now() THEN 0 ELSE 1 END
WHERE l.owner = excluded.owner OR l.until <= now()
RETURNING fencing_token;

-- name: renew
UPDATE service_leases SET until = now() + make_interval(secs => $3::float8)
WHERE service = $1 AND owner = $2 AND fencing_token = $4 AND until > now()
RETURNING fencing_token;

-- name: release
-- The row stays, because its token must never be given twice.
UPDATE service_leases SET until = now() WHERE service = $1 AND owner = $2 AND until > now()
RETURNING fencing_token;

-- name: holder
SELECT owner FROM service_leases WHERE service = $1 AND until > now();

-- name: every_lease
-- All services, and who does each; null: nobody.
SELECT service, CASE WHEN until > now() THEN owner END AS owner, until, fencing_token FROM service_leases ORDER BY service;
