// Package config reads config.toml and the environment into one checked Config,
// made of the Config types of the packages that use it. A default gives way to the
// file, and the file to the environment. Everything that is wrong is reported at
// once, each problem with its place and what is allowed.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"time"

	"burrow/auth"
	"burrow/httpapi"
	"burrow/presence"
	"burrow/router"
	"burrow/store"
)

// Config is all settings of the program. Every key is in config.toml, with its
// default. Formatting or logging a Config hides what is secret in it; the parts on
// their own do not.
type Config struct {
	// DataDir holds the embedded broker's store, the SQLite file and the cookie key.
	DataDir string `toml:"data_dir"`

	HTTP      httpapi.HTTPConfig    `toml:"http"`
	Edge      httpapi.EdgeConfig    `toml:"edge"`
	History   httpapi.HistoryConfig `toml:"history"`
	Presence  presence.Config       `toml:"presence"`
	Auth      auth.Config           `toml:"auth"`
	Admin     httpapi.AdminConfig   `toml:"admin"`
	Store     store.Config          `toml:"store"`
	Broker    router.Config         `toml:"broker"`
	Functions Functions             `toml:"functions"`
	Shutdown  Shutdown              `toml:"shutdown"`
	Log       Log                   `toml:"log"`

	// Warnings are settings without effect. Load sets them; the program logs them.
	Warnings []*Problem `toml:"-"`
}

// Functions is the [functions] table: how each function is run.
type Functions struct {
	Broadcast   router.FunctionConfig `toml:"broadcast"`
	Presence    router.FunctionConfig `toml:"presence"`
	Archive     router.FunctionConfig `toml:"archive"`
	DeadLetters router.FunctionConfig `toml:"dead-letters"`
}

// ByName returns the settings as the router wants them.
func (f Functions) ByName() map[string]router.FunctionConfig {
	return map[string]router.FunctionConfig{
		"broadcast": f.Broadcast, "presence": f.Presence, "archive": f.Archive, "dead-letters": f.DeadLetters,
	}
}

// defaultFunctions gives the archive more time than others, so that a store that is
// away for a minute makes no dead letters, and more at once, for they share a commit.
func defaultFunctions() Functions {
	f := router.DefaultFunction()
	archive := f
	archive.Concurrency, archive.MaxAttempts, archive.Backoff = 1024, 10, 200*time.Millisecond
	return Functions{Broadcast: f, Presence: f, Archive: archive, DeadLetters: f}
}

// Shutdown is the [shutdown] table.
type Shutdown struct {
	// Timeout bounds an orderly stop. Default 15s.
	Timeout time.Duration `toml:"timeout" min:"1s" max:"10m"`
}

// Log is the [log] table.
type Log struct {
	// Level is the least that is logged: debug, info, warn or error. Default info.
	Level string `toml:"level" oneof:"debug,info,warn,error" alias:"trace=debug,verbose=debug,notice=info,warning=warn,err=error,fatal=error,critical=error"`
	// Format is text, for people, or json, for programs. Default text.
	Format string `toml:"format" oneof:"text,json" alias:"logfmt=text,plain=text,console=text,jsonl=json"`
}

// Default returns the settings of config.toml as it ships.
func Default() *Config {
	return &Config{
		DataDir:   "data",
		HTTP:      httpapi.DefaultHTTPConfig(),
		Edge:      httpapi.DefaultEdgeConfig(),
		History:   httpapi.DefaultHistoryConfig(),
		Presence:  presence.DefaultConfig(),
		Auth:      auth.DefaultConfig(),
		Admin:     httpapi.DefaultAdminConfig(),
		Store:     store.DefaultConfig(),
		Broker:    router.DefaultConfig(),
		Functions: defaultFunctions(),
		Shutdown:  Shutdown{Timeout: 15 * time.Second},
		Log:       Log{Level: "info", Format: "text"},
	}
}

// Load reads the file at path (none, if path is empty) and then environ, as
// os.Environ returns it: BURROW_HTTP_ADDR sets http.addr. Settings that are wrong
// give an *Error with all of them; a file that cannot be read, another error.
func Load(path string, environ []string) (*Config, error) {
	var data []byte
	if path != "" {
		var err error
		if data, err = read(path); err != nil {
			return nil, err
		}
	}
	return load(path, data, environ)
}

func load(path string, data []byte, environ []string) (*Config, error) {
	c := Default()
	d := newDecoder(c)
	d.file(path, data)
	d.environ(environ)
	d.check(c)
	if err := d.err(); err != nil {
		return nil, err
	}
	c.Warnings = d.unused(c)
	return c, nil
}

// maxBytes bounds the file, which may be a wrong one, or a device without an end.
const maxBytes = 1 << 20

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("config: there is no file %q; name yours with -config: %w", path, fs.ErrNotExist)
	} else if err != nil {
		return nil, fmt.Errorf("config: %w; name another file with -config", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("config: %w; name another file with -config", err)
	}
	if len(data) > maxBytes {
		return nil, fmt.Errorf("config: %q is over 1 MiB and so no configuration; name yours with -config", path)
	}
	return data, nil
}

// LogValue returns every setting by its full key, without secrets.
func (c Config) LogValue() slog.Value {
	var attrs []slog.Attr
	walk(reflect.ValueOf(c), "", func(string) {}, func(f *field) {
		attrs = append(attrs, slog.String(f.key, f.redacted()))
	})
	return slog.GroupValue(attrs...)
}

// String returns one "key = value" a line, without secrets.
func (c Config) String() string {
	var b strings.Builder
	for _, a := range c.LogValue().Group() {
		fmt.Fprintf(&b, "%s = %q\n", a.Key, a.Value.String())
	}
	return b.String()
}

// GoString is String: %#v would show secrets.
func (c Config) GoString() string { return c.String() }
