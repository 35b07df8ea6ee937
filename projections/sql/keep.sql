-- name: by_index
-- Who keeps views looks up keys, however few rows there were when the plan was made: a plan that was
-- kept from an empty table would go through all of it, for ever.
SELECT set_config(name, 'off', false)
FROM unnest(ARRAY['enable_seqscan', 'enable_hashjoin', 'enable_mergejoin']) AS name

-- name: by_any_means
-- Until the end of the transaction.
SELECT set_config(name, 'on', true)
FROM unnest(ARRAY['enable_seqscan', 'enable_hashjoin', 'enable_mergejoin']) AS name

-- name: slots
-- Where every generation of some views stands, in one shard or in all.
SELECT view, generation, projection_version, live, position, epoch, shard, shards, wanted
FROM view_checkpoint
WHERE view = ANY($1::text[]) AND ($2::smallint IS NULL OR shard = $2)
ORDER BY view, generation, shard

-- name: prepare_lock
-- One at a time decides which generations there are, and nobody moves any meanwhile. The table and
-- not its rows: those who move them take several, in whichever order the planner likes.
LOCK TABLE view_checkpoint IN SHARE ROW EXCLUSIVE MODE

-- name: claim
UPDATE view_checkpoint AS c SET epoch = $4
FROM unnest($1::text[], $2::integer[], $3::smallint[]) AS s (view, generation, shard)
WHERE c.view = s.view AND c.generation = s.generation AND c.shard = s.shard

-- name: begin_generation
INSERT INTO view_checkpoint (view, generation, shard, shards, projection_version, epoch)
SELECT $1, $2, shard, $3::smallint, $4, $5 FROM generate_series(0, $3::smallint - 1) AS shard

-- name: want
UPDATE view_checkpoint AS c SET wanted = NOT wanted
WHERE c.view = ANY($1::text[]) AND wanted <> EXISTS (
    SELECT FROM unnest($2::text[], $3::integer[]) AS w (view, generation)
    WHERE w.view = c.view AND w.generation = c.generation)

-- name: advance
-- Compare and swap: fewer rows than slots means that somebody else keeps the views, or swapped one.
UPDATE view_checkpoint AS c SET position = $7
FROM unnest($1::text[], $2::integer[], $3::boolean[]) AS s (view, generation, live)
WHERE c.view = s.view AND c.generation = s.generation AND c.live = s.live
  AND ($4::smallint IS NULL OR c.shard = $4) AND c.epoch = $5 AND c.position = $6
RETURNING 1

-- name: set_live
UPDATE view_checkpoint AS c SET live = $5, epoch = s.epoch, wanted = wanted OR $5
FROM unnest($1::text[], $2::integer[], $3::smallint[], $4::bigint[])
    AS s (view, generation, shard, epoch)
WHERE c.view = s.view AND c.generation = s.generation AND c.shard = s.shard

-- name: load_documents
-- Each by itself: joined, the rows of a view that was empty at first would be held one by one
-- against what is asked for.
SELECT w.view, w.key, d.position, d.document, d.tail
FROM unnest($1::text[], $2::integer[], $3::text[]) AS w (view, generation, key)
CROSS JOIN LATERAL (
    SELECT position, document, tail FROM view_document
    WHERE view = w.view AND generation = w.generation AND key = w.key LIMIT 1
) AS d

-- name: save_documents
INSERT INTO view_document (view, generation, key, position, document, tail, i0, i1, i2)
SELECT * FROM unnest(
    $1::text[], $2::integer[], $3::text[], $4::bigint[], $5::bytea[], $6::integer[], $7::text[],
    $8::text[], $9::text[])
ON CONFLICT (view, generation, key) DO UPDATE
SET position = excluded.position, document = excluded.document, tail = excluded.tail,
    i0 = excluded.i0, i1 = excluded.i1, i2 = excluded.i2

-- name: delete_documents
DELETE FROM view_document AS d
USING unnest($1::text[], $2::integer[], $3::text[]) AS w (view, generation, key)
WHERE d.view = w.view AND d.generation = w.generation AND d.key = w.key

-- name: save_snapshots
INSERT INTO view_snapshot (view, generation, key, position, document)
SELECT * FROM unnest($1::text[], $2::integer[], $3::text[], $4::bigint[], $5::bytea[])

-- name: save_former_values
INSERT INTO view_formerly (view, generation, indexed, value, key)
SELECT * FROM unnest($1::text[], $2::integer[], $3::smallint[], $4::text[], $5::text[])
ON CONFLICT DO NOTHING

-- name: file_subjects
INSERT INTO view_subject (view, generation, subject, position)
SELECT * FROM unnest($1::text[], $2::integer[], $3::text[], $4::bigint[])
ON CONFLICT DO NOTHING

-- name: has_parked
SELECT EXISTS (
    SELECT FROM view_parked AS p
    JOIN unnest($1::text[], $2::integer[]) AS s (view, generation)
        ON p.view = s.view AND p.generation = s.generation)

-- name: load_parked
-- A stream that another shard has parked already, further on, is not parked for one at $5.
SELECT p.view, p.scope, p.name
FROM unnest($1::text[], $2::integer[], $3::text[], $4::text[]) AS w (view, generation, scope, name)
JOIN view_parked AS p
    ON p.view = w.view AND p.generation = w.generation AND p.scope = w.scope AND p.name = w.name
WHERE p.position <= $5

-- name: park
-- The log is told of what it was not told for another generation, up to a limit for each view: a
-- fold that fails everywhere must not fill the log.
INSERT INTO view_parked (view, generation, scope, name, position, message, event_id)
SELECT w.view, w.generation, w.scope, w.name, w.position, w.message,
    CASE WHEN EXISTS (
        SELECT FROM view_parked AS other
        WHERE other.view = w.view AND other.scope = w.scope AND other.name = w.name
          AND other.position = w.position)
    OR w.nth + (
        SELECT count(*) FROM view_parked AS other
        WHERE other.view = w.view AND other.generation = w.generation) > $8
    THEN NULL ELSE w.event_id END
FROM unnest(
    $1::text[], $2::integer[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::uuid[])
    WITH ORDINALITY AS w (view, generation, scope, name, position, message, event_id, nth)
ON CONFLICT (view, generation, scope, name) DO NOTHING

-- name: untold
SELECT p.view, p.generation, p.scope, p.name, p.position, p.message, p.event_id
FROM view_parked AS p
JOIN unnest($1::text[], $2::integer[]) AS s (view, generation)
    ON p.view = s.view AND p.generation = s.generation
WHERE p.event_id IS NOT NULL AND NOT p.told
ORDER BY p.position, p.view, p.name
LIMIT 100

-- name: told
UPDATE view_parked SET told = true WHERE event_id = ANY($1::uuid[])

-- name: renew_untold
UPDATE view_parked SET event_id = $2 WHERE event_id = $1 AND NOT told

-- name: lowest
SELECT count(DISTINCT view) AS views, min(position) AS position
FROM view_checkpoint WHERE view = ANY($1::text[]) AND live

-- name: layout
-- In how many shards views are kept, or being built.
SELECT DISTINCT shards FROM view_checkpoint WHERE view = ANY($1::text[]) AND wanted
