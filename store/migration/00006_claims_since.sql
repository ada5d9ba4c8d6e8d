-- +goose Up

-- When the owner took the name, in microseconds since 1970, UTC: private talk of before is
-- another one's. 0: before this column was there, when nobody counted.
ALTER TABLE claims ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
