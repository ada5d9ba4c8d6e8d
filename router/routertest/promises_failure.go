package routertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"burrow/router"
	"burrow/router/routertest/spec"
)

// permanent is an error that is not to be tried again.
type permanent struct{ error }

func (permanent) Permanent() bool { return true }
func (p permanent) Unwrap() error { return p.error }

var errTest = errors.New("not now")

// settings returns an edit that sets up the function "work".
func settings(cfg router.FunctionConfig) func(*router.Config) {
	return func(c *router.Config) { c.Function = map[string]router.FunctionConfig{"work": cfg} }
}

// failing is a function that fails for texts that begin with "bad", and notes the rest.
func failing(c *tally, err error) handles {
	return on("work", func(_ context.Context, m *spec.Job) error {
		c.add(m.GetText())
		if strings.HasPrefix(m.GetText(), "bad") {
			return err
		}
		return nil
	})
}

// othersWait publishes a message that fails for some seconds with followers of its key. It compares the
// time from the confirm of a message of another key to its handling with that in the same node without a
// failure: a busy machine delays both. A disturbance in one round is not the router's if another round goes well.
func othersWait(in *installation, followers int) {
	in.t.Helper()
	const others, rounds, most = 60, 12, 100 * time.Millisecond // others at least: they come until the third failure
	var failed atomic.Int32
	var mu sync.Mutex
	handled := make(map[string]time.Time)
	var got tally
	n := in.node(on("work", func(_ context.Context, m *spec.Job) error {
		if m.GetText() == "fails" {
			failed.Add(1)
			return errTest
		}
		mu.Lock()
		handled[m.GetText()] = time.Now()
		mu.Unlock()
		got.add(m.GetText())
		return nil
	}), settings(router.FunctionConfig{Backoff: 300 * time.Millisecond, MaxAttempts: 4})) // 1 to 3 s
	sent := 0
	// measure sends messages, each with a separate key, while more returns true, and returns the longest wait.
	measure := func(more func(n int) bool) (worst time.Duration) {
		for i := 0; more(i); i++ {
			sent++
			text := fmt.Sprint("other ", sent)
			n.publish(&spec.Job{Key: fmt.Sprint("good", i), Text: text})
			confirmed := time.Now()
			in.await(text, func() bool { return got.count(text) > 0 })
			mu.Lock()
			worst = max(worst, handled[text].Sub(confirmed))
			mu.Unlock()
		}
		return worst
	}
	var idle time.Duration
	best, published := patience, 0
	for round := range rounds {
		idle = max(idle, measure(func(n int) bool { return n < others }))
		batch := []proto.Message{&spec.Job{Key: "bad", Text: "fails"}}
		for i := range followers {
			batch = append(batch, &spec.Job{Key: "bad", Text: fmt.Sprint("behind ", round, " ", i)})
		}
		failed.Store(0)
		n.publish(batch...)
		in.await("a first failure", func() bool { return failed.Load() > 0 })
		worst := measure(func(n int) bool { return n < others || failed.Load() < 3 })
		published += followers
		in.t.Logf("round %d: %s at most, without a failure %s", round, worst, idle)
		if best = min(best, worst); best < idle+most {
			return
		}
		in.letter()
		got.awaitAll(in, published+sent)
	}
	in.t.Errorf("in the best round one took %s, without a failure %s at most", best, idle)
}

