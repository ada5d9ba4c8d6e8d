package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"burrow/router"
)

// runMain makes the test binary the program itself, so that tests can start
// processes that they may kill.
const runMain = "BURROW_TEST_RUN_MAIN"

// patience bounds every wait of these tests. It is long, because it is only used
// up by a test that fails.
const patience = 90 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	// Watermill's router leaves a goroutine behind when a subscription is refused.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/message.(*Router).watchAllHandlersStopped.func1"))
}

// installation is what the nodes of a test have in common: a broker, and the files
// of one host.
type installation struct {
	dir    string
	env    []string
	memory *router.Memory
	files  int // The limit of open files of spawned processes; 0: that of the test.
}

// install prepares an installation on b, with settings ("NAME=value") on top.
func install(t testing.TB, b *broker, settings ...string) *installation {
	t.Helper()
	in := &installation{dir: t.TempDir()}
	prefix := "test-app-" + strings.ToLower(rand.Text()[:10])
	in.env = []string{
		"BURROW_DATA_DIR=" + in.dir,
		"BURROW_STORE_DSN=" + filepath.Join(in.dir, "archive.db"),
		"BURROW_HTTP_ADDR=127.0.0.1:0",
		"BURROW_BROKER_DRIVER=" + b.driver,
		"BURROW_BROKER_TOPIC_PREFIX=" + prefix,
		"BURROW_PRESENCE_HEARTBEAT=200ms",
		"BURROW_PRESENCE_LEASE=5s",
		"BURROW_PRESENCE_GRACE=100ms",
	}
	if address := b.need(t); address != "" {
		in.env = append(in.env, b.config+"="+address)
		t.Cleanup(func() { b.clean(t, address, prefix) })
	}
	if b.driver == "gochannel" {
		in.memory = router.NewMemory()
	}
	in.env = append(in.env, settings...)
	return in
}

// process is the program, running inside the test.
type process struct {
	t      testing.TB
	addr   string // of the edge, if there is one
	log    output
	out    output
	cancel context.CancelFunc
	exited chan struct{}
	code   int // valid once exited is closed
}

// launch starts the program with settings over those of the installation.
func (in *installation) launch(t testing.TB, args []string, settings ...string) (p *process, started <-chan string) {
	t.Helper()
	return in.launchWith(t, args, nil, settings...)
}

// launchWith is launch with options that are no flags, which change sets if it is
// not nil.
func (in *installation) launchWith(t testing.TB, args []string, change func(*options), settings ...string) (p *process, started <-chan string) {
	t.Helper()
	env := append(append([]string{}, in.env...), settings...)
	p = &process{t: t, exited: make(chan struct{})}
	var opts options
	parse := &commandLine{stdout: &p.out, stderr: &p.log, serve: func(_ context.Context, o options) int { opts = o; return exitOK }}
	if code := parse.execute(t.Context(), args); code != exitOK {
		t.Fatalf("%q: exit code %d: %s", args, code, p.log.String())
	}
	if change != nil {
		change(&opts)
	}
	told := make(chan string, 1)
	opts.started = func(addr string) { told <- addr }
	opts.memory = in.memory
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() {
		defer close(p.exited)
		p.code = runWith(ctx, opts, env, &p.out, &p.log)
	}()
	t.Cleanup(func() {
		cancel()
		p.wait()
		if t.Failed() {
			t.Logf("the log of %s:\n%s", p.addr, p.log.String())
		}
	})
	return p, told
}

// start starts the program and returns when it is ready.
func (in *installation) start(t testing.TB, args ...string) *process {
	t.Helper()
	return in.startWith(t, args)
}

func (in *installation) startWith(t testing.TB, args []string, settings ...string) *process {
	t.Helper()
	p, started := in.launch(t, args, settings...)
	select {
	case p.addr = <-started:
	case <-p.exited:
		t.Fatalf("the program ended with %d instead of starting", p.code)
	case <-time.After(patience):
		t.Fatal("the program did not start")
	}
	return p
}

// startAll starts n nodes at the same time.
func (in *installation) startAll(t testing.TB, n int, args ...string) []*process {
	t.Helper()
	nodes := make([]*process, n)
	started := make([]<-chan string, n)
	for i := range nodes {
		nodes[i], started[i] = in.launch(t, args)
	}
	for i, p := range nodes {
		select {
		case p.addr = <-started[i]:
		case <-p.exited:
			t.Fatalf("node %d ended with %d instead of starting", i, p.code)
		case <-time.After(patience):
			t.Fatalf("node %d did not start", i)
		}
	}
	return nodes
}

// wait returns the exit code once the program has ended.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatal("the program did not end")
	}
	return p.code
}

// stop ends the program as a signal does, and expects an orderly stop.
func (p *process) stop() {
	p.t.Helper()
	p.cancel()
	if code := p.wait(); code != exitOK {
		p.t.Errorf("exit code after an orderly stop: got %d, want %d", code, exitOK)
	}
}

// output is what a program writes.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// eventually waits for a condition that nothing announces.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("after %s still not: %s", within, what)
		}
	}
}

// archiveFile reads the archive as another program does, past the store package.
type archiveFile struct {
	t  testing.TB
	db *sql.DB
}

func (in *installation) archive(t testing.TB) archiveFile {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(in.dir, "archive.db")+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return archiveFile{t, db}
}

// number returns the one number that a query selects.
func (a archiveFile) number(query string) (n int) {
	a.t.Helper()
	if err := a.db.QueryRow(query).Scan(&n); err != nil {
		a.t.Fatalf("%s: %v", query, err)
	}
	return n
}

func (a archiveFile) count() int {
	a.t.Helper()
	return a.number("SELECT count(*) FROM messages")
}

// contents returns how often each content is stored.
func (a archiveFile) contents() map[string]int {
	a.t.Helper()
	rows, err := a.db.Query("SELECT content, count(*) FROM messages GROUP BY content")
	if err != nil {
		a.t.Fatal(err)
	}
	defer rows.Close()
	found := map[string]int{}
	for rows.Next() {
		var content string
		var n int
		if err := rows.Scan(&content, &n); err != nil {
			a.t.Fatal(err)
		}
		found[content] = n
	}
	if err := rows.Err(); err != nil {
		a.t.Fatal(err)
	}
	return found
}

// comesToHold waits until the archive has as many messages, and checks that they
// are these, each once, and that no function has given up on a message.
func (a archiveFile) comesToHold(want ...string) {
	a.t.Helper()
	eventually(a.t, patience, "everything is in the archive", func() bool { return a.count() >= len(want) })
	got := a.contents()
	for _, content := range want {
		if got[content] != 1 {
			a.t.Errorf("%q is in the archive %d times, want once", content, got[content])
		}
		delete(got, content)
	}
	if len(got) > 0 {
		a.t.Errorf("the archive also holds %v", got)
	}
	if n := a.number("SELECT count(*) FROM dead_letters"); n != 0 {
		a.t.Errorf("%d dead letters, want none", n)
	}
}
