package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// bench measures, one load after the other.
type bench struct {
	opts    options
	binary  string
	dir     string // Holds the server that was built; empty: none was.
	restore func() error
	log     io.Writer
}

func newBench(ctx context.Context, opts options, log io.Writer) (*bench, error) {
	restore, err := keepCPUs()
	if err != nil {
		return nil, err
	}
	b := &bench{opts: opts, binary: opts.binary, restore: restore, log: log}
	if opts.addr != "" || b.binary != "" {
		return b, nil
	}
	if b.dir, err = os.MkdirTemp("", "burrow-bench-"); err != nil {
		return nil, err
	}
	if b.binary, err = buildServer(ctx, b.dir); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) close() {
	if b.dir != "" {
		_ = os.RemoveAll(b.dir) // Only a copy of what can be built again.
	}
}

// measure puts one load on a server.
func (b *bench) measure(ctx context.Context, l load) (r result, err error) {
	addr, pid := b.opts.addr, b.opts.pid
	var own *server
	if addr == "" {
		if err := b.restore(); err != nil {
			return r, err
		}
		if own, err = startServer(ctx, b.binary, b.opts.pin, b.log); err != nil {
			return r, err
		}
		addr, pid = own.addr, own.cmd.Process.Pid
	}
	r = result{Load: l}
	c, begun, err := b.drive(ctx, &r, addr, pid)
	if err == nil && l.Archive {
		r.Accepted = c.accepted()
		err = archived(ctx, &r, own, c.run, begun)
	}
	if c != nil {
		c.close()
		c.account(&r)
		for _, reason := range c.endings() {
			fmt.Fprintln(b.log, "a connection ended:", reason)
		}
	}
	if own == nil {
		return r, err
	}
	err = errors.Join(err, own.stop())
	if err == nil && l.Archive {
		// Once more, now that nobody writes: this is what is kept.
		r.Archived, r.ArchivedTwice, err = archiveRows(ctx, own.archive(), c.run)
		r.ArchiveLost = max(0, r.Accepted-(r.Archived-r.ArchivedTwice))
	}
	return r, errors.Join(err, own.remove())
}

// drive connects, waits, talks, and measures each. It returns the crowd, still connected, unless
// nobody could connect, and when the talk began.
func (b *bench) drive(ctx context.Context, r *result, addr string, pid int) (c *crowd, begun time.Time, err error) {
	l := r.Load
	before, err := readUsage(pid)
	if err != nil {
		return nil, begun, err
	}
	connecting := time.Now()
	if c, err = connect(ctx, addr, l); err != nil {
		return nil, begun, err
	}
	r.Connected, r.ConnectWall = len(c.conns), time.Since(connecting).Seconds()
	if _, err = c.settle(ctx); err != nil {
		return c, begun, err
	}
	settled, err := readUsage(pid)
	if err != nil {
		return c, begun, err
	}
	r.ConnectCPU = (settled.cpu - before.cpu).Seconds() * 1000 / float64(len(c.conns))
	if err = pause(ctx, l.Idle); err != nil {
		return c, begun, err
	}
	idle, err := readUsage(pid)
	if err != nil {
		return c, begun, err
	}
	r.RSSBefore, r.RSSPeak = before.rss, idle.peak
	r.BytesEach = float64(idle.rss-before.rss) / float64(len(c.conns))
	if l.Idle > 0 {
		r.IdleCPU = 100 * (idle.cpu - settled.cpu).Seconds() / l.Idle.Seconds()
	}
	if l.Publishers == 0 {
		return c, begun, nil
	}
	return c, time.Now(), b.talk(ctx, c, r, pid)
}

// talk has the publishers publish and measures what that costs, once they are warm.
func (b *bench) talk(ctx context.Context, c *crowd, r *result, pid int) error {
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	wait := c.publish(publishing)
	if err := pause(ctx, c.load.Warmup); err != nil {
		return errors.Join(err, wait())
	}
	from := time.Since(c.epoch)
	for _, t := range c.tallies {
		t.measure(from, from+c.load.Duration)
	}
	before, err := readUsage(pid)
	first := sum(c.tallies)
	if err == nil {
		err = pause(ctx, c.load.Duration)
	}
	last, elapsed := sum(c.tallies), time.Since(c.epoch)-from
	after, errAfter := readUsage(pid)
	stop()
	if err := errors.Join(err, errAfter, wait()); err != nil {
		return err
	}
	if err := c.drain(ctx); err != nil {
		return err
	}
	r.Measured = elapsed.Seconds()
	r.Deliveries = last.deliveries - first.deliveries
	r.DeliveryRate = float64(r.Deliveries) / r.Measured
	r.AcceptedRate = r.DeliveryRate / float64(len(c.conns))
	r.CPUPercent = 100 * (after.cpu - before.cpu).Seconds() / r.Measured
	if r.Deliveries > 0 {
		r.CPUEach = float64((after.cpu - before.cpu).Microseconds()) / float64(r.Deliveries)
	}
	r.RSSPeak = after.peak
	r.Latency = sum(c.tallies).quantiles()
	return nil
}

// archived waits until everything that was said is in the archive of own.
func archived(ctx context.Context, r *result, own *server, run uint32, begun time.Time) error {
	var last time.Time
	var err error
	r.Archived, r.ArchivedTwice, last, err = awaitArchive(ctx, own.archive(), run, r.Accepted)
	if took := last.Sub(begun).Seconds(); err == nil && took > 0 {
		r.ArchivedRate = float64(r.Archived-r.ArchivedTwice) / took
	}
	return err
}
