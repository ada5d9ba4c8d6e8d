package routertest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"burrow/router"
	"burrow/router/routertest/spec"
)

var events = []Promise{
	{Name: "an event reaches every node", needs: []string{SeveralNodes}, run: func(in *installation) {
		var got tally
		var nodes []*node
		for n := range 3 {
			nodes = append(nodes, in.node(noting[*spec.Said](&got, "watch", fmt.Sprint(n, " "))))
		}
		for i := range 30 {
			nodes[i%3].publish(said(fmt.Sprint(i)))
		}
		got.eachOnce(in, 3*30)
	}},
	{Name: "an event reaches every function of a node", run: func(in *installation) {
		var got tally
		n := in.node(both(noting[*spec.Said](&got, "one", "one "), noting[*spec.Said](&got, "two", "two ")))
		for i := range 30 {
			n.publish(said(fmt.Sprint(i)))
		}
		got.eachOnce(in, 2*30)
	}},
	{Name: "an event is for those who are subscribed when it is published", run: func(in *installation) {
		var got tally
		n := in.open()
		if err := noting[*spec.Said](&got, "watch", "")(n.Router); err != nil {
			in.t.Fatal(err)
		}
		n.publish(said("before"))
		n.start()
		n.publish(said("after"))
		got.awaitAll(in, 1)
		if all := got.all(); !slices.Equal(all, []string{"after"}) {
			in.t.Errorf("got %v, want the one after only", all)
		}
	}},
	{Name: "from the moment a node runs it misses no event", needs: []string{SeveralNodes}, run: func(in *installation) {
		publisher := in.node(nil)
		for i := range 5 {
			var got tally
			in.node(noting[*spec.Said](&got, "watch", ""))
			publisher.publish(said(fmt.Sprint(i)))
			got.eachOnce(in, 1)
		}
	}},
	{Name: "one call publishes to several topics", run: func(in *installation) {
		var got tally
		n := in.node(both(
			noting[*spec.Said](&got, "watch", "said "), noting[*spec.Heard](&got, "watch", "heard "),
			noting[*spec.Job](&got, "work", "job "), noting[*spec.Chore](&got, "work", "chore ")))
		n.publish(said("a"), job("a"), &spec.Heard{Text: "a"}, &spec.Chore{Text: "a"}, said("b"))
		got.eachOnce(in, 5)
	}},
	{Name: "one id on two topics arrives on both", run: func(in *installation) {
		var got tally
		n := in.node(both(
			noting[*spec.Said](&got, "watch", "said "), noting[*spec.Heard](&got, "watch", "heard "),
			noting[*spec.Job](&got, "work", "job "), noting[*spec.Chore](&got, "work", "chore ")))
		n.publish(&spec.Said{Text: "x", Id: "one"}, &spec.Heard{Text: "x", Id: "one"}, &spec.Job{Text: "x", Id: "one"}, &spec.Chore{Text: "x", Id: "one"})
		got.eachOnce(in, 4)
	}},
	{Name: "installations with different prefixes do not see each other", run: func(in *installation) {
		var here, there tally
		add := func(c *tally) handles {
			return both(noting[*spec.Said](c, "watch", "said "), noting[*spec.Job](c, "work", "job "))
		}
		other := install(in.t, in.b)
		if other.cfg.TopicPrefix == in.cfg.TopicPrefix {
			in.t.Fatal("the broker was described with one prefix for all")
		}
		other.cfg.Memory = in.cfg.Memory // one broker
		one, two := in.node(add(&here)), other.node(add(&there))
		one.publish(said("one"), job("one"))
		two.publish(said("two"), job("two"))
		here.eachOnce(in, 2)
		there.eachOnce(in, 2)
		for _, what := range append(here.all(), there.all()...) {
			if (what == "said one" || what == "job one") == (there.count(what) > 0) {
				in.t.Errorf("%q is in the wrong installation", what)
			}
		}
	}},
	{Name: "the id on the broker is the publisher's", run: func(in *installation) {
		ids := make(chan string, 2)
		n := in.node(both(
			on("watch", func(ctx context.Context, _ *spec.Said) error { ids <- router.MessageID(ctx); return nil }),
			on("work", func(ctx context.Context, _ *spec.Job) error { ids <- router.MessageID(ctx); return nil })))
		n.publish(&spec.Said{Id: "chosen"}, &spec.Job{Id: "chosen"})
		for range 2 {
			if id := <-ids; id != "chosen" {
				in.t.Errorf("got %q", id)
			}
		}
	}},
}

