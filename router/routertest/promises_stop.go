package routertest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"burrow/router"
	"burrow/router/routertest/spec"
)

// survives lets a node meet poison. Each entry becomes one dead letter, or is
// handled once where what it carries is a message after all; then all goes on.
func survives(in *installation, m textual, entries int, send func(n *node), restart bool) {
	in.t.Helper()
	var got tally
	add := both(
		on("work", func(ctx context.Context, m *spec.Job) error {
			if router.MessageID(ctx) == "" {
				in.t.Error("a message without an id was handled")
			}
			got.add(m.GetText())
			return nil
		}),
		on("watch", func(ctx context.Context, m *spec.Said) error {
			if router.MessageID(ctx) == "" {
				in.t.Error("a message without an id was handled")
			}
			got.add(m.GetText())
			return nil
		}))
	n := in.node(add)
	if restart {
		n.stop()
	}
	send(n)
	if restart {
		n = in.node(add)
	}
	var letters []router.DeadLetter
	outcomes := func() int {
		for {
			select {
			case l := <-in.letters:
				letters = append(letters, l)
			default:
				return len(letters) + len(got.all())
			}
		}
	}
	in.await("an end of the poison", func() bool { return outcomes() >= entries })
	marker := m.ProtoReflect().New().Interface()
	proto.Merge(marker, m)
	n.publish(marker)
	in.await("the message after it", func() bool { return got.count(m.GetText()) > 0 })
	if all := outcomes(); all != entries+1 {
		in.t.Errorf("%d entries and one message came to %d ends: %v and %+v", entries, all, got.all(), letters)
	}
	for _, l := range letters {
		if l.Attempts != 1 || l.MessageID == "" || l.Err == nil || l.Topic != in.topic(m) {
			in.t.Errorf("got %+v", l)
		}
	}
}

func poisonedTask(name string, poison Poison) Promise {
	return Promise{Name: name, needs: []string{RawTasks}, run: func(in *installation) {
		survives(in, job("after"), 1, func(*node) {
			in.b.PublishRaw(in.t, in.cfg, in.topic(&spec.Job{}), poison)
		}, true)
	}}
}

var foreign = []Promise{
	poisonedTask("a task entry that is garbage becomes one dead letter, and the next task is done", Garbage),
	poisonedTask("an empty task entry is done or becomes one dead letter, and the next task is done", Empty),
	poisonedTask("a task entry without an id is done or becomes one dead letter, and the next task is done", NoID),
	poisonedTask("a task entry with fields of wrong types becomes one dead letter, and the next task is done", WrongTypes),
	{Name: "event entries of every such kind do the same", needs: []string{RawEvents}, run: func(in *installation) {
		survives(in, said("after"), 4, func(*node) {
			for _, poison := range []Poison{Garbage, Empty, NoID, WrongTypes} {
				in.b.PublishRaw(in.t, in.cfg, in.topic(&spec.Said{}), poison)
			}
		}, false)
	}},
}

// slack is what a loaded machine may add to a bound.
const slack = time.Minute

// quickly runs round until it takes at most 5 s: a disturbance of one round is not the router's if another goes well.
func quickly(in *installation, what string, round func() time.Duration) {
	in.t.Helper()
	const rounds, most = 4, 5 * time.Second
	best := patience
	for range rounds {
		if best = min(best, round()); best <= most {
			return
		}
	}
	in.t.Errorf("%s after %s in the best of %d rounds, want %s", what, best, rounds, most)
}

