package routertest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"burrow/router"
	"burrow/router/routertest/spec"
)

// sizes notes how large the bodies of messages are that arrive.
func sizes(got *tally) handles {
	return both(
		on("watch", func(_ context.Context, m *spec.Said) error { got.add(fmt.Sprint("said ", proto.Size(m))); return nil }),
		on("work", func(_ context.Context, m *spec.Job) error { got.add(fmt.Sprint("job ", proto.Size(m))); return nil }))
}

// refuses publishes, and nothing of a call with an error may arrive.
func refuses(in *installation, want error, bad ...proto.Message) {
	in.t.Helper()
	var got tally
	n := in.node(both(noting[*spec.Said](&got, "watch", ""), noting[*spec.Job](&got, "work", "")))
	for _, m := range bad {
		if err := n.Publish(in.t.Context(), m); !errors.Is(err, want) {
			in.t.Errorf("%T alone: got %v, want %v", m, err, want)
		}
		if err := n.Publish(in.t.Context(), said("before"), job("before"), m, said("after"), job("after")); !errors.Is(err, want) {
			in.t.Errorf("%T among others: got %v, want %v", m, err, want)
		}
	}
	n.publish(said("said marker"), job("job marker"))
	got.awaitAll(in, 2)
	in.await("both markers", func() bool { return got.count("said marker")+got.count("job marker") == 2 })
	if all := got.all(); len(all) != 2 {
		in.t.Errorf("got %v", all)
	}
}

var publishing = []Promise{
	{Name: "a message of 0 bytes arrives", run: func(in *installation) {
		var got tally
		n := in.node(sizes(&got))
		n.publish(&spec.Said{}, &spec.Job{})
		got.eachOnce(in, 2)
		if got.count("said 0") != 1 || got.count("job 0") != 1 {
			in.t.Errorf("got %v", got.all())
		}
	}},
	{Name: "a message of exactly broker.max_message_bytes (1 MiB) arrives", run: func(in *installation) {
		var got tally
		n := in.node(sizes(&got))
		most := in.cfg.MaxMessageBytes
		for _, key := range []string{"", strings.Repeat("k", 40)} {
			event, task := &spec.Said{Key: key}, &spec.Job{Key: key}
			event.Body, task.Body = sized(event, most), sized(task, most)
			if proto.Size(event) != most || proto.Size(task) != most {
				in.t.Fatalf("made %d and %d bytes", proto.Size(event), proto.Size(task))
			}
			n.publish(event)
			n.publish(task)
		}
		for _, what := range []string{"said", "job"} {
			in.await(what, func() bool { return got.count(fmt.Sprint(what, " ", most)) == 2 })
		}
	}},
	{Name: "messages of many sizes between arrive as they were", run: func(in *installation) {
		var got tally
		n := in.node(sizes(&got))
		count := 0
		for size := 10; size <= in.cfg.MaxMessageBytes/2; size *= 7 {
			n.publish(&spec.Said{Body: sized(&spec.Said{}, size)}, &spec.Job{Body: sized(&spec.Job{}, size)})
			count += 2
		}
		got.eachOnce(in, count)
	}},
	{Name: "a message over that is refused with ErrTooLarge, and nothing of its call is sent", run: func(in *installation) {
		over := in.cfg.MaxMessageBytes + 1
		refuses(in, router.ErrTooLarge, &spec.Said{Body: sized(&spec.Said{}, over)}, &spec.Job{Body: sized(&spec.Job{}, over)})
	}},
	{Name: "a message that breaks its schema is refused with ErrInvalid, and nothing of its call is sent", run: func(in *installation) {
		long := strings.Repeat("x", 65)
		refuses(in, router.ErrInvalid, said(long), job(long))
	}},
	{Name: "publishing does not end with the caller's context", run: func(in *installation) {
		var got tally
		n := in.node(noting[*spec.Job](&got, "work", ""))
		ctx, cancel := context.WithCancel(in.t.Context())
		cancel()
		if err := n.Publish(ctx, job("x")); err != nil {
			in.t.Error(err)
		}
		got.eachOnce(in, 1)
	}},
	{Name: "many publish at the same time", run: func(in *installation) {
		var got tally
		n := in.node(noting[*spec.Job](&got, "work", ""))
		errs := make(chan error)
		for p := range 20 {
			go func() {
				var err error
				for i := range 10 {
					err = errors.Join(err, n.Publish(context.Background(), job(fmt.Sprint(p, " ", i))))
				}
				errs <- err
			}()
		}
		for range 20 {
			if err := <-errs; err != nil {
				in.t.Error(err)
			}
		}
		got.eachOnce(in, 200)
	}},
	{Name: "a node is ready once its functions are subscribed, and not after a stop", run: func(in *installation) {
		var got tally
		n := in.open()
		if err := both(noting[*spec.Said](&got, "watch", ""), noting[*spec.Job](&got, "work", ""))(n.Router); err != nil {
			in.t.Fatal(err)
		}
		if err := n.Check(in.t.Context()); err == nil {
			in.t.Error("ready before it runs")
		}
		n.start()
		if err := n.Check(in.t.Context()); err != nil {
			in.t.Error(err)
		}
		n.stop()
		if err := n.Check(in.t.Context()); err == nil {
			in.t.Error("ready after it stopped")
		}
	}},
	{Name: "what the broker does not keep is in the log of a start", run: func(in *installation) {
		n := in.open()
		if !n.Features().Durable && !strings.Contains(in.log.String(), "level=WARN") {
			in.t.Errorf("the log has no warning:\n%s", in.log)
		}
	}},
}

