package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"burrow/gen/chat"
	"burrow/gen/tasks"
)

// How a fault is measured.
const (
	faultPublishers = 3                    // of tasks, and as many of events
	faultPace       = 5 * time.Millisecond // between two messages of one publisher
	faultBefore     = 400                  // messages of each delivery that are handled before the fault
	faultAfter      = 600                  // and that are confirmed after it
	faultBehind     = 1500                 // messages that wait for a function that stands still: some are still with the broker
	faultLate       = time.Second          // a message that takes longer shows that something is away
	faultSlack      = time.Minute          // over every bound, for a busy machine; the table has what was measured
)

// fault is something that happens to a broker, or to the way there, under a
// publisher and a subscriber that both are in the middle of it.
type fault struct {
	name   string
	begin  func(*faultRun)
	end    func(*faultRun) // returns when the broker can be reached again; nil: nothing was away
	away   time.Duration   // between the two, at least
	within time.Duration   // after the end all is well again
	// wipes says that the broker loses its data: all that was confirmed is handled
	// before. What is confirmed afterwards must come.
	wipes bool
	// gaps says that the broker does not promise the events that wait during the
	// fault; but then the subscriber is told.
	gaps bool
	// behind says that the functions stand still until the end, with more messages
	// waiting than they take at a time.
	behind bool
	// settle is how old what the broker has made must be.
	settle time.Duration
}

// faultRun is one run of a fault.
type faultRun struct {
	t     *testing.T
	cfg   Config
	names map[Delivery]string // what the source reads from: a consumer or a queue; guarded by mu

	// Publishers hold quiet for reading while they publish.
	quiet sync.RWMutex

	mu      sync.Mutex
	entries map[string]*faultEntry
	highest map[string]int // seq of the messages seen, by sender
	result  faultResult

	gaps   atomic.Int64
	behind sync.RWMutex // held while the functions stand still
	check  func() error // of the router with the functions
}

// faultEntry is the way of one message.
type faultEntry struct {
	delivery                  Delivery
	started, confirmed, first time.Time
	seen                      int
}

// faultResult is one line of the table.
type faultResult struct {
	broker, fault             string
	away, slowest, well       time.Duration
	tasks, events             int // confirmed
	lostTasks, lostEvents     int
	twice, reordered, refused int
	gaps                      int64
}

func (r faultResult) String() string {
	events := fmt.Sprint(r.lostEvents)
	if r.lostEvents > 0 {
		events += ", untold"
		if r.gaps > 0 {
			events = strings.TrimSuffix(events, "untold") + "told"
		}
	}
	return fmt.Sprintf("| %s | %s | %.1f s | %d | %d | %d | %s | %d | %d | %.1f s | %.1f s |",
		r.broker, r.fault, r.away.Seconds(), r.tasks, r.events, r.lostTasks, events, r.twice, r.reordered, r.slowest.Seconds(), r.well.Seconds())
}

const faultTable = `| broker | fault | away | tasks | events | lost tasks | lost events | repeats | out of order | slowest publish | well again |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |`

// faultResults collects the lines of the table.
type faultResults struct {
	mu    sync.Mutex
	lines []string
}

func (rs *faultResults) add(t *testing.T, r faultResult) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.lines = append(rs.lines, r.String())
	t.Logf("%s; %d refused", r, r.refused)
}

func (rs *faultResults) table() string {
	slices.Sort(rs.lines)
	return faultTable + "\n" + strings.Join(rs.lines, "\n")
}

// faultSpy notes what sources read from.
type faultSpy struct {
	driver
	run *faultRun
}

func (s faultSpy) open(ctx context.Context, sub *subscription) (source, error) {
	src, err := s.driver.open(ctx, sub)
	s.run.mu.Lock()
	defer s.run.mu.Unlock()
	switch src := src.(type) {
	case *natsSource:
		s.run.names[sub.delivery] = src.name
	case *amqpSource:
		s.run.names[sub.delivery] = src.queue
	}
	return src, err
}

// name returns what the source of delivery reads from.
func (run *faultRun) name(delivery Delivery) string {
	run.mu.Lock()
	defer run.mu.Unlock()
	return run.names[delivery]
}

func (run *faultRun) topic(delivery Delivery) string {
	if delivery == Task {
		return Topic(run.cfg.TopicPrefix, &tasks.ArchiveMessage{})
	}
	return Topic(run.cfg.TopicPrefix, &chat.ChatMessage{})
}

