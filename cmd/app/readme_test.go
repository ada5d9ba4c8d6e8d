package main

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"burrow/gen/chat"
	"burrow/gen/tasks"
	"burrow/router"
)

// varying are the parts of an output that differ from run to run, and their places.
var varying = []struct {
	pattern *regexp.Regexp
	place   string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d)`), "LOGTIME"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`), "TIME"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`in the [0-9.]+s since`), "in the TIME since"},
	{regexp.MustCompile(`user \w+`), "user NAME"},
}

func withoutVarying(text string) string {
	for _, v := range varying {
		text = v.pattern.ReplaceAllString(text, v.place)
	}
	return text
}

// TestReadme_Outputs runs the commands of "When a function fails" in the README, and compares what a terminal
// shows, log lines and the last line of "go run" included.
func TestReadme_Outputs(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	in := install(t, memory, "BURROW_BROKER_TOPIC_PREFIX=burrow")
	var paper atomic.Bool
	var rt *router.Router
	node, started := in.launchWith(t, []string{"-edge=false", "-functions", deadLetters}, func(o *options) {
		o.functions = append(o.functions, "print")
		o.handle = func(r *router.Router) error {
			rt = r
			return router.Handle(r, "print", func(context.Context, *tasks.ArchiveMessage) error {
				if !paper.Load() {
					return errors.New("the printer has no paper")
				}
				return nil
			})
		}
	})
	node.isReady(started)
	if err := rt.Publish(t.Context(), &tasks.ArchiveMessage{Message: &chat.ChatMessage{Sender: "ada", Content: "hello, printer"}}); err != nil {
		t.Fatal(err)
	}
	in.comes(t, "print", "waiting", 5)
	commands := 0
	for i, block := range strings.Split(string(readme), "```console\n")[1:] {
		paper.Store(i > 0) // the text between the two says so
		block, _, _ = strings.Cut(block, "```")
		for _, command := range strings.Split(block, "$ go run ./cmd/app ")[1:] {
			line, want, _ := strings.Cut(command, "\n")
			var terminal output
			if code := run(t.Context(), strings.Fields(line), in.env, &terminal, &terminal); code != exitOK {
				_, _ = terminal.Write([]byte("exit status 1\n"))
			}
			if got := withoutVarying(terminal.String()); got != withoutVarying(want) {
				t.Errorf("burrow %s shows\n%s\nand the README\n%s", line, got, withoutVarying(want))
			}
			commands++
		}
	}
	if commands < 5 {
		t.Errorf("found %d commands", commands)
	}
}
