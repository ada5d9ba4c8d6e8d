package router

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"burrow/internal/brokertest"
)

func TestRedis_RefusalNamesFix(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.Redis)
	cluster := brokertest.Start(t, brokertest.Redis, "--cluster-enabled", "yes")
	admin := redisClient(t, server.URL())
	for _, user := range [][]any{
		{"keys", ">pw", "~other*", "+@all"},
		{"commands", ">pw", "~*", "+@all", "-xgroup"},
	} {
		if err := admin.Do(t.Context(), append([]any{"ACL", "SETUSER", user[0], "on"}, user[1:]...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := admin.Set(t.Context(), "taken", "text", 0).Err(); err != nil {
		t.Fatal(err)
	}
	address := func(user, password, path string) string {
		u := url.URL{Scheme: "redis", Host: server.Addr(), Path: path}
		if user != "" {
			u.User = url.UserPassword(user, password)
		}
		return u.String()
	}
	for _, test := range []struct{ name, url, topic, want string }{
		{"password", address("keys", "sesame", ""), "", "correct user and password in broker.redis.url"},
		{"user", address("nobody", "sesame", ""), "", "correct user and password in broker.redis.url"},
		{"database", address("", "", "/99"), "", "correct the database number"},
		{"database no number", address("", "", "/x"), "", "broker.redis.url"},
		{"rights for keys", address("keys", "pw", ""), "", "allow the user of broker.redis.url"},
		{"rights for commands", address("commands", "pw", ""), "", "allow the user of broker.redis.url"},
		{"key of another program", address("", "", ""), "taken", "broker.topic_prefix"},
		{"cluster", cluster.URL(), "", "Redis Cluster, which is not supported"},
		{"TLS for a plain server", "rediss://" + server.Addr(), "", "scheme (TLS)"},
		{"unknown host", "redis://no-such-host.invalid:6379", "", "the host"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := testConfig(t, "redis")
			cfg.Redis.URL, cfg.ConnectTimeout = test.url, 3*time.Second
			ctx, cancel := context.WithTimeout(t.Context(), testWait)
			defer cancel()
			drv, err := newRedisDriver(ctx, cfg)
			if err == nil {
				defer func() { _ = drv.close() }()
				topic := test.topic
				if topic == "" {
					topic = cfg.TopicPrefix + ".tasks.Work"
				}
				err = insist(ctx, drv, time.Hour, cfg.Log, func(ctx context.Context) error { // a retry ends with the context
					return drv.declare(ctx, topic, Task, "work")
				})
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q in it", err, test.want)
			}
			if strings.Contains(err.Error(), "sesame") {
				t.Errorf("the password is shown: %v", err)
			}
		})
	}
}

func TestRedis_ReadOnlyServerIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.Redis)
	admin := redisClient(t, server.URL())
	if err := admin.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	var log logBuffer
	cfg := redisOn(t, server)
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	drv := openRedis(t, cfg)
	declare := func(patience time.Duration) error {
		return insist(t.Context(), drv, patience, cfg.Log, func(ctx context.Context) error {
			return drv.declare(ctx, cfg.TopicPrefix+".tasks.Work", Task, "work")
		})
	}
	if err := declare(time.Second); err == nil || !strings.Contains(err.Error(), "REPLICAOF NO ONE") || !strings.Contains(err.Error(), "broker.connect_timeout") {
		t.Errorf("still read-only: got %v, want the wait and the fix named", err)
	}
	done := make(chan error)
	before := strings.Count(log.String(), "READONLY")
	go func() { done <- declare(time.Minute) }()
	waitFor(t, "a retry", func() bool { return strings.Count(log.String(), "READONLY") > before })
	if err := admin.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("a primary again: %v", err)
	}
}

func TestRedis_UnsafeSettingWhileRunning(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.Redis)
	admin := redisClient(t, server.URL())
	var log logBuffer
	cfg := redisOn(t, server)
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	drv := openRedis(t, cfg)
	drv.stop() // the test checks by itself
	drv.tidying.Wait()
	step := func(name, value, want string, times int) {
		t.Helper()
		if err := admin.ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
		drv.checkSettings(t.Context())
		drv.checkSettings(t.Context())
		if got := strings.Count(log.String(), want); got != times {
			t.Errorf("%s %s: %q is in the log %d times, want %d:\n%s", name, value, want, got, times, log.String())
		}
	}
	step("maxmemory-policy", "noeviction", "level=WARN", 0)
	step("maxmemory-policy", "allkeys-lru", "set maxmemory-policy noeviction", 1)
	step("maxmemory-policy", "volatile-ttl", "set maxmemory-policy noeviction", 2)
	step("maxmemory-policy", "noeviction", "safe for tasks again", 1)
	step("appendonly", "no", "set appendonly yes", 1)
}

func TestRedis_TemporaryRefusals(t *testing.T) {
	for text, want := range map[string]bool{
		"READONLY You can't write against a read only replica.": true,
		"LOADING Redis is loading the dataset in memory":        true,
		"MASTERDOWN Link with MASTER is down":                   true,
		"OOM command not allowed":                               true,
		"MISCONF Redis is configured to save RDB snapshots":     true,
		"NOPERM this user has no permissions":                   false,
		"CLUSTERDOWN Hash slot not served":                      false,
		"MOVED 1 127.0.0.1:1":                                   false,
		"WRONGTYPE Operation against a key":                     false,
	} {
		err := redisAnswer(text)
		if got := redisTemporary(err); got != want {
			t.Errorf("%s: temporary is %v, want %v", text, got, want)
		}
		if redisFix(err) == redisFix(errors.New("x")) || strings.Contains(redisFix(err), "or the settings") {
			t.Errorf("%s: no specific fix", text)
		}
	}
}

// redisAnswer is an error answer of the server.
type redisAnswer string

func (e redisAnswer) Error() string { return string(e) }
func (redisAnswer) RedisError()     {}