// connect returns a router, and runs it with the functions that handle adds.
func (run *faultRun) connect(handle func(*Router) error) *Router {
	run.t.Helper()
	cfg := run.cfg
	cfg.Metrics = nil
	cfg.OnGap = func(string, string) { run.gaps.Add(1) }
	r, err := New(run.t.Context(), cfg)
	if err != nil {
		run.t.Fatal(err)
	}
	r.drv = faultSpy{r.drv, run}
	if err := handle(r); err != nil {
		run.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(context.Background()) }()
	run.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testWait)
		defer cancel()
		if err := errors.Join(r.Shutdown(ctx), <-done); err != nil {
			run.t.Error(err)
		}
	})
	select {
	case <-r.Running():
	case <-time.After(testWait):
		run.t.Fatal("the functions did not start")
	}
	return r
}

// saw notes that a function got a message.
func (run *faultRun) saw(m *chat.ChatMessage) {
	run.behind.RLock()
	defer run.behind.RUnlock()
	run.mu.Lock()
	defer run.mu.Unlock()
	e := run.entries[m.GetId()]
	if e.seen++; e.seen > 1 {
		run.result.twice++
		return
	}
	e.first = time.Now()
	var seq int
	_, _ = fmt.Sscan(m.GetContent(), &seq) // we wrote it
	if seq < run.highest[m.GetSender()] {
		run.result.reordered++
	}
	run.highest[m.GetSender()] = max(seq, run.highest[m.GetSender()])
}

// publish sends one message after the other until stop is closed. One that was
// refused it sends again, as the contract allows.
func (run *faultRun) publish(r *Router, delivery Delivery, sender string, stop <-chan struct{}) {
	for seq := 1; ; seq++ {
		m := &chat.ChatMessage{Id: uuid.NewString(), Sender: sender, Content: fmt.Sprint(seq)}
		var msg proto.Message = m
		if delivery == Task {
			msg = &tasks.ArchiveMessage{Message: m}
		}
		for confirmed := false; !confirmed; {
			select {
			case <-stop:
				return
			case <-time.After(faultPace):
			}
			confirmed = run.publishOnce(r, delivery, m.GetId(), msg)
		}
	}
}

func (run *faultRun) publishOnce(r *Router, delivery Delivery, id string, msg proto.Message) bool {
	run.quiet.RLock()
	defer run.quiet.RUnlock()
	started := time.Now()
	run.mu.Lock()
	if run.entries[id] == nil {
		run.entries[id] = &faultEntry{delivery: delivery, started: started}
	}
	run.mu.Unlock()
	err := r.Publish(context.Background(), msg)
	took := time.Since(started)
	run.mu.Lock()
	defer run.mu.Unlock()
	run.result.slowest = max(run.result.slowest, took)
	if err != nil {
		run.result.refused++
		if !errors.Is(err, ErrUnavailable) {
			run.t.Errorf("a publish during the fault: got %v, want ErrUnavailable", err)
		}
		return false
	}
	run.entries[id].confirmed = time.Now()
	return true
}

// count returns how many messages of delivery pass.
func (run *faultRun) count(delivery Delivery, pass func(*faultEntry) bool) (n int) {
	run.mu.Lock()
	defer run.mu.Unlock()
	for _, e := range run.entries {
		if e.delivery == delivery && pass(e) {
			n++
		}
	}
	return n
}

// missing returns how many confirmed messages have not come.
func (run *faultRun) missing(delivery Delivery) int {
	return run.count(delivery, func(e *faultEntry) bool { return !e.confirmed.IsZero() && e.seen == 0 })
}

// within waits until ok, and tells if it came to that in time.
func within(deadline time.Time, ok func() bool) bool {
	for !ok() {
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(20 * time.Millisecond)
	}
	return true
}

