package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"burrow/gen/tasks"
)

// virtual runs a router on the in-process broker in virtual time.
func virtual(t *testing.T, configure func(*Config), register func(r *Router) error, test func(t *testing.T, r *Router)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(t, "gochannel")
		cfg.Route = testRoute
		configure(&cfg)
		r, err := New(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := register(r); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- r.Run(context.WithoutCancel(t.Context())) }()
		<-r.Running()
		test(t, r)
		if err := r.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// elapse lets virtual time pass, and all that comes of it happen.
func elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// times notes when each content came first.
type times struct {
	mu    sync.Mutex
	start time.Time
	first map[string]time.Duration
	order []string
}

func newTimes() *times { return &times{first: make(map[string]time.Duration)} }

func (n *times) note(content string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.start.IsZero() {
		n.start = time.Now()
	}
	if _, known := n.first[content]; !known {
		n.first[content] = time.Since(n.start)
	}
	n.order = append(n.order, content)
}

// TestAMessageThatFailsForAMinuteDelaysNobodyElse also has more of its own key behind
// it than a window holds.
func TestAMessageThatFailsForAMinuteDelaysNobodyElse(t *testing.T) {
	for _, behind := range []int{0, 100, 1000} {
		t.Run(fmt.Sprint(behind), func(t *testing.T) {
			seen := newTimes()
			var mended time.Time
			gave := 0
			virtual(t, func(cfg *Config) {
				cfg.Function = map[string]FunctionConfig{"work": {MaxAttempts: 100, Backoff: 100 * time.Millisecond}}
				cfg.DeadLetter = func(context.Context, DeadLetter) error { gave++; return nil }
			}, func(r *Router) error {
				return Handle(r, "work", func(_ context.Context, m *tasks.ArchiveMessage) error {
					if m.GetMessage().GetContent() == "bad" && time.Now().Before(mended) {
						return errors.New("not yet")
					}
					seen.note(m.GetMessage().GetContent())
					return nil
				})
			}, func(t *testing.T, r *Router) {
				mended = time.Now().Add(time.Minute)
				seen.start = time.Now()
				msgs := []proto.Message{task("slow", "bad")}
				for i := range behind {
					msgs = append(msgs, task("slow", fmt.Sprint("behind ", i)))
				}
				for i := range 100 {
					msgs = append(msgs, task(fmt.Sprint("user ", i), fmt.Sprint("other ", i)))
				}
				if err := r.Publish(t.Context(), msgs...); err != nil {
					t.Fatal(err)
				}
				elapse(3 * time.Minute)
				for content, after := range seen.first {
					if strings.HasPrefix(content, "other") && after > 100*time.Millisecond {
						t.Errorf("%s was delayed by %s", content, after)
					}
				}
				if want := 1 + behind + 100; len(seen.first) != want || len(seen.order) != want || gave != 0 {
					t.Errorf("handled %d of %d, %d times, and gave up on %d", len(seen.first), want, len(seen.order), gave)
				}
				if after := seen.first["bad"]; after < time.Minute || after > 2*time.Minute {
					t.Errorf("the failing one was done after %s", after)
				}
				// Within the room that there is, order holds.
				if behind == 100 {
					var mine []string
					for _, content := range seen.order {
						if !strings.HasPrefix(content, "other") {
							mine = append(mine, content)
						}
					}
					for i, content := range mine[1:] {
						if mine[0] != "bad" || content != fmt.Sprint("behind ", i) {
							t.Fatalf("%s came as number %d behind %s", content, i, mine[0])
						}
					}
				}
			})
		})
	}
}

// TestAKeyOfWhichEverythingFailsDelaysNobodyElse as long as what waits has room.
func TestAKeyOfWhichEverythingFailsDelaysNobodyElse(t *testing.T) {
	for name, test := range map[string]struct {
		failing int
		size    int
		late    bool // the room is full
	}{
		"2,000 messages":                    {failing: 2000},
		"more than there is room for":       {failing: 3000, late: true},
		"more bytes than there is room for": {failing: 700, size: 1000, late: true},
		"some bytes":                        {failing: 300, size: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			seen := newTimes()
			letters := 0
			virtual(t, func(cfg *Config) {
				cfg.DeadLetter = func(context.Context, DeadLetter) error { letters++; return nil }
			}, func(r *Router) error {
				return Handle(r, "work", func(_ context.Context, m *tasks.ArchiveMessage) error {
					if strings.HasPrefix(m.GetMessage().GetContent(), "bad") {
						return errors.New("never")
					}
					seen.note(m.GetMessage().GetContent())
					return nil
				})
			}, func(t *testing.T, r *Router) {
				seen.start = time.Now()
				for _, s := range r.subs {
					if test.size > 0 {
						s.spareBytes = 400 * test.size
					}
				}
				var msgs []proto.Message
				for range test.failing {
					msgs = append(msgs, task("slow", "bad"+strings.Repeat("x", test.size)))
				}
				for i := range 100 {
					msgs = append(msgs, task(fmt.Sprint("user ", i), fmt.Sprint("other ", i)))
				}
				if err := r.Publish(t.Context(), msgs...); err != nil {
					t.Fatal(err)
				}
				elapse(3 * time.Hour)
				var worst time.Duration
				for _, after := range seen.first {
					worst = max(worst, after)
				}
				if late := worst > 100*time.Millisecond; late != test.late || worst > time.Minute {
					t.Errorf("others were delayed by %s", worst)
				}
				if len(seen.order) != 100 || letters != test.failing {
					t.Errorf("handled %d of 100 and gave up on %d of %d", len(seen.order), letters, test.failing)
				}
			})
		})
	}
}