var failures = []Promise{
	{Name: "a failed message is tried again after growing waits", run: func(in *installation) {
		var mu sync.Mutex
		var at []time.Time
		done := make(chan struct{})
		n := in.node(on("work", func(context.Context, *spec.Job) error {
			mu.Lock()
			defer mu.Unlock()
			if at = append(at, time.Now()); len(at) < 5 {
				return errTest
			}
			close(done)
			return nil
		}))
		n.publish(job("x"))
		in.receive("the fifth attempt", done)
		mu.Lock()
		defer mu.Unlock()
		least := 50 * time.Millisecond // half of the first wait, for waits are spread by half
		for i := range 4 {
			wait := at[i+1].Sub(at[i])
			if wait < least {
				in.t.Errorf("wait %d was %s, want %s at least", i+1, wait, least)
			}
			least *= 2
		}
		in.noLetter()
	}},
	{Name: "a message that always fails is tried 5 times and becomes a dead letter", run: func(in *installation) {
		var got tally
		n := in.node(failing(&got, errTest))
		n.publish(job("bad"))
		if l := in.letter(); l.Attempts != 5 {
			in.t.Errorf("%d attempts", l.Attempts)
		}
		n.publish(job("next"))
		got.awaitAll(in, 2)
		if times := got.count("bad"); times != 5 {
			in.t.Errorf("tried %d times", times)
		}
		in.noLetter()
	}},
	{Name: "attempts and waits are settings of the function", run: func(in *installation) {
		var got tally
		n := in.node(failing(&got, errTest), settings(router.FunctionConfig{MaxAttempts: 2, Backoff: time.Millisecond}))
		n.publish(job("bad"))
		if l := in.letter(); l.Attempts != 2 || got.count("bad") != 2 {
			in.t.Errorf("%d attempts, tried %d times", l.Attempts, got.count("bad"))
		}
	}},
	{Name: "events that fail are tried again too", run: func(in *installation) {
		var attempts atomic.Int32
		n := in.node(on("work", func(context.Context, *spec.Said) error {
			attempts.Add(1)
			return errTest
		}))
		n.publish(said("x"))
		if l := in.letter(); l.Attempts != 5 || attempts.Load() != 5 {
			in.t.Errorf("%d attempts, tried %d times", l.Attempts, attempts.Load())
		}
	}},
	{Name: "a function that fails does not repeat the message for others", run: func(in *installation) {
		var got tally
		n := in.node(both(failing(&got, errTest), noting[*spec.Job](&got, "other", "other ")))
		n.publish(job("bad"))
		in.letter()
		got.awaitAll(in, 2)
		if times := got.count("other bad"); times != 1 {
			in.t.Errorf("the other function ran %d times", times)
		}
	}},
	{Name: "the time for one attempt ends its context, and counts as a failure", run: func(in *installation) {
		n := in.node(on("work", func(ctx context.Context, _ *spec.Job) error {
			<-ctx.Done()
			return ctx.Err()
		}), settings(router.FunctionConfig{Timeout: 50 * time.Millisecond, MaxAttempts: 2, Backoff: time.Millisecond}))
		n.publish(job("x"))
		if l := in.letter(); !errors.Is(l.Err, context.DeadlineExceeded) || l.Attempts != 2 {
			in.t.Errorf("got %v after %d attempts", l.Err, l.Attempts)
		}
	}},
	{Name: "a panic is an error", run: func(in *installation) {
		var got tally
		n := in.node(on("work", func(_ context.Context, m *spec.Job) error {
			if m.GetText() == "bad" {
				panic("oh no")
			}
			got.add(m.GetText())
			return nil
		}), settings(router.FunctionConfig{MaxAttempts: 2, Backoff: time.Millisecond}))
		n.publish(job("bad"), job("fine"))
		if l := in.letter(); l.Attempts != 2 || !strings.Contains(l.Err.Error(), "oh no") {
			in.t.Errorf("got %v after %d attempts", l.Err, l.Attempts)
		}
		got.eachOnce(in, 1)
	}},
	{Name: "a permanent error goes to the dead letters at once, once", run: func(in *installation) {
		var got tally
		n := in.node(failing(&got, fmt.Errorf("wrapped: %w", permanent{errTest})))
		n.publish(&spec.Job{Text: "bad", Key: "k"})
		if l := in.letter(); l.Attempts != 1 || !errors.Is(l.Err, errTest) {
			in.t.Errorf("got %v after %d attempts", l.Err, l.Attempts)
		}
		n.publish(&spec.Job{Text: "next", Key: "k"})
		got.eachOnce(in, 2)
		in.noLetter()
	}},
	{Name: "bytes that are no message go to the dead letters at once, once", run: func(in *installation) {
		var got tally
		n := in.node(both(noting[*spec.Job](&got, "work", ""), noting[*spec.Said](&got, "watch", "")))
		n.publish(alien(&spec.Job{}, "\xff\xfe"), alien(&spec.Said{}, "\xff\xfe"), job("fine"), said("fine too"))
		for range 2 {
			if l := in.letter(); l.Attempts != 1 || !slices.Equal(l.Payload, []byte("\x0a\x02\xff\xfe")) {
				in.t.Errorf("%d attempts of %q: %v", l.Attempts, l.Payload, l.Err)
			}
		}
		got.eachOnce(in, 2)
		in.noLetter()
	}},
	{Name: "a message that breaks its schema goes to the dead letters at once, once", run: func(in *installation) {
		var got tally
		n := in.node(both(noting[*spec.Job](&got, "work", ""), noting[*spec.Said](&got, "watch", "")))
		long := strings.Repeat("x", 65)
		n.publish(alien(&spec.Job{}, long), alien(&spec.Said{}, long), job("fine"), said("fine too"))
		for range 2 {
			if l := in.letter(); l.Attempts != 1 {
				in.t.Errorf("%d attempts: %v", l.Attempts, l.Err)
			}
		}
		got.eachOnce(in, 2)
		in.noLetter()
	}},
	{Name: "a dead letter has topic, function, error, attempts, bytes, id, routing key and time", run: func(in *installation) {
		var got tally
		n := in.node(failing(&got, permanent{errTest}))
		m := &spec.Job{Text: "bad", Id: "chosen", Key: "the key"}
		begun := time.Now()
		n.publish(m)
		l := in.letter()
		sent := &spec.Job{}
		if err := proto.Unmarshal(l.Payload, sent); err != nil || !proto.Equal(m, sent) {
			in.t.Errorf("bytes: %q, %v", l.Payload, err)
		}
		if l.Topic != in.topic(m) || l.Function != "work" || l.Attempts != 1 || l.MessageID != "chosen" || !errors.Is(l.Err, errTest) || l.Time.Before(begun) {
			in.t.Errorf("got %+v", l)
		}
		found := false
		for _, value := range l.Metadata {
			found = found || value == "the key"
		}
		if !found {
			in.t.Errorf("the routing key is not in %v", l.Metadata)
		}
	}},
	{Name: "a message whose dead letter cannot be kept comes again, and is kept later", run: func(in *installation) {
		var got tally
		var refused atomic.Int32
		keep := in.cfg.DeadLetter
		in.cfg.DeadLetter = func(ctx context.Context, l router.DeadLetter) error {
			if refused.Add(1) <= 3 {
				return errors.New("the store is away")
			}
			return keep(ctx, l)
		}
		n := in.node(failing(&got, permanent{errTest}))
		n.publish(job("bad"), job("fine"))
		l := in.letter()
		if l.Function != "work" || refused.Load() != 4 {
			in.t.Errorf("kept at the %dth time: %+v", refused.Load(), l)
		}
		got.awaitAll(in, 2)
		in.noLetter()
	}},
	{Name: "while one message fails for seconds, others take at most 100 ms longer", alone: true, run: func(in *installation) {
		othersWait(in, 0)
	}},
	{Name: "while one message fails with 300 behind it, others take at most 100 ms longer", alone: true, run: func(in *installation) {
		othersWait(in, 300)
	}},
	{Name: "100 failing messages of different keys do not stop the others", run: func(in *installation) {
		var got tally
		n := in.node(failing(&got, errTest), settings(router.FunctionConfig{Backoff: 10 * time.Second})) // 75 s at least
		for i := range 100 {
			n.publish(&spec.Job{Text: fmt.Sprint("bad", i), Key: fmt.Sprint("bad", i)})
		}
		n.publish(jobsOf(100)...)
		good := func() (n int) {
			for i := range 100 {
				n += min(1, got.count(fmt.Sprint(i)))
			}
			return n
		}
		in.await("the good ones", func() bool { return good() == 100 })
		in.noLetter() // none of the bad ones has given up yet
	}},
	{Name: "the messages of a key wait for the one before them that failed", run: func(in *installation) {
		var mu sync.Mutex
		var order []string
		var got tally
		n := in.node(on("work", func(_ context.Context, m *spec.Job) error {
			mu.Lock()
			defer mu.Unlock()
			if m.GetText() == "0" && len(order) < 3 {
				order = append(order, "failed")
				return errTest
			}
			order = append(order, m.GetText())
			got.add(m.GetText())
			return nil
		}))
		want := []string{"failed", "failed", "failed"}
		for i := range 20 {
			n.publish(&spec.Job{Text: fmt.Sprint(i), Key: "k"})
			want = append(want, fmt.Sprint(i))
		}
		got.awaitAll(in, 20)
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(order, want) {
			in.t.Errorf("got %v", order)
		}
	}},
	{Name: "a replay runs the function that gave up on a task, and no other", run: func(in *installation) {
		replays[*spec.Job](in, &spec.Job{Text: "bad", Id: "chosen", Key: "k"})
	}},
	{Name: "a replay runs the function that gave up on an event, and no other", run: func(in *installation) {
		replays[*spec.Said](in, &spec.Said{Text: "bad", Id: "chosen", Key: "k"})
	}},
	{Name: "a replay that no function can take is refused", run: func(in *installation) {
		var got tally
		n := in.node(noting[*spec.Job](&got, "work", ""))
		topic := in.topic(&spec.Job{})
		for name, p := range map[string]router.Replay{
			"no such function": {ID: "r", Topic: topic, Function: "other", MessageID: "m"},
			"no such topic":    {ID: "r", Topic: topic + "x", Function: "work", MessageID: "m"},
			"no message":       {ID: "r", Topic: topic, Function: "work", MessageID: "m", Payload: Garbage.Payload()},
		} {
			if err := n.Replay(in.t.Context(), p); !errors.Is(err, router.ErrInvalid) {
				in.t.Errorf("%s: got %v, want %v", name, err, router.ErrInvalid)
			}
		}
		n.publish(job("marker"))
		got.eachOnce(in, 1)
	}},
}

