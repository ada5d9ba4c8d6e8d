package config

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestLoad_UnusedSettings sets what another setting makes void.
func TestLoad_UnusedSettings(t *testing.T) {
	shipped, err := os.ReadFile("../config.toml")
	if err != nil {
		t.Fatal(err)
	}
	const secret = "0123456789abcdef0123456789abcdef"
	for _, test := range []struct {
		name, file string
		environ    []string
		want       []string // of each warning the beginning, the setting in its way and the fix
	}{
		{"nothing", "", nil, nil},
		{"the file as it ships", string(shipped), nil, nil},
		{"its values in the environment", string(shipped), []string{"BURROW_BROKER_REDIS_URL=redis://127.0.0.1:6379/0", "BURROW_AUTH_JWT_KEY="}, nil},
		{"redis", "", []string{"BURROW_BROKER_REDIS_URL=redis://10.0.0.1/0"},
			[]string{`BURROW_BROKER_REDIS_URL: set but unused with broker.driver = "nats", did you mean BURROW_BROKER_DRIVER=redis?`}},
		{"redis beside the file as it ships", string(shipped), []string{"BURROW_BROKER_REDIS_URL=redis://10.0.0.1/0"},
			[]string{`BURROW_BROKER_REDIS_URL: set but unused with broker.driver = "nats", did you mean BURROW_BROKER_DRIVER=redis?`}},
		{"amqp in a file", "[broker]\ndriver = 'gochannel'\n[broker.amqp]\nurl = 'amqp://u:hunter2@h/'\n", nil,
			[]string{`config.toml:4:7: broker.amqp.url: set but unused with broker.driver = "gochannel", did you mean broker.driver = "amqp"?`}},
		{"nats with redis of the default", "", []string{"BURROW_BROKER_DRIVER=redis", "BURROW_BROKER_NATS_URL=nats://10.0.0.1:4222", "BURROW_BROKER_NATS_MAX_TASK_BYTES=2000000"},
			[]string{"BURROW_BROKER_NATS_URL: ", "BURROW_BROKER_NATS_MAX_TASK_BYTES: "}},
		{"a choice between three brokers", "", []string{"BURROW_BROKER_DRIVER=redis", "BURROW_BROKER_NATS_URL=nats://nats:4222",
			"BURROW_BROKER_REDIS_URL=redis://redis:6379/0", "BURROW_BROKER_AMQP_URL=amqp://burrow:burrow@rabbitmq:5672/"}, nil},
		{"the broker that is used", "", []string{"BURROW_BROKER_DRIVER=redis", "BURROW_BROKER_REDIS_URL=redis://10.0.0.1/0"}, nil},
		{"tokens without the mode", "[auth.jwt]\nissuer = 'me'\n", []string{"BURROW_AUTH_JWT_KEY=" + secret},
			[]string{`BURROW_AUTH_JWT_KEY: set but unused with auth.mode = "guest", did you mean BURROW_AUTH_MODE=jwt?`,
				`config.toml:2:10: auth.jwt.issuer: set but unused with auth.mode = "guest", did you mean auth.mode = "jwt"?`}},
		{"cookies without the mode", "", []string{"BURROW_AUTH_COOKIE_KEY=" + secret, "BURROW_AUTH_MODE=open"},
			[]string{`BURROW_AUTH_COOKIE_KEY: set but unused with auth.mode = "open", did you mean BURROW_AUTH_MODE=guest?`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := load("config.toml", []byte(test.file), test.environ)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range c.Warnings {
				got = append(got, w.Error())
			}
			if !slices.EqualFunc(got, test.want, strings.HasPrefix) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			if all := strings.Join(got, "\n"); strings.Contains(all, secret) || strings.Contains(all, "hunter2") {
				t.Errorf("a warning holds a secret: %s", all)
			}
		})
	}
}
