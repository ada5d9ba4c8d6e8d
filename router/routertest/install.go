package routertest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"burrow/router"
	"burrow/router/routertest/spec"
)

const (
	// patience bounds every wait. It is long, because only a test that fails uses it up.
	patience = 60 * time.Second
	// quiet is how long nothing more has to happen where no message can mark the end.
	quiet = 250 * time.Millisecond
)

// installation is a broker with the nodes of one test.
type installation struct {
	t       *testing.T
	b       *Broker
	cfg     router.Config
	letters chan router.DeadLetter
	log     *logBuffer
}

func install(t *testing.T, b *Broker) *installation {
	t.Helper()
	in := &installation{t: t, b: b, cfg: b.Config(t), letters: make(chan router.DeadLetter, 1000), log: &logBuffer{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of the nodes:\n%s", in.log)
		}
	})
	in.cfg.Log = slog.New(slog.NewTextHandler(in.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	in.cfg.Route = route
	in.cfg.DeadLetter = func(_ context.Context, l router.DeadLetter) error {
		in.letters <- l
		return nil
	}
	return in
}

// route takes id and routing key from the fields of those names.
func route(m proto.Message) (id, key string) {
	if m, ok := m.(interface{ GetId() string }); ok {
		id = m.GetId()
	}
	if m, ok := m.(interface{ GetKey() string }); ok {
		key = m.GetKey()
	}
	return id, key
}

// node is a router that may be stopped before its test ends.
type node struct {
	*router.Router
	in   *installation
	done chan error
	once sync.Once
}

// open connects a node that runs nothing yet.
func (in *installation) open(edits ...func(*router.Config)) *node {
	in.t.Helper()
	cfg := in.cfg
	for _, edit := range edits {
		edit(&cfg)
	}
	r, err := router.New(in.t.Context(), cfg)
	if err != nil {
		in.t.Fatal(err)
	}
	in.b.checkFeatures(in.t, r.Features())
	n := &node{Router: r, in: in}
	in.t.Cleanup(n.stop)
	return n
}

// start runs the functions of n and returns when they are subscribed.
func (n *node) start() {
	n.in.t.Helper()
	n.done = make(chan error, 1)
	go func() { n.done <- n.Run(context.Background()) }()
	select {
	case <-n.Running():
	case err := <-n.done:
		n.done <- err
		n.in.t.Fatalf("the node ended instead of starting: %v", err)
	case <-time.After(patience):
		n.in.t.Fatal("the functions were not subscribed")
	}
}

// stop shuts n down in order.
func (n *node) stop() {
	n.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience/2)
		defer cancel()
		if err := n.Shutdown(ctx); err != nil {
			n.in.t.Errorf("shutdown: %v", err)
		}
		if n.done == nil {
			return
		}
		if err := <-n.done; err != nil {
			n.in.t.Errorf("run: %v", err)
		}
	})
}

// handles adds functions to a node.
type handles func(r *router.Router) error

// node starts a node with functions.
func (in *installation) node(add handles, edits ...func(*router.Config)) *node {
	in.t.Helper()
	n := in.open(edits...)
	if add != nil {
		if err := add(n.Router); err != nil {
			in.t.Fatal(err)
		}
	}
	n.start()
	return n
}

// only makes a node run nothing but these functions.
func only(functions ...string) func(*router.Config) {
	return func(cfg *router.Config) { cfg.Functions = functions }
}

func (n *node) publish(msgs ...proto.Message) {
	n.in.t.Helper()
	if err := n.Publish(n.in.t.Context(), msgs...); err != nil {
		n.in.t.Fatal(err)
	}
}

// on is Handle, to be combined with both.
func on[M proto.Message](name string, fn func(context.Context, M) error) handles {
	return func(r *router.Router) error { return router.Handle(r, name, fn) }
}

func both(all ...handles) handles {
	return func(r *router.Router) error {
		for _, add := range all {
			if err := add(r); err != nil {
				return err
			}
		}
		return nil
	}
}

// textual are the messages of the suite.
type textual interface {
	proto.Message
	GetText() string
}

