-- +goose Up

-- People type the id of a letter, and the actions keep it: AUTOINCREMENT never
-- gives one twice. Hence a new table with what the old one holds.
CREATE TABLE new_dead_letters (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id   TEXT    NOT NULL,
    function     TEXT    NOT NULL,
    topic        TEXT    NOT NULL,
    error        TEXT    NOT NULL,
    attempts     INTEGER NOT NULL,             -- of all failures together
    payload      BLOB    NOT NULL,
    metadata     TEXT    NOT NULL DEFAULT '{}', -- a JSON object of strings
    failed_at    INTEGER NOT NULL,             -- microseconds since 1970, UTC, as every time here; the latest failure
    state        TEXT    NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'replaying', 'replayed', 'dropped')),
    since        INTEGER NOT NULL DEFAULT 0,   -- of the state
    replays      INTEGER NOT NULL DEFAULT 0,
    replay_id    TEXT    NOT NULL DEFAULT '',  -- of the last replay
    requested_at INTEGER NOT NULL DEFAULT 0,
    requested_by TEXT    NOT NULL DEFAULT '',
    leased_until INTEGER NOT NULL DEFAULT 0,   -- until then one node is sending it, or waits to try again
    note         TEXT    NOT NULL DEFAULT '',  -- why the last replay was not sent
    UNIQUE (message_id, function)
);

INSERT INTO new_dead_letters (id, message_id, function, topic, error, attempts, payload, failed_at, since)
SELECT seq, message_id, function, topic, error, attempts, payload, failed_at, failed_at FROM dead_letters;

DROP TABLE dead_letters;
ALTER TABLE new_dead_letters RENAME TO dead_letters;

CREATE INDEX dead_letters_to_send ON dead_letters (leased_until) WHERE state = 'replaying';
CREATE INDEX dead_letters_over ON dead_letters (since) WHERE state IN ('replayed', 'dropped');

-- The failures that a letter counts, so that one that is delivered again is known.
CREATE TABLE dead_letter_failures (
    letter    INTEGER NOT NULL,
    failed_at INTEGER NOT NULL,
    PRIMARY KEY (letter, failed_at)
) WITHOUT ROWID;

INSERT INTO dead_letter_failures (letter, failed_at) SELECT id, failed_at FROM dead_letters;

-- Who did what with a letter. Rows are only added, and the oldest are removed.
CREATE TABLE dead_letter_actions (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    who        TEXT    NOT NULL,
    what       TEXT    NOT NULL,
    letter     INTEGER NOT NULL,
    function   TEXT    NOT NULL,
    message_id TEXT    NOT NULL,
    note       TEXT    NOT NULL
);

CREATE INDEX dead_letter_actions_by_letter ON dead_letter_actions (letter, id);
