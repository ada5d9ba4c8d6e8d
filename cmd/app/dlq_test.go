package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"burrow/gen/chat"
	"burrow/gen/tasks"
	"burrow/handlers"
	"burrow/router"
	"burrow/store/storetest"
)

// broken is two functions on each of two topics, of which one fails for as long as
// it is broken.
type broken struct {
	mu     sync.Mutex
	router *router.Router
	broken bool
	ran    map[string]int // by function and content
}

func (b *broken) handle(r *router.Router) error {
	b.mu.Lock()
	b.router = r
	b.mu.Unlock()
	note := func(function string, fails bool) func(string) error {
		return func(content string) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.ran[function+" "+content]++
			if fails && b.broken {
				return handlers.Permanent(errors.New("out of \x1b[31mpaper"))
			}
			return nil
		}
	}
	task := func(run func(string) error) func(context.Context, *tasks.ArchiveMessage) error {
		return func(_ context.Context, m *tasks.ArchiveMessage) error { return run(m.GetMessage().GetContent()) }
	}
	event := func(run func(string) error) func(context.Context, *chat.ChatMessage) error {
		return func(_ context.Context, m *chat.ChatMessage) error { return run(m.GetContent()) }
	}
	return errors.Join(
		router.Handle(r, "print", task(note("print", true))),
		router.Handle(r, "count", task(note("count", false))),
		router.Handle(r, "ring", event(note("ring", true))),
		router.Handle(r, "log", event(note("log", false))),
	)
}

func (b *broken) set(broken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = broken
}

func (b *broken) runs(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ran[what]
}

// node starts a node with the functions of b.
func (b *broken) node(t *testing.T, in *installation) *process {
	t.Helper()
	p, started := in.launchWith(t, nil, func(o *options) { o.handle = b.handle })
	select {
	case <-started:
	case <-p.exited:
		t.Fatalf("the program ended with %d instead of starting", p.code)
	}
	return p
}

func (b *broken) publish(t *testing.T, content string) {
	t.Helper()
	msg := &chat.ChatMessage{Sender: "ada", Content: content}
	if err := b.router.Publish(t.Context(), &tasks.ArchiveMessage{Message: msg}, msg); err != nil {
		t.Fatal(err)
	}
}

// letterJSON is a letter as programs read it.
type letterJSON struct {
	ID                     int64
	State, Function, Error string
	MessageID              string `json:"message_id"`
	Attempts, Replays      int
	Payload                map[string]any
	Actions                []struct{ Who, What string }
}

func (in *installation) dlq(t *testing.T, wantCode int, args ...string) (stdout, stderr string) {
	t.Helper()
	code, stdout, stderr := runs(t, in.env, append([]string{"dlq"}, args...)...)
	if code != wantCode {
		t.Fatalf("burrow dlq %s: exit code %d, want %d:\n%s%s", strings.Join(args, " "), code, wantCode, stdout, stderr)
	}
	return stdout, stderr
}

// letters returns what list says of a function, by its flags.
func (in *installation) letters(t *testing.T, function string, flags ...string) []letterJSON {
	t.Helper()
	out, _ := in.dlq(t, exitOK, append([]string{"list", "-json", "-function", function}, flags...)...)
	var page struct{ Letters []letterJSON }
	if err := json.Unmarshal([]byte(out), &page); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return page.Letters
}

// comes waits for the one letter of a function that is in state with so many attempts.
func (in *installation) comes(t *testing.T, function, state string, attempts int) (found letterJSON) {
	t.Helper()
	eventually(t, patience, fmt.Sprintf("one letter of %s is %s after %d attempts", function, state, attempts), func() bool {
		letters := in.letters(t, function, "-all")
		if len(letters) == 1 {
			found = letters[0]
		}
		return len(letters) == 1 && found.State == state && found.Attempts == attempts
	})
	return found
}

