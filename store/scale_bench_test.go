package store_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"burrow/internal/babble"
	"burrow/store"
	"burrow/store/storetest"
)

// scale is how many messages the archive of the benchmarks has.
func scale(tb testing.TB) int {
	n := 1_000_000
	if v := os.Getenv("BURROW_BENCH_MESSAGES"); v != "" {
		if _, err := fmt.Sscan(v, &n); err != nil {
			tb.Fatal(err)
		}
	}
	return n
}

// archiveOf fills a database with n messages as the archive does, and returns its directory.
func archiveOf(tb testing.TB, n int, said func() string) string {
	dir := os.Getenv("BURROW_BENCH_ARCHIVE")
	if dir == "" {
		dir = tb.TempDir()
	} else if _, err := os.Stat(filepath.Join(dir, "burrow.db")); err == nil {
		return dir
	}
	s, err := store.Open(context.Background(), store.Config{DataDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	appendAll(tb, s, n, said)
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	return dir
}

func appendAll(tb testing.TB, s *store.Store, n int, said func() string) {
	messages := make(chan string, 256)
	failed := make(chan error, 256)
	for range 256 {
		go func() {
			var err error
			for text := range messages {
				if err == nil {
					err = s.Append(context.Background(), storetest.NewMessage("alice", "", text))
				}
			}
			failed <- err
		}()
	}
	for range n {
		messages <- said()
	}
	close(messages)
	for range 256 {
		if err := <-failed; err != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkScale measures an archive of a million messages: how long opening takes before and
// after they are indexed, indexing them, a page, and searches of all sorts.
func BenchmarkScale(b *testing.B) {
	v := babble.New()
	n := scale(b)
	dir := archiveOf(b, n, v.Sentence)
	s := open(b, store.Config{DataDir: dir})
	start := time.Now()
	hits, err := s.Search(b.Context(), store.SearchQuery{Text: "x", Limit: 1})
	if err != nil {
		b.Fatal(err)
	}
	storetest.Indexed(b, s)
	b.Logf("indexed %d messages, with others let in between, in %s", hits.Behind, time.Since(start))
	if info, err := os.Stat(filepath.Join(dir, "burrow.db")); err == nil {
		b.Logf("the file has %d bytes a message", info.Size()/int64(n))
	}
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			again, err := store.Open(b.Context(), store.Config{DataDir: dir, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			if err := again.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	measure := func(name string, read func(i int) error) {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				if err := read(i); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
		})
	}
	newest, _, err := s.Page(b.Context(), store.Query{Limit: 1})
	if err != nil {
		b.Fatal(err)
	}
	oldest, _, err := s.Page(b.Context(), store.Query{Limit: 1, After: "00000000-0000-7000-8000-000000000000"})
	if err != nil {
		b.Fatal(err)
	}
	anywhere := func() string { return between(oldest[0].GetId(), newest[0].GetId(), v.Rand) }
	measure("page=50", func(int) error {
		_, _, err := s.Page(b.Context(), store.Query{Limit: 50, Before: anywhere()})
		return err
	})
	word := v.Word
	for _, tt := range []struct {
		name string
		text func() string
	}{
		{"word", word},
		{"words=2", func() string { return word() + " " + word() }},
		{"words=4", func() string { return word() + " " + word() + " " + word() + " " + word() }},
		{"phrase", func() string { return `"` + word() + " " + word() + `"` }},
		{"commonest", func() string { return v.Words[0] + " " + v.Words[1] }},
		{"beginning=2", func() string { return (word() + "ab")[:2] }},
		{"beginning=3", func() string { return (word() + "abc")[:3] }},
		{"nothing", func() string { return v.Words[0] + " nosuchword" }},
	} {
		for name, user := range map[string]string{"everyone": "", "alice": "alice"} {
			measure("search/"+tt.name+"/"+name, func(int) error {
				q := store.SearchQuery{Text: tt.text(), Limit: 20, User: user}
				if v.Rand.IntN(2) == 0 {
					q.Before = anywhere()
				}
				_, err := s.Search(b.Context(), q)
				if err != nil {
					return fmt.Errorf("%q: %w", q.Text, err)
				}
				return nil
			})
		}
	}
}

// between returns an id of a time between those of two.
func between(from, to string, rng *rand.Rand) string {
	ms := func(id string) (ms int64) {
		_, _ = fmt.Sscanf(id[:8]+id[9:13], "%x", &ms)
		return ms
	}
	first, last := ms(from), ms(to)
	at := fmt.Sprintf("%012x", first+rng.Int64N(last-first+1))
	return at[:8] + "-" + at[8:] + "-7000-8000-000000000000"
}
