-- The keys that people's names are sealed with in events. Null: forgotten, and never to be made again.
--
-- A table of its own, so that a dump can leave it out: pg_dump --exclude-table-data=actor_key.
CREATE TABLE actor_key (
    actor text COLLATE "C" PRIMARY KEY,
    key   bytea CHECK (length(key) = 32)
);