// TestReplayRunsOnlyTheFunctionThatFailed takes letters of a task and of an event
// all the way: they are listed, replayed while nobody runs and while somebody does,
// fail again, are mended, and are dropped.
func TestReplayRunsOnlyTheFunctionThatFailed(t *testing.T) {
	for _, b := range []*broker{memory, embedded, external, onRedis, onAMQP} {
		t.Run(b.String(), func(t *testing.T) {
			t.Parallel()
			in := install(t, b)
			work := &broken{broken: true, ran: map[string]int{}}
			node := work.node(t, in)
			work.publish(t, "hello")
			task, event := in.comes(t, "print", "waiting", 1), in.comes(t, "ring", "waiting", 1)
			if !strings.Contains(task.Error, "out of \x1b[31mpaper") {
				t.Errorf("the error is %q", task.Error)
			}
			text, _ := in.dlq(t, exitOK, "list")
			if strings.Contains(text, "\x1b") || !strings.Contains(text, `out of \x1b[31mpaper`) {
				t.Errorf("the list is not fit for a terminal: %q", text)
			}

			// It fails again, with its count.
			id := fmt.Sprint(task.ID)
			text, _ = in.dlq(t, exitFailed, "replay", id, "-wait", "1m")
			if !strings.Contains(text, "print failed again (2 attempts by now)") {
				t.Errorf("the replay failed, and it says %q", text)
			}
			if l := in.comes(t, "print", "waiting", 2); l.Replays != 1 || l.MessageID != task.MessageID {
				t.Errorf("it is back as %+v, and was %+v", l, task)
			}

			// Mended; asked for twice at the same time it runs once.
			work.set(false)
			before := work.runs("print hello")
			var wg sync.WaitGroup
			codes := make([]int, 4)
			for i := range codes {
				wg.Go(func() {
					codes[i] = run(t.Context(), []string{"dlq", "replay", id, "-wait", "0"}, in.env, new(output), new(output))
				})
			}
			wg.Wait()
			if ok := strings.Count(fmt.Sprint(codes), "0"); ok != 1 {
				t.Errorf("exit codes %v, want one 0", codes)
			}
			eventually(t, patience, "print runs", func() bool { return work.runs("print hello") > before })
			in.comes(t, "print", "replayed", 2)
			in.dlq(t, exitFailed, "replay", id)

			// Requested while nobody runs, sent at the next start.
			if b != memory { // which forgets what waits
				node.stop()
				text, _ = in.dlq(t, exitOK, "replay", "-all", "-wait", "200ms")
				if !strings.Contains(text, "no running node with the function ring has taken it") {
					t.Errorf("nobody runs, and it says %q", text)
				}
				node = work.node(t, in)
			} else {
				in.dlq(t, exitOK, "replay", "-all", "-wait", "1m")
			}
			eventually(t, patience, "ring runs", func() bool { return work.runs("ring hello") == 2 })
			in.comes(t, "ring", "replayed", 1)

			if n := work.runs("print hello"); n != 3 {
				t.Errorf("print ran %d times, want 3: it failed, failed again, and worked", n)
			}
			if count, log := work.runs("count hello"), work.runs("log hello"); count != 1 || log != 1 {
				t.Errorf("functions that did not fail ran %d and %d times, want once", count, log)
			}
			shown, _ := in.dlq(t, exitOK, "show", fmt.Sprint(event.ID), "-json")
			var l letterJSON
			if err := json.Unmarshal([]byte(shown), &l); err != nil || l.Payload["content"] != "hello" || len(l.Actions) != 2 ||
				!strings.HasPrefix(l.Actions[0].Who, "user ") || l.Actions[1].What != "sent" {
				t.Errorf("%v in %s", err, shown)
			}
			in.dlq(t, exitOK, "drop", fmt.Sprint(event.ID))
			in.dlq(t, exitFailed, "show", fmt.Sprint(event.ID))
			node.stop()
			if len(lines(node.log.String(), "a replay was sent")) == 0 {
				t.Error("the log does not say that a replay was sent")
			}
		})
	}
}

// TestDLQ_EarlierSchema runs the commands on an installation of an earlier version, also while it runs in
// another process: reading commands read, writing commands refuse, and no byte changes.
func TestDLQ_EarlierSchema(t *testing.T) {
	in := install(t, memory)
	db := storetest.Database(t, filepath.Join(in.dir, "archive.db"), 5)
	if _, err := db.Exec(`INSERT INTO dead_letters (message_id, function, topic, error, attempts, payload, failed_at)
		VALUES ('m', 'print', 'topic', 'no paper', 5, x'01', 1)`); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"running", "stopped"} {
		if state == "stopped" {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
		before := storetest.Files(t, in.dir)
		for line, says := range map[string]string{"dlq list": "no paper", "dlq show 1": "no paper", "dlq list -json -all": "no paper"} {
			code, out, log := in.process(t, strings.Fields(line)...)
			if code != exitOK || !strings.Contains(out, says) || log != "" {
				t.Errorf("%s, burrow %s: got %d, %q and %q", state, line, code, out, log)
			}
		}
		for _, line := range []string{"dlq drop 1", "dlq replay 1", "dlq replay -all"} {
			code, out, log := in.process(t, strings.Fields(line)...)
			if code != exitFailed || out != "" || !strings.Contains(log, "has schema 5, and this command needs schema 8") {
				t.Errorf("%s, burrow %s: got %d, %q and %q", state, line, code, out, log)
			}
		}
		if !maps.Equal(before, storetest.Files(t, in.dir)) {
			t.Errorf("%s: files changed", state)
		}
	}
}

// process runs the program in a process that ends by itself.
func (in *installation) process(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), in.env...), runMain+"=1")
	var out, log strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); cmd.ProcessState == nil || ctx.Err() != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), log.String()
}
