-- name: keep
-- In the order of the actors, or two engines that share some would wait for each other.
INSERT INTO actor_key (actor, key)
SELECT k.actor, k.key FROM unnest($1::text[], $2::bytea[]) AS k (actor, key)
ORDER BY k.actor
ON CONFLICT DO NOTHING

-- name: get
SELECT actor, key FROM actor_key WHERE actor = ANY($1::text[]) AND key IS NOT NULL

-- name: forget
INSERT INTO actor_key (actor, key)
SELECT a.actor, NULL FROM unnest($1::text[]) AS a (actor)
ORDER BY a.actor
ON CONFLICT (actor) DO UPDATE SET key = NULL WHERE actor_key.key IS NOT NULL
