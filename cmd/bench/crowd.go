package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	tallies = 16
	// quiet is for how long nothing may come before the connections count as idle.
	quiet     = 500 * time.Millisecond
	quietWait = 2 * time.Minute
	drainWait = 30 * time.Second
)

// crowd is all connections of a measurement.
type crowd struct {
	load    load
	run     uint32
	epoch   time.Time
	conns   []*conn
	tallies []*tally
	sent    []atomic.Uint32 // By each publisher.
	pollers []*poller
	reasons sync.Map // Why the server ended connections.
}

func newCrowd(l load) *crowd {
	c := &crowd{
		load: l, run: rand.Uint32(), epoch: time.Now(),
		conns: make([]*conn, l.Connections), sent: make([]atomic.Uint32, l.Publishers),
	}
	for range tallies {
		c.tallies = append(c.tallies, newTally())
	}
	return c
}

// connect opens all connections, to each address in turn, and reads from them.
func connect(ctx context.Context, addrs []string, l load) (*crowd, error) {
	c := newCrowd(l)
	for range ourCPUs() {
		p, err := newPoller(reader{epoch: c.epoch, run: c.run}, c.ended)
		if err != nil {
			c.close()
			return nil, err
		}
		c.pollers = append(c.pollers, p)
	}
	if err := c.dial(ctx, addrs, 0, l.Connections, c.add); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// join opens n more connections, which only listen: nothing is counted for them.
func (c *crowd) join(ctx context.Context, addrs []string, n int) error {
	return c.dial(ctx, addrs, len(c.conns), n, c.listen)
}

// dial opens n connections, the first of which is the one with this number, and calls each for
// every one of them.
func (c *crowd) dial(ctx context.Context, addrs []string, first, n int, each func(i int, conn *conn) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(c.load.Workers, n) {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				i += first
				conn, err := dial(ctx, c.load.node(addrs, i), c.load.user(i), i, protocols[c.load.Protocol])
				if err == nil {
					err = each(i, conn)
				}
				if err == nil {
					// As a client does; else those who come would leave no time for reading.
					select {
					case <-conn.greeted:
					case <-time.After(connectTimeout):
						err = fmt.Errorf("the server said nothing to connection %d in %s", i, connectTimeout)
					case <-ctx.Done():
						return
					}
				}
				if err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	workers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (c *crowd) add(i int, conn *conn) error {
	conn.streams = make([]stream, c.load.Publishers)
	if i < c.load.Publishers {
		conn.sender = i
		if c.load.InFlight > 0 {
			conn.returned = make(chan int, 2*c.load.InFlight+16)
		}
	}
	c.conns[i] = conn
	return c.listen(i, conn)
}

// listen has conn read until it ends.
func (c *crowd) listen(i int, conn *conn) error {
	conn.tally = c.tallies[i%len(c.tallies)]
	err := c.pollers[i%len(c.pollers)].add(conn)
	if err != nil {
		conn.close()
	}
	return err
}

// ended is called for a connection that the server has ended.
func (c *crowd) ended(conn *conn, err error) {
	c.reasons.Store(err.Error(), true)
	conn.tally.mu.Lock()
	conn.tally.closed++
	conn.tally.mu.Unlock()
}

// close ends all connections and waits until nothing reads from them.
func (c *crowd) close() {
	for _, p := range c.pollers {
		p.close()
	}
}

// settle waits until nothing has come for a moment and returns when the last thing came.
func (c *crowd) settle(ctx context.Context) (time.Time, error) {
	last, changed := int64(-1), time.Now()
	for begin := changed; ; {
		if now := sum(c.tallies).bytes; now != last {
			last, changed = now, time.Now()
		} else if time.Since(changed) >= quiet {
			return changed, nil
		}
		if time.Since(begin) > quietWait {
			return changed, fmt.Errorf("the connections were not quiet after %s", quietWait)
		}
		if err := pause(ctx, quiet/20); err != nil {
			return changed, err
		}
	}
}

// publish starts the publishers. They stop when ctx ends; the function that it returns waits
// for them.
func (c *crowd) publish(ctx context.Context) (wait func() error) {
	failed := make(chan error, c.load.Publishers)
	for i := range c.load.Publishers {
		go func() {
			if c.load.InFlight > 0 {
				failed <- c.keepInFlight(ctx, i)
			} else {
				failed <- c.keepRate(ctx, i)
			}
		}()
	}
	return func() error {
		var errs []error
		for range c.load.Publishers {
			if err := <-failed; !errors.Is(err, context.Canceled) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
}

// keepRate says something whenever it is due. A message that leaves late, because the ones
// before it were held up, has its delay counted.
func (c *crowd) keepRate(ctx context.Context, i int) error {
	interval := time.Duration(float64(c.load.Publishers) / c.load.Rate * float64(time.Second))
	due := time.Since(c.epoch) + interval*time.Duration(i)/time.Duration(c.load.Publishers)
	for s := c.newSpeaker(i); ; due += interval {
		if wait := due - time.Since(c.epoch); wait > 0 {
			if err := pause(ctx, wait); err != nil {
				return err
			}
		} else if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.say(due); err != nil {
			return err
		}
	}
}

// keepInFlight says something as soon as less than that many messages are under way.
func (c *crowd) keepInFlight(ctx context.Context, i int) error {
	s := c.newSpeaker(i)
	for free := c.load.InFlight; ; {
		for ; free > 0 && ctx.Err() == nil; free-- {
			if err := s.say(time.Since(c.epoch)); err != nil {
				return err
			}
		}
		select {
		case n, open := <-c.conns[i].returned:
			if !open {
				return fmt.Errorf("publisher %d lost its connection", i)
			}
			free += n
		case <-ctx.Done():
			// What comes back later must not fill the channel: nobody reads it any more.
			go func() {
				for range c.conns[i].returned {
				}
			}()
			return ctx.Err()
		}
	}
}

// speaker says the messages of one publisher.
type speaker struct {
	crowd   *crowd
	conn    *conn
	marker  marker
	content []byte
	payload []byte
}

func (c *crowd) newSpeaker(i int) *speaker {
	return &speaker{crowd: c, conn: c.conns[i], marker: marker{run: c.run, sender: uint16(i)}}
}

func (s *speaker) say(due time.Duration) error {
	s.marker.due = due
	s.content = s.marker.append(s.content[:0], s.crowd.load.Size)
	s.payload = s.conn.protocol.send(s.payload[:0], s.content)
	// Counted first: it may be back before the call returns.
	s.crowd.sent[s.marker.sender].Add(1)
	s.marker.seq++
	return s.conn.send(s.conn.protocol.op, s.payload)
}

// drain waits until everybody has everything that was said and not refused, and its senders their
// confirmations, or nothing has come for a while.
func (c *crowd) drain(ctx context.Context) error {
	last, changed := int64(-1), time.Now()
	for {
		all := sum(c.tallies)
		if accepted := c.accepted(); all.deliveries-all.doubled >= accepted*int64(len(c.conns)) &&
			(all.acked >= accepted || !c.load.confirmed()) {
			return nil
		}
		if all.deliveries+all.acked != last {
			last, changed = all.deliveries+all.acked, time.Now()
		} else if time.Since(changed) > drainWait {
			return nil // What is missing is counted as lost.
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// accepted returns how many messages were said and not refused.
func (c *crowd) accepted() int64 {
	accepted := -sum(c.tallies).refused
	for i := range c.sent {
		accepted += int64(c.sent[i].Load())
	}
	return accepted
}

// account adds to r what came and what did not. The readers have ended.
func (c *crowd) account(r *result) {
	all := sum(c.tallies)
	r.Refused, r.Doubled, r.Reordered, r.Closed = all.refused, all.doubled, all.reordered, all.closed
	r.Accepted, r.Acked = c.accepted(), all.acked
	for _, conn := range c.conns {
		missing := r.Accepted
		for i := range conn.streams {
			missing -= conn.streams[i].seen()
		}
		r.Lost += max(0, missing)
	}
}

// endings returns why the server ended connections.
func (c *crowd) endings() (reasons []string) {
	c.reasons.Range(func(reason, _ any) bool {
		reasons = append(reasons, reason.(string))
		return len(reasons) < 10
	})
	return reasons
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
