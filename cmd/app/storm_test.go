package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"burrow/gen/edge"
)

const (
	stormCrowd    = 1000
	stormSpeakers = 10
	stormBack     = 30 * time.Second // Within which everybody is back.
)

// TestReconnectStorm restarts a node with 1,000 clients (of two nodes, where there are two) who go on
// talking: all are back within 30 s and not all at once, and in the end everybody was shown everything
// that was acknowledged, once.
func TestReconnectStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	for _, b := range []*broker{embedded, onRedis} {
		t.Run(b.String(), func(t *testing.T) { storm(t, b) })
	}
}

func storm(t *testing.T, b *broker) {
	in := install(t, b, "BURROW_AUTH_MODE=open", "BURROW_PRESENCE_LEASE=30s")
	nodes := in.startAll(t, b.nodes)
	addrs := make([]string, len(nodes))
	for i, n := range nodes {
		addrs[i] = n.addr
	}
	people := make([]*loyal, stormCrowd)
	first := time.Now()
	var running, joining sync.WaitGroup
	stop := make(chan struct{})
	for i := range people {
		p := &loyal{
			t: t, name: fmt.Sprint("user ", i), addrs: addrs, next: i % len(addrs), stop: stop,
			shown: map[string]string{}, texts: map[string]int{}, acked: map[string]*edge.Ack{},
		}
		people[i] = p
		joining.Add(1)
		running.Go(func() { p.live(sync.OnceFunc(joining.Done)) })
		if i%50 == 49 {
			joining.Wait() // The storm is to come later.
		}
	}
	joined := time.Since(first)
	quit := sync.OnceFunc(func() { close(stop); running.Wait() })
	t.Cleanup(quit)

	hush := make(chan struct{})
	var talking sync.WaitGroup
	for _, p := range people[:stormSpeakers] {
		talking.Go(func() { p.talk(hush) })
	}
	quiet := sync.OnceFunc(func() { close(hush); talking.Wait() })
	t.Cleanup(quiet)
	said := func(n int) {
		t.Helper()
		eventually(t, patience, fmt.Sprint(n, " more messages are acknowledged"), func() bool { return ackedBy(people[:stormSpeakers]) >= n })
	}
	said(30)

	begun := time.Now()
	var left int
	for _, p := range people {
		if p.on() == nodes[0].addr {
			left++
		}
	}
	nodes[0].stop()
	down := time.Since(begun)
	nodes[0] = in.startWith(t, nil, "BURROW_HTTP_ADDR="+addrs[0])
	up := time.Since(begun)
	eventually(t, patience, "everybody is back", func() bool {
		return !slices.ContainsFunc(people, func(p *loyal) bool { return p.on() == "" })
	})
	back := time.Since(begun)
	said(ackedBy(people[:stormSpeakers]) + 30)
	quiet()

	// All is said and acknowledged. It comes to everyone.
	acked := map[string]string{}
	for _, p := range people[:stormSpeakers] {
		for text, ack := range p.acked {
			acked[ack.GetId()] = text
		}
	}
	eventually(t, patience, "everybody was shown everything", func() bool {
		return !slices.ContainsFunc(people, func(p *loyal) bool { return p.misses(acked) > 0 })
	})
	var visits, told []time.Duration
	recovered, asked, again := 0, 0, 0
	for _, p := range people {
		p.mu.Lock()
		for text, n := range p.texts {
			if n != 1 {
				t.Errorf("%s was shown %q %d times", p.name, text, n)
			}
		}
		if p.doubled > 0 {
			t.Errorf("%s got %d messages again on one connection", p.name, p.doubled)
		}
		for _, at := range p.visits[1:] {
			visits = append(visits, at.Sub(begun))
		}
		told = append(told, p.told...)
		recovered, asked, again = recovered+p.recovered, asked+p.asked, again+p.again
		p.mu.Unlock()
	}
	t.Logf("%d of %d were sent away; the node stopped within %.1f s and was up after %.1f s; all were back after %.1f s, at most %d in one second, where at most %d were told to; %d recovered, %d had to ask for the history; %d acknowledged, %.1f messages came to each a second time",
		left, len(people), down.Seconds(), up.Seconds(), back.Seconds(), busiest(visits), busiest(told), recovered, asked, len(acked), float64(again)/float64(len(people)))
	if most := stormBack + joined; back-up > most { // A busy machine takes long for the first time too.
		t.Errorf("it took %s until everybody was back, more than %s", back-up, most)
	}
	if len(visits) < left {
		t.Errorf("%d came back of %d", len(visits), left)
	}
	// When they come is also about how busy this machine is.
	if n := busiest(told); n > left*2/3 || len(told) < left*9/10 {
		t.Errorf("%d of %d were told when to come back, %d within one second: they are not spread", len(told), left, n)
	}
	quit()
	for _, n := range nodes {
		n.stop()
	}
	held := in.archive(t).contents()
	for _, text := range acked {
		if held[text] != 1 {
			t.Errorf("%q is in the archive %d times", text, held[text])
		}
	}
}

// ackedBy returns how many messages of people were acknowledged.
func ackedBy(people []*loyal) (n int) {
	for _, p := range people {
		p.mu.Lock()
		n += len(p.acked)
		p.mu.Unlock()
	}
	return n
}

// busiest returns how many of these moments are within one second.
func busiest(moments []time.Duration) (most int) {
	slices.Sort(moments)
	for i, at := range moments {
		n, _ := slices.BinarySearch(moments, at+time.Second)
		most = max(most, n-i)
	}
	return most
}

