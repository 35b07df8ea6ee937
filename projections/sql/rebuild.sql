-- name: differing_documents
-- Keys whose documents are not the same bytes in two generations; $4 is the position of the second.
SELECT coalesce(a.key, b.key) AS key
FROM (SELECT key, position, document FROM view_document WHERE view = $1 AND generation = $2) AS a
FULL JOIN
    (SELECT key, position, document FROM view_document WHERE view = $1 AND generation = $3) AS b
    ON a.key = b.key
WHERE (a.document IS DISTINCT FROM b.document OR a.position IS DISTINCT FROM b.position)
  AND coalesce(a.key, b.key) > $4
ORDER BY 1 LIMIT $5

-- name: differing_subjects
SELECT DISTINCT coalesce(a.subject, b.subject) AS key
FROM (
    SELECT subject, position FROM view_subject
    WHERE view = $1 AND generation = $2 AND position <= $6) AS a
FULL JOIN
    (SELECT subject, position FROM view_subject WHERE view = $1 AND generation = $3) AS b
    ON a.subject = b.subject AND a.position = b.position
WHERE (a.subject IS NULL OR b.subject IS NULL) AND coalesce(a.subject, b.subject) > $4
ORDER BY 1 LIMIT $5

-- name: digest_documents
SELECT count(*) AS documents, encode(sha256(coalesce(string_agg(
    sha256(convert_to(key, 'UTF8')) || sha256(document), ''::bytea ORDER BY key), ''::bytea)), 'hex')
    AS digest
FROM view_document WHERE view = $1 AND generation = $2

-- name: digest_subjects
SELECT count(*) AS documents, encode(sha256(coalesce(string_agg(
    sha256(convert_to(subject, 'UTF8')) || int8send(position), ''::bytea
    ORDER BY subject, position), ''::bytea)), 'hex') AS digest
FROM view_subject WHERE view = $1 AND generation = $2

-- name: retire
-- From here on nobody moves it or takes it up again. Its row goes last, so that its number is not
-- given to another while something of it is left.
UPDATE view_checkpoint SET projection_version = -1, epoch = -1
WHERE view = $1 AND generation = $2 AND NOT live

-- name: drop_documents
-- A slice at a time, so that no transaction grows with the view. Returns how many went.
DELETE FROM view_document WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM view_document WHERE view = $1 AND generation = $2 LIMIT 10000))

-- name: drop_subjects
DELETE FROM view_subject WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM view_subject WHERE view = $1 AND generation = $2 LIMIT 50000))

-- name: drop_snapshots
DELETE FROM view_snapshot WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM view_snapshot WHERE view = $1 AND generation = $2 LIMIT 10000))

-- name: drop_former_values
DELETE FROM view_formerly WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM view_formerly WHERE view = $1 AND generation = $2 LIMIT 50000))

-- name: drop_parked
DELETE FROM view_parked WHERE view = $1 AND generation = $2

-- name: drop_generation
DELETE FROM view_checkpoint WHERE view = $1 AND generation = $2 AND NOT live

-- name: missing_entries
SELECT w.subject, w.position FROM unnest($3::text[], $4::bigint[]) AS w (subject, position)
WHERE NOT EXISTS (
    SELECT FROM view_subject AS s
    WHERE s.view = $1 AND s.generation = $2 AND s.subject = w.subject AND s.position = w.position)
LIMIT $5

-- name: count_entries
SELECT count(*) FROM view_subject WHERE view = $1 AND generation = $2 AND position <= $3