var jobs = []Promise{
	{Name: "a task runs on one process of a function", needs: []string{SeveralNodes}, run: func(in *installation) {
		var got tally
		var nodes []*node
		for range 3 {
			nodes = append(nodes, in.node(noting[*spec.Job](&got, "work", "")))
		}
		for i := range 150 {
			nodes[i%3].publish(job(fmt.Sprint(i)))
		}
		got.eachOnce(in, 150)
	}},
	{Name: "every function gets every task", run: func(in *installation) {
		var got tally
		n := in.node(both(noting[*spec.Job](&got, "one", "one "), noting[*spec.Job](&got, "two", "two ")))
		n.publish(jobsOf(50)...)
		got.eachOnce(in, 2*50)
	}},
	{Name: "tasks are spread over the processes of a function", needs: []string{SeveralNodes}, run: func(in *installation) {
		var got tally
		var working [2]atomic.Bool
		together := make(chan struct{})
		var once sync.Once
		var nodes []*node
		for i := range 2 {
			nodes = append(nodes, in.node(on("work", func(ctx context.Context, m *spec.Job) error {
				working[i].Store(true)
				if working[0].Load() && working[1].Load() {
					once.Do(func() { close(together) })
				}
				select { // nobody goes on before both have something to do
				case <-together:
				case <-ctx.Done():
					return ctx.Err()
				}
				got.add(m.GetText())
				return nil
			})))
		}
		// More than one takes at once; a call has so long, and all promises at the same time leave each little CPU.
		for some := range slices.Chunk(jobsOf(600), 50) {
			nodes[0].publish(some...)
		}
		in.receive("both to work", together)
		got.eachOnce(in, 600)
	}},
	{Name: "a task that is published before its first worker was ever known waits for it", run: func(in *installation) {
		var got tally
		n := in.open()
		n.publish(jobsOf(50)...)
		if err := noting[*spec.Job](&got, "work", "")(n.Router); err != nil {
			in.t.Fatal(err)
		}
		n.start()
		got.eachOnce(in, 50)
	}},
	{Name: "tasks of a function that is switched off here wait for another process", run: func(in *installation) {
		var got tally
		add := both(noting[*spec.Job](&got, "one", "one "), noting[*spec.Job](&got, "two", "two "))
		web := in.node(add, only("one"))
		web.publish(jobsOf(50)...)
		got.eachOnce(in, 50) // of the first function
		web.stop()
		in.node(add, only("two"))
		got.eachOnce(in, 2*50)
	}},
	{Name: "tasks wait while no worker runs", run: func(in *installation) {
		var got tally
		worker := in.node(noting[*spec.Job](&got, "work", ""))
		worker.publish(job("first"))
		got.awaitAll(in, 1)
		worker.stop()
		web := in.node(nil)
		web.publish(jobsOf(50)...)
		web.stop()
		in.node(noting[*spec.Job](&got, "work", ""))
		got.eachOnce(in, 51)
	}},
	{Name: "a confirmed task outlives the death of every process", needs: []string{Durable, Processes}, run: func(in *installation) {
		p := in.spawn(errand{Publish: 50})
		p.await("published")
		p.kill()
		var got tally
		in.node(noting[*spec.Job](&got, "work", ""))
		got.eachOnce(in, 50)
	}},
	{Name: "the same task twice is done once or twice and harms nothing", run: func(in *installation) {
		var got tally
		n := in.node(noting[*spec.Job](&got, "work", ""))
		for range 2 {
			n.publish(&spec.Job{Text: "again", Id: "one", Key: "k"})
		}
		n.publish(&spec.Job{Text: "next", Key: "k"})
		got.awaitAll(in, 2)
		if times := got.count("again"); times < 1 || times > 2 {
			in.t.Errorf("done %d times", times)
		}
		in.noLetter()
	}},
}