// noting is a function that notes each message as done in c, under what and its text.
func noting[M textual](c *tally, name, what string) handles {
	return on(name, func(_ context.Context, m M) error {
		c.add(what + m.GetText())
		return nil
	})
}

func said(text string) *spec.Said { return &spec.Said{Text: text} }
func job(text string) *spec.Job   { return &spec.Job{Text: text} }

func jobsOf(n int) []proto.Message {
	var all []proto.Message
	for i := range n {
		all = append(all, &spec.Job{Text: fmt.Sprint(i), Number: int64(i), Key: fmt.Sprint("key", i)})
	}
	return all
}

// await polls, for what no channel tells.
func (in *installation) await(what string, ok func() bool) {
	in.t.Helper()
	in.awaitFor(patience, what, ok)
}

func (in *installation) awaitFor(bound time.Duration, what string, ok func() bool) {
	in.t.Helper()
	deadline := time.Now().Add(bound)
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			in.t.Fatalf("waited %s for: %s", bound, what)
		}
		<-tick.C
	}
}

func (in *installation) receive(what string, ch <-chan struct{}) {
	in.t.Helper()
	select {
	case <-ch:
	case <-time.After(patience):
		in.t.Fatalf("waited %s for: %s", patience, what)
	}
}

// letter waits for the next dead letter.
func (in *installation) letter() router.DeadLetter {
	in.t.Helper()
	select {
	case l := <-in.letters:
		return l
	case <-time.After(patience):
		in.t.Fatal("no dead letter came")
		return router.DeadLetter{}
	}
}

func (in *installation) noLetter() {
	in.t.Helper()
	select {
	case l := <-in.letters:
		in.t.Errorf("a dead letter too many: %+v", l)
	default:
	}
}

func (in *installation) topic(m proto.Message) string { return router.Topic(in.cfg.TopicPrefix, m) }

// tally counts what arrived, in order.
type tally struct {
	mu   sync.Mutex
	list []string
	got  map[string]int
}

func (c *tally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got == nil {
		c.got = make(map[string]int)
	}
	c.got[what]++
	c.list = append(c.list, what)
}

// different returns how many different ones came.
func (c *tally) different() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

func (c *tally) count(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got[what]
}

func (c *tally) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.list...)
}

// awaitAll returns when n different ones came.
func (c *tally) awaitAll(in *installation, n int) {
	in.t.Helper()
	in.await(fmt.Sprintf("%d messages", n), func() bool { return c.different() >= n })
}

// eachOnce waits for n and fails if one came twice, or others came too.
func (c *tally) eachOnce(in *installation, n int) {
	in.t.Helper()
	c.awaitAll(in, n)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.got) != n {
		in.t.Errorf("%d different messages came, want %d", len(c.got), n)
	}
	for what, times := range c.got {
		if times != 1 {
			in.t.Errorf("%s came %d times", what, times)
		}
	}
}

// logBuffer keeps a log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// alien returns a message of the type of like as a program with another schema
// sends it: no rules, and one field, 1, which holds text as bytes.
func alien(like proto.Message, text string) proto.Message {
	name := like.ProtoReflect().Descriptor().FullName()
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("alien.proto"), Package: proto.String(string(name.Parent())), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String(string(name.Name())),
			Field: []*descriptorpb.FieldDescriptorProto{{
				Name: proto.String("text"), Number: proto.Int32(1),
				Type:  descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum(),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			}},
		}},
	}, nil)
	if err != nil {
		panic(err) // the same for every input
	}
	m := dynamicpb.NewMessage(file.Messages().Get(0))
	m.Set(m.Descriptor().Fields().ByNumber(1), protoreflect.ValueOfBytes([]byte(text)))
	return m
}

// sized returns a body that makes a message of exactly n bytes of m, which has none.
func sized(m proto.Message, n int) []byte {
	room := n - proto.Size(m) - protowire.SizeTag(4)
	for body := room; body > 0; body-- {
		if protowire.SizeBytes(body) == room {
			return make([]byte, body)
		}
	}
	panic("no body makes that size")
}