func TestAFunctionIsTriedAsItsSettingsSay(t *testing.T) {
	var at []time.Time
	var letters []DeadLetter
	virtual(t, func(cfg *Config) {
		cfg.Function = map[string]FunctionConfig{"work": {MaxAttempts: 12, Backoff: 100 * time.Millisecond, Timeout: 2 * time.Second}}
		cfg.DeadLetter = func(_ context.Context, l DeadLetter) error { letters = append(letters, l); return nil }
	}, func(r *Router) error {
		return Handle(r, "work", func(ctx context.Context, m *tasks.ArchiveMessage) error {
			at = append(at, time.Now())
			if len(at) == 1 {
				<-ctx.Done()
				if took := time.Since(at[0]); took != 2*time.Second {
					t.Errorf("the time for one attempt was %s", took)
				}
			}
			return errors.New("never")
		})
	}, func(t *testing.T, r *Router) {
		if err := r.Publish(t.Context(), task("a", "x")); err != nil {
			t.Fatal(err)
		}
		elapse(10 * time.Minute)
		if len(at) != 12 || len(letters) != 1 || letters[0].Attempts != 12 {
			t.Fatalf("%d attempts, letters %+v", len(at), letters)
		}
		if got := letters[0].Metadata[metaKey]; got != "a" {
			t.Errorf("the letter's key is %q", got)
		}
		for i := 2; i < len(at); i++ {
			want := min(100*time.Millisecond<<i, 60*time.Second) / 2 // from the i-th attempt to the next: 0.1 s << (i-1)
			if want > backoffMax {
				want = backoffMax
			}
			if got := at[i].Sub(at[i-1]); got < want/2 || got > want*3/2 {
				t.Errorf("before attempt %d it waited %s, want %s give or take a half", i+1, got, want)
			}
		}
	})
}

func TestConcurrencyIsWhatTheSettingSays(t *testing.T) {
	for _, limit := range []int{1, 3, 100} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			var mu sync.Mutex
			running, most := 0, 0
			virtual(t, func(cfg *Config) {
				cfg.Function = map[string]FunctionConfig{"work": {Concurrency: limit}}
			}, func(r *Router) error {
				return Handle(r, "work", func(context.Context, *tasks.ArchiveMessage) error {
					mu.Lock()
					running++
					most = max(most, running)
					mu.Unlock()
					time.Sleep(time.Second)
					mu.Lock()
					running--
					mu.Unlock()
					return nil
				})
			}, func(t *testing.T, r *Router) {
				begun := time.Now()
				var msgs []proto.Message
				for i := range 300 {
					msgs = append(msgs, task(fmt.Sprint("u", i), "x"))
				}
				if err := r.Publish(t.Context(), msgs...); err != nil {
					t.Fatal(err)
				}
				elapse(time.Second * time.Duration(300/limit+2))
				if most != limit || running != 0 {
					t.Errorf("%d ran at the same time, want %d; %d still run after %s", most, limit, running, time.Since(begun))
				}
			})
		})
	}
}

