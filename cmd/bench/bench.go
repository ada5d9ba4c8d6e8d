package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"
)

// bench measures, one load after the other.
type bench struct {
	opts    options
	binary  string
	dir     string // Holds the server that was built; empty: none was.
	restore func() error
	million string             // Holds an archive of a million messages; empty: it was not needed yet.
	brokers map[string]*broker // By driver; started when they are needed.
	log     io.Writer
}

func newBench(ctx context.Context, opts options, log io.Writer) (*bench, error) {
	// A poller that waits in a call of the system keeps what Go runs goroutines with for a while. By
	// itself Go would have no more of these than CPUs, once -pin leaves us half of them.
	runtime.GOMAXPROCS(max(2, runtime.NumCPU()))
	restore, err := keepCPUs()
	if err != nil {
		return nil, err
	}
	b := &bench{opts: opts, binary: opts.binary, restore: restore, log: log, brokers: map[string]*broker{}}
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
	for _, broker := range b.brokers {
		broker.close()
	}
	if b.dir != "" {
		_ = os.RemoveAll(b.dir) // Only a copy of what can be built again.
	}
	if b.million != "" && b.million != b.opts.archive {
		_ = os.RemoveAll(b.million) // The same.
	}
}

// servers starts what l is a load for: several nodes share a broker and a data directory.
func (b *bench) servers(ctx context.Context, l load) (started []*server, err error) {
	if err := b.restore(); err != nil {
		return nil, err
	}
	if l.Protocol == rivalName {
		s, err := startRival(ctx, b.opts.rival, b.opts.pin, b.log)
		if err != nil {
			return nil, err
		}
		return []*server{s}, nil
	}
	cfg := serverConfig{binary: b.binary, pin: b.opts.pin}
	if l.Broker != "" {
		broker, err := b.broker(l.Broker)
		if err != nil {
			return nil, err
		}
		// A prefix of its own: what was left by the load before is not this one's.
		cfg.env = append(broker.env(), fmt.Sprintf("BURROW_BROKER_TOPIC_PREFIX=bench-%d", time.Now().UnixNano()))
	}
	for n := range max(1, l.Nodes) {
		if err := b.restore(); err != nil { // The one before has left us our half.
			return started, err
		}
		if l.Aside && n > 0 && b.opts.pin {
			cfg.pin = false
			if err := pinOurs(); err != nil {
				return started, err
			}
		}
		s, err := startServer(ctx, cfg, b.log)
		if err != nil {
			return started, err
		}
		started = append(started, s)
		cfg.dir = s.dir
	}
	return started, nil
}

// broker returns the one of driver, which is started when it is first needed, on our half of the
// CPUs.
func (b *bench) broker(driver string) (*broker, error) {
	if b.brokers[driver] == nil {
		start := func() (err error) { b.brokers[driver], err = startBroker(driver, b.log); return err }
		if b.opts.pin {
			if err := pinOurs(); err != nil {
				return nil, err
			}
		}
		if err := start(); err != nil {
			delete(b.brokers, driver)
			return nil, err
		}
		if err := b.restore(); err != nil {
			return nil, err
		}
	}
	return b.brokers[driver], nil
}

// stopAll ends servers and deletes their data.
func stopAll(servers []*server) error {
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.stop())
	}
	for _, s := range servers {
		errs = append(errs, s.remove())
	}
	return errors.Join(errs...)
}

