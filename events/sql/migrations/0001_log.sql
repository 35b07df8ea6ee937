-- The log: events by position, and beside them what uniqueness needs.
--
-- Times are UTC microseconds since the epoch. Text is compared by bytes (COLLATE "C"), whatever
-- the database's own collation is.

-- One row, locked by whoever appends and never updated: a counter that is updated slows down with
-- every old snapshot that somebody holds, and a lock does not.
CREATE TABLE log_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    log_id   uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO log_head DEFAULT VALUES;

CREATE TABLE events (
    position    bigint NOT NULL,
    stream      text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    event_id    uuid NOT NULL,
    type        text COLLATE "C" NOT NULL,
    schema      integer NOT NULL,
    recorded_at bigint NOT NULL,
    occurred_at bigint NOT NULL,
    actor       text COLLATE "C" NOT NULL,
    causation   bigint,
    correlation text COLLATE "C" NOT NULL,
    traceparent text COLLATE "C" NOT NULL,
    payload     bytea NOT NULL,
    PRIMARY KEY (position)
) PARTITION BY RANGE (position);
-- Versions grow with positions, and readers ask for what comes after a position.
CREATE INDEX events_stream ON events (stream, position);
CREATE INDEX events_type ON events (type, position);

-- Which positions have a partition: from_position up to, not including, to_position.
CREATE TABLE event_partition (
    from_position bigint PRIMARY KEY,
    to_position   bigint NOT NULL UNIQUE CHECK (to_position > from_position)
);

CREATE TABLE stream_head (
    stream   text COLLATE "C" PRIMARY KEY,
    version  bigint NOT NULL CHECK (version > 0),
    position bigint NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- The ids of the last seven days' events, with a digest of what they said. Ids are UUIDv7, so
-- their order is that of their making and the old ones are the first ones.
CREATE TABLE event_id (
    id       uuid PRIMARY KEY,
    position bigint NOT NULL,
    digest   bytea NOT NULL
);

-- Bodies by the SHA-256 of their bytes. A body that had to be erased is null; its row stays.
CREATE TABLE blobs (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    size   bigint NOT NULL,
    body   bytea
);

-- Give every position below `until` a partition, each of `size` positions; return the first
-- position that has none. Cheap when there is nothing to do, safe to call from anywhere at once:
-- attaching, unlike CREATE TABLE ... PARTITION OF, lets readers and appenders go on.
CREATE FUNCTION add_event_partitions(until bigint, size bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    start bigint;
    name text;
BEGIN
    SELECT coalesce(max(to_position), 1) INTO start FROM event_partition;
    IF start >= until THEN
        RETURN start;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('trueup event partitions', 0));
    SELECT coalesce(max(to_position), 1) INTO start FROM event_partition;
    WHILE start < until LOOP
        name := 'events_' || lpad(start::text, 16, '0');
        EXECUTE format(
            'CREATE TABLE %I (LIKE events INCLUDING ALL, CHECK (position >= %s AND position < %s))',
            name, start, start + size);
        EXECUTE format(
            'ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
            name, start, start + size);
        INSERT INTO event_partition VALUES (start, start + size);
        start := start + size;
    END LOOP;
    RETURN start;
END $$;

-- Append a batch whose positions and versions the caller has worked out from what it last saw:
-- the log at `base`, each stream at its base version, every id new. All of that is checked here,
-- under the lock. Returns when the batch was recorded; null where the log has moved on, and then
-- no event is written. `oldest` is the time, in milliseconds, of the oldest of the ids.
CREATE FUNCTION append_events(
    base bigint, oldest bigint, remembered bigint,
    blob_digests bytea[], blob_bodies bytea[],
    head_streams text[], head_bases bigint[], head_versions bigint[], head_positions bigint[],
    streams text[], versions bigint[], ids uuid[], digests bytea[], types text[], schemas integer[],
    occurred bigint[], actors text[], causes bigint[], correlations text[], traces text[],
    payloads bytea[]
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

    INSERT INTO event_id (id, position, digest)
    SELECT e.id, base + e.n, e.digest
    FROM unnest(ids, digests) WITH ORDINALITY AS e (id, digest, n)
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> cardinality(ids) THEN
        RAISE EXCEPTION 'an event id was used before' USING ERRCODE = 'TU001';
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

-- The last position recorded not after a time. Positions are dense and times never run backwards,
-- so halving finds it in about thirty looks, and no index has to be kept for it.
CREATE FUNCTION position_at(micros bigint) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    low bigint := 0;
    high bigint;
    middle bigint;
    at bigint;
BEGIN
    SELECT coalesce(max(position), 0) INTO high FROM events;
    WHILE low < high LOOP
        middle := (low + high + 1) / 2;
        SELECT recorded_at INTO STRICT at FROM events WHERE position = middle;
        IF at <= micros THEN
            low := middle;
        ELSE
            high := middle - 1;
        END IF;
    END LOOP;
    RETURN low;
END $$;
