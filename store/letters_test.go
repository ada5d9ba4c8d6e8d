package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pressly/goose/v3"

	"burrow/store"
	"burrow/store/storetest"
)

func TestLettersOfTheFirstSchemaAreKept(t *testing.T) {
	dir := t.TempDir()
	db := sqlite(t, filepath.Join(dir, "burrow.db"))
	first, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migration"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	exec1(t, db, `INSERT INTO dead_letters (seq, message_id, function, topic, error, attempts, payload, failed_at)
		VALUES (41, 'm1', 'archive', 'burrow.tasks.ArchiveMessage', 'disk on fire', 5, x'00ff', 1767225600000000)`)
	s := open(t, store.Config{DataDir: dir})
	l, err := s.DeadLetter(t.Context(), 41)
	if err != nil {
		t.Fatal(err)
	}
	if l.State != store.Waiting || l.MessageID != "m1" || l.Attempts != 5 || string(l.Payload) != "\x00\xff" || l.FailedAt.Unix() != 1767225600 || len(l.Metadata) > 0 {
		t.Errorf("got %+v", l)
	}
	again := storetest.NewLetter("archive", "m1")
	again.FailedAt.Seconds, again.FailedAt.Nanos = 1767225600, 0
	if err := s.AddDeadLetter(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if l, err = s.DeadLetter(t.Context(), 41); err != nil || l.Attempts != 5 {
		t.Errorf("a late copy of it makes %+v, %v", l, err)
	}
}

func TestLettersOfTheSecondSchemaAreKept(t *testing.T) {
	dir := t.TempDir()
	db := sqlite(t, filepath.Join(dir, "burrow.db"))
	second, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migration"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.UpTo(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"7", "9"} {
		exec1(t, db, `INSERT INTO dead_letters (id, message_id, function, topic, error, attempts, payload, metadata, failed_at, state, replays, replay_id)
			VALUES (`+id+`, 'm`+id+`', 'archive', 'burrow.tasks.ArchiveMessage', 'disk on fire', 5, x'00ff', '{"k":"v"}', 1767225600000000, 'replaying', 2, 'r')`)
	}
	exec1(t, db, "DELETE FROM dead_letters WHERE id = 9")
	s := open(t, store.Config{DataDir: dir})
	l, err := s.DeadLetter(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	if l.State != store.Replaying || l.MessageID != "m7" || l.Replays != 2 || l.ReplayID != "r" || l.Metadata["k"] != "v" {
		t.Errorf("got %+v", l)
	}
	if err := s.AddDeadLetter(t.Context(), storetest.NewLetter("archive", "new")); err != nil {
		t.Fatal(err)
	}
	if l, err := s.DeadLetter(t.Context(), 10); err != nil || l.MessageID != "new" {
		t.Errorf("the next letter: got %+v, %v, want it to be 10: 9 was given before", l, err)
	}
}

func TestLettersOfTwoTopicsAreTwo(t *testing.T) {
	s := open(t, store.Config{DataDir: t.TempDir()})
	for _, topic := range []string{"burrow.tasks.ArchiveMessage", "burrow.tasks.Other", "burrow.tasks.Other"} {
		for _, id := range []string{"same", ""} {
			letter := storetest.NewLetter("audit", id)
			letter.Topic = topic
			if err := s.AddDeadLetter(t.Context(), letter); err != nil {
				t.Fatal(err)
			}
		}
	}
	letters, _, err := s.ListDeadLetters(t.Context(), store.LetterQuery{Limit: 10})
	if err != nil || len(letters) != 4 {
		t.Errorf("got %d letters, %v, want one for each topic and id", len(letters), err)
	}
}

func TestLettersThatAreOverAreForgottenAfterAMonth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, store.Config{DataDir: t.TempDir()})
		for _, message := range []string{"waits", "replayed", "dropped"} {
			if err := s.AddDeadLetter(t.Context(), storetest.NewLetter("archive", message)); err != nil {
				t.Fatal(err)
			}
		}
		l, err := s.RequestReplay(t.Context(), 2, "ada")
		if err != nil {
			t.Fatal(err)
		}
		_, dropped := s.DropDeadLetter(t.Context(), 3, "ada")
		if err := errors.Join(dropped, s.EndReplay(t.Context(), 2, l.ReplayID, "node", "")); err != nil {
			t.Fatal(err)
		}
		list := func() (ids []int64) {
			letters, _, err := s.ListDeadLetters(t.Context(), store.LetterQuery{State: "all", Limit: 9})
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range letters {
				ids = append(ids, l.ID)
			}
			return ids
		}
		time.Sleep(29 * 24 * time.Hour)
		if err := s.AddDeadLetter(t.Context(), storetest.NewLetter("archive", "later")); err != nil || len(list()) != 3 {
			t.Errorf("after 29 days: %v, %v; want three letters", list(), err)
		}
		time.Sleep(2 * 24 * time.Hour)
		if err := s.AddDeadLetter(t.Context(), storetest.NewLetter("archive", "last")); err != nil {
			t.Fatal(err)
		}
		if got := list(); len(got) != 3 || got[0] != 5 || got[1] != 4 || got[2] != 1 { // no id is given twice
			t.Errorf("after 31 days: %v, want 5, 4 and 1", got)
		}
	})
}

func TestOldestActionsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, store.Config{DataDir: dir})
	if err := s.AddDeadLetter(t.Context(), storetest.NewLetter("archive", "m1")); err != nil {
		t.Fatal(err)
	}
	db := sqlite(t, filepath.Join(dir, "burrow.db"))
	exec1(t, db, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 10500)
		INSERT INTO dead_letter_actions (at, who, what, letter, function, message_id, note) SELECT i, 'ada', 'sent', 7, 'f', 'm', '' FROM n`)
	if _, err := s.RequestReplay(t.Context(), 1, "ada"); err != nil {
		t.Fatal(err)
	}
	var n, oldest int
	if err := db.QueryRow("SELECT count(*), min(at) FROM dead_letter_actions").Scan(&n, &oldest); err != nil || n != 10_001 || oldest != 501 {
		t.Errorf("%d actions from %d on, %v; want 10001 from 501 on", n, oldest, err)
	}
}

// What every node asks once a second must not read the letters.
func TestLookingForReplaysReadsAnIndex(t *testing.T) {
	dir := t.TempDir()
	open(t, store.Config{DataDir: dir})
	var id, parent, unused int
	var plan string
	err := sqlite(t, filepath.Join(dir, "burrow.db")).QueryRow(`EXPLAIN QUERY PLAN SELECT 1 FROM dead_letters
		WHERE state = 'replaying' AND leased_until <= 1 AND function IN (SELECT value FROM json_each('["a"]'))`).Scan(&id, &parent, &unused, &plan)
	if err != nil || !strings.Contains(plan, "INDEX dead_letters_to_send") {
		t.Errorf("the plan is %q, %v", plan, err)
	}
}

func TestMissingDatabaseIsAnErrorForThoseWhoMakeNone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	_, err := store.Open(t.Context(), store.Config{DataDir: dir, MustExist: true})
	if err == nil || !strings.Contains(err.Error(), "there is no database "+dir) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("it made the directory")
	}
	if err := open(t, store.Config{DataDir: dir}).Close(); err != nil {
		t.Fatal(err)
	}
	open(t, store.Config{DataDir: dir, MustExist: true})
}
