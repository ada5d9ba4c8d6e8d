package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// runs runs the program until it ends by itself.
func runs(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, log output
	code = run(ctx, args, env, &out, &log)
	if ctx.Err() != nil {
		t.Fatalf("the program did not end by itself; its log:\n%s", log.String())
	}
	return code, out.String(), log.String()
}

// lines returns the lines of text that contain part.
func lines(text, part string) (found []string) {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// freePort returns an address on which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestVersion(t *testing.T) {
	code, out, log := runs(t, nil, "-version")
	if code != exitOK || !strings.HasPrefix(out, "burrow ") || !strings.Contains(out, runtime.Version()) || log != "" {
		t.Errorf("got %d, %q, %q", code, out, log)
	}
}

// TestRefusedAtOnce starts the program with what can never work: it says all that
// is wrong, and touches nothing.
func TestRefusedAtOnce(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.toml")
	wrong := "[edge]\nrate = -1.0\nbursts = 5\n\n[broker]\ndriver = \"redsi\"\n\n[presence]\nlease = \"soon\"\n"
	if err := os.WriteFile(file, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	for _, test := range []struct {
		name string
		args []string
		env  []string
		says []string
	}{
		{"a wrong file", []string{"-config", file}, nil, []string{"edge.rate", "edge.bursts", "broker.driver", "presence.lease", "config.toml:2", "gochannel"}},
		{"a wrong environment", nil, []string{"BURROW_EDGE_RATE=fast", "BURROW_HTTP_PROT=80"}, []string{"BURROW_EDGE_RATE", "BURROW_HTTP_PROT"}},
		{"another database", nil, []string{"BURROW_STORE_DSN=postgres://user:secret@db/x"}, []string{"BURROW_STORE_DSN", "SQLite"}},
		{"both", []string{"-config", file}, []string{"BURROW_LOG_LEVEL=loud"}, []string{"edge.rate", "edge.bursts", "BURROW_LOG_LEVEL"}},
		{"a file that is not there", []string{"-config", filepath.Join(dir, "none.toml")}, nil, []string{"none.toml", "-config"}},
		{"an unknown function", []string{"-functions", "archive,brodcast"}, nil, []string{"brodcast", "broadcast, presence, archive, dead-letters"}},
		{"an unknown flag", []string{"-port", "80"}, nil, []string{"-port"}},
		{"an argument", []string{"config.toml"}, nil, []string{"config.toml"}},
		{"tokens without a key", nil, []string{"BURROW_AUTH_MODE=jwt"}, []string{"auth.jwt.key_file", "auth.jwt.key"}},
		{"a wrong file to check", []string{"-check", "-config", file}, nil, []string{"edge.rate", "edge.bursts"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, out, log := runs(t, append(test.env, "BURROW_DATA_DIR="+data), test.args...)
			if code != exitUsage || out != "" {
				t.Errorf("got %d and %q, want %d", code, out, exitUsage)
			}
			for _, part := range test.says {
				if !strings.Contains(log, part) {
					t.Errorf("it does not say %q:\n%s", part, log)
				}
			}
			if strings.Contains(log, "secret") {
				t.Errorf("it shows a password:\n%s", log)
			}
			if _, err := os.Stat(data); err == nil {
				t.Error("it made its data directory")
			}
		})
	}
}

// TestCannotStart starts the program where something is in its way: one clear line.
func TestCannotStart(t *testing.T) {
	first := install(t, embedded).start(t)
	locked := install(t, embedded)
	locked.start(t)
	readOnly := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(readOnly, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	linked, blocked := install(t, embedded), install(t, embedded)
	if err := errors.Join(
		os.Symlink(filepath.Join(t.TempDir(), "gone"), link),
		os.MkdirAll(linked.dir, 0o700),
		os.Symlink(filepath.Join(t.TempDir(), "gone"), filepath.Join(linked.dir, "nats")),
		os.MkdirAll(filepath.Join(blocked.dir, "nats"), 0o700),
		os.WriteFile(filepath.Join(blocked.dir, "nats", "jetstream"), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		env  []string
		says []string
	}{
		{"the port is taken", append(install(t, memory).env, "BURROW_HTTP_ADDR="+first.addr), []string{first.addr, "http.addr"}},
		{"the data directory is in use", locked.env, []string{locked.dir, "in use by another process", "data_dir"}},
		{"the key of the tokens is missing", append(install(t, memory).env, "BURROW_AUTH_MODE=jwt", "BURROW_AUTH_JWT_KEY_FILE="+readOnly+"s"), []string{readOnly + "s", "auth.jwt.key_file", "no such file"}},
		{"the key of the tokens is empty", append(install(t, memory).env, "BURROW_AUTH_MODE=jwt", "BURROW_AUTH_JWT_KEY_FILE="+readOnly), []string{readOnly, "auth.jwt.key_file", "too short"}},
		{"the data directory is a link to nothing", append(install(t, memory).env, "BURROW_DATA_DIR="+link, "BURROW_STORE_DSN="), []string{link, "data_dir"}},
		{"the directory of the broker is a link to nothing", linked.env, []string{filepath.Join(linked.dir, "nats"), "data_dir"}},
		{"the directory of the streams is a file", blocked.env, []string{filepath.Join(blocked.dir, "nats"), "data_dir"}},
		{"the data directory is a file", append(install(t, memory).env, "BURROW_DATA_DIR="+readOnly, "BURROW_STORE_DSN="), []string{readOnly, "data_dir"}},
	} {
		for _, mode := range []string{"", "-check"} {
			if mode != "" && strings.Contains(test.name, "in use") {
				continue // TestCheck_BesideARunningNode
			}
			t.Run(strings.TrimSpace(test.name+" "+mode), func(t *testing.T) {
				code, out, log := runs(t, test.env, strings.Fields(mode)...)
				if code != exitFailed || out != "" {
					t.Errorf("got %d and %q, want %d", code, out, exitFailed)
				}
				failures := lines(log, "level=ERROR")
				if len(failures) != 1 {
					t.Fatalf("it says:\n%s\nwant one line with the error", log)
				}
				for _, part := range test.says {
					if !strings.Contains(failures[0], part) {
						t.Errorf("it does not say %q: %s", part, failures[0])
					}
				}
			})
		}
	}
}

// TestBrokerIsAway starts the program before its broker: it waits, visibly, and
// gives up after broker.connect_timeout.
func TestBrokerIsAway(t *testing.T) {
	for driver, setting := range map[string]string{
		"nats":  "BURROW_BROKER_NATS_URL=nats://user:secret@",
		"redis": "BURROW_BROKER_REDIS_URL=redis://user:secret@",
		"amqp":  "BURROW_BROKER_AMQP_URL=amqp://user:secret@",
	} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			addr := freePort(t)
			env := append(install(t, memory).env, "BURROW_BROKER_DRIVER="+driver, setting+addr, "BURROW_BROKER_CONNECT_TIMEOUT=1s")
			begun := time.Now()
			code, _, log := runs(t, env)
			if took := time.Since(begun); took < 900*time.Millisecond {
				t.Errorf("it gave up after %s, want 1s", took)
			}
			if code != exitFailed {
				t.Errorf("got %d, want %d", code, exitFailed)
			}
			if waits := lines(log, "waiting for"); len(waits) == 0 || !strings.Contains(waits[0], addr) {
				t.Errorf("it does not say that it waits for %s:\n%s", addr, log)
			}
			failures := lines(log, "level=ERROR")
			if len(failures) != 1 || !strings.Contains(failures[0], "broker.connect_timeout") || !strings.Contains(failures[0], addr) || !strings.Contains(failures[0], "broker."+driver+".url") {
				t.Errorf("it says:\n%s\nwant one line with the address, broker.connect_timeout and broker.%s.url", log, driver)
			}
			if strings.Contains(log, "secret") {
				t.Errorf("the log holds the password:\n%s", log)
			}
		})
	}
}

