-- name: page
-- Events as they lie there, holes and all.
SELECT position, stream, version, event_id::text, type, schema, recorded_at, occurred_at, actor,
    causation, correlation, traceparent, payload
FROM events WHERE position > $1 ORDER BY position LIMIT $2

-- name: tiles
SELECT level, number, hashes FROM merkle_tile WHERE level = $1 AND number = $2

-- name: checkpoints
SELECT size, note FROM log_checkpoint ORDER BY size

-- name: heads
SELECT stream, version, position FROM stream_head WHERE stream > $1 ORDER BY stream LIMIT $2

-- name: wrong_ids
-- Ids that are remembered for another event than the one at their position.
SELECT i.id::text, i.position FROM event_id AS i LEFT JOIN events AS e ON e.position = i.position
WHERE e.event_id IS DISTINCT FROM i.id ORDER BY i.position LIMIT $1

-- name: bodies
SELECT digest, size, body FROM blobs WHERE digest > $1 ORDER BY digest LIMIT $2

-- name: absent
SELECT d.digest FROM unnest($1::bytea[]) AS d (digest)
WHERE NOT EXISTS (SELECT FROM blobs AS b WHERE b.digest = d.digest)

-- name: kept_keys
SELECT actor FROM actor_key WHERE actor = ANY($1::text[]) AND key IS NOT NULL ORDER BY actor