// measure puts one load on a server, or on several nodes.
func (b *bench) measure(ctx context.Context, l load) (r result, err error) {
	to := target{addrs: []string{b.opts.addr}, pids: []int{b.opts.pid}}
	var own []*server
	if b.opts.addr == "" {
		to = target{}
		own, err = b.servers(ctx, l)
		defer func() { err = errors.Join(err, stopAll(own)) }()
		if err != nil {
			return r, err
		}
		for _, s := range own {
			to.addrs, to.pids = append(to.addrs, s.addr), append(to.pids, s.cmd.Process.Pid)
		}
		if l.Aside {
			to.pids = to.pids[:1]
		}
	}
	r = result{Load: l}
	c, begun, err := b.drive(ctx, &r, to)
	if err == nil && l.Archive {
		r.Accepted = c.accepted()
		err = archived(ctx, &r, own[0], c.run, begun)
	}
	if c != nil {
		c.close()
		c.account(&r)
		for _, reason := range c.endings() {
			fmt.Fprintln(b.log, "a connection ended:", reason)
		}
	}
	if err != nil || !l.Archive {
		return r, err
	}
	// Once more, now that nobody writes: this is what is kept.
	for _, s := range own {
		err = errors.Join(err, s.stop())
	}
	if err == nil {
		r.Archived, r.ArchivedTwice, err = archiveRows(ctx, own[0].archive(), c.run)
		r.ArchiveLost = max(0, r.Accepted-(r.Archived-r.ArchivedTwice))
	}
	return r, err
}

// target is what a load goes to.
type target struct {
	addrs []string
	pids  []int // 0 is a process that we do not know.
}

// usage adds up what the processes of a target have used.
func (t target) usage() (all usage, err error) {
	for _, pid := range t.pids {
		u, err := readUsage(pid)
		if err != nil {
			return usage{}, err
		}
		all.cpu, all.rss, all.peak = all.cpu+u.cpu, all.rss+u.rss, all.peak+u.peak
	}
	return all, nil
}

// drive connects, waits, talks, and measures each. It returns the crowd, still connected, unless
// nobody could connect, and when the talk began.
func (b *bench) drive(ctx context.Context, r *result, to target) (c *crowd, begun time.Time, err error) {
	l := r.Load
	before, err := to.usage()
	if err != nil {
		return nil, begun, err
	}
	connecting := time.Now()
	if c, err = connect(ctx, to.addrs, l); err != nil {
		return nil, begun, err
	}
	r.Connected, r.ConnectWall = len(c.conns), time.Since(connecting).Seconds()
	if _, err = c.settle(ctx); err != nil {
		return c, begun, err
	}
	settled, err := to.usage()
	if err != nil {
		return c, begun, err
	}
	r.ConnectCPU = (settled.cpu - before.cpu).Seconds() * 1000 / float64(len(c.conns))
	if err = pause(ctx, l.Idle); err != nil {
		return c, begun, err
	}
	idle, err := to.usage()
	if err != nil {
		return c, begun, err
	}
	r.RSSBefore, r.RSSPeak = before.rss, idle.peak
	r.BytesEach = float64(idle.rss-before.rss) / float64(len(c.conns))
	if l.Idle > 0 {
		r.IdleCPU = 100 * (idle.cpu - settled.cpu).Seconds() / l.Idle.Seconds()
	}
	if l.Newcomers > 0 {
		if err = c.join(ctx, to.addrs, l.Newcomers); err != nil {
			return c, begun, err
		}
		if _, err = c.settle(ctx); err != nil {
			return c, begun, err
		}
		crowded, err := to.usage()
		if err != nil {
			return c, begun, err
		}
		r.NewcomerCPU = (crowded.cpu - idle.cpu).Seconds() * 1000 / float64(l.Newcomers)
	}
	if l.Publishers == 0 {
		return c, begun, nil
	}
	return c, time.Now(), b.talk(ctx, c, r, to)
}

// talk has the publishers publish and measures what that costs, once they are warm.
func (b *bench) talk(ctx context.Context, c *crowd, r *result, to target) error {
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
	before, err := to.usage()
	ours, errOurs := readUsage(os.Getpid())
	first := sum(c.tallies)
	if err == nil {
		err = pause(ctx, c.load.Duration)
	}
	last, elapsed := sum(c.tallies), time.Since(c.epoch)-from
	after, errAfter := to.usage()
	oursAfter, errOursAfter := readUsage(os.Getpid())
	stop()
	if err := errors.Join(err, errAfter, errOurs, errOursAfter, wait()); err != nil {
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
	r.LoadPercent = 100 * (oursAfter.cpu - ours.cpu).Seconds() / r.Measured / float64(ourCPUs())
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