// loyal is somebody who does as docs/protocol.md says, and comes back whatever happens.
type loyal struct {
	t     *testing.T
	name  string
	addrs []string
	next  int // Of addrs, where they go.
	stop  <-chan struct{}

	mu      sync.Mutex
	node    string // Where they are; empty: nowhere.
	conn    *lean
	since   string
	shown   map[string]string // Texts, by id.
	texts   map[string]int
	pending *edge.Send // Sent, and not acknowledged.
	acked   map[string]*edge.Ack
	visits  []time.Time     // When they dialed with success.
	told    []time.Duration // After how long to come back.

	recovered, asked, again, doubled int
}

func (p *loyal) on() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.node
}

// misses returns how many of these messages they were not shown.
func (p *loyal) misses(ids map[string]string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, text := range ids {
		if p.shown[id] != text {
			n++
		}
	}
	return n
}

// live connects again and again until stop is closed. It calls first after the first time.
func (p *loyal) live(first func()) {
	backoff := time.Duration(0)
	for {
		select {
		case <-p.stop:
			return
		case <-time.After(backoff/2 + rand.N(backoff+1)):
		}
		err := p.visit(first)
		p.mu.Lock()
		p.node, p.conn = "", nil
		p.mu.Unlock()
		var bye *goodbye
		if errors.As(err, &bye) && bye.code == 1012 {
			ms, err := strconv.Atoi(strings.TrimPrefix(bye.reason, "retry-ms="))
			if err != nil {
				p.t.Errorf("%s was sent away with %q", p.name, bye.reason)
			}
			wait := time.Duration(ms) * time.Millisecond
			p.mu.Lock()
			p.told = append(p.told, wait)
			p.mu.Unlock()
			select {
			case <-p.stop:
				return
			case <-time.After(wait):
			}
			backoff = 0
			continue
		}
		backoff = min(30*time.Second, max(500*time.Millisecond, 2*backoff))
		p.next = (p.next + 1) % len(p.addrs)
	}
}

// visit connects once, and stays until the connection ends.
func (p *loyal) visit(first func()) error {
	came := time.Now()
	query := ""
	if p.since != "" {
		query = "?since=" + p.since
	}
	addr := p.addrs[p.next]
	c, err := dialLean(addr, p.name, query)
	if err != nil {
		return err
	}
	defer c.close()
	gone := make(chan struct{})
	defer close(gone)
	go func() {
		select {
		case <-p.stop:
			c.close()
		case <-gone:
		}
	}()
	p.mu.Lock()
	p.node, p.conn = addr, c
	p.visits = append(p.visits, came)
	pending := p.pending
	p.mu.Unlock()
	first()
	if pending != nil {
		if err := p.write(c, pending); err != nil {
			return err
		}
	}
	here := map[string]bool{} // What came on this connection.
	for {
		frames, err := c.frames()
		if err != nil {
			return err
		}
		for _, f := range frames {
			if err := p.take(c, f, here); err != nil {
				return err
			}
		}
	}
}

func (p *loyal) take(c *lean, f *edge.ServerFrame, here map[string]bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case f.GetWelcome() != nil:
		if p.since == "" {
			return nil
		}
		if f.GetWelcome().GetRecovered() {
			p.recovered++
			return nil
		}
		p.asked++
		return askAfter(c, f.GetWelcome().GetHistoryAfter())
	case f.GetChat() != nil:
		m := f.GetChat()
		if here[m.GetId()] {
			p.doubled++
		}
		here[m.GetId()] = true
		p.since = m.GetId()
		p.show(m)
	case f.GetHistory() != nil:
		messages := f.GetHistory().GetMessages()
		for _, m := range messages {
			p.show(m)
		}
		if f.GetHistory().GetHasMore() {
			return askAfter(c, messages[len(messages)-1].GetId())
		}
	case f.GetAck() != nil:
		if p.pending.GetRef() == f.GetAck().GetRef() {
			p.acked[p.pending.GetContent()] = f.GetAck()
			p.pending = nil
		}
	case f.GetError() != nil:
		if p.pending.GetRef() == f.GetError().GetRef() {
			pending := p.pending
			time.AfterFunc(max(100, time.Duration(f.GetError().GetRetryAfterMs()))*time.Millisecond, func() { _ = p.write(c, pending) })
			return nil
		}
		return fmt.Errorf("%v", f.GetError())
	}
	return nil
}

// show shows m, once. The caller holds the lock.
func (p *loyal) show(m *edge.Chat) {
	if _, known := p.shown[m.GetId()]; known {
		p.again++
		return
	}
	p.shown[m.GetId()] = m.GetContent()
	p.texts[m.GetContent()]++
}

func askAfter(c *lean, id string) error {
	return c.send(&edge.ClientFrame{Frame: &edge.ClientFrame_History{History: &edge.HistoryRequest{After: id, Limit: 100}}})
}

func (p *loyal) write(c *lean, send *edge.Send) error {
	return c.send(&edge.ClientFrame{Frame: &edge.ClientFrame_Send{Send: send}})
}

// talk says one thing after the other, each when the one before it is acknowledged, until hush is
// closed.
func (p *loyal) talk(hush <-chan struct{}) {
	for i := 0; ; i++ {
		send := &edge.Send{Ref: uuid.NewString(), Content: fmt.Sprintf("%s says %d", p.name, i)}
		p.mu.Lock()
		p.pending = send
		c := p.conn
		p.mu.Unlock()
		if c != nil {
			_ = p.write(c, send) // If it is lost, the next connection sends it again.
		}
		for until := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			p.mu.Lock()
			done := p.pending == nil
			p.mu.Unlock()
			if done {
				break
			}
			if time.Now().After(until) {
				p.t.Errorf("%s got no ack of %q", p.name, send.GetContent())
				return
			}
		}
		select {
		case <-hush:
			return
		case <-time.After(500*time.Millisecond + rand.N(500*time.Millisecond)):
		}
	}
}
