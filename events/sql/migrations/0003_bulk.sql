-- A retry is told from another event of the same id by the event itself, which is there.
ALTER TABLE event_id DROP COLUMN digest;

-- Large batches are written with COPY, which is no statement of a function: so what is checked and
-- locked before an append is a function of its own, that both ways of writing share.

-- Keep the bodies, lock the log and make sure that it is at `base`, and move the streams on. Returns
-- when the batch is recorded; null where the log has moved on, and then nothing but bodies is kept.
-- What follows in the same transaction writes the ids and the events.
CREATE FUNCTION reserve_events(
    base bigint, oldest bigint, remembered bigint,
    blob_digests bytea[], blob_bodies bytea[],
    head_streams text[], head_bases bigint[], head_versions bigint[], head_positions bigint[]
) RETURNS bigint
LANGUAGE plpgsql AS $$
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

    INSERT INTO stream_head (stream, version, position)
    SELECT h.stream, h.version, h.position
    FROM unnest(head_streams, head_bases, head_versions, head_positions)
        AS h (stream, base, version, position)
    WHERE h.base = 0
    ON CONFLICT DO NOTHING;
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

-- Append a small batch: all of it in one statement. The arguments of `reserve_events`, then a column
-- an array.
DROP FUNCTION append_events;
CREATE FUNCTION append_events(
    base bigint, oldest bigint, remembered bigint,
    blob_digests bytea[], blob_bodies bytea[],
    head_streams text[], head_bases bigint[], head_versions bigint[], head_positions bigint[],
    streams text[], versions bigint[], ids uuid[], types text[], schemas integer[],
    occurred bigint[], actors text[], causes bigint[], correlations text[], traces text[],
    payloads bytea[]
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    recorded bigint;
BEGIN
    recorded := reserve_events(
        base, oldest, remembered, blob_digests, blob_bodies,
        head_streams, head_bases, head_versions, head_positions);
    IF recorded IS NULL THEN
        RETURN NULL;
    END IF;
    -- An id that was used before, or a position, is for the unique indexes to refuse.
    INSERT INTO event_id (id, position)
    SELECT e.id, base + e.n FROM unnest(ids) WITH ORDINALITY AS e (id, n);
    INSERT INTO events (
        position, stream, version, event_id, type, schema, recorded_at, occurred_at, actor,
        causation, correlation, traceparent, payload)
    SELECT base + e.n, e.stream, e.version, e.id, e.type, e.schema, recorded, e.occurred, e.actor,
        e.cause, e.correlation, e.trace, e.payload
    FROM unnest(
            streams, versions, ids, types, schemas, occurred, actors, causes, correlations, traces,
            payloads)
        WITH ORDINALITY AS e (
            stream, version, id, type, schema, occurred, actor, cause, correlation, trace, payload,
            n);
    RETURN recorded;
END $$;
