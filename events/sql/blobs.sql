-- name: missing
SELECT d.digest FROM unnest($1::bytea[]) AS d (digest)
WHERE NOT EXISTS (SELECT FROM blobs AS b WHERE b.digest = d.digest)

-- name: put
-- In the order of the digests, or two writers that share some would wait for each other.
INSERT INTO blobs (digest, size, body)
SELECT b.digest, length(b.body), b.body
FROM unnest($1::bytea[], $2::bytea[]) AS b (digest, body)
ORDER BY b.digest
ON CONFLICT DO NOTHING

-- name: get
SELECT digest, body FROM blobs WHERE digest = ANY($1::bytea[]) AND body IS NOT NULL

-- name: erase
UPDATE blobs SET body = NULL WHERE digest = ANY($1::bytea[]) AND body IS NOT NULL

-- name: erased
SELECT digest FROM blobs WHERE digest = ANY($1::bytea[]) AND body IS NULL
