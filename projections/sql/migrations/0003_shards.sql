-- A generation may be folded in parts, each by a process of its own: a document belongs to the part
-- that the hash of its key says (projections/shards.py), out of as many as its generation has.
-- Documents need not carry it: another number of parts is another generation.
ALTER TABLE view_checkpoint ADD COLUMN shards smallint NOT NULL DEFAULT 1
    CHECK (shards > 0 AND shard >= 0 AND shard < shards);
COMMENT ON COLUMN view_checkpoint.shards IS 'In how many parts this generation is folded';

-- A process of another release must not take up what the one that leads is putting aside.
ALTER TABLE view_checkpoint ADD COLUMN wanted boolean NOT NULL DEFAULT true;
COMMENT ON COLUMN view_checkpoint.wanted IS 'Whether whoever leads has this generation kept';