// inOrder publishes messages of many keys with many publishers, and counts those
// that came before one of their key that was published earlier.
func inOrder(in *installation, messages, keys int, message func(key string, number int64) proto.Message) {
	in.t.Helper()
	const publishers = 20
	type series struct {
		busy bool
		next int64
	}
	var (
		mu         sync.Mutex
		seen       = make(map[string]*series)
		inversions int
		overlaps   int
		total      atomic.Int64
		// An event queue holds a thousand on one broker: publishers wait for readers.
		room = make(chan struct{}, 500)
	)
	note := func(key string, number int64) {
		mu.Lock()
		s := seen[key]
		if s == nil {
			s = &series{}
			seen[key] = s
		}
		if s.busy {
			overlaps++
		}
		if number < s.next {
			inversions++
		}
		s.busy, s.next = true, number+1
		mu.Unlock()
		if number%64 == 0 {
			for range 100 { // gives another one of the key the chance to come in
				runtime.Gosched()
			}
		}
		mu.Lock()
		s.busy = false
		mu.Unlock()
		total.Add(1)
		<-room
	}
	n := in.node(both(
		on("watch", func(_ context.Context, m *spec.Said) error { note(m.GetKey(), m.GetNumber()); return nil }),
		on("work", func(_ context.Context, m *spec.Job) error { note(m.GetKey(), m.GetNumber()); return nil })))
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range messages / keys {
				for k := p; k < keys; k += publishers {
					select {
					case room <- struct{}{}:
					case <-time.After(patience):
						in.t.Error("the readers stand still")
						return
					}
					if err := n.Publish(context.Background(), message(fmt.Sprint("key", k), int64(i))); err != nil {
						in.t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	in.await("all messages", func() bool { return total.Load() >= int64(messages) })
	mu.Lock()
	defer mu.Unlock()
	if inversions > 0 || overlaps > 0 || len(seen) != keys {
		in.t.Errorf("%d keys of %d: %d inversions, %d at the same time", len(seen), keys, inversions, overlaps)
	}
	if got := total.Load(); got != int64(messages) {
		in.t.Errorf("%d messages came, want %d", got, messages)
	}
	in.noLetter()
}

var order = []Promise{
	{Name: "10,000 events of 100 keys keep the order of each key", alone: true, run: func(in *installation) {
		inOrder(in, 10_000, 100, func(key string, number int64) proto.Message {
			return &spec.Said{Key: key, Number: number}
		})
	}},
	{Name: "10,000 tasks of 100 keys keep the order of each key", alone: true, run: func(in *installation) {
		inOrder(in, 10_000, 100, func(key string, number int64) proto.Message {
			return &spec.Job{Key: key, Number: number}
		})
	}},
	{Name: "what one call publishes keeps its order", run: func(in *installation) {
		var got tally
		n := in.node(both(noting[*spec.Said](&got, "watch", "said "), noting[*spec.Job](&got, "work", "job ")))
		var events, tasks []proto.Message
		var wantEvents, wantTasks []string
		for i := range 200 {
			events = append(events, &spec.Said{Text: fmt.Sprint(i), Key: "k"})
			tasks = append(tasks, &spec.Job{Text: fmt.Sprint(i), Key: "k"})
			wantEvents = append(wantEvents, fmt.Sprint("said ", i))
			wantTasks = append(wantTasks, fmt.Sprint("job ", i))
		}
		n.publish(events...)
		n.publish(tasks...)
		got.awaitAll(in, 400)
		all := got.all()
		isTask := func(what string) bool { return what[0] == 'j' }
		if got := slices.DeleteFunc(slices.Clone(all), isTask); !slices.Equal(got, wantEvents) {
			in.t.Errorf("events: %v", got)
		}
		if got := slices.DeleteFunc(slices.Clone(all), func(what string) bool { return !isTask(what) }); !slices.Equal(got, wantTasks) {
			in.t.Errorf("tasks: %v", got)
		}
	}},
	{Name: "16 different keys are handled at the same time", run: func(in *installation) {
		var inside atomic.Int32
		together := make(chan struct{})
		n := in.node(on("work", func(ctx context.Context, _ *spec.Job) error {
			if inside.Add(1) == 16 {
				close(together)
			}
			select {
			case <-together:
			case <-ctx.Done():
			}
			return nil
		}))
		n.publish(jobsOf(16)...)
		in.receive("16 at the same time", together)
	}},
	{Name: "no more tasks run at the same time than the function's concurrency", run: boundedTasks},
	{Name: "no more events run at the same time than the function's concurrency", run: boundedEvents},
	{Name: "messages without a key do not wait for each other", run: func(in *installation) {
		var got tally
		release := make(chan struct{})
		n := in.node(on("work", func(ctx context.Context, m *spec.Job) error {
			if m.GetText() == "slow" {
				select {
				case <-release:
				case <-ctx.Done():
				}
			}
			got.add(m.GetText())
			return nil
		}))
		n.publish(job("slow"))
		for i := range 100 {
			n.publish(job(fmt.Sprint(i)))
		}
		got.awaitAll(in, 100)
		close(release)
		got.eachOnce(in, 101)
	}},
}
