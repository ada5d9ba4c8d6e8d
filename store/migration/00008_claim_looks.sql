-- +goose Up

-- What the name of a claim looks like, as it is written and without case (names.LookOf). A new claim
-- needs a name that looks like no other: claims of before that look alike stay.
ALTER TABLE claims ADD COLUMN look TEXT NOT NULL DEFAULT '';
ALTER TABLE claims ADD COLUMN look_folded TEXT NOT NULL DEFAULT '';

-- The names.Version that computed them; 0: not computed yet. See refreshLooks.
ALTER TABLE claims ADD COLUMN look_version INTEGER NOT NULL DEFAULT 0;

CREATE INDEX claims_by_look ON claims (look);
CREATE INDEX claims_by_look_folded ON claims (look_folded);
CREATE INDEX claims_by_look_version ON claims (look_version);
