-- +goose Up

-- seq, and not the id, is the key of the table: the full-text index needs an
-- integer that VACUUM does not change, rows of a few kilobytes are too wide for
-- WITHOUT ROWID, and the index of talks then holds eight bytes a row instead of
-- a second copy of a wide primary key. seq is also the order of arrival here.
CREATE TABLE messages (
    seq       INTEGER PRIMARY KEY,
    id        TEXT    NOT NULL UNIQUE,     -- canonical lower-case UUID
    sender    TEXT    NOT NULL,
    recipient TEXT    NOT NULL DEFAULT '', -- empty: everyone
    content   TEXT    NOT NULL,
    sent_at   INTEGER NOT NULL,            -- microseconds since 1970, UTC
    talk      TEXT    NOT NULL DEFAULT ''  -- 'alice & bob' in this order for both; empty: everyone
);

CREATE INDEX messages_by_talk ON messages (talk, id);

-- For people: SELECT * FROM readable;
CREATE VIEW readable AS
SELECT strftime('%Y-%m-%d %H:%M:%f', sent_at / 1e6, 'unixepoch') AS sent_utc,
       sender,
       CASE recipient WHEN '' THEN '(everyone)' ELSE recipient END AS recipient,
       content,
       id
FROM messages
ORDER BY id;

CREATE TABLE claims (
    name_key   TEXT    NOT NULL PRIMARY KEY, -- NFKC and case fold of name
    name       TEXT    NOT NULL,             -- as it was claimed
    owner      TEXT    NOT NULL,
    expires_at INTEGER NOT NULL              -- microseconds since 1970, UTC
) WITHOUT ROWID;

CREATE INDEX claims_by_owner ON claims (owner);
CREATE INDEX claims_by_expiry ON claims (expires_at);

CREATE TABLE dead_letters (
    seq        INTEGER PRIMARY KEY,
    message_id TEXT    NOT NULL,
    function   TEXT    NOT NULL,
    topic      TEXT    NOT NULL,
    error      TEXT    NOT NULL,
    attempts   INTEGER NOT NULL,
    payload    BLOB    NOT NULL,
    failed_at  INTEGER NOT NULL,             -- microseconds since 1970, UTC; the latest failure
    UNIQUE (message_id, function)
);

CREATE INDEX dead_letters_by_time ON dead_letters (failed_at);