// TestStopWhileWaiting stops the program while it waits for its broker.
func TestStopWhileWaiting(t *testing.T) {
	for _, driver := range []string{"nats", "redis", "amqp"} {
		t.Run(driver, func(t *testing.T) {
			in := install(t, memory)
			p, _ := in.launch(t, nil, "BURROW_BROKER_DRIVER="+driver,
				"BURROW_BROKER_NATS_URL=nats://"+freePort(t), "BURROW_BROKER_REDIS_URL=redis://"+freePort(t), "BURROW_BROKER_AMQP_URL=amqp://"+freePort(t))
			eventually(t, patience, "it waits", func() bool { return strings.Contains(p.log.String(), "waiting for") })
			p.stop()
			if failures := lines(p.log.String(), "level=ERROR"); len(failures) > 0 {
				t.Errorf("it complains: %q", failures)
			}
		})
	}
}

// TestStart_UnusedSetting starts with the address of a broker that is not the driver's.
func TestStart_UnusedSetting(t *testing.T) {
	in := install(t, embedded, "BURROW_BROKER_REDIS_URL=redis://user:secret@10.0.0.1/0")
	p := in.start(t)
	p.stop()
	_, _, log := runs(t, in.env, "-check")
	for _, log := range []string{log, p.log.String()} {
		if warnings := lines(log, "level=WARN"); len(warnings) != 1 || !strings.Contains(warnings[0], "BURROW_BROKER_REDIS_URL: set but unused") ||
			!strings.Contains(warnings[0], "did you mean BURROW_BROKER_DRIVER=redis?") || strings.Contains(log, "secret") {
			t.Errorf("got\n%s\nwant one warning with the setting and the fix", log)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, b := range []*broker{memory, embedded, external, onRedis, onAMQP} {
		t.Run(b.String(), func(t *testing.T) {
			in := install(t, b)
			code, out, log := runs(t, in.env, "-check")
			if code != exitOK || !strings.Contains(out, "fine") || strings.Contains(log, "level=ERROR") {
				t.Errorf("got %d, %q and\n%s", code, out, log)
			}
		})
	}
}

// TestStopWithClients stops the program while people are connected: each is told
// when to come back.
func TestStopWithClients(t *testing.T) {
	server := install(t, embedded).start(t)
	alice := signIn(t, server.addr, "alice")
	clients := []*client{alice.dial(server.addr), alice.dial(server.addr), signIn(t, server.addr, "bob").dial(server.addr)}
	for _, c := range clients {
		c.await("bob is online", isOnline("bob", true))
	}
	server.stop()
	retry := regexp.MustCompile(`^retry-ms=[1-9][0-9]{2,3}$`)
	for _, c := range clients {
		if got := c.ended(); got.Code != 1012 || !retry.MatchString(got.Reason) {
			t.Errorf("%s: got close %d %q, want 1012 and retry-ms", c.name, got.Code, got.Reason)
		}
	}
	for _, part := range []string{"level=ERROR", "level=WARN"} {
		if bad := lines(server.log.String(), part); len(bad) > 0 {
			t.Errorf("the log of a start and a stop without trouble holds %q", bad)
		}
	}
	if conn, err := net.Dial("tcp", server.addr); err == nil {
		_ = conn.Close()
		t.Error("somebody still listens after the stop")
	}
}

// TestSignal stops a process with the signal of Ctrl-C.
func TestSignal(t *testing.T) {
	in := install(t, embedded)
	c := in.spawn(t, "burrow is open")
	if code := c.interrupt(); code != exitOK {
		t.Errorf("exit code: got %d, want %d; the log:\n%s", code, exitOK, c.log.String())
	}
	in.start(t).stop() // nothing is locked any more
}

// TestDebugLog_StartAndStop logs at level debug what a client did, and not the wiring of the broker and
// the router.
func TestDebugLog_StartAndStop(t *testing.T) {
	in := install(t, embedded)
	in.env = append(in.env, "BURROW_LOG_LEVEL=debug")
	server := in.start(t)
	signIn(t, server.addr, "alice").dial(server.addr).await("alice is online", isOnline("alice", true))
	server.stop()
	log := server.log.String()
	for _, want := range []string{`msg="signed in"`, `msg="session opened"`, `msg="session closed"`} {
		if got := lines(log, want); len(got) != 1 || !strings.Contains(got[0], "user=alice") || !strings.Contains(got[0], "address=127.0.0.1") {
			t.Errorf("%s: %q", want, got)
		}
	}
	for _, part := range []string{"part=nats", "handler", "ubscrib"} {
		if bad := lines(log, part); len(bad) > 0 {
			t.Errorf("wiring: %q", bad)
		}
	}
}