var stops = []Promise{
	{Name: "tasks of a process that is killed come again within the stated time", long: true, needs: []string{Durable, Processes}, run: func(in *installation) {
		p := in.spawn(errand{Publish: 40, Work: "work"})
		p.await("published")
		in.await("the process to work", func() bool { return len(p.tellings("held")) > 0 })
		p.kill()
		killed := time.Now()
		var got tally
		in.node(noting[*spec.Job](&got, "work", ""))
		in.awaitFor(in.b.Redelivery+slack, "40 tasks", func() bool { return got.different() >= 40 })
		in.t.Logf("all came %s after the end of the process", time.Since(killed))
		got.eachOnce(in, 40)
	}},
	{Name: "a process that is killed in the middle of its work loses none of its tasks", long: true, needs: []string{Durable, Processes}, run: func(in *installation) {
		const total, done = 100, 30
		p := in.spawn(errand{Publish: total, Work: "work", Done: done})
		p.await("published")
		in.await("half of the work", func() bool { return len(p.tellings("done")) >= done && len(p.tellings("held")) > 0 })
		p.kill()
		var got tally
		in.node(noting[*spec.Job](&got, "work", ""))
		handled := func() int {
			seen := make(map[string]bool)
			for _, text := range append(p.tellings("done"), got.all()...) {
				seen[text] = true
			}
			return len(seen)
		}
		in.awaitFor(in.b.Redelivery+slack, "all tasks", func() bool { return handled() == total })
		for _, text := range got.all() {
			if got.count(text) != 1 {
				in.t.Errorf("%s was done %d times after that", text, got.count(text))
			}
		}
	}},
	{Name: "a task that takes longer than the wait for a dead process is not sent to another one", long: true, run: func(in *installation) {
		var runs atomic.Int32
		done := make(chan struct{})
		add := on("work", func(context.Context, *spec.Job) error {
			if runs.Add(1) > 1 {
				return nil
			}
			<-time.After(34 * time.Second) // the stated wait is 30 s
			close(done)
			return nil
		})
		n := in.node(add, settings(router.FunctionConfig{Timeout: time.Minute}))
		other := n
		if in.b.Lacks[SeveralNodes] == "" {
			other = in.node(add, settings(router.FunctionConfig{Timeout: time.Minute}))
		}
		n.publish(job("slow"))
		in.receive("the slow one", done)
		other.publish(job("next"))
		in.await("the next", func() bool { return runs.Load() >= 2 })
		n.stop()
		other.stop()
		if runs.Load() != 2 {
			in.t.Errorf("two tasks ran %d times", runs.Load())
		}
	}},
	{Name: "a stop lets running functions finish and publish, with a live context", run: func(in *installation) {
		var got tally
		running, release := make(chan struct{}), make(chan struct{})
		n := in.open()
		err := both(
			on("work", func(ctx context.Context, m *spec.Job) error {
				close(running)
				<-release
				if ctx.Err() != nil {
					in.t.Error("the context has ended")
				}
				if err := n.Publish(ctx, &spec.Chore{Text: "from the function"}); err != nil {
					in.t.Error(err)
				}
				got.add(m.GetText())
				return nil
			}),
			noting[*spec.Chore](&got, "chores", ""))(n.Router)
		if err != nil {
			in.t.Fatal(err)
		}
		n.start()
		n.publish(job("running"))
		in.receive("the function to run", running)
		drained := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			drained <- n.Drain(ctx)
		}()
		in.await("the node to stop", func() bool { return n.Check(in.t.Context()) != nil })
		select {
		case err := <-drained:
			in.t.Errorf("the drain did not wait for the function: %v", err)
		case <-time.After(quiet):
		}
		close(release)
		if err := <-drained; err != nil {
			in.t.Error(err)
		}
		n.stop()
		in.node(both(noting[*spec.Job](&got, "work", ""), noting[*spec.Chore](&got, "chores", ""))).publish(job("marker"))
		got.eachOnce(in, 3)
	}},
	{Name: "a stop in the middle of 200 tasks loses none and repeats none", run: func(in *installation) {
		var got tally
		half := make(chan struct{})
		var count atomic.Int32
		first := in.node(on("work", func(_ context.Context, m *spec.Job) error {
			if count.Add(1) == 100 {
				close(half)
			}
			got.add(m.GetText())
			return nil
		}))
		published := make(chan struct{})
		go func() {
			defer close(published)
			if err := first.Publish(context.Background(), jobsOf(200)...); err != nil {
				in.t.Error(err)
			}
		}()
		in.receive("half of them", half)
		ctx, cancel := context.WithTimeout(in.t.Context(), patience)
		defer cancel()
		if err := first.Drain(ctx); err != nil {
			in.t.Error(err)
		}
		<-published
		first.stop()
		in.node(noting[*spec.Job](&got, "work", ""))
		got.eachOnce(in, 200)
	}},
	{Name: "what a stopping node has not begun goes to another one within 5 s", needs: []string{SeveralNodes}, run: func(in *installation) {
		quickly(in, "the rest came", func() time.Duration {
			var got tally
			running, release := make(chan struct{}), make(chan struct{})
			first := in.node(on("work", func(_ context.Context, m *spec.Job) error {
				close(running) // once: the others must not run here
				<-release
				got.add(m.GetText())
				return nil
			}), settings(router.FunctionConfig{Concurrency: 1}))
			first.publish(jobsOf(40)...)
			in.receive("the first", running)
			other := in.node(noting[*spec.Job](&got, "work", ""))
			stopped := make(chan struct{})
			begun := time.Now()
			go func() {
				defer close(stopped)
				first.stop()
			}()
			in.await("the node to stop", func() bool { return first.Check(in.t.Context()) != nil })
			got.awaitAll(in, 39) // while the one that runs still does
			took := time.Since(begun)
			close(release)
			<-stopped
			got.eachOnce(in, 40)
			other.stop()
			return took
		})
	}},
	{Name: "what a stopped node had not begun comes to the next one within 5 s", run: func(in *installation) {
		quickly(in, "the rest came", func() time.Duration {
			var got tally
			running, release := make(chan struct{}), make(chan struct{})
			first := in.node(on("work", func(_ context.Context, m *spec.Job) error {
				close(running) // once: the others must not run here
				<-release
				got.add(m.GetText())
				return nil
			}), settings(router.FunctionConfig{Concurrency: 1}))
			first.publish(jobsOf(40)...)
			in.receive("the first", running)
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				first.stop()
			}()
			in.await("the node to stop", func() bool { return first.Check(in.t.Context()) != nil })
			close(release)
			<-stopped
			next := in.node(noting[*spec.Job](&got, "work", ""))
			begun := time.Now()
			got.awaitAll(in, 40)
			took := time.Since(begun)
			got.eachOnce(in, 40)
			next.stop()
			return took
		})
	}},
	{Name: "a stop that cannot wait ends the contexts, and the message comes again", run: func(in *installation) {
		var got tally
		running := make(chan struct{})
		first := in.node(on("work", func(ctx context.Context, _ *spec.Job) error {
			close(running)
			<-ctx.Done()
			return ctx.Err()
		}))
		first.publish(job("long"))
		in.receive("the function to run", running)
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if err := first.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			in.t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		first.stop()
		in.node(noting[*spec.Job](&got, "work", ""))
		got.eachOnce(in, 1)
		in.noLetter()
	}},
	{Name: "a message that waits for another attempt does not hold up a stop, and is tried elsewhere", run: func(in *installation) {
		quickly(in, "the node stopped", func() time.Duration {
			var got tally
			failed := make(chan struct{}, 1000)
			first := in.node(on("work", func(context.Context, *spec.Job) error {
				failed <- struct{}{}
				return errTest
			}), settings(router.FunctionConfig{Backoff: 20 * time.Second}))
			first.publish(job("fails"))
			in.receive("a failure", failed)
			begun := time.Now()
			first.stop()
			took := time.Since(begun)
			next := in.node(noting[*spec.Job](&got, "work", ""))
			got.eachOnce(in, 1)
			next.stop()
			return took
		})
	}},
	{Name: "an orderly stop leaves nothing of the node on the broker", needs: []string{Outside}, run: func(in *installation) {
		var got tally
		n := in.node(both(noting[*spec.Said](&got, "watch", "said "), noting[*spec.Job](&got, "work", "job ")))
		n.publish(said("x"), job("x"))
		got.eachOnce(in, 2)
		if !in.b.Exclusive {
			in.await("something of the node on the broker", func() bool { return len(in.b.Leftovers(in.t, in.cfg)) > 0 })
		}
		n.stop()
		if left := in.b.Leftovers(in.t, in.cfg); len(left) > 0 {
			in.t.Errorf("left: %+v", left)
		}
	}},
	{Name: "what a killed node leaves on the broker is removed in 10 minutes at most", needs: []string{Outside, Processes}, run: func(in *installation) {
		p := in.spawn(errand{Publish: 10, Work: "work", Watch: "watch"})
		p.await("published")
		in.await("the process to work", func() bool { return len(p.tellings("held")) > 0 })
		if !in.b.Exclusive && len(in.b.Leftovers(in.t, in.cfg)) == 0 {
			in.t.Error("nothing of the process is seen on the broker while it runs")
		}
		p.kill()
		for _, left := range in.b.Leftovers(in.t, in.cfg) {
			if left.Expires <= 0 || left.Expires > 10*time.Minute {
				in.t.Errorf("%s stays for %s (0 is for ever)", left.Name, left.Expires)
			}
		}
	}},
	{Name: "publishing after a stop is an error", run: func(in *installation) {
		n := in.node(nil, func(c *router.Config) { c.PublishTimeout = 500 * time.Millisecond })
		n.stop()
		for _, m := range []proto.Message{said("late"), job("late")} {
			if err := n.Publish(in.t.Context(), m); !errors.Is(err, router.ErrUnavailable) {
				in.t.Errorf("%T: got %v, want %v", m, err, router.ErrUnavailable)
			}
		}
	}},
}

