-- +goose Up

-- Words are found by other rules (words.go): the index begins anew, and is filled in the background.
INSERT INTO search_everyone (search_everyone) VALUES ('delete-all');
INSERT INTO search_private (search_private) VALUES ('delete-all');
DELETE FROM search_rows;
UPDATE search_progress SET seq = 0;
