-- name: acquire_lease
INSERT INTO lease (name, epoch, owner, expires_at)
VALUES ($1, 1, $2, clock_timestamp() + $3::interval)
ON CONFLICT (name) DO UPDATE
SET epoch = lease.epoch + 1, owner = excluded.owner, expires_at = clock_timestamp() + $3::interval
WHERE lease.expires_at <= clock_timestamp()
RETURNING epoch

-- name: holder
SELECT owner, epoch, extract(epoch FROM expires_at - clock_timestamp())::float8 AS seconds_left
FROM lease WHERE name = $1

-- name: renew_lease
UPDATE lease SET expires_at = clock_timestamp() + $3::interval
WHERE name = $1 AND epoch = $2 AND expires_at > clock_timestamp()
RETURNING epoch

-- name: release_lease
UPDATE lease SET expires_at = clock_timestamp() - interval '1 second' WHERE name = $1 AND epoch = $2