// jobsAt tells how many of a function run at the same time, at most.
type gauge struct{ now, most atomic.Int32 }

func (g *gauge) enter() {
	now := g.now.Add(1)
	for most := g.most.Load(); now > most && !g.most.CompareAndSwap(most, now); most = g.most.Load() {
	}
}

func (g *gauge) leave() { g.now.Add(-1) }

// bounded runs 50 messages of a function that may run three at the same time.
func bounded(in *installation, add func(fn func(text string)) handles, message func(i int) proto.Message) {
	in.t.Helper()
	var g gauge
	var got tally
	three := make(chan struct{})
	n := in.node(add(func(text string) {
		g.enter()
		defer g.leave()
		if g.now.Load() == 3 {
			select {
			case <-three:
			default:
				close(three)
			}
		}
		<-three
		got.add(text)
	}), settings(router.FunctionConfig{Concurrency: 3}))
	for i := range 50 {
		n.publish(message(i))
	}
	got.eachOnce(in, 50)
	if most := g.most.Load(); most != 3 {
		in.t.Errorf("%d ran at the same time, want 3", most)
	}
}

func boundedTasks(in *installation) {
	bounded(in, func(fn func(string)) handles {
		return on("work", func(_ context.Context, m *spec.Job) error { fn(m.GetText()); return nil })
	}, func(i int) proto.Message { return job(fmt.Sprint(i)) })
}

func boundedEvents(in *installation) {
	bounded(in, func(fn func(string)) handles {
		return on("work", func(_ context.Context, m *spec.Said) error { fn(m.GetText()); return nil })
	}, func(i int) proto.Message { return said(fmt.Sprint(i)) })
}
