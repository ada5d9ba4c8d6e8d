package router

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"burrow/gen/chat"
	"burrow/gen/tasks"
	"burrow/internal/brokertest"
)

// TestNATS_RightsTriedAtStartAndInCheck refuses users without one right, with and without
// existing streams: quickly, with the denied subject, and without a message in a stream.
func TestNATS_RightsTriedAtStartAndInCheck(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.NATS)
	server.Reload(natsAccounts)
	server.Restart()
	as := func(t *testing.T, user, prefix string) *Router {
		t.Helper()
		cfg := testConfig(t, "nats")
		cfg.Log = slog.New(slog.DiscardHandler)
		cfg.NATS.URL = strings.Replace(server.URL(), "://", "://"+user+":pw@", 1)
		cfg.TopicPrefix, cfg.ConnectTimeout = prefix, time.Minute
		r, err := New(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		if err := Handle(r, "greet", func(context.Context, *chat.ChatMessage) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if err := Handle(r, "archive", func(context.Context, *tasks.ArchiveMessage) error { return nil }); err != nil {
			t.Fatal(err)
		}
		return r
	}
	start := func(t *testing.T, r *Router) error {
		stopped := make(chan error, 1)
		go func() { stopped <- r.Run(t.Context()) }()
		select {
		case err := <-stopped:
			return err
		case <-r.Running():
			err := r.Shutdown(t.Context())
			<-stopped
			return err
		}
	}
	const existing = "rights.existing"
	if err := start(t, as(t, "ok", existing)); err != nil {
		t.Fatal(err)
	}
	names := func(t *testing.T) (names []string) {
		js := as(t, "ok", "rights.none").drv.(*natsDriver).conn().pubJS
		infos := js.ListStreams(t.Context())
		for info := range infos.Info() {
			names = append(names, info.Config.Name)
			if info.State.LastSeq > 0 && info.State.Msgs > 0 {
				t.Errorf("%s has %d messages", info.Config.Name, info.State.Msgs)
			}
		}
		if err := infos.Err(); err != nil {
			t.Fatal(err)
		}
		return names
	}
	for _, test := range []struct{ user, want string }{
		{"ok", ""},
		{"nopublish", "rights."},
		{"nonext", "$JS.API.CONSUMER.MSG.NEXT."},
		{"noack", "$JS.ACK."},
		{"noconsumer", "$JS.API.CONSUMER."},
	} {
		for _, prefix := range []string{existing, "rights.new-" + test.user} {
			for name, try := range map[string]func(*testing.T, *Router) error{
				"check": func(t *testing.T, r *Router) error {
					_, err := r.Rehearse(t.Context())
					return err
				},
				"start": start,
			} {
				t.Run(test.user+"/"+prefix+"/"+name, func(t *testing.T) {
					before := names(t)
					begun := time.Now()
					err := try(t, as(t, test.user, prefix))
					if took := time.Since(begun); took > 8*time.Second {
						t.Errorf("took %s", took)
					}
					switch {
					case test.want == "" && err != nil:
						t.Errorf("got %v, want none", err)
					case test.want != "" && (err == nil || !strings.Contains(err.Error(), `"`+test.want)):
						t.Errorf("got %v, want the denied subject %s", err, test.want)
					}
					if after := names(t); name == "check" && len(after) != len(before) {
						t.Errorf("streams before %v, after %v", before, after)
					}
				})
			}
		}
	}
}

// TestNATS_DeniedPublishFailsAtOnce removes the right to publish while the driver runs.
func TestNATS_DeniedPublishFailsAtOnce(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.NATS)
	const all = "max_payload: 2MB\nauthorization { users: [{user: u, password: pw}] }\n"
	server.Reload(all)
	server.Restart()
	cfg := testConfig(t, "nats")
	cfg.Log = slog.New(slog.DiscardHandler)
	cfg.NATS.URL = strings.Replace(server.URL(), "://", "://u:pw@", 1)
	drv := openTestDriver(t, cfg)
	topic := cfg.TopicPrefix + ".tasks.Work"
	publishTo(t, drv, Task, topic, "1")
	server.Reload(strings.Replace(all, "password: pw", `password: pw, permissions: {publish: {deny: "`+topic+`"}}`, 1))
	waitFor(t, "a denied publish before its deadline", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := drv.publish(ctx, topic, Task, []*message.Message{message.NewMessage(watermill.NewUUID(), []byte("x"))})
		return err != nil && ctx.Err() == nil && strings.Contains(err.Error(), `"`+topic+`"`) && drv.refuses(err)
	})
}
