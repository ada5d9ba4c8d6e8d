package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

// sample has every kind of setting, away from the settings of the program.
type sample struct {
	Name  string `toml:"name"`
	Inner struct {
		Mode  string        `toml:"mode" oneof:"open,guest"`
		Queue int           `toml:"queue" min:"1" max:"65536"`
		Big   int64         `toml:"big" min:"16"`
		Rate  float64       `toml:"rate" min:"0" max:"100"`
		Wait  time.Duration `toml:"wait" min:"1ms" max:"1m"`
		On    bool          `toml:"on"`
		List  []string      `toml:"list"`
		Deep  struct {
			URL      string `toml:"url"`
			Password string `toml:"password"`
		} `toml:"deep"`
		Log   *slog.Logger `toml:"-"`
		Wired func()
	} `toml:"inner"`
}

func decode(text string, environ ...string) (*sample, error) {
	s := &sample{}
	d := newDecoder(s)
	d.file("config.toml", []byte(text))
	d.environ(environ)
	return s, d.err()
}

func TestEveryKindOfValueIsRead(t *testing.T) {
	got, err := decode("\xef\xbb\xbf" + `name = 'a "b"'
[inner]
deep = { url = "redis://h", password = """p
q""" }
mode = "open"
queue = 0x1_0
big = +9_000_000_000
rate = 2
wait = "1.5s"
on = true
list = ["a", # first
  "b,c",
]
`)
	if err != nil {
		t.Fatal(err)
	}
	want := &sample{Name: `a "b"`}
	want.Inner.Mode, want.Inner.Queue, want.Inner.Big, want.Inner.Rate = "open", 16, 9_000_000_000, 2
	want.Inner.Wait, want.Inner.On, want.Inner.List = 1500*time.Millisecond, true, []string{"a", "b,c"}
	want.Inner.Deep.URL, want.Inner.Deep.Password = "redis://h", "p\nq"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestEnvironmentWinsOverFile(t *testing.T) {
	got, err := decode("name = 'x'\n[inner]\nqueue = 5\nrate = 1.5\nlist = ['x']\n[inner.deep]\nurl = 'a'\n",
		"BURROW_NAME=", "BURROW_INNER_QUEUE=7", "BURROW_INNER_RATE=", "BURROW_INNER_LIST= a,b ,", "BURROW_INNER_DEEP_URL=r=s",
		"BURROW_INNER_ON=1", "BURROW_INNER_WAIT=2s", "BURROW_TEST_REDIS_URL=x", "BURROW_PORT=tcp://10.0.0.1:80", "BURROW_WEB_PORT_80_TCP_ADDR=10.0.0.1",
		"BURROWED=1", "PATH=x", "")
	if err != nil {
		t.Fatal(err)
	}
	want := &sample{}
	want.Inner.Queue, want.Inner.Rate, want.Inner.List, want.Inner.Deep.URL = 7, 1.5, []string{"a", "b"}, "r=s"
	want.Inner.On, want.Inner.Wait = true, 2*time.Second
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestErrors compares what people read, for each testdata/*.toml; lines "#env NAME=value"
// in it are the environment.
func TestErrors(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.toml")
	if len(files) == 0 {
		t.Fatal("no testdata")
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".toml"), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var environ []string
			for line := range strings.Lines(string(data)) {
				if pair, is := strings.CutPrefix(strings.TrimSpace(line), "#env "); is {
					environ = append(environ, pair)
				}
			}
			c, err := Load(path, environ)
			var all *Error
			if !errors.As(err, &all) || c != nil {
				t.Fatalf("got %v and %v, want an *Error", c, err)
			}
			if strings.Contains(strings.ToLower(err.Error()), "hunter2") {
				t.Errorf("a secret is in: %v", err)
			}
			got := strings.ReplaceAll(err.Error(), path, "config.toml") + "\n"
			golden := strings.TrimSuffix(path, ".toml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestEachProblemCanBeFound(t *testing.T) {
	_, err := Load("", []string{"BURROW_EDGE_QUEUE=0", "BURROW_EDGE_BURST=0"})
	var one *Problem
	if !errors.As(err, &one) || one.Env != "BURROW_EDGE_BURST" || one.Key != "edge.burst" {
		t.Errorf("got %+v in %v", one, err)
	}
}

func TestUnknownVariableHidesNoOtherProblem(t *testing.T) {
	_, err := Load("", []string{"BURROW_EDGE_QUEU=1", "BURROW_HTTP_ADDR=x"})
	var all *Error
	if !errors.As(err, &all) || len(all.Problems) != 2 {
		t.Errorf("got %v, want two problems", err)
	}
}

func TestFileThatCannotBeRead(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "no.toml"), nil)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "-config") {
		t.Errorf("missing: got %v", err)
	}
	if _, err = Load(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "-config") {
		t.Errorf("directory: got %v", err)
	}
	if _, err = Load("/dev/zero", nil); err == nil || !strings.Contains(err.Error(), "1 MiB") {
		t.Errorf("no end: got %v", err)
	}
}

// TestShippedFile holds config.toml to the defaults: every key, each with the value it
// has anyway, and a comment above it.
func TestShippedFile(t *testing.T) {
	const path = "../config.toml"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := &Config{} // not the defaults: a value that is missing shows
	d := newDecoder(c)
	d.file(path, data)
	if err := d.err(); err != nil {
		t.Fatal(err)
	}
	defaults := newDecoder(Default())
	names := map[string]string{}
	for _, key := range d.keys {
		if _, set := d.origin[key]; !set {
			t.Errorf("%s is not in config.toml", key)
		}
		if got, want := d.fields[key].value.Interface(), defaults.fields[key].value.Interface(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("config.toml: %s is %v, and the default %v", key, got, want)
		}
		if other := names[envName(key)]; other != "" {
			t.Errorf("%s and %s have the same variable", key, other)
		}
		names[envName(key)] = key
	}
	lines := bytes.Split(data, []byte("\n"))
	inFunctions := 0
	for i, line := range lines {
		if bytes.HasPrefix(line, []byte("[functions.")) {
			inFunctions++ // the first of them explains the rest
		} else if bytes.HasPrefix(line, []byte("[")) {
			inFunctions = 0
		}
		if bytes.Contains(line, []byte(" = ")) && line[0] != '#' && lines[i-1][0] != '#' && inFunctions < 2 {
			t.Errorf("config.toml:%d: no comment", i+1)
		}
	}
	if _, err := Load(path, nil); err != nil {
		t.Error(err)
	}
	if _, err := Load("", nil); err != nil {
		t.Error(err)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	c, err := Load("", []string{
		"BURROW_AUTH_COOKIE_KEY=hunter2hunter2hunter2hunter2hunter2", "BURROW_ADMIN_TOKEN=hunter2hunter2hunter2hunter2hunter2", "BURROW_AUTH_JWT_KEY=hunter2hunter2hunter2hunter2hunter2", "BURROW_BROKER_NATS_URL=nats://hunter2@a:4222,tls://u:hunter2@b:4222",
		"BURROW_BROKER_REDIS_URL=redis://u:hunter2@cache:6379/0?password=hunter2", "BURROW_BROKER_AMQP_URL=amqp://u:hunter2@mq/vhost", "BURROW_STORE_DSN=file:a.db?_key=hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	var text, js bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("x", "config", c)
	slog.New(slog.NewJSONHandler(&js, nil)).Info("x", "config", *c)
	for _, got := range []string{text.String(), js.String(), c.String(), fmt.Sprintf("%v", c), fmt.Sprintf("%+v", *c), fmt.Sprintf("%#v", c), fmt.Sprint(*c)} {
		if strings.Contains(got, "hunter2") {
			t.Errorf("shown: %s", got)
		}
		if !strings.Contains(got, "redis://xxxxx@cache:6379/0") || !strings.Contains(got, ":8000") {
			t.Errorf("too much is hidden: %s", got)
		}
	}
}

func TestRedactAddress(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "",
		"data/burrow.db":             "data/burrow.db",
		"file:data/burrow.db":        "file:data/burrow.db",
		"nats://a:4222,nats://b:2":   "nats://a:4222,nats://b:2",
		"nats://u:12,34@h":           "(hidden)",
		"redis://u:12/ss@h":          "(hidden)",
		"redis://:12#ss@h":           "(hidden)",
		"redis://:12?ss@h":           "(hidden)",
		"redis://u:p@ss@h":           "(hidden)",
		"u:secret@h":                 "(hidden)",
		"host=a password=b":          "(hidden)",
		"redis://u:p%zz@h":           "(hidden)",
		"amqp://guest:guest@h:5672/": "amqp://xxxxx@h:5672/",
		"mysql:user:pass":            "(hidden)",
	} {
		if got := redactAddress(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestValuesMustFitOneAnother(t *testing.T) {
	for pair, want := range map[string]string{
		"BURROW_HTTP_ADDR=127.0.0.1:0": "", "BURROW_HTTP_ADDR=[::1]:80": "", "BURROW_HTTP_ADDR=8000": "no address", "BURROW_HTTP_ADDR=:65536": "no address", "BURROW_HTTP_ADDR=": "",
		"BURROW_HTTP_ALLOWED_ORIGINS=*,https://a.b:1/": "", "BURROW_HTTP_ALLOWED_ORIGINS=a.b": "no origin", "BURROW_HTTP_ALLOWED_ORIGINS=https://a/x": "no origin",
		"BURROW_HTTP_TRUSTED_PROXIES=": "", "BURROW_HTTP_TRUSTED_PROXIES=10.0.0.7,fd00::/8,172.16.0.0/12": "", "BURROW_HTTP_TRUSTED_PROXIES=10.0.0.0/33": "no network", "BURROW_HTTP_TRUSTED_PROXIES=proxy": "no network", "BURROW_HTTP_TRUSTED_PROXIES=*": "no network",
		"BURROW_BROKER_TOPIC_PREFIX=a-b.c_9": "", "BURROW_BROKER_TOPIC_PREFIX=a..b": "no prefix", "BURROW_BROKER_TOPIC_PREFIX=A": "no prefix", "BURROW_BROKER_TOPIC_PREFIX=.a": "no prefix",
		"BURROW_BROKER_TOPIC_PREFIX=": "no prefix", "BURROW_BROKER_TOPIC_PREFIX=a\n": "no prefix",
		"BURROW_BROKER_TOPIC_PREFIX=" + strings.Repeat("a", 64): "", "BURROW_BROKER_TOPIC_PREFIX=" + strings.Repeat("a", 65): "no prefix",
		"BURROW_BROKER_NATS_URL=nats://a,tls://b:1": "", "BURROW_BROKER_NATS_URL=redis://a": "no URL", "BURROW_BROKER_NATS_URL=nats://a,": "no URL",
		"BURROW_BROKER_REDIS_URL=":                  "", // not the chosen one
		"BURROW_STORE_DSN=postgres://u:hunter2@h/d": "only SQLite", "BURROW_STORE_DSN=file:///a.db": "",
		"BURROW_AUTH_COOKIE_KEY=hunter2": "too short", "BURROW_AUTH_COOKIE_KEY=": "",
		"BURROW_ADMIN_TOKEN=hunter2": "no token", "BURROW_ADMIN_TOKEN=": "", "BURROW_ADMIN_TOKEN=" + strings.Repeat("x", 31): "no token", "BURROW_ADMIN_TOKEN=" + strings.Repeat("x", 32): "",
		"BURROW_ADMIN_TOKEN=" + strings.Repeat("x ", 32): "no token", "BURROW_ADMIN_TOKEN=" + strings.Repeat("é", 32): "no token",
		"BURROW_DATA_DIR=": "is empty", "BURROW_PRESENCE_LEASE=10s": "twice", "BURROW_PRESENCE_LEASE=10001ms": "", "BURROW_PRESENCE_HEARTBEAT=8s": "twice",
		"BURROW_EDGE_MAX_FRAME_BYTES=4095": "max_content_bytes (4096)", "BURROW_EDGE_MAX_CONTENT_BYTES=16385": "max_frame_bytes (16384)",
		"BURROW_HISTORY_BUFFER=19": "history.limit (20)", "BURROW_BROKER_MAX_MESSAGE_BYTES=16383": "max_frame_bytes (16384)",
	} {
		_, err := Load("", []string{pair})
		got := fmt.Sprint(err)
		name, _, _ := strings.Cut(pair, "=")
		if want == "" && err != nil || want != "" && (!strings.Contains(got, want) || !strings.HasPrefix(got, name+": ")) {
			t.Errorf("%q: got %s, want %q", pair, got, want)
		}
	}
	if _, err := Load("", []string{"BURROW_BROKER_DRIVER=redis", "BURROW_BROKER_REDIS_URL="}); err == nil {
		t.Error("the chosen broker needs its URL")
	}
}

func TestModeJWTNeedsItsKey(t *testing.T) {
	key := "BURROW_AUTH_JWT_KEY=" + strings.Repeat("x", 32)
	for _, tt := range []struct {
		environ []string
		want    string
	}{
		{[]string{key}, ""},
		{[]string{"BURROW_AUTH_JWT_KEY_FILE=key.pem", "BURROW_AUTH_JWT_ALGORITHM=EdDSA"}, ""},
		{nil, "auth.jwt.key_file: auth.mode \"jwt\" needs the key"},
		{[]string{key, "BURROW_AUTH_JWT_KEY_FILE=key.pem"}, "leave one of them empty"},
		{[]string{key, "BURROW_AUTH_JWT_ALGORITHM=RS256"}, "HS256 only"},
		{[]string{"BURROW_AUTH_JWT_KEY=hunter2"}, "too short"},
		{[]string{key, "BURROW_AUTH_JWT_ALGORITHM=none"}, "not one of HS256, EdDSA, RS256"},
		{[]string{key, "BURROW_AUTH_JWT_LOGIN_URL=/login?next=/chat"}, ""},
		{[]string{key, "BURROW_AUTH_JWT_LOGIN_URL=https://login.example.org/"}, ""},
		{[]string{key, "BURROW_AUTH_JWT_LOGIN_URL=javascript:alert(1)"}, "cannot send people there"},
		{[]string{key, "BURROW_AUTH_JWT_LOGIN_URL=//evil.example"}, "cannot send people there"},
		{[]string{key, `BURROW_AUTH_JWT_LOGIN_URL=/\evil.example`}, "cannot send people there"},
		{[]string{key, "BURROW_AUTH_JWT_LOGIN_URL=login"}, "cannot send people there"},
		{[]string{key, "BURROW_AUTH_JWT_LOGIN_URL=https://u:hunter2@login.example.org/"}, "cannot send people there"},
	} {
		_, err := Load("", append([]string{"BURROW_AUTH_MODE=jwt"}, tt.environ...))
		if got := fmt.Sprint(err); tt.want == "" && err != nil || tt.want != "" && (!strings.Contains(got, tt.want) || strings.Contains(got, "hunter2")) {
			t.Errorf("%q: got %s, want %q", tt.environ, got, tt.want)
		}
	}
	if _, err := Load("", []string{"BURROW_AUTH_JWT_LOGIN_URL=login"}); err != nil {
		t.Errorf("in mode guest: %v", err) // as with the settings of the brokers that are not chosen
	}
}

func FuzzConfig(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.toml")
	for _, path := range append(files, "../config.toml") {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "BURROW_EDGE_QUEUE=1")
	}
	f.Add([]byte("a = [[[[{b={}}]]]]\r\n[x\n]]\n\x00 = \xff"), "BURROW_\xff=\x00")
	f.Fuzz(func(t *testing.T, data []byte, pair string) {
		c, err := load("c.toml", data, []string{pair})
		if (c == nil) == (err == nil) {
			t.Fatalf("got %v and %v", c, err)
		}
		var all *Error
		if err == nil {
			_ = c.String()
		} else if !errors.As(err, &all) || len(all.Problems) == 0 || len(all.Problems) > maxProblems {
			t.Fatalf("got %v", err)
		} else if i := slices.IndexFunc(all.Problems, func(p *Problem) bool { return p.Message == "" || p.Line > 0 && p.Column < 1 }); i >= 0 {
			t.Fatalf("got %+v", all.Problems[i])
		}
	})
}

func TestField_SuggestsValueForOtherNames(t *testing.T) {
	for _, test := range []struct{ env, want string }{
		{"BURROW_BROKER_DRIVER=rabbitmq", "did you mean amqp?"},
		{"BURROW_BROKER_DRIVER=Rabbit-MQ", "did you mean amqp?"},
		{"BURROW_BROKER_DRIVER=rabbit", "did you mean amqp?"},
		{"BURROW_BROKER_DRIVER=JetStream", "did you mean nats?"},
		{"BURROW_BROKER_DRIVER=valkey", "did you mean redis?"},
		{"BURROW_BROKER_DRIVER=in-memory", "did you mean gochannel?"},
		{"BURROW_BROKER_DRIVER=ampq", "did you mean amqp?"},
		{"BURROW_BROKER_DRIVER=REDIS", "did you mean redis?"},
		{"BURROW_AUTH_MODE=oidc", "did you mean jwt?"},
		{"BURROW_LOG_LEVEL=warning", "did you mean warn?"},
		{"BURROW_LOG_FORMAT=logfmt", "did you mean text?"},
		{"BURROW_BROKER_DRIVER=kafka", "is not one of gochannel, nats, redis, amqp"},
	} {
		_, err := Load("", []string{test.env})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.env, err, test.want)
		}
	}
	if _, err := Load("", []string{"BURROW_BROKER_DRIVER=kafka"}); strings.Contains(err.Error(), "did you mean") {
		t.Errorf("kafka: got %v, want no suggestion", err)
	}
}
