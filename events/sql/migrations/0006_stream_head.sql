-- While somebody holds a transaction open, no earlier state of a row can be thrown away, and a
-- look-up of it by its stream alone goes through them all: after 200,000 appends, a thousand pages
-- each. With the version in the key, the row is found at once by the version that it must have, and
-- the newest is the last in the index.
ALTER TABLE stream_head DROP CONSTRAINT stream_head_pkey;
ALTER TABLE stream_head ADD PRIMARY KEY (stream, version);

CREATE OR REPLACE FUNCTION reserve_events(
    base bigint, oldest bigint, remembered bigint,
    blob_digests bytea[], blob_bodies bytea[],
    head_streams text[], head_bases bigint[], head_versions bigint[], head_positions bigint[]
) RETURNS bigint
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    last_position bigint;
    last_recorded bigint;
    recorded bigint;
    written bigint;
    heads bigint;
BEGIN
    -- In the order of the digests, or two writers that share some would wait for each other.
    IF cardinality(blob_digests) > 0 THEN
        INSERT INTO blobs (digest, size, body)
        SELECT b.digest, length(b.body), b.body
        FROM unnest(blob_digests, blob_bodies) AS b (digest, body)
        ORDER BY b.digest
        ON CONFLICT DO NOTHING;
    END IF;

    PERFORM FROM log_head FOR UPDATE;
    -- A later statement than the lock, so that it sees what the previous holder committed.
    SELECT e.position, e.recorded_at INTO last_position, last_recorded
    FROM events AS e WHERE e.position >= base ORDER BY e.position DESC LIMIT 1;
    recorded := greatest(
        coalesce(last_recorded, 0), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
    IF coalesce(last_position, 0) <> base OR oldest < recorded / 1000 - remembered THEN
        RETURN NULL;
    END IF;

    -- Nobody else writes here while the log is locked: what is not there now comes from us.
    INSERT INTO stream_head (stream, version, position)
    SELECT h.stream, h.version, h.position
    FROM unnest(head_streams, head_bases, head_versions, head_positions)
        AS h (stream, base, version, position)
    WHERE h.base = 0 AND NOT EXISTS (SELECT FROM stream_head AS s WHERE s.stream = h.stream);
    GET DIAGNOSTICS heads = ROW_COUNT;
    UPDATE stream_head AS s SET version = h.version, position = h.position
    FROM unnest(head_streams, head_bases, head_versions, head_positions)
        AS h (stream, base, version, position)
    WHERE s.stream = h.stream AND s.version = h.base AND h.base > 0;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF heads + written <> cardinality(head_streams) THEN
        RAISE EXCEPTION 'a stream is not at the version that was seen' USING ERRCODE = 'TU001';
    END IF;
    RETURN recorded;
END $$;

CREATE OR REPLACE FUNCTION lock_log(
    hint bigint, streams text[], ids uuid[],
    OUT last_position bigint, OUT clock bigint,
    OUT known_streams text[], OUT versions bigint[], OUT reused boolean
)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
    PERFORM FROM log_head FOR UPDATE;
    -- Later statements than the lock, so that they see what the previous holder committed.
    SELECT e.position, e.recorded_at INTO last_position, clock
    FROM events AS e WHERE e.position >= hint ORDER BY e.position DESC LIMIT 1;
    IF last_position IS NULL THEN
        SELECT e.position, e.recorded_at INTO last_position, clock
        FROM events AS e ORDER BY e.position DESC LIMIT 1;
    END IF;
    last_position := coalesce(last_position, 0);
    clock := greatest(
        coalesce(clock, 0), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
    SELECT array_agg(h.stream), array_agg(h.version) INTO known_streams, versions
    FROM unnest(streams) AS asked (stream) CROSS JOIN LATERAL (
        SELECT s.stream, s.version FROM stream_head AS s
        WHERE s.stream = asked.stream ORDER BY s.version DESC LIMIT 1
    ) AS h;
    reused := EXISTS (SELECT FROM event_id AS i WHERE i.id = ANY(ids));
END $$;
