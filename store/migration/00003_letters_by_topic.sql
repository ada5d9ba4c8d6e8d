-- +goose Up

-- A function may handle several topics, and programs that are not ours may use one
-- message id on each of them: the topic is part of what a letter is about.
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
    UNIQUE (message_id, function, topic)
);

INSERT INTO new_dead_letters SELECT
    id, message_id, function, topic, error, attempts, payload, metadata, failed_at,
    state, since, replays, replay_id, requested_at, requested_by, leased_until, note
FROM dead_letters;

-- Also the ids of letters that are gone are never given again.
DELETE FROM sqlite_sequence WHERE name = 'new_dead_letters';
INSERT INTO sqlite_sequence (name, seq) SELECT 'new_dead_letters', seq FROM sqlite_sequence WHERE name = 'dead_letters';

DROP TABLE dead_letters;
ALTER TABLE new_dead_letters RENAME TO dead_letters;

CREATE INDEX dead_letters_to_send ON dead_letters (leased_until) WHERE state = 'replaying';
CREATE INDEX dead_letters_over ON dead_letters (since) WHERE state IN ('replayed', 'dropped');
