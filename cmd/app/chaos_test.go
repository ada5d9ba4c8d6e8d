package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"sync"
	"testing"
	"time"

	"burrow/internal/brokertest"
)

// How people talk while things break.
const (
	chaosClients = 10                     // on each of two nodes
	chaosPace    = 500 * time.Millisecond // between an answer and the next message, about
	chaosAnswer  = 8 * time.Second        // after that long without an answer nobody waits for one
	chaosAway    = 2 * time.Second        // the broker, at least
	// chaosSettled bounds the time from the last words until everybody has everything:
	// what a dead worker held is archived after 30 s, and what a node missed is shown
	// after 40 s at the latest.
	chaosSettled = 80 * time.Second
)

// TestChaos has 20 people talk over two nodes while the broker is killed twice and
// the worker once. What its sender saw come back is in the archive once, and
// everybody has seen it once. BURROW_TEST_CHAOS says for how long they talk.
func TestChaos(t *testing.T) {
	t.Parallel()
	talk := time.Minute
	if set := os.Getenv("BURROW_TEST_CHAOS"); set != "" {
		var err error
		if talk, err = time.ParseDuration(set); err != nil {
			t.Fatalf("BURROW_TEST_CHAOS: %v", err)
		}
	}
	var brokers sync.WaitGroup // not t.Parallel: they wait more than they work
	for _, b := range []struct {
		kind   brokertest.Kind
		driver string
		config string
	}{
		{brokertest.NATS, "nats", "BURROW_BROKER_NATS_URL"},
		{brokertest.Redis, "redis", "BURROW_BROKER_REDIS_URL"},
		{brokertest.AMQP, "amqp", "BURROW_BROKER_AMQP_URL"},
	} {
		brokers.Go(func() {
			t.Run(string(b.kind), func(t *testing.T) {
				server := brokertest.Start(t, b.kind)
				chaos(t, server, install(t, &broker{driver: b.driver}, b.config+"="+server.URL()), talk)
			})
		})
	}
	brokers.Wait()
}

