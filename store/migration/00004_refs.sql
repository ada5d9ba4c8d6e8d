-- +goose Up

-- What the sender called the message; a canonical lower-case UUID, or empty.
ALTER TABLE messages ADD COLUMN ref TEXT NOT NULL DEFAULT '';

-- The ids that senders' refs stand for. A row for each message that is sent with a
-- ref: hence sixteen bytes for a UUID, and no third copy of the row.
CREATE TABLE refs (
    sender TEXT NOT NULL,
    ref    BLOB NOT NULL,
    id     BLOB NOT NULL, -- a UUIDv7: the time of the claim, in order
    PRIMARY KEY (sender, ref)
) WITHOUT ROWID;

-- What is too old is found without looking at the rest.
CREATE INDEX refs_by_id ON refs (id);
