-- name: log_id
SELECT log_id::text FROM log_head

-- name: lock
SELECT FROM log_head FOR UPDATE

-- name: lock_and_look
SELECT last_position, clock, known_streams, versions, reused
FROM lock_log($1, $2::text[], $3::uuid[])

-- name: add_partitions
SELECT add_event_partitions($1, $2)

-- name: append
SELECT append_events(
    $1, $2, $3, $4, $5,
    (string_to_array($6, E'\x1f'))[2:], $7::text::bigint[], $8::text::bigint[],
    $9::text::bigint[], (string_to_array($10, E'\x1f'))[2:], $11::text::bigint[], $12,
    (string_to_array($13, E'\x1f'))[2:], $14::text::integer[], $15::text::bigint[],
    (string_to_array($16, E'\x1f'))[2:], $17::text::bigint[], (string_to_array($18, E'\x1f'))[2:],
    (string_to_array($19, E'\x1f'))[2:], $20)

-- name: append_behind
SELECT recorded, base, bases FROM append_behind(
    $1, $2, $3, $4, $5, $6,
    (string_to_array($7, E'\x1f'))[2:], $8::text::bigint[], $9::text::bigint[],
    $10::text::bigint[], $11::text::integer[], $12::text::bigint[], $13,
    (string_to_array($14, E'\x1f'))[2:], $15::text::integer[], $16::text::bigint[],
    (string_to_array($17, E'\x1f'))[2:], $18::text::bigint[], (string_to_array($19, E'\x1f'))[2:],
    (string_to_array($20, E'\x1f'))[2:], $21)

-- name: reserve
SELECT reserve_events(
    $1, $2, $3, $4, $5, $6, $7::text::bigint[], $8::text::bigint[], $9::text::bigint[])

-- name: head
-- The last position; $1 is one that is known to exist, so that older partitions are left alone.
SELECT position FROM events WHERE position >= $1 ORDER BY position DESC LIMIT 1

-- name: clock
-- The time that an event appended now would be recorded at, at the earliest.
SELECT greatest(
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
    (SELECT recorded_at FROM events WHERE position >= $1 ORDER BY position DESC LIMIT 1))

-- name: version
-- From the end of the index: earlier states of the row may have to be kept for others.
SELECT version FROM stream_head WHERE stream = $1 ORDER BY version DESC LIMIT 1

-- name: versions
SELECT h.stream, h.version
FROM unnest($1::text[]) AS asked (stream) CROSS JOIN LATERAL (
    SELECT s.stream, s.version FROM stream_head AS s
    WHERE s.stream = asked.stream ORDER BY s.version DESC LIMIT 1
) AS h

-- name: known_ids
SELECT i.id::text, i.position, e.version, e.stream, e.type, e.schema, e.actor, e.causation,
    e.correlation, e.payload
FROM event_id AS i JOIN events AS e ON e.position = i.position
WHERE i.id = ANY($1::uuid[])

-- name: forget_ids
DELETE FROM event_id
WHERE id IN (SELECT id FROM event_id WHERE id < $1::uuid ORDER BY id LIMIT $2)

-- name: read
SELECT position, stream, version, event_id::text, type, schema, recorded_at, occurred_at, actor,
    causation, correlation, traceparent, payload
FROM events WHERE position > $1 ORDER BY position LIMIT $2

-- name: read_stream
SELECT position, stream, version, event_id::text, type, schema, recorded_at, occurred_at, actor,
    causation, correlation, traceparent, payload
FROM events WHERE stream = $3 AND position > $1 ORDER BY position LIMIT $2

-- name: read_stream_types
SELECT position, stream, version, event_id::text, type, schema, recorded_at, occurred_at, actor,
    causation, correlation, traceparent, payload
FROM events WHERE stream = $3 AND type = ANY($4::text[]) AND position > $1
ORDER BY position LIMIT $2

-- name: read_types
-- Each type's own next positions from the index, then the first of them all: a rare type is found
-- without reading what lies between.
SELECT position, stream, version, event_id::text, type, schema, recorded_at, occurred_at, actor,
    causation, correlation, traceparent, payload
FROM events WHERE position = ANY(ARRAY(
    SELECT p.position
    FROM unnest($3::text[]) AS wanted (type)
    CROSS JOIN LATERAL (
        SELECT e.position FROM events AS e
        WHERE e.type = wanted.type AND e.position > $1 ORDER BY e.position LIMIT $2
    ) AS p
    ORDER BY p.position LIMIT $2))
ORDER BY position

-- name: read_at
SELECT position, stream, version, event_id::text, type, schema, recorded_at, occurred_at, actor,
    causation, correlation, traceparent, payload
FROM events WHERE position = ANY($1::bigint[]) ORDER BY position

-- name: position_at
SELECT position_at($1)

-- name: notify
NOTIFY trueup_events

-- name: hints_only
SET synchronous_commit = off
