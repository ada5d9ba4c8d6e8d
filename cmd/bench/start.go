package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// idleTime is for how long a server with nothing to do is watched.
const idleTime = 10 * time.Second

// startCase is the start on an empty data directory, and what the server needs when nobody comes.
func startCase() testCase {
	return testCase{name: "start with an empty data directory, then nothing to do", run: runStart, goals: []goal{
		{"until the first page is served", "first_page_ms", "%.0f ms", 300, false, 0},
		{"RSS", "rss_mib", "%.0f MiB", 60, false, 0},
		{"CPU", "idle_cpu_percent", "%.1f %%", 0.5, false, 0},
	}}
}

func runStart(ctx context.Context, b *bench) (_ sample, err error) {
	if err := b.restore(); err != nil {
		return nil, err
	}
	s, took, err := startAndAsk(ctx, b, serverConfig{binary: b.binary, pin: b.opts.pin})
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
	before, err := readUsage(s.cmd.Process.Pid)
	if err == nil {
		err = pause(ctx, idleTime)
	}
	after, errAfter := readUsage(s.cmd.Process.Pid)
	if err := errors.Join(err, errAfter); err != nil {
		return nil, err
	}
	found["rss_mib"] = mib(after.rss)
	found["idle_cpu_percent"] = 100 * (after.cpu - before.cpu).Seconds() / idleTime.Seconds()
	return found, nil
}

// startAndAsk starts a server and returns how long it took from the start of the process until it
// had served its page. The server may be there with an error.
func startAndAsk(ctx context.Context, b *bench, cfg serverConfig) (*server, time.Duration, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, 0, err
	}
	cfg.env = append(cfg.env, "BURROW_HTTP_ADDR="+addr)
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	begun := time.Now()
	served := make(chan time.Duration, 1)
	go func() {
		defer close(served)
		for ctx.Err() == nil {
			if askPage(ctx, addr) == nil {
				served <- time.Since(begun)
				return
			}
			_ = pause(ctx, time.Millisecond)
		}
	}()
	s, err := startServer(ctx, cfg, b.log)
	if err != nil {
		cancel()
		<-served
		return s, 0, err
	}
	took, ok := <-served
	if !ok {
		return s, 0, fmt.Errorf("the server served no page: %w", context.Cause(ctx))
	}
	return s, took, nil
}

// askPage gets the page of the server at addr.
func askPage(ctx context.Context, addr string) error { return askFor(ctx, addr, "/") }

// askFor gets something from the server at addr, to the end.
func askFor(ctx context.Context, addr, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answered %s", response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
