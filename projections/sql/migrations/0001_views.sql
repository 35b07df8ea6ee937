-- The views, all in the same few tables: a new view, or a new generation of one, is rows and not DDL.
-- Everything here can be thrown away and folded again from the log.
--
-- Keys and indexed values compare as bytes ("C"): pages come in the order that Python gives strings,
-- and a prefix is a range.

CREATE TABLE view_checkpoint (
    view text COLLATE "C" NOT NULL,
    generation integer NOT NULL,
    shard smallint NOT NULL DEFAULT 0,
    projection_version integer NOT NULL,
    live boolean NOT NULL DEFAULT false,
    position bigint NOT NULL DEFAULT 0,
    epoch bigint NOT NULL,
    PRIMARY KEY (view, generation, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE view_checkpoint IS
    'How far each generation of a view has folded the log; written with the documents, or not at all';

-- No index holds the position: moving it is a heap-only update.
CREATE UNIQUE INDEX view_checkpoint_live ON view_checkpoint (view, shard) WHERE live;

CREATE TABLE view_document (
    view text COLLATE "C" NOT NULL,
    generation integer NOT NULL,
    key text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    document bytea NOT NULL,
    i0 text COLLATE "C",
    i1 text COLLATE "C",
    i2 text COLLATE "C",
    PRIMARY KEY (view, generation, key)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX view_document_i0 ON view_document (view, generation, i0, key) WHERE i0 IS NOT NULL;
CREATE INDEX view_document_i1 ON view_document (view, generation, i1, key) WHERE i1 IS NOT NULL;
CREATE INDEX view_document_i2 ON view_document (view, generation, i2, key) WHERE i2 IS NOT NULL;

CREATE TABLE view_subject (
    view text COLLATE "C" NOT NULL,
    generation integer NOT NULL,
    subject text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (view, generation, subject, position)
) WITH (fillfactor = 100);

CREATE TABLE view_parked (
    view text COLLATE "C" NOT NULL,
    generation integer NOT NULL,
    scope text NOT NULL CHECK (scope IN ('key', 'stream')),
    name text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    message text NOT NULL,
    -- The id under which the log is told; NULL where it is not told (again).
    event_id uuid,
    told boolean NOT NULL DEFAULT false,
    PRIMARY KEY (view, generation, scope, name)
);
COMMENT ON TABLE view_parked IS 'What a view no longer folds, because the event at `position` failed';

-- Who may do what, by Postgres' clock. The epoch grows with each change of hands and fences the
-- holders before it.
CREATE TABLE lease (
    name text COLLATE "C" PRIMARY KEY,
    epoch bigint NOT NULL,
    owner text NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);
