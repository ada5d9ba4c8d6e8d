package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"burrow/internal/babble"
)

const (
	waitingTasks = 100_000
	// pagesRead and searches are how many of each are measured; the server lets one address search
	// 200 times at once.
	pagesRead = 500
	searches  = 180
)

// archiveCases are the goals of the archive: its pace, its start, its pages and its search.
func archiveCases() []testCase {
	return []testCase{
		{name: "archive: 50,000 tasks from embedded NATS, beside the same inserts alone, 500 in a transaction", run: runPace, goals: []goal{
			{"rows", "rows_per_second", "%.0f/s", 50_000, true, 0},
			{"of the inserts alone", "of_inserts", "%.2f", 0.5, true, 0},
		}},
		{name: "start with 1 M archived messages and 100,000 tasks on the stream", run: runFullStart, goals: []goal{
			{"until the first page is served", "first_page_ms", "%.0f ms", 500, false, 0},
			{"until it says that it is ready", "ready_ms", "%.0f ms", 500, false, 0},
			{"until all are archived", "archived_s", "%.1f s", 60, false, 0},
			{"tasks lost or doubled", "wrong", "%.0f", 0, false, 0},
		}},
		{name: "1 M archived messages", run: runMillion, goals: []goal{
			{"until the first page is served", "first_page_ms", "%.0f ms", 500, false, 0},
			{"RSS, with nothing to do", "rss_mib", "%.0f MiB", 60, false, 0},
			{"a page of 50, p95", "page_p95_ms", "%.1f ms", 10, false, 0},
			{"search, p95", "search_p95_ms", "%.1f ms", 100, false, 0},
		}},
	}
}

// runFullStart starts with all that waits after a long time away.
func runFullStart(ctx context.Context, b *bench) (_ sample, err error) {
	dir, err := b.copyMillion(ctx)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := leaveTasks(ctx, dir, waitingTasks); err != nil {
		return nil, err
	}
	begun := time.Now()
	s, took, err := startAndAsk(ctx, b, serverConfig{binary: b.binary, pin: b.opts.pin, dir: dir})
	if s != nil {
		defer func() { err = errors.Join(err, stopAll([]*server{s})) }()
	}
	if err != nil {
		return nil, err
	}
	for askFor(ctx, s.addr, "/readyz") != nil {
		if err := pause(ctx, time.Millisecond); err != nil {
			return nil, err
		}
	}
	ready := time.Since(begun)
	archived, err := awaitRows(ctx, s.archive(), millionMessages, waitingTasks)
	if err != nil {
		return nil, err
	}
	all := time.Since(begun)
	used, err := readUsage(s.cmd.Process.Pid)
	return sample{
		"first_page_ms": float64(took.Microseconds()) / 1000, "ready_ms": float64(ready.Microseconds()) / 1000, "archived_s": all.Seconds(),
		"wrong": float64(max(archived-waitingTasks, waitingTasks-archived)), "rss_peak_mib": mib(used.peak),
	}, err
}

// runMillion reads an archive of a million messages, anywhere, through the server.
func runMillion(ctx context.Context, b *bench) (_ sample, err error) {
	dir, err := b.copyMillion(ctx)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s, took, err := startAndAsk(ctx, b, serverConfig{binary: b.binary, pin: b.opts.pin, dir: dir})
	if s != nil {
		defer func() { err = errors.Join(err, stopAll([]*server{s})) }()
	}
	if err != nil {
		return nil, err
	}
	found := sample{"first_page_ms": float64(took.Microseconds()) / 1000}
	if err := pause(ctx, 3*time.Second); err != nil { // What belongs to the start is done.
		return nil, err
	}
	used, err := readUsage(s.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	found["rss_mib"] = mib(used.rss)
	first, last, err := millionSpan(ctx, s.archive())
	if err != nil {
		return nil, err
	}
	v := babble.New()
	rng := rand.New(rand.NewPCG(3, 4)) // The same questions each time.
	ask := func(path string, q url.Values) error {
		q.Set("client_id", "somebody")
		q.Set("before", idAt(first+rng.Int64N(last-first+1)))
		return askFor(ctx, s.addr, path+"?"+q.Encode())
	}
	if err := found.percentiles("page", pagesRead, func(int) error {
		return ask("/api/history", url.Values{"limit": {"50"}})
	}); err != nil {
		return nil, err
	}
	texts := []func() string{
		v.Word,
		func() string { return v.Word() + " " + v.Word() },
		func() string { return v.Word() + " " + v.Word() + " " + v.Word() },
		func() string { return `"` + v.Word() + " " + v.Word() + `"` },
		func() string { return (v.Word() + "abc")[:3] },
		func() string { return v.Words[0] + " " + v.Words[1] }, // The commonest.
	}
	err = found.percentiles("search", searches, func(i int) error {
		return ask("/api/search", url.Values{"q": {texts[i%len(texts)]()}, "limit": {"20"}})
	})
	return found, err
}

// percentiles does something n times and keeps how long the middle and the slow ones took.
func (s sample) percentiles(name string, n int, do func(i int) error) error {
	took := make([]time.Duration, n)
	for i := range took {
		begun := time.Now()
		if err := do(i); err != nil {
			return fmt.Errorf("%s %d: %w", name, i, err)
		}
		took[i] = time.Since(begun)
	}
	slices.Sort(took)
	s[name+"_p50_ms"] = float64(took[n/2].Microseconds()) / 1000
	s[name+"_p95_ms"] = float64(took[n*95/100].Microseconds()) / 1000
	return nil
}

// idAt returns the least id of a millisecond.
func idAt(ms int64) string {
	at := fmt.Sprintf("%012x", ms)
	return at[:8] + "-" + at[8:] + "-7000-8000-000000000000"
}

// runPace takes the same messages by the road of the server, and by that of plain inserts.
func runPace(ctx context.Context, b *bench) (sample, error) {
	if err := b.restore(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "burrow-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))) // As the server does.
	ms := archiveTasks(50_000)
	ours, err := archivePace(ctx, filepath.Join(dir, "ours"), ms)
	if err != nil {
		return nil, err
	}
	alone, err := insertPace(ctx, filepath.Join(dir, "alone"), ms)
	if err != nil {
		return nil, err
	}
	n := float64(len(ms))
	return sample{
		"rows_per_second": n / ours.Seconds(), "inserts_per_second": n / alone.Seconds(), "of_inserts": alone.Seconds() / ours.Seconds(),
	}, nil
}