var wildcards = []Promise{
	{Name: "* stands for one element of a name: a function of all events of a package", run: func(in *installation) {
		var got tally
		n := in.node(matching(&got, "all", "routertest.events.*"))
		n.publish(job("x"), &spec.Chore{Text: "x"}, said("a"), &spec.Heard{Text: "b"})
		got.eachOnce(in, 2)
		if got.count("routertest.events.Said a")+got.count("routertest.events.Heard b") != 2 {
			in.t.Errorf("got %v", got.all())
		}
	}},
	{Name: "> stands for all elements that follow: a function of events and tasks", run: func(in *installation) {
		var got tally
		n := in.node(matching(&got, "all", "routertest.>"))
		n.publish(said("a"), &spec.Heard{Text: "b"}, job("c"), &spec.Chore{Text: "d"})
		got.eachOnce(in, 4)
	}},
	{Name: "* can stand anywhere: *.tasks.Chore", run: func(in *installation) {
		var got tally
		n := in.node(matching(&got, "all", "*.tasks.Chore"))
		n.publish(job("a"), &spec.Chore{Text: "b"})
		got.eachOnce(in, 1)
	}},
	{Name: "a wildcard of tasks is one function: each task runs on one process", needs: []string{SeveralNodes}, run: func(in *installation) {
		var got tally
		one, two := in.node(matching(&got, "all", "routertest.tasks.*")), in.node(matching(&got, "all", "routertest.tasks.>"))
		for i := range 20 {
			one.publish(job(fmt.Sprint(i)))
			two.publish(&spec.Chore{Text: fmt.Sprint(i)})
		}
		got.eachOnce(in, 40)
	}},
	{Name: "a wildcard of events is one function of every node", needs: []string{SeveralNodes}, run: func(in *installation) {
		var got [2]tally
		one, two := in.node(matching(&got[0], "all", "routertest.events.*")), in.node(matching(&got[1], "all", "routertest.events.*"))
		for i := range 20 {
			one.publish(said(fmt.Sprint(i)))
			two.publish(&spec.Heard{Text: fmt.Sprint(i)})
		}
		got[0].eachOnce(in, 40)
		got[1].eachOnce(in, 40)
	}},
	{Name: "a wildcard that matches no message, or is none, is an error", run: func(in *installation) {
		n := in.open()
		for _, pattern := range []string{"routertest.*", "routertest.nothing.>", "routertest.events.Said.*", "", "routertest..Said", "routertest.>.Said", "routertest.eve*"} {
			if err := matching(&tally{}, "all", pattern)(n.Router); err == nil {
				in.t.Errorf("%q was taken", pattern)
			}
		}
	}},
	{Name: "failures of a wildcard function become dead letters of the message's topic", run: func(in *installation) {
		n := in.node(func(r *router.Router) error {
			return router.HandleMatching(r, "all", "routertest.>", func(context.Context, proto.Message) error { return permanent{errTest} })
		})
		n.publish(said("x"), &spec.Chore{Text: "x"})
		topics := map[string]bool{in.letter().Topic: true, in.letter().Topic: true}
		if !topics[in.topic(&spec.Said{})] || !topics[in.topic(&spec.Chore{})] {
			in.t.Errorf("got %v", topics)
		}
	}},
}

