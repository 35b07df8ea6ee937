-- name: acquire_lease
-- Higher than whatever keeps a view, too: what is kept under one lease today may be under another
-- tomorrow, when there are more shards or fewer.
INSERT INTO lease (name, epoch, owner, expires_at)
VALUES ($1, (SELECT coalesce(max(epoch), 0) + 1 FROM view_checkpoint), $2,
    clock_timestamp() + $3::interval)
ON CONFLICT (name) DO UPDATE
SET epoch = greatest(lease.epoch + 1, excluded.epoch), owner = excluded.owner, expires_at = clock_timestamp() + $3::interval
WHERE lease.expires_at <= clock_timestamp()
RETURNING epoch

-- name: holder
SELECT owner, epoch, extract(epoch FROM expires_at - clock_timestamp())::float8 AS seconds_left
FROM lease WHERE name = $1

-- name: holders
SELECT name, owner, epoch,
    extract(epoch FROM expires_at - clock_timestamp())::float8 AS seconds_left
FROM lease WHERE starts_with(name, $1)

-- name: renew_lease
UPDATE lease SET expires_at = clock_timestamp() + $3::interval
WHERE name = $1 AND epoch = $2 AND expires_at > clock_timestamp()
RETURNING epoch

-- name: release_lease
UPDATE lease SET expires_at = clock_timestamp() - interval '1 second' WHERE name = $1 AND epoch = $2
