package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAdminToken_Generated starts processes without admin.token: all of a data_dir use the token
// in its file, which the log names and does not show.
func TestAdminToken_Generated(t *testing.T) {
	in := install(t, memory)
	node := in.start(t)
	worker := in.start(t, "-functions", "archive", "-edge=false")
	info, err := os.Stat(filepath.Join(in.dir, "admin.token"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the file: %v, %v", info, err)
	}
	bearer := in.bearer(t)
	for _, p := range []*process{node, worker} {
		for _, path := range []string{"/metrics", "/admin/dead-letters"} {
			if code, body := p.get(path); code != 401 {
				t.Errorf("%s without the token: %d %.200s", path, code, body)
			}
			if code, body := p.get(path, bearer); code != 200 {
				t.Errorf("%s with the token: %d %.200s", path, code, body)
			}
		}
		if log := p.log.String(); !strings.Contains(log, "admin.token") || strings.Contains(log, strings.TrimPrefix(bearer, "Authorization: Bearer ")) {
			t.Errorf("the log should name the file, and not the token:\n%s", log)
		}
	}
	node.stop()
	worker.stop()
	if again := in.start(t); in.bearer(t) != bearer {
		t.Error("another start made another token")
	} else {
		again.stop()
	}
}

// TestAdminToken_NoFile starts with a file that is no token: the chat works, and the admin API and
// /metrics are closed.
func TestAdminToken_NoFile(t *testing.T) {
	for name, content := range map[string]string{"short": "x", "two words": strings.Repeat("x", 32) + " y"} {
		in := install(t, memory)
		if err := os.WriteFile(filepath.Join(in.dir, "admin.token"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		p := in.start(t)
		for _, path := range []string{"/metrics", "/admin/dead-letters"} {
			if code, body := p.get(path, "Authorization: Bearer "+content); code != 404 || !strings.Contains(body, "set admin.token") {
				t.Errorf("%s: %s: %d %.200s", name, path, code, body)
			}
		}
		if code, _ := p.get("/readyz"); code != 200 {
			t.Errorf("%s: not ready: %d", name, code)
		}
		if log := p.log.String(); !strings.Contains(log, "are closed; set admin.token") || !strings.Contains(log, "remove it") {
			t.Errorf("%s: the log should say what to do:\n%s", name, log)
		}
		p.stop()
	}
}

// TestWorker_Operations asks a worker for health, readiness, metrics and dead letters.
func TestWorker_Operations(t *testing.T) {
	in := install(t, memory)
	p := in.start(t, "-edge=false")
	for path, want := range map[string]string{
		"/healthz": `{"status":"ok"}`, "/readyz": `{"ready":true,"draining":false,"parts":{"broker":"ok","descriptors":"ok","store":"ok"}}`,
		"/metrics": "burrow_store_", "/admin/dead-letters": `"letters":[]`,
	} {
		if code, body := p.get(path, in.bearer(t)); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.200s", path, code, body)
		}
	}
	for _, path := range []string{"/", "/ws/ada", "/events", "/api/session", "/api/history"} {
		if code, body := p.get(path); code != 404 {
			t.Errorf("%s: %d %.200s", path, code, body)
		}
	}
	p.stop()
}

// TestWorker_Address starts workers where the address is taken, turned off or wrong.
func TestWorker_Address(t *testing.T) {
	in := install(t, memory)
	node := in.start(t)
	taken := in.startWith(t, []string{"-edge=false"}, "BURROW_HTTP_ADDR="+node.addr)
	if log := taken.log.String(); taken.addr != "" || !strings.Contains(log, "its own http.addr") {
		t.Errorf("a worker beside a node: at %q\n%s", taken.addr, log)
	}
	off := in.startWith(t, []string{"-edge=false"}, "BURROW_HTTP_ADDR=")
	if log := off.log.String(); off.addr != "" || strings.Contains(log, "http.addr") {
		t.Errorf("a worker without an address: at %q\n%s", off.addr, log)
	}
	for _, p := range []*process{taken, off, node} {
		p.stop()
	}
	for _, args := range [][]string{nil, {"-check"}} {
		code, _, log := runs(t, append(in.env, "BURROW_HTTP_ADDR="), args...)
		if code != exitUsage || !strings.Contains(log, "http.addr") || !strings.Contains(log, "-edge=false") {
			t.Errorf("an edge without an address, %v: %d %s", args, code, log)
		}
	}
	first := in.start(t, "-edge=false")
	code, _, log := runs(t, append(in.env, "BURROW_HTTP_ADDR="+first.addr))
	if code != exitFailed || !strings.Contains(log, "another process of this installation has it") {
		t.Errorf("a node at the address of a worker: %d %s", code, log)
	}
	first.stop()
	code, _, log = runs(t, append(install(t, onRedis).env, "BURROW_HTTP_ADDR=192.0.2.1:8000"), "-edge=false")
	if code != exitFailed || !strings.Contains(log, "http.addr") {
		t.Errorf("a worker with the address of another machine: %d %s", code, log)
	}
}
