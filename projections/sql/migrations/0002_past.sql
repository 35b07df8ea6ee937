-- What the past is read from: documents as they were now and then, and index values they once had.
-- Beside them, the events since: those the timeline files under a document's subject.

ALTER TABLE view_document ADD COLUMN tail integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN view_document.tail IS 'Events folded into the document since its last snapshot';

CREATE TABLE view_snapshot (
    view text COLLATE "C" NOT NULL,
    generation integer NOT NULL,
    key text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    document bytea,
    PRIMARY KEY (view, generation, key, position)
);
COMMENT ON TABLE view_snapshot IS
    'Documents just after the event at `position`; a null one was taken away by that event';
CREATE INDEX view_snapshot_gone ON view_snapshot (view, generation, key) WHERE document IS NULL;

CREATE TABLE view_formerly (
    view text COLLATE "C" NOT NULL,
    generation integer NOT NULL,
    indexed smallint NOT NULL,
    value text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    PRIMARY KEY (view, generation, indexed, value, key)
);
COMMENT ON TABLE view_formerly IS 'Index values that documents had and no longer have';

-- Views built before this keep none of it, so they are built anew, beside what there is.
UPDATE view_checkpoint SET projection_version = 0 WHERE projection_version > 0;