func chaos(t *testing.T, server *brokertest.Server, in *installation, talk time.Duration) {
	spawnWorker := func() *child {
		return in.spawn(t, "burrow works, without an edge", "-functions", "archive,dead-letters", "-edge=false")
	}
	worker := spawnWorker()
	var people []*client
	for node := range 2 {
		web := in.spawn(t, "burrow is open", "-functions", "broadcast,presence")
		addr := web.addr()
		for i := range chaosClients {
			name := fmt.Sprintf("user %d-%d", node, i)
			people = append(people, signIn(t, addr, name).dial(addr))
		}
	}

	begun := time.Now()
	stop := make(chan struct{})
	var talking sync.WaitGroup
	quiet := sync.OnceFunc(func() { close(stop); talking.Wait() })
	t.Cleanup(quiet)
	said := make([]int, len(people))
	refused, ignored := make([]int, len(people)), make([]int, len(people))
	for i, c := range people {
		talking.Go(func() { said[i], refused[i], ignored[i] = c.chatter(stop) })
	}
	at := func(part int) { // of eight
		<-time.After(time.Until(begun.Add(talk * time.Duration(part) / 8)))
	}
	killBroker := func() {
		server.Kill()
		<-time.After(chaosAway)
		server.Restart()
	}
	// Not before 5 s: see settle in the tests of the router.
	<-time.After(time.Until(begun.Add(5 * time.Second)))
	at(1)
	killBroker()
	at(3)
	worker.kill()
	worker = spawnWorker()
	at(5)
	killBroker()
	at(8)
	quiet()
	ended := time.Now()

	// Confirmed is what its sender has seen, now or later.
	archive := in.archive(t)
	var confirmed map[string]bool
	var unseen, unstored int
	settled := func() bool {
		confirmed = map[string]bool{}
		seen := map[string]int{}
		for _, c := range people {
			for _, f := range c.chats() {
				seen[f.Content]++
				if f.Sender == c.name {
					confirmed[f.Content] = true
				}
			}
		}
		stored := archive.contents()
		unseen, unstored = 0, 0
		for content := range confirmed {
			unseen += max(0, len(people)-seen[content])
			if stored[content] == 0 {
				unstored++
			}
		}
		return unseen+unstored == 0
	}
	deadline := ended.Add(chaosSettled)
	for !settled() && time.Now().Before(deadline) {
		<-time.After(200 * time.Millisecond)
	}
	after := time.Since(ended)
	total, errors, silence := 0, 0, 0
	for i := range people {
		total += said[i]
		errors += refused[i]
		silence += ignored[i]
	}
	if unstored > 0 {
		t.Errorf("%d of %d confirmed messages are not in the archive", unstored, len(confirmed))
	}
	if unseen > 0 {
		t.Errorf("of %d confirmed messages %d were not shown to one of the %d people who stayed", len(confirmed), unseen, len(people))
	}
	stored := archive.contents()
	for content, n := range stored {
		if n != 1 {
			t.Errorf("%q is in the archive %d times", content, n)
		}
	}
	unshown := 0
	shown := map[string]bool{}
	for _, c := range people {
		ids, contents := map[string]int{}, map[string]int{}
		for _, f := range c.chats() {
			shown[f.Content] = true
			if ids[f.ID]++; ids[f.ID] == 2 {
				t.Errorf("%s got %q again", c.name, f.Content)
			}
			if contents[f.Content]++; contents[f.Content] == 2 {
				t.Errorf("%s got %q under two ids", c.name, f.Content)
			}
		}
		select {
		case <-c.done:
			t.Errorf("the connection of %s ended: %v", c.name, c.err)
		default:
		}
	}
	for content := range stored {
		if !shown[content] {
			unshown++
		}
	}
	if n := archive.number("SELECT count(*) FROM dead_letters"); n != 0 {
		t.Errorf("%d dead letters, want none", n)
	}
	t.Logf("%d people said %d in %s: %d confirmed, %d refused, %d without an answer in time; %d archived, %d of them never shown; all there %.1f s after the last words",
		len(people), total, talk, len(confirmed), errors, silence, len(stored), unshown, after.Seconds())
	if len(confirmed) < total/2 {
		t.Errorf("%d of %d messages were confirmed: that proves little", len(confirmed), total)
	}
	if code := worker.interrupt(); code != exitOK {
		t.Errorf("exit code of the worker: got %d, want %d", code, exitOK)
	}
}

// chatter says one thing after the other until stop is closed, and never the same.
// It returns how often, and how often the answer was an error, or none.
func (c *client) chatter(stop <-chan struct{}) (said, refused, ignored int) {
	for {
		select {
		case <-stop:
			return said, refused, ignored
		case <-time.After(chaosPace/2 + rand.N(chaosPace)):
		}
		content := fmt.Sprintf("%s says %d", c.name, said)
		c.mu.Lock()
		from := len(c.frames)
		c.mu.Unlock()
		if err := c.write("", content); err != nil {
			c.t.Errorf("%s: %v", c.name, err)
			return said, refused, ignored
		}
		said++
		own := says(c.name, content)
		f, err := c.findWithin(chaosAnswer, from, func(f frame) bool { return f.Error != nil || own(f) })
		switch {
		case err != nil:
			ignored++
		case f.Error != nil:
			refused++
			if f.Error.Code != "unavailable" {
				c.t.Errorf("%s got %+v, want unavailable", c.name, f.Error)
			}
		}
	}
}

var openAt = regexp.MustCompile(`msg="burrow is open".* addr(?:ess)?=(\S+)`)

// addr returns where the edge of the process is.
func (c *child) addr() string {
	c.t.Helper()
	found := openAt.FindStringSubmatch(c.log.String())
	if found == nil {
		c.t.Fatal("the log does not say where the edge is")
	}
	return found[1]
}
