-- What the signer has worked out: the Merkle tree over the log, and the checkpoints of it.
--
-- Only full tiles, which never change: the partial ones at the tree's right edge follow from the
-- roots of the tiles below and, at level 0, from the events themselves.

CREATE TABLE merkle_tile (
    level  smallint NOT NULL CHECK (level BETWEEN 0 AND 7),
    number bigint NOT NULL CHECK (number >= 0),
    root   bytea NOT NULL CHECK (length(root) = 32),
    hashes bytea NOT NULL CHECK (length(hashes) = 8192),
    PRIMARY KEY (level, number)
);
-- Hashes do not compress, and the roots are read without them.
ALTER TABLE merkle_tile ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- The newest checkpoint, and the last one of each hour before it.
CREATE TABLE log_checkpoint (
    size   bigint PRIMARY KEY CHECK (size > 0),
    hour   bigint NOT NULL,
    origin text COLLATE "C" NOT NULL,
    note   text COLLATE "C" NOT NULL
);