// replays lets a function give up on m, and sends it to it once more.
func replays[M textual](in *installation, m M) {
	in.t.Helper()
	var got tally
	var mended atomic.Bool
	n := in.node(both(
		on("work", func(ctx context.Context, m M) error {
			if !mended.Load() {
				return permanent{errTest}
			}
			got.add("work " + m.GetText() + " " + router.MessageID(ctx))
			return nil
		}),
		noting[M](&got, "other", "other ")))
	n.publish(m)
	l := in.letter()
	mended.Store(true)
	err := n.Replay(in.t.Context(), router.Replay{
		ID: "first", Topic: l.Topic, Function: l.Function, MessageID: l.MessageID, Metadata: l.Metadata, Payload: l.Payload,
	})
	if err != nil {
		in.t.Fatal(err)
	}
	got.awaitAll(in, 2)
	// Behind the replay in its lane, at both functions.
	marker := m.ProtoReflect().New().Interface()
	proto.Merge(marker, m)
	fields := marker.ProtoReflect().Descriptor().Fields()
	marker.ProtoReflect().Set(fields.ByName("text"), protoreflect.ValueOfString("marker"))
	marker.ProtoReflect().Set(fields.ByName("id"), protoreflect.ValueOfString("another"))
	n.publish(marker)
	got.eachOnce(in, 4)
	if got.count("work bad chosen") != 1 || got.count("other bad") != 1 {
		in.t.Errorf("got %v", got.all())
	}
	in.noLetter()
}
