package router

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"burrow/internal/disk"
)

// The embedded server gives a stream up for good after a failed write. watch starts the
// server again inside the process as soon as the disk can be written.
const (
	natsWatchEvery  = time.Second
	natsRestartMax  = 30 * time.Second // bound on the wait between two restarts
	natsProbeBytes  = 64 << 10         // of a health check
	natsRestartFree = 1 << 20          // free space before a restart
)

var errNATSNoStorage = errors.New("embedded server has disabled its storage")

// watch detects failed writes of the server and restarts it, until ctx ends.
func (e *embeddedNATS) watch(ctx context.Context) {
	var begun, restarted time.Time
	pause := natsWatchEvery
	for sleep(ctx, natsWatchEvery) {
		err := e.writeErr()
		e.mu.Lock()
		before := e.outage
		e.outage = err
		e.mu.Unlock()
		switch {
		case err == nil && before != nil:
			e.log.Warn("embedded broker writes again; tasks are accepted", "outage", time.Since(begun).Round(time.Second))
		case err == nil:
			if time.Since(restarted) > natsRestartMax {
				pause = natsWatchEvery
			}
		case before == nil:
			begun = time.Now()
			e.log.Error("embedded broker cannot write, tasks are refused: free space in data_dir or make it writable; it resumes by itself", "dir", e.dir, "needs_kib", natsRestartFree>>10, "error", err)
		}
		if err == nil || time.Since(restarted) < pause || e.syncer.err() != nil || e.probe(natsRestartFree) != nil {
			continue
		}
		e.restart()
		restarted, pause = time.Now(), min(2*pause, natsRestartMax)
	}
}

// writeErr returns why the server cannot store messages, or nil.
func (e *embeddedNATS) writeErr() error {
	e.mu.RLock()
	srv, down := e.srv, e.down
	e.mu.RUnlock()
	if srv == nil {
		return down
	}
	if !srv.JetStreamEnabled() {
		return errNATSNoStorage
	}
	for _, problem := range srv.Healthz(&server.HealthzOptions{Details: true}).Errors {
		if strings.Contains(problem.Error, "write error") {
			return errors.New(problem.Error)
		}
	}
	return nil
}

// restart replaces the server by a new one on the same files. Confirmed tasks are in the
// files: the server confirms a task after its write(2). Events are in memory and lost; their
// readers notice. Clients reconnect.
func (e *embeddedNATS) restart() {
	e.mu.Lock()
	old := e.srv
	e.srv, e.down = nil, errors.New("embedded server is restarting")
	e.mu.Unlock()
	if old != nil {
		old.Shutdown()
		old.WaitForShutdown()
		e.syncer.pass()
	}
	srv, err := e.start()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.srv, e.down = srv, err
}

// probe tests that the directory of the server can be written.
func (e *embeddedNATS) probe(size int) error {
	e.probing.Lock()
	defer e.probing.Unlock()
	return disk.Probe(filepath.Join(e.dir, "probe"), size)
}

// check returns why the server may lose or refuse tasks, or nil.
func (e *embeddedNATS) check() error {
	if err := errors.Join(e.syncer.err(), e.writeErr()); err != nil {
		return err
	}
	if err := e.syncer.behind(); err != nil {
		return err
	}
	if err := e.probe(natsProbeBytes); err != nil {
		return fmt.Errorf("%w: free space in data_dir or make it writable", err)
	}
	return nil
}

// refuses returns why tasks are refused without asking the server, or nil.
func (e *embeddedNATS) refuses() error {
	if err := e.syncer.err(); err != nil {
		return err
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.outage
}
