-- name: server_settings
SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])

-- name: server_now
SELECT extract(epoch FROM clock_timestamp())::float8 AS now,
    (SELECT count(*) FROM pg_stat_activity) AS connections

-- name: is_migrated
SELECT to_regclass('schema_migration') IS NOT NULL

-- name: applied_migrations
SELECT package, name, checksum FROM schema_migration

-- name: leases
SELECT name, owner, epoch, extract(epoch FROM expires_at - clock_timestamp())::float8 AS seconds
FROM lease
-- Of shards and places that there are no more nobody has to hold one.
WHERE expires_at > clock_timestamp() OR NOT (starts_with(name, 'views/') OR starts_with(name, 'projector/'))
ORDER BY name

-- name: lags
-- How far every live view is behind the log.
SELECT view, coalesce((SELECT max(position) FROM events), 0) - min(position) AS lag
FROM view_checkpoint WHERE live GROUP BY view ORDER BY view

-- name: parked_by_view
SELECT p.view, count(*) AS number, min(p.name) AS first
FROM view_parked AS p JOIN view_checkpoint AS c USING (view, generation)
WHERE c.live AND c.shard = 0 GROUP BY p.view ORDER BY p.view
