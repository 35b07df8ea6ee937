-- name: parked
SELECT p.view, p.scope, p.name, p.position, p.message
FROM view_parked AS p
JOIN unnest($1::text[], $2::integer[]) AS s (view, generation)
    ON p.view = s.view AND p.generation = s.generation
ORDER BY p.view, p.position, p.name
LIMIT $3

-- name: get
SELECT key, position, document FROM view_document
WHERE view = $1 AND generation = $2 AND key = ANY($3::text[])

-- name: get_each
SELECT d.view, d.key, d.position, d.document
FROM unnest($1::text[], $2::integer[], $3::text[]) AS w (view, generation, key)
JOIN view_document AS d ON d.view = w.view AND d.generation = w.generation AND d.key = w.key

-- name: page
SELECT key, position, document FROM view_document
WHERE view = $1 AND generation = $2 AND key >= $3 AND key < $4 AND key > $5
ORDER BY key LIMIT $6

-- name: page_by_first
-- Compared as rows, and ordered so: only the index on the column gives that order, so no statistics
-- (which see all views as one table) can lead the planner to walk through the whole view instead.
SELECT key, position, document FROM view_document
WHERE view = $1 AND generation = $2 AND i0 IS NOT NULL
  AND (i0, key) >= ($3, $4) AND (i0, key) < ($3, $5) AND (i0, key) > ($3, $6)
  AND ($8::text IS NULL OR i1 = $8) AND ($9::text IS NULL OR i2 = $9)
ORDER BY i0, key LIMIT $7

-- name: page_by_second
SELECT key, position, document FROM view_document
WHERE view = $1 AND generation = $2 AND i1 IS NOT NULL
  AND (i1, key) >= ($3, $4) AND (i1, key) < ($3, $5) AND (i1, key) > ($3, $6)
  AND ($8::text IS NULL OR i0 = $8) AND ($9::text IS NULL OR i2 = $9)
ORDER BY i1, key LIMIT $7

-- name: page_by_third
SELECT key, position, document FROM view_document
WHERE view = $1 AND generation = $2 AND i2 IS NOT NULL
  AND (i2, key) >= ($3, $4) AND (i2, key) < ($3, $5) AND (i2, key) > ($3, $6)
  AND ($8::text IS NULL OR i0 = $8) AND ($9::text IS NULL OR i1 = $9)
ORDER BY i2, key LIMIT $7

-- name: among_by_first
SELECT w.value, d.key, d.position, d.document
FROM unnest($3::text[]) AS w (value)
CROSS JOIN LATERAL (
    SELECT key, position, document FROM view_document
    WHERE view = $1 AND generation = $2 AND i0 IS NOT NULL
      AND (i0, key) >= (w.value, '') AND (i0, key) < (w.value, $4)
    ORDER BY i0, key LIMIT $5
) AS d

-- name: among_by_second
SELECT w.value, d.key, d.position, d.document
FROM unnest($3::text[]) AS w (value)
CROSS JOIN LATERAL (
    SELECT key, position, document FROM view_document
    WHERE view = $1 AND generation = $2 AND i1 IS NOT NULL
      AND (i1, key) >= (w.value, '') AND (i1, key) < (w.value, $4)
    ORDER BY i1, key LIMIT $5
) AS d

-- name: among_by_third
SELECT w.value, d.key, d.position, d.document
FROM unnest($3::text[]) AS w (value)
CROSS JOIN LATERAL (
    SELECT key, position, document FROM view_document
    WHERE view = $1 AND generation = $2 AND i2 IS NOT NULL
      AND (i2, key) >= (w.value, '') AND (i2, key) < (w.value, $4)
    ORDER BY i2, key LIMIT $5
) AS d

-- name: count
SELECT count(*) FROM view_document
WHERE view = $1 AND generation = $2 AND key >= $3 AND key < $4

-- name: count_by_first
SELECT count(*) FROM view_document
WHERE view = $1 AND generation = $2 AND i0 IS NOT NULL
  AND (i0, key) >= ($3, $4) AND (i0, key) < ($3, $5)
  AND ($6::text IS NULL OR i1 = $6) AND ($7::text IS NULL OR i2 = $7)

-- name: count_by_second
SELECT count(*) FROM view_document
WHERE view = $1 AND generation = $2 AND i1 IS NOT NULL
  AND (i1, key) >= ($3, $4) AND (i1, key) < ($3, $5)
  AND ($6::text IS NULL OR i0 = $6) AND ($7::text IS NULL OR i2 = $7)

-- name: count_by_third
SELECT count(*) FROM view_document
WHERE view = $1 AND generation = $2 AND i2 IS NOT NULL
  AND (i2, key) >= ($3, $4) AND (i2, key) < ($3, $5)
  AND ($6::text IS NULL OR i0 = $6) AND ($7::text IS NULL OR i1 = $7)

-- name: tally
SELECT (ARRAY[i0, i1, i2])[$5::integer], (ARRAY[i0, i1, i2])[$6::integer], count(*)
FROM view_document
WHERE view = $1 AND generation = $2 AND key >= $3 AND key < $4
GROUP BY 1, 2

-- name: tally_by_first
SELECT (ARRAY[i0, i1, i2])[$6::integer], (ARRAY[i0, i1, i2])[$7::integer], count(*)
FROM view_document
WHERE view = $1 AND generation = $2 AND i0 IS NOT NULL
  AND (i0, key) >= ($3, $4) AND (i0, key) < ($3, $5)
  AND ($8::text IS NULL OR i1 = $8) AND ($9::text IS NULL OR i2 = $9)
GROUP BY 1, 2

-- name: tally_by_second
SELECT (ARRAY[i0, i1, i2])[$6::integer], (ARRAY[i0, i1, i2])[$7::integer], count(*)
FROM view_document
WHERE view = $1 AND generation = $2 AND i1 IS NOT NULL
  AND (i1, key) >= ($3, $4) AND (i1, key) < ($3, $5)
  AND ($8::text IS NULL OR i0 = $8) AND ($9::text IS NULL OR i2 = $9)
GROUP BY 1, 2

-- name: tally_by_third
SELECT (ARRAY[i0, i1, i2])[$6::integer], (ARRAY[i0, i1, i2])[$7::integer], count(*)
FROM view_document
WHERE view = $1 AND generation = $2 AND i2 IS NOT NULL
  AND (i2, key) >= ($3, $4) AND (i2, key) < ($3, $5)
  AND ($8::text IS NULL OR i0 = $8) AND ($9::text IS NULL OR i1 = $9)
GROUP BY 1, 2

-- name: subjects
SELECT position FROM view_subject
WHERE view = $1 AND generation = $2 AND subject = $3 AND position > $4 AND position < $5
ORDER BY position LIMIT $6

-- name: subjects_newest_first
SELECT position FROM view_subject
WHERE view = $1 AND generation = $2 AND subject = $3 AND position > $4 AND position < $5
ORDER BY position DESC LIMIT $6
