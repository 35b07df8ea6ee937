-- Where several engines append, what one knew of the log from its last batch is out of date at each.
-- So a small batch may ask for the next places, wherever they are: the log is locked from the look
-- to the commit and for no round trip of the client in between.
--
-- `hint` is a position that is known to exist, and `room` the first that may have no partition.
-- `needed` is the version that a stream must have before the batch, null for any; `head_steps` and
-- `head_offsets` are how far the batch takes its version, and where in the batch its last event is;
-- `owners` and `steps` are, for each event, which stream it is of (from 1) and how far it takes it.
-- Returns when it was recorded, the position before its first event and the versions that the
-- streams had; nulls where that cannot be, and then nothing but bodies is kept.
CREATE FUNCTION append_behind(
    hint bigint, room bigint, oldest bigint, remembered bigint,
    blob_digests bytea[], blob_bodies bytea[],
    head_streams text[], needed bigint[], head_steps bigint[], head_offsets bigint[],
    owners integer[], steps bigint[], ids uuid[], types text[], schemas integer[],
    occurred bigint[], actors text[], causes bigint[], correlations text[], traces text[],
    payloads bytea[],
    OUT recorded bigint, OUT base bigint, OUT bases bigint[]
)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
    -- Before the lock, and in the order of the digests, or two writers would wait for each other.
    IF cardinality(blob_digests) > 0 THEN
        INSERT INTO blobs (digest, size, body)
        SELECT b.digest, length(b.body), b.body
        FROM unnest(blob_digests, blob_bodies) AS b (digest, body)
        ORDER BY b.digest
        ON CONFLICT DO NOTHING;
    END IF;

    PERFORM FROM log_head FOR UPDATE;
    -- Later statements than the lock, so that they see what the previous holder committed.
    SELECT e.position INTO base
    FROM events AS e WHERE e.position >= hint ORDER BY e.position DESC LIMIT 1;
    IF base IS NULL OR base + cardinality(ids) >= room THEN
        RETURN;
    END IF;
    SELECT array_agg(coalesce(h.version, 0) ORDER BY asked.n) INTO bases
    FROM unnest(head_streams) WITH ORDINALITY AS asked (stream, n) LEFT JOIN LATERAL (
        SELECT s.version FROM stream_head AS s
        WHERE s.stream = asked.stream ORDER BY s.version DESC LIMIT 1
    ) AS h ON true;
    IF EXISTS (SELECT FROM unnest(bases, needed) AS h (base, needed) WHERE h.base <> h.needed) THEN
        RETURN;
    END IF;
    recorded := append_events(
        base, oldest, remembered, '{}', '{}',
        head_streams, bases,
        ARRAY(SELECT h.base + h.step
            FROM unnest(bases, head_steps) WITH ORDINALITY AS h (base, step, n) ORDER BY h.n),
        ARRAY(SELECT base + h.place
            FROM unnest(head_offsets) WITH ORDINALITY AS h (place, n) ORDER BY h.n),
        ARRAY(SELECT head_streams[e.owner]
            FROM unnest(owners) WITH ORDINALITY AS e (owner, n) ORDER BY e.n),
        ARRAY(SELECT bases[e.owner] + e.step
            FROM unnest(owners, steps) WITH ORDINALITY AS e (owner, step, n) ORDER BY e.n),
        ids, types, schemas, occurred, actors, causes, correlations, traces, payloads);
END $$;