// TestATaskThatEndsItsProcessesIsGivenUp has the broker say how often it was sent.
func TestATaskThatEndsItsProcessesIsGivenUp(t *testing.T) {
	var ran int
	var letters []DeadLetter
	memory := NewMemory()
	virtual(t, func(cfg *Config) {
		cfg.Memory = memory
		cfg.DeadLetter = func(_ context.Context, l DeadLetter) error { letters = append(letters, l); return nil }
	}, func(r *Router) error {
		return Handle(r, "work", func(context.Context, *tasks.ArchiveMessage) error { ran++; return nil })
	}, func(t *testing.T, r *Router) {
		topic := Topic(r.cfg.TopicPrefix, &tasks.ArchiveMessage{})
		for sent := range maxDeliveries + 1 {
			msg, err := r.encode(task("a", "x"))
			if err != nil {
				t.Fatal(err)
			}
			memory.mu.Lock()
			q := memory.topic(topic).groups["work"]
			d := memory.entry(msg)
			d.redelivered = sent
			q.waiting = append(q.waiting, d)
			q.signal()
			memory.mu.Unlock()
			synctest.Wait()
		}
		if ran != maxDeliveries-1 || len(letters) != 2 || letters[0].Attempts != maxDeliveries {
			t.Errorf("it ran %d times, letters: %+v", ran, letters)
		}
	})
}

func TestAReplayIsForOneFunction(t *testing.T) {
	var got []string
	virtual(t, func(*Config) {}, func(r *Router) error {
		note := func(name string) func(context.Context, *tasks.ArchiveMessage) error {
			return func(ctx context.Context, m *tasks.ArchiveMessage) error {
				got = append(got, name+" "+m.GetMessage().GetContent()+" "+MessageID(ctx))
				return nil
			}
		}
		return errors.Join(Handle(r, "one", note("one")), Handle(r, "two", note("two")))
	}, func(t *testing.T, r *Router) {
		payload, err := proto.Marshal(task("a", "hi"))
		if err != nil {
			t.Fatal(err)
		}
		p := Replay{ID: "1.1", Topic: Topic(r.cfg.TopicPrefix, &tasks.ArchiveMessage{}), Function: "two", MessageID: "m", Payload: payload}
		if err := r.Replay(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(got) != 1 || got[0] != "two hi m" {
			t.Errorf("got %q", got)
		}
		for what, bad := range map[string]Replay{
			"another function": {Topic: p.Topic, Function: "three", Payload: payload},
			"another topic":    {Topic: "x", Function: "two", Payload: payload},
			"no message":       {Topic: p.Topic, Function: "two", Payload: []byte("\xff")},
			"an invalid one":   {Topic: p.Topic, Function: "two"},
		} {
			if err := r.Replay(t.Context(), bad); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", what, err)
			}
		}
		synctest.Wait()
		if len(got) != 1 {
			t.Errorf("got %q", got)
		}
	})
}

