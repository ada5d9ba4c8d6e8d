package main

import (
	"strings"
	"testing"
	"time"

	"burrow/config"
	"burrow/dlq"
	"burrow/store"
)

func TestReplayIsDoneWhenTheFunctionWouldHaveGivenUp(t *testing.T) {
	c := &dlqCommand{functions: config.Default().Functions.ByName()}
	for function, want := range map[string]time.Duration{"broadcast": 3 * time.Second, "print": 3 * time.Second} {
		if got := c.givesUpAfter(function); got != want {
			t.Errorf("%s gives up after %s, want %s", function, got, want)
		}
	}
	archive := c.givesUpAfter("archive")
	if archive < time.Minute || archive > 5*time.Minute {
		t.Errorf("archive gives up after %s", archive)
	}
	for _, tt := range []struct {
		letter  dlq.Letter
		sent    time.Duration // ago
		last    bool
		outcome string // "" if it waits on
		says    string
	}{
		{dlq.Letter{State: store.Replaying}, 0, false, "", ""},
		{dlq.Letter{State: store.Replaying}, 0, true, "pending", "no running node with the function archive"},
		{dlq.Letter{State: store.Replaying, Note: "no broker"}, 0, true, "pending", "tries again: no broker"},
		{dlq.Letter{State: store.Replayed}, 10 * time.Second, false, "", ""},
		{dlq.Letter{State: store.Replayed}, 10 * time.Second, true, "sent", "may still be trying"},
		{dlq.Letter{State: store.Replayed}, 10 * time.Minute, false, "sent", "has not failed in the 10m0s since"},
		{dlq.Letter{State: store.Waiting, Error: "disk full"}, 0, false, "failed", "failed again (0 attempts by now): disk full"},
		{dlq.Letter{State: store.Waiting, Note: "not valid"}, 0, false, "refused", "waits again: not valid"},
	} {
		tt.letter.Function = "archive"
		r := &result{Letter: &tt.letter}
		done := r.settle(time.Now().Add(-tt.sent), archive, tt.last, 10*time.Second)
		if done != (tt.outcome != "") || r.Outcome != tt.outcome || !strings.Contains(r.Message, tt.says) {
			t.Errorf("%+v: %v, %q, %q; want %q with %q", tt.letter, done, r.Outcome, r.Message, tt.outcome, tt.says)
		}
	}
}
