-- name: snapshots
-- The last snapshot of each document that is not after a position.
SELECT w.key, s.position, s.document
FROM unnest($3::text[]) AS w (key)
CROSS JOIN LATERAL (
    SELECT position, document FROM view_snapshot
    WHERE view = $1 AND generation = $2 AND key = w.key AND position <= $4
    ORDER BY position DESC LIMIT 1
) AS s

-- name: formerly
-- Documents that once had this value of an index.
SELECT key FROM view_formerly
WHERE view = $1 AND generation = $2 AND indexed = $3 AND value = $4
  AND key >= $5 AND key < $6 AND key > $7
ORDER BY key LIMIT $8

-- name: once_gone
-- Documents that once were taken away.
SELECT DISTINCT key FROM view_snapshot
WHERE view = $1 AND generation = $2 AND document IS NULL
  AND key >= $3 AND key < $4 AND key > $5
ORDER BY key LIMIT $6

-- name: filed
-- What is filed under some subjects, each after a position of its own.
SELECT w.subject, s.position
FROM unnest($3::text[], $4::bigint[]) AS w (subject, after)
CROSS JOIN LATERAL (
    SELECT position FROM view_subject
    WHERE view = $1 AND generation = $2 AND subject = w.subject
      AND position > w.after AND position <= $5
    ORDER BY position
) AS s