func TestHandleMatchingTakesTheTypesOfItsPattern(t *testing.T) {
	for pattern, want := range map[string]string{
		"chat.*":               "chat.ChatMessage chat.Typing chat.UserStatus",
		"tasks.>":              "tasks.ArchiveMessage tasks.DeadLetter",
		"*.ArchiveMessage":     "tasks.ArchiveMessage",
		"tasks.ArchiveMessage": "tasks.ArchiveMessage",
		"tasks":                "",
		"tasks.*.*":            "",
		"google.>":             "",
		">.x":                  "",
		"ta*":                  "",
		"":                     "",
	} {
		t.Run(pattern, func(t *testing.T) {
			cfg := testConfig(t, "gochannel")
			r, err := New(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			err = HandleMatching(r, "all", pattern, func(context.Context, proto.Message) error { return nil })
			if (err == nil) != (want != "") {
				t.Fatal(err)
			}
			var got []string
			for _, name := range strings.Fields(want) {
				if _, ok := r.subs["all on "+cfg.TopicPrefix+"."+name]; ok {
					got = append(got, name)
				}
			}
			if strings.Join(got, " ") != want || len(r.subs) != len(got) {
				t.Errorf("subscribed to %v", r.subs)
			}
		})
	}
}

// barren is a broker whose every source wants to be replaced before it has read.
type barren struct {
	driver
	opened int
}

func (b *barren) spare() int { return taskSpare }

func (b *barren) declare(context.Context, string, Delivery, string) error { return nil }

func (b *barren) open(context.Context, *subscription) (source, error) {
	b.opened++
	return barrenSource{}, nil
}

type barrenSource struct{ source }

func (barrenSource) next(context.Context, int) ([]*delivered, error) { return nil, errReopen }
func (barrenSource) close(context.Context, bool) error               { return nil }

func TestASourceThatReadsNothingIsReplacedLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(barren)
		sub := newSubscriber(b, Event, "show", FunctionConfig{}, t.Context(), slog.New(slog.DiscardHandler), testMetrics(t))
		if _, err := sub.Subscribe(t.Context(), "topic"); err != nil {
			t.Fatal(err)
		}
		elapse(time.Minute)
		if err := sub.Close(); err != nil {
			t.Error(err)
		}
		// 0.2 s, 0.4 s, ... up to 5 s, each spread by half.
		if b.opened < 5 || b.opened > 40 {
			t.Errorf("opened %d times in a minute", b.opened)
		}
	})
}

// absent is a broker that answers only from some time on.
type absent struct {
	driver
	from  time.Time
	final error // what it says then
	tries int
}

func (a *absent) spare() int { return taskSpare }

func (a *absent) declare(context.Context, string, Delivery, string) error {
	a.tries++
	if time.Now().Before(a.from) {
		return &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	}
	return a.final
}

func (a *absent) open(ctx context.Context, _ *subscription) (source, error) {
	return absentSource{}, nil
}

func (a *absent) refuses(err error) bool { return errors.Is(err, a.final) }

type absentSource struct{ source }

func (absentSource) next(ctx context.Context, _ int) ([]*delivered, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
func (absentSource) close(context.Context, bool) error { return nil }

func TestTheFirstSubscribeWaitsForABrokerThatIsAway(t *testing.T) {
	no := errors.New("no")
	for name, test := range map[string]struct {
		away     time.Duration
		final    error
		patience time.Duration
		want     error
		after    time.Duration // at least
		most     time.Duration
	}{
		"away for a moment": {away: 3 * time.Second, patience: 30 * time.Second, after: 3 * time.Second, most: 9 * time.Second},
		"away for good":     {away: time.Hour, patience: 30 * time.Second, want: os.ErrDeadlineExceeded, after: 22 * time.Second, most: 30 * time.Second},
		"refuses":           {final: no, patience: 30 * time.Second, want: no},
		"refuses later":     {away: 3 * time.Second, final: no, patience: 30 * time.Second, want: no, after: 3 * time.Second, most: 9 * time.Second},
		"no patience":       {away: 3 * time.Second, want: os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &absent{from: time.Now().Add(test.away), final: test.final}
				sub := newSubscriber(a, Event, "show", FunctionConfig{}, t.Context(), slog.New(slog.DiscardHandler), testMetrics(t))
				sub.patience = test.patience
				begun := time.Now()
				_, err := sub.Subscribe(t.Context(), "topic")
				if took := time.Since(begun); !errors.Is(err, test.want) || took < test.after || took > test.most {
					t.Errorf("got %v after %s, want %v after %s to %s", err, took, test.want, test.after, test.most)
				}
				if err := sub.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestAStopDoesNotWaitForABrokerThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &absent{from: time.Now().Add(time.Hour)}
		sub := newSubscriber(a, Event, "show", FunctionConfig{}, t.Context(), slog.New(slog.DiscardHandler), testMetrics(t))
		sub.patience = time.Hour
		ended := make(chan error, 1)
		go func() {
			_, err := sub.Subscribe(t.Context(), "topic")
			ended <- err
		}()
		elapse(time.Minute)
		begun := time.Now()
		if err := sub.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err == nil || time.Since(begun) > 0 || a.tries < 5 {
			t.Errorf("subscribed with %v, %s after the stop, in %d tries", err, time.Since(begun), a.tries)
		}
	})
}
