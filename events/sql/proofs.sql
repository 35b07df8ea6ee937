-- name: headers
-- What the leaves are made of: the payload stays in the server.
SELECT position, stream, version, event_id::text, type, schema, recorded_at, occurred_at, actor,
    causation, correlation, traceparent, length(payload), 'sha256:' || encode(sha256(payload), 'hex')
FROM events WHERE position > $1 AND position <= $2 ORDER BY position

-- name: payloads
SELECT position, payload FROM events WHERE position > $1 AND position <= $2 ORDER BY position

-- name: recorded
SELECT recorded_at FROM events WHERE position = $1

-- name: tile
SELECT hashes FROM merkle_tile WHERE level = $1 AND number = $2

-- name: roots
SELECT number, root FROM merkle_tile
WHERE level = $1 AND number >= $2 AND number < $3 ORDER BY number

-- name: full
SELECT max(number) + 1 FROM merkle_tile WHERE level = $1

-- name: put_tile
-- A tile never changes, so one that another signer stored is the same.
INSERT INTO merkle_tile (level, number, root, hashes) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING

-- name: put_checkpoint
INSERT INTO log_checkpoint (size, hour, origin, note) VALUES ($1, $2, $3, $4)
ON CONFLICT (size) DO UPDATE SET hour = $2, origin = $3, note = $4

-- name: thin_checkpoints
DELETE FROM log_checkpoint WHERE hour = $2 AND size < $1

-- name: checkpoint
SELECT size, origin, note FROM log_checkpoint ORDER BY size DESC LIMIT 1

-- name: checkpoints
SELECT note FROM log_checkpoint WHERE size > $1 ORDER BY size LIMIT $2

-- name: unsigned
-- How many events no checkpoint covers, and for how many seconds the first of them has waited.
SELECT greatest(coalesce((SELECT max(position) FROM events), 0) - s.size, 0) AS events,
    coalesce(greatest(
        extract(epoch FROM clock_timestamp()) - (
            SELECT recorded_at FROM events WHERE position = s.size + 1) / 1e6, 0), 0)::float8 AS seconds
FROM (SELECT coalesce(max(size), 0) AS size FROM log_checkpoint) AS s