// measure runs f on the broker of cfg and fails the test where a promise is broken.
func measure(t *testing.T, broker string, cfg Config, f fault) faultResult {
	t.Helper()
	cfg.Route = testRoute
	run := &faultRun{t: t, cfg: cfg, names: make(map[Delivery]string), entries: make(map[string]*faultEntry), highest: make(map[string]int)}
	run.result.broker, run.result.fault = broker, f.name
	reader := run.connect(func(r *Router) error {
		return errors.Join(
			Handle(r, "work", func(_ context.Context, m *tasks.ArchiveMessage) error { run.saw(m.GetMessage()); return nil }),
			Handle(r, "watch", func(_ context.Context, m *chat.ChatMessage) error { run.saw(m); return nil }),
		)
	})
	writer := run.connect(func(*Router) error { return nil })
	connected := time.Now()

	var publishing sync.WaitGroup
	stop := make(chan struct{})
	stopOnce := sync.OnceFunc(func() { close(stop); publishing.Wait() })
	t.Cleanup(stopOnce)
	both := []Delivery{Task, Event}
	for _, delivery := range both {
		for p := range faultPublishers {
			publishing.Go(func() { run.publish(writer, delivery, fmt.Sprintf("%s %d", delivery, p), stop) })
		}
	}
	for _, delivery := range both {
		waitFor(t, "the beginning", func() bool {
			return run.count(delivery, func(e *faultEntry) bool { return e.seen > 0 }) >= faultBefore
		})
	}

	run.check = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return reader.Check(ctx)
	}
	<-time.After(time.Until(connected.Add(f.settle)))
	if f.behind {
		run.behind.Lock()
		for _, delivery := range both {
			waitFor(t, "messages wait", func() bool { return run.missing(delivery) >= faultBehind })
		}
	}
	if f.wipes {
		run.quiet.Lock()
		waitFor(t, "everything is handled", func() bool { return run.missing(Task)+run.missing(Event) == 0 })
	}
	began := time.Now()
	f.begin(run)
	if f.wipes {
		run.quiet.Unlock()
	}
	if f.end != nil {
		if !within(time.Now().Add(f.away+faultSlack), func() bool { return run.check() != nil }) {
			t.Error("the fault does not show in Check")
		}
		<-time.After(time.Until(began.Add(f.away)))
		f.end(run)
	}
	if f.behind {
		run.behind.Unlock()
	}
	ended := time.Now()
	run.result.away = ended.Sub(began)
	deadline := ended.Add(f.within + faultSlack)
	if !within(deadline, func() bool { return run.check() == nil }) {
		t.Errorf("Check %s after the fault: %v", f.within, run.check())
	}
	for _, delivery := range both {
		if !within(deadline.Add(20*time.Second), func() bool {
			return run.count(delivery, func(e *faultEntry) bool { return e.confirmed.After(ended) }) >= faultAfter
		}) {
			t.Errorf("%ss are not confirmed after the fault", delivery)
		}
	}
	stopOnce()
	for _, delivery := range both {
		if f.gaps && delivery == Event {
			// Nothing tells when the last one has come: what is published now comes after it.
			fresh := uuid.NewString()
			if run.publishOnce(writer, Event, fresh, &chat.ChatMessage{Id: fresh, Sender: "last", Content: "1"}) {
				within(deadline.Add(20*time.Second), func() bool {
					return run.count(Event, func(e *faultEntry) bool { return e.seen > 0 && !e.confirmed.Before(ended) && e == run.entries[fresh] }) == 1
				})
			}
			continue
		}
		within(deadline.Add(20*time.Second), func() bool { return run.missing(delivery) == 0 })
	}
	run.sum(began, ended)
	res := run.result
	if res.lostTasks > 0 {
		t.Errorf("%d of %d confirmed tasks are lost", res.lostTasks, res.tasks)
	}
	if res.lostEvents > 0 && !f.gaps {
		t.Errorf("%d of %d confirmed events are lost", res.lostEvents, res.events)
	}
	if res.lostEvents > 0 && res.gaps == 0 {
		t.Errorf("%d of %d confirmed events are lost, and nobody was told", res.lostEvents, res.events)
	}
	if res.well > f.within+faultSlack {
		t.Errorf("well again after %s, want %s", res.well, f.within)
	}
	if most := cfg.PublishTimeout + faultSlack; res.slowest > most {
		t.Errorf("a publish took %s, want %s at most", res.slowest, most)
	}
	return res
}

// sum counts what became of the messages. All is well again when the last one that
// was late has come, and each publisher has had a confirmation.
func (run *faultRun) sum(began, ended time.Time) {
	run.result.gaps = run.gaps.Load()
	run.mu.Lock()
	defer run.mu.Unlock()
	first := map[Delivery]time.Time{}
	for _, e := range run.entries {
		if e.confirmed.IsZero() {
			continue
		}
		n, lost := &run.result.tasks, &run.result.lostTasks
		if e.delivery == Event {
			n, lost = &run.result.events, &run.result.lostEvents
		}
		*n++
		if e.seen == 0 {
			*lost++
			continue
		}
		if e.first.Sub(e.confirmed) > faultLate || e.confirmed.Before(ended) && e.confirmed.After(began) {
			run.result.well = max(run.result.well, e.first.Sub(ended))
		}
		if at := first[e.delivery]; e.confirmed.After(ended) && (at.IsZero() || e.confirmed.Before(at)) {
			first[e.delivery] = e.confirmed
		}
	}
	for _, at := range first {
		run.result.well = max(run.result.well, at.Sub(ended))
	}
}