// matching is HandleMatching, noting type and text.
func matching(c *tally, name, pattern string) handles {
	return func(r *router.Router) error {
		return router.HandleMatching(r, name, pattern, func(_ context.Context, m proto.Message) error {
			c.add(string(m.ProtoReflect().Descriptor().FullName()) + " " + m.(textual).GetText())
			return nil
		})
	}
}

// flood publishes events of 12 KiB.
func flood(in *installation, n *node, events int) {
	in.t.Helper()
	const batch = 250
	for i := 0; i < events; i += batch {
		msgs := make([]proto.Message, batch)
		for j := range msgs {
			msgs[j] = &spec.Said{Text: fmt.Sprint(i + j), Body: make([]byte, 12<<10)}
		}
		n.publish(msgs...)
	}
}

var slow = []Promise{
	{Name: "a slow function of events holds up neither others nor publishers", run: func(in *installation) {
		var got tally
		release := make(chan struct{})
		n := in.node(both(
			on("slow", func(context.Context, *spec.Said) error { <-release; return nil }),
			noting[*spec.Said](&got, "quick", "")))
		defer close(release)
		for i := range 50 {
			var msgs []proto.Message
			for j := range 10 {
				msgs = append(msgs, said(fmt.Sprint(i, " ", j)))
			}
			n.publish(msgs...)
		}
		got.eachOnce(in, 500)
	}},
	{Name: "a slow node holds up no other node", needs: []string{SeveralNodes}, run: func(in *installation) {
		var got tally
		release := make(chan struct{})
		block := func(context.Context, *spec.Said) error { <-release; return nil }
		n := in.node(on("watch", block))
		defer close(release)
		in.node(noting[*spec.Said](&got, "watch", ""))
		for i := range 50 {
			var msgs []proto.Message
			for j := range 10 {
				msgs = append(msgs, said(fmt.Sprint(i, " ", j)))
			}
			n.publish(msgs...)
		}
		got.eachOnce(in, 500)
	}},
	{Name: "the memory of a node does not grow with the events that wait for a slow function", alone: true, run: func(in *installation) {
		const full, more = 6500, 5000 // of 12 KiB: the embedded broker keeps 64 MiB
		release := make(chan struct{})
		n := in.node(on("slow", func(context.Context, *spec.Said) error { <-release; return nil }))
		defer close(release)
		flood(in, n, full)
		before := heap()
		flood(in, n, more)
		if grown := int64(heap()) - int64(before); grown > 16<<20 {
			in.t.Errorf("it grew by %d KiB when %d KiB were published", grown>>10, more*12)
		}
	}},
	{Name: "a function of events is told that it missed some", alone: true, run: func(in *installation) {
		release := make(chan struct{})
		var gaps atomic.Int32
		var got tally
		n := in.node(notingUntil(&got, release), func(c *router.Config) {
			c.OnGap = func(topic, function string) {
				if topic != in.topic(&spec.Said{}) || function != "slow" {
					in.t.Errorf("a gap of %s for %s", topic, function)
				}
				gaps.Add(1)
			}
		})
		n.publish(said("first"))
		in.await("the first", func() bool { return got.count("first") == 1 })
		const events = 13_000 // more than any broker keeps, in number and in bytes
		flood(in, n, events)
		if gaps.Load() > 0 && got.different() > 16 {
			in.t.Error("a function that stands still was told of a gap")
		}
		close(release)
		in.awaitFor(20*time.Second, "word of the gap", func() bool { return gaps.Load() > 0 })
		n.publish(said("last"))
		in.await("the last", func() bool { return got.count("last") == 1 })
		if missed := events + 2 - got.different(); missed <= 0 {
			in.t.Errorf("a gap was told, and %d events are missing", missed)
		}
	}},
}

