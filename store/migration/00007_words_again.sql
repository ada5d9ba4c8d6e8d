-- +goose Up

-- Words are found by other rules (words.go): the index is emptied, and filled again in the background.
INSERT INTO search_everyone (search_everyone) VALUES ('delete-all');
INSERT INTO search_private (search_private) VALUES ('delete-all');
DELETE FROM search_rows;

-- The new name keeps processes of an earlier version, which may still run beside this one, from filling
-- the index by their rules.
ALTER TABLE search_progress RENAME TO search_progress_7;
UPDATE search_progress_7 SET seq = 0;
