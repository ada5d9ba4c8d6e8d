-- +goose Up

-- The index of words. The program finds the words itself (words.go) and gives them
-- with spaces between; the texts stay in messages alone. What was archived before
-- this migration is taken in later, in the background.
CREATE VIRTUAL TABLE search_everyone USING fts5(words, content='', columnsize=0, tokenize='ascii');

-- people holds the two users of the talk, in hexadecimal: nobody's search looks at the
-- talks of others.
CREATE VIRTUAL TABLE search_private USING fts5(words, people, content='', columnsize=0, tokenize='ascii');

-- place is the row of a message in its index. It orders as ids do, but within a
-- millisecond: an index is read backwards, and not sorted.
CREATE TABLE search_rows (
    place INTEGER PRIMARY KEY, -- the first 48 bits of the id, and 15 of a number
    seq   INTEGER NOT NULL     -- of messages
);

-- Up to which message the index goes. One row.
CREATE TABLE search_progress (seq INTEGER NOT NULL);
INSERT INTO search_progress (seq) VALUES (0);
