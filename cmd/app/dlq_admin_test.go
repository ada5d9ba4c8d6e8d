package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"burrow/config"
	"burrow/gen/chat"
	"burrow/gen/tasks"
	"burrow/handlers"
	"burrow/router"
)

func TestDLQRefusesWhatItDoesNotUnderstand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	env := []string{"BURROW_DATA_DIR=" + dir}
	for _, test := range []struct {
		args string
		code int
		says string
	}{
		{"", exitUsage, "list, show, replay or drop"},
		{"lst", exitUsage, `no command "lst"`},
		{"list 1", exitUsage, "show does"},
		{"list -limit 0", exitUsage, "-limit"},
		{"show", exitUsage, "one id"},
		{"show 1 2", exitUsage, "one id"},
		{"show one", exitUsage, `"one" is not the id`},
		{"show -- -1", exitUsage, `"-1" is not the id`},
		{"show 99999999999999999999", exitUsage, "is not the id"},
		{"replay", exitUsage, "ids, or -all"},
		{"replay 1 -all", exitUsage, "ids, or -all"},
		{"replay 1 -function f", exitUsage, "-all"},
		{"replay 1 -wait -1s", exitUsage, "-wait"},
		{"drop -json", exitUsage, "drop takes ids"},
		{"drop 1 -force", exitUsage, "-force"},
		{"list -config none.toml", exitUsage, "none.toml"},
		{"list -wait 1s", exitUsage, "-wait"},
		{"list", exitFailed, "there is no database " + dir},
	} {
		code, out, log := runs(t, env, append([]string{"dlq"}, strings.Fields(test.args)...)...)
		if code != test.code || out != "" || !strings.Contains(log, test.says) {
			t.Errorf("burrow dlq %s: got %d, %q and %q; want %d with %q", test.args, code, out, log, test.code, test.says)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("it made its data directory")
	}
}

// ask sends a request to the admin API of p.
func (p *process) ask(method, path string, headers ...string) (int, string) {
	p.t.Helper()
	return p.request(method, "/admin/dead-letters"+path, headers...)
}

// get sends a GET to p.
func (p *process) get(path string, headers ...string) (int, string) {
	p.t.Helper()
	return p.request("GET", path, headers...)
}

// bearer returns the header with the generated token of the installation.
func (in *installation) bearer(t testing.TB) string {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(in.dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	return "Authorization: Bearer " + strings.TrimSpace(string(token))
}

func (p *process) request(method, path string, headers ...string) (int, string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+p.addr+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// TestAdminAPIReplays does over HTTP what the commands do, and the commands see it.
func TestAdminAPIReplays(t *testing.T) {
	const token = "BURROW_ADMIN_TOKEN=0123456789abcdef0123456789abcdef"
	in := install(t, embedded)
	work := &broken{broken: true, ran: map[string]int{}}
	p, started := in.launchWith(t, nil, func(o *options) { o.handle = work.handle }, token)
	select {
	case p.addr = <-started:
	case <-p.exited:
		t.Fatalf("the program ended with %d instead of starting", p.code)
	}
	work.publish(t, "hello")
	letter := in.comes(t, "print", "waiting", 1)
	path := fmt.Sprint("/", letter.ID)
	if code, body := p.ask("GET", path); code != 401 {
		t.Errorf("without the token: %d %s", code, body)
	}
	bearer := "Authorization: Bearer " + strings.TrimPrefix(token, "BURROW_ADMIN_TOKEN=")
	shown, _ := in.dlq(t, exitOK, "show", path[1:], "-json")
	if code, body := p.ask("GET", path, bearer); code != 200 || body != shown {
		t.Errorf("over HTTP it is %d %s, and the command says %s", code, body, shown)
	}
	work.set(false)
	if code, body := p.ask("POST", path+"/replay", bearer); code != 202 {
		t.Errorf("replay: %d %s", code, body)
	}
	eventually(t, patience, "print runs", func() bool { return work.runs("print hello") == 2 })
	in.comes(t, "print", "replayed", 1)
	if code, body := p.ask("POST", path+"/replay", bearer); code != 409 {
		t.Errorf("replayed twice: %d %s", code, body)
	}
	if code, body := p.ask("DELETE", path, bearer); code != 200 {
		t.Errorf("drop: %d %s", code, body)
	}
	in.dlq(t, exitFailed, "show", path[1:])
	p.stop()
	if n := work.runs("print hello"); n != 2 {
		t.Errorf("print ran %d times, want 2", n)
	}
	log := p.log.String()
	if len(lines(log, `who="token 127.0.0.1"`)) != 2 || strings.Contains(log, token[19:]) {
		t.Errorf("the log should name who asked, and not the token:\n%s", log)
	}
}

// TestLetterThatNoBrokerTakesIsKept gives up on a message that is as large as the
// broker allows: with what is said about it, the letter is larger.
func TestLetterThatNoBrokerTakesIsKept(t *testing.T) {
	in := install(t, memory, "BURROW_BROKER_MAX_MESSAGE_BYTES=16384")
	var rt *router.Router
	p, started := in.launchWith(t, []string{"-edge=false"}, func(o *options) {
		o.handle = func(r *router.Router) error {
			rt = r
			return router.Handle(r, "print", func(context.Context, *tasks.ArchiveMessage) error {
				return handlers.Permanent(errors.New("out of paper"))
			})
		}
	})
	<-started
	large := &tasks.ArchiveMessage{Message: &chat.ChatMessage{Sender: "ada", Content: strings.Repeat("x", 16300)}}
	if err := rt.Publish(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	in.comes(t, "print", "waiting", 1)
	text, _ := in.dlq(t, exitFailed, "replay", "-all", "-wait", "1m") // it fails again, and is kept again
	if !strings.Contains(text, "failed again (2 attempts by now)") {
		t.Errorf("it says %q", text)
	}
	p.stop()
}

func TestLetterFitsItsSchema(t *testing.T) {
	metadata := map[string]string{"bad\xff": "x", "value": "\xff", "long": strings.Repeat("x", 1025), strings.Repeat("k", 129): "x", "burrow_key": "a/b"}
	for i := range 100 {
		metadata[fmt.Sprintf("more%03d", i)] = strings.Repeat("é", 512)
	}
	defaults := config.Default()
	rt, err := router.New(t.Context(), router.Config{
		Driver: "gochannel", TopicPrefix: defaults.Broker.TopicPrefix, PublishTimeout: time.Second, MaxMessageBytes: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rt.Close() }()
	letter := letterOf(router.DeadLetter{
		MessageID: strings.Repeat("é", 400), Topic: "t", Function: "f", Err: errors.New(strings.Repeat("é\xff", 4096)), Attempts: 1,
		Metadata: metadata, Replay: strings.Repeat("é", 100), Time: time.Now(),
	})
	if err := rt.Publish(t.Context(), letter); err != nil {
		t.Error(err)
	}
	if a, b := boundID(strings.Repeat("a", 400)+"1"), boundID(strings.Repeat("a", 400)+"2"); a == b || boundID("\xff") == boundID("\xfe") {
		t.Errorf("two ids became one: %q", a)
	}
	if letter.GetMetadata()["burrow_key"] != "a/b" || len(letter.GetMetadata()) != 32 {
		t.Errorf("%d of the metadata are kept: %v", len(letter.GetMetadata()), letter.GetMetadata()["burrow_key"])
	}
}
