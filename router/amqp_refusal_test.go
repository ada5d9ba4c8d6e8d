package router

import (
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// amqpVhost makes a vhost on the shared server and returns the URL of its user, who has
// the same name, and the administrator's command for it.
func amqpVhost(t *testing.T, permissions ...string) (address, name string, ctl func(args ...string)) {
	t.Helper()
	u, err := url.Parse(amqpTestURL(t))
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("rabbitmqctl")
	if err != nil || os.Getuid() != 0 {
		if os.Getenv("BURROW_TEST_REQUIRE") != "" {
			t.Fatalf("rabbitmqctl cannot be run: %v, user %d", err, os.Getuid())
		}
		t.Skip("needs rabbitmqctl and root")
	}
	ctl = func(args ...string) {
		t.Helper()
		if out, err := exec.Command(program, append([]string{"-q"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("rabbitmqctl %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	name = testPrefix()
	ctl("add_vhost", name)
	t.Cleanup(func() { ctl("delete_vhost", name); ctl("delete_user", name) })
	ctl("add_user", name, "right")
	if len(permissions) == 0 {
		permissions = []string{".*", ".*", ".*"}
	}
	ctl(append([]string{"set_permissions", "-p", name, name}, permissions...)...)
	u.User, u.Path = url.UserPassword(name, "right"), "/"+name
	return u.String(), name, ctl
}

// TestAMQP_RefusalNamesFix declares a task function on a server that refuses one step.
func TestAMQP_RefusalNamesFix(t *testing.T) {
	t.Parallel()
	address, name, ctl := amqpVhost(t)
	replace := func(old, by string) string { return strings.Replace(address, old, by, 1) }
	limit := func(limits string) func() {
		return func() { ctl("set_vhost_limits", "-p", name, limits) }
	}
	for _, test := range []struct {
		name, url  string
		set, clear func()
		want       []string
		never      string
	}{
		{name: "queue limit", set: limit(`{"max-queues":0}`), clear: limit(`{}`), want: []string{"max-queues"}, never: "delete it"},
		{name: "connection limit", set: limit(`{"max-connections":1}`), clear: limit(`{}`), want: []string{"max-connections of vhost"}, never: "password"},
		{
			name: "connection limit of the user", want: []string{"max-connections of user"}, never: "password",
			set:   func() { ctl("set_user_limits", name, `{"max-connections":1}`) },
			clear: func() { ctl("clear_user_limits", name, "all") },
		},
		{name: "password", url: replace(":right@", ":sesame@"), want: []string{"wrong password", "correct broker.amqp.url"}},
		{name: "user", url: replace("//"+name, "//nobody"), want: []string{`unknown user "nobody"`}},
		{name: "vhost", url: address + "-none", want: []string{"rabbitmqctl add_vhost"}, never: "password"},
		{
			name: "no permissions in the vhost", want: []string{"rabbitmqctl set_permissions"}, never: "password",
			set:   func() { ctl("clear_permissions", "-p", name, name) },
			clear: func() { ctl("set_permissions", "-p", name, name, ".*", ".*", ".*") },
		},
		{
			name: "no configure", want: []string{"permissions configure, write and read"}, never: "password",
			set:   func() { ctl("set_permissions", "-p", name, name, "", ".*", ".*") },
			clear: func() { ctl("set_permissions", "-p", name, name, ".*", ".*", ".*") },
		},
		{name: "reserved prefix", want: []string{"broker.topic_prefix"}, never: "permissions"},
		{name: "unknown host", url: "amqp://a:sesame@no-such-host.invalid/", want: []string{"the host"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.set != nil {
				test.set()
				defer test.clear()
			}
			cfg := testConfig(t, "amqp")
			cfg.AMQP.URL = address
			if test.url != "" {
				cfg.AMQP.URL = test.url
			}
			if test.name == "unknown host" {
				cfg.ConnectTimeout = 500 * time.Millisecond
			}
			topic := cfg.TopicPrefix + ".tasks.Work"
			if test.name == "reserved prefix" {
				topic = "amq.tasks.Work"
			}
			drv, err := newAMQPDriver(t.Context(), cfg)
			if err == nil {
				defer func() { _ = drv.close() }()
				if err = drv.declare(t.Context(), topic, Task, "work"); err != nil && !drv.refuses(err) {
					t.Errorf("%v: is waited for", err)
				}
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
			if test.never != "" && strings.Contains(err.Error(), test.never) || strings.Contains(err.Error(), "sesame") {
				t.Errorf("got %v, without %q or a password", err, test.never)
			}
		})
	}
}

func TestAMQP_ExplainByText(t *testing.T) {
	for _, test := range []struct {
		code       int
		text, want string
	}{
		{406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'x'", "delete it there"},
		{406, "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in vhost 'v' (2) is reached", "max-queues"},
		{406, "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue 'q'", ""},
		{405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q'", "another program owns it"},
		{403, "ACCESS_REFUSED - exchange name 'amq.x' contains reserved prefix 'amq.*'", "broker.topic_prefix"},
		{403, "ACCESS_REFUSED - configure access to queue 'q' in vhost '/' refused for user 'u'", "permissions"},
		{530, "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (1)", ""},
	} {
		got := amqpExplain("queue q", &amqp.Error{Code: test.code, Reason: test.text, Server: true}).Error()
		if !strings.Contains(got, test.want) || !strings.Contains(got, test.text) || test.want != "delete it there" && strings.Contains(got, "delete it there") {
			t.Errorf("%s: got %q, want %q in it", test.text, got, test.want)
		}
	}
}

// TestAMQP_ConnectionsEndedAtOnce has RabbitMQ end each connection soon after it accepted
// it: over a limit of channels, whose answer comes on the open connection.
func TestAMQP_ConnectionsEndedAtOnce(t *testing.T) {
	t.Parallel()
	address, name, ctl := amqpVhost(t)
	cfg := testConfig(t, "amqp")
	cfg.AMQP.URL = address
	var log logBuffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	drv, err := newAMQPDriver(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = drv.close() }()
	ctl("set_user_limits", name, `{"max-channels":1}`)
	begun := time.Now()
	failed := 0
	waitFor(t, "ten connections to end", func() bool { // each ping opens two channels
		if drv.ping(t.Context()) != nil {
			failed++
		}
		return failed >= 10
	})
	lines := strings.Count(log.String(), "connection to rabbitmq lost")
	if most := 2 * (1 + int(time.Since(begun)/amqpSayWaiting)); lines < 1 || lines > most { // of two connections
		t.Errorf("%d lines about a lost connection, want 1 to %d:\n%s", lines, most, log.String())
	}
	if !strings.Contains(log.String(), "raise max-channels of user") || strings.Contains(log.String(), "password") {
		t.Errorf("log without the fix: %s", log.String())
	}
	ctl("clear_user_limits", name, "all")
	waitFor(t, "both connections", func() bool { return drv.ping(t.Context()) == nil })
}
