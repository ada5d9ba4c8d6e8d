package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"burrow/store"
	"burrow/store/storetest"
)

// A database that was filled before there was an index, or by a process that died before
// it had indexed all, is indexed after the start.
func TestWhatIsNotIndexedIsAfterTheStart(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, store.Config{DataDir: dir}).Close(); err != nil {
		t.Fatal(err)
	}
	db := sqlite(t, filepath.Join(dir, "burrow.db"))
	exec1(t, db, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
		INSERT INTO messages (id, sender, content, sent_at) SELECT printf('%08x-0000-7000-8000-000000000000', i), 'alice', 'old ' || i, i FROM n`)
	s := open(t, store.Config{DataDir: dir})
	storetest.Indexed(t, s)
	for text, want := range map[string]int{"old": 100, "1000": 1, "99": 11, `"old 500"`: 1} {
		hits, err := s.Search(t.Context(), store.SearchQuery{Text: text, Limit: 100})
		if err != nil || len(hits.Hits) != want {
			t.Errorf("%q: %d hits, want %d: %v", text, len(hits.Hits), want, err)
		}
	}
	// What somebody removes by hand is gone, and fails nothing.
	exec1(t, db, "DELETE FROM messages WHERE content = 'old 500'")
	if hits, err := s.Search(t.Context(), store.SearchQuery{Text: `"old 500"`, Limit: 1}); err != nil || len(hits.Hits) != 0 {
		t.Errorf("%v, %v", hits, err)
	}
}

func TestProcessesShareTheIndex(t *testing.T) {
	dir := t.TempDir()
	one, two := open(t, store.Config{DataDir: dir}), open(t, store.Config{DataDir: dir})
	for i := range 300 {
		s := one
		if i%2 == 1 {
			s = two
		}
		if err := s.Append(t.Context(), storetest.NewMessage("alice", "", fmt.Sprintf("shared %d", i))); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*store.Store{one, two} {
		storetest.Indexed(t, s)
		found := map[string]bool{}
		q := store.SearchQuery{Text: "shared", Limit: 100}
		for more := true; more; {
			hits, err := s.Search(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range hits.Hits {
				if found[h.Message.GetId()] {
					t.Errorf("%q is found twice", h.Message.GetContent())
				}
				found[h.Message.GetId()] = true
				q.Before = h.Message.GetId()
			}
			more = hits.HasMore
		}
		if len(found) != 300 {
			t.Errorf("found %d messages, want 300", len(found))
		}
	}
}

// Ids that other programs make up: more in one millisecond than there are places for, at the
// end of all times. With the race detector they are fewer, for it makes this two minutes: make test-load is
// without it.
func TestIndexStandsAnyID(t *testing.T) {
	n := 33000
	if raceDetector {
		n = 1000
	}
	dir := t.TempDir()
	if err := open(t, store.Config{DataDir: dir}).Close(); err != nil {
		t.Fatal(err)
	}
	exec1(t, sqlite(t, filepath.Join(dir, "burrow.db")), fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO messages (id, sender, content, sent_at) SELECT printf('ffffffff-ffff-7000-8000-%%012x', i), 'alice', 'late', i FROM n
		UNION ALL SELECT printf('00000000-0000-7000-8000-%%012x', i), 'alice', 'early', i FROM n`, n))
	s := open(t, store.Config{DataDir: dir})
	if err := s.Append(t.Context(), storetest.NewMessage("alice", "", "now")); err != nil {
		t.Fatal(err)
	}
	storetest.Indexed(t, s)
	for _, text := range []string{"late", "early", "now"} {
		if hits, err := s.Search(t.Context(), store.SearchQuery{Text: text, Limit: 1}); err != nil || len(hits.Hits) != 1 {
			t.Errorf("%q: %d hits, %v", text, len(hits.Hits), err)
		}
	}
}

// Whatever somebody looks for is answered, or refused as not valid; and a message that is looked
// for by all of its text is found, with marks inside of it.
func FuzzSearch(f *testing.F) {
	for _, text := range storetest.Texts {
		f.Add(text, "a b")
		f.Add("a b", text)
	}
	dir, err := os.MkdirTemp("", "burrow-fuzz")
	if err != nil {
		f.Fatal(err)
	}
	s, err := store.Open(context.Background(), store.Config{DataDir: dir, ArchivePrivate: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		_ = s.Close()
		_ = os.RemoveAll(dir)
	})
	for _, text := range storetest.Texts {
		if err := s.Append(context.Background(), storetest.NewMessage("alice", "bob", strings.ToValidUTF8(text, "")+" a b")); err != nil {
			f.Fatal(err)
		}
	}
	storetest.Indexed(f, s)
	f.Fuzz(func(t *testing.T, text, user string) {
		for _, q := range []store.SearchQuery{{Text: text, User: user, Limit: 3}, {Text: text, User: "alice", Limit: 3}, {Text: text, User: user, With: "bob", Limit: 3}} {
			hits, err := s.Search(t.Context(), q)
			if err != nil && !errors.Is(err, store.ErrInvalid) {
				t.Fatalf("%+v: %v", q, err)
			}
			for _, h := range hits.Hits {
				end := 0
				for _, m := range h.Marks {
					if m.Start < end || m.End <= m.Start || m.End > len(h.Message.GetContent()) || !utf8.ValidString(h.Message.GetContent()[m.Start:m.End]) {
						t.Errorf("%+v: marks %v in %q", q, h.Marks, h.Message.GetContent())
					}
					end = m.End
				}
				if len(h.Marks) == 0 {
					t.Errorf("%+v: %q is found without a mark", q, h.Message.GetContent())
				}
				if h.Message.GetToUser() != "" && user != "alice" && user != "bob" && q.User == user {
					t.Errorf("%q sees what is said to %q", user, h.Message.GetToUser())
				}
			}
		}
	})
}
