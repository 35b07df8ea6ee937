-- An append is the same few index look-ups every time. Left to itself the server plans them anew at
-- each call (the arrays' lengths, once known, make such plans look cheaper), which takes longer
-- than the work; and a plan that is kept must not depend on how small the tables once were.
ALTER FUNCTION reserve_events SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION reserve_events SET enable_seqscan = off;
ALTER FUNCTION reserve_events SET enable_hashjoin = off;
ALTER FUNCTION reserve_events SET enable_mergejoin = off;
ALTER FUNCTION append_events SET plan_cache_mode = force_generic_plan;

-- Lock the log and say what an append must know of it, in one round trip: other writers wait for as
-- long as this one asks. `hint` is a position that is known to exist, so that older partitions are
-- left alone; `reused` says whether any of the ids was used before.
CREATE FUNCTION lock_log(
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
    FROM stream_head AS h WHERE h.stream = ANY(streams);
    reused := EXISTS (SELECT FROM event_id AS i WHERE i.id = ANY(ids));
END $$;