// notingUntil notes events and then waits for release.
func notingUntil(c *tally, release <-chan struct{}) handles {
	return on("slow", func(_ context.Context, m *spec.Said) error {
		c.add(m.GetText())
		<-release
		return nil
	})
}

// heap returns how much of it is in use.
func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // also what finalizers kept
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// insist publishes until the broker confirms.
func (in *installation) insist(n *node, m proto.Message) {
	in.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := n.Publish(in.t.Context(), m)
		if err == nil {
			return
		}
		if !errors.Is(err, router.ErrUnavailable) || time.Now().After(deadline) {
			in.t.Fatal(err)
		}
	}
}

var links = []Promise{
	{Name: "publishing to a broker that stands still ends within broker.publish_timeout, with ErrUnavailable", needs: []string{Link}, run: func(in *installation) {
		var got tally
		n := in.node(noting[*spec.Job](&got, "work", ""), func(c *router.Config) { c.PublishTimeout = 500 * time.Millisecond })
		in.insist(n, job("before")) // a disk that is busy may take longer than this bound
		resume := in.b.Stall(in.t, in.cfg)
		quickly(in, "the publish ended", func() time.Duration { // the bound is 500 ms
			begun := time.Now()
			if err := n.Publish(in.t.Context(), job("meanwhile")); !errors.Is(err, router.ErrUnavailable) {
				in.t.Errorf("got %v, want %v", err, router.ErrUnavailable)
			}
			return time.Since(begun)
		})
		resume()
		in.insist(n, job("after"))
		in.await("the one after", func() bool { return got.count("after") > 0 })
	}},
	{Name: "a node whose broker stands still is not ready, and is again later", needs: []string{Link}, run: func(in *installation) {
		var got tally
		n := in.node(both(noting[*spec.Said](&got, "watch", ""), noting[*spec.Job](&got, "work", "")))
		resume := in.b.Stall(in.t, in.cfg)
		check := func() error {
			ctx, cancel := context.WithTimeout(in.t.Context(), 500*time.Millisecond)
			defer cancel()
			return n.Check(ctx)
		}
		err := check()
		resume()
		if err == nil {
			in.t.Error("it says that it is ready")
		}
		in.await("it to be ready", func() bool { return check() == nil })
	}},
	{Name: "a node whose broker stands still while it subscribes waits for it, and starts", needs: []string{Link}, long: true, run: func(in *installation) {
		var got tally
		n := in.open(func(c *router.Config) { c.ConnectTimeout = 2 * patience })
		if err := both(noting[*spec.Said](&got, "watch", "said "), noting[*spec.Job](&got, "work", "did "))(n.Router); err != nil {
			in.t.Fatal(err)
		}
		resume := in.b.Stall(in.t, in.cfg)
		go func() {
			for deadline := time.Now().Add(patience / 2); time.Now().Before(deadline) && !strings.Contains(in.log.String(), "cannot subscribe yet"); {
				<-time.After(10 * time.Millisecond)
			}
			resume()
		}()
		n.start()
		if !strings.Contains(in.log.String(), "cannot subscribe yet") {
			in.t.Error("it was subscribed at once, or did not say what it waits for")
		}
		n.publish(said("a"), job("b"))
		got.eachOnce(in, 2)
	}},
	{Name: "a node that loses its connections takes up its tasks again and loses none", needs: []string{Link}, run: func(in *installation) {
		var got tally
		n := in.node(noting[*spec.Job](&got, "work", ""))
		for i, m := range jobsOf(90) {
			if i%30 == 15 {
				in.b.Cut(in.t, in.cfg)
			}
			in.insist(n, m)
		}
		got.awaitAll(in, 90)
		in.await("it to be ready", func() bool { return n.Check(in.t.Context()) == nil })
		in.noLetter()
	}},
	{Name: "a node that loses its connections for a moment misses no event", needs: []string{Link}, run: func(in *installation) {
		var got tally
		n := in.node(noting[*spec.Said](&got, "watch", ""))
		for i := range 90 {
			if i%30 == 15 {
				in.b.Cut(in.t, in.cfg)
			}
			in.insist(n, &spec.Said{Text: fmt.Sprint(i), Id: fmt.Sprint("id", i)})
		}
		got.awaitAll(in, 90)
	}},
}
