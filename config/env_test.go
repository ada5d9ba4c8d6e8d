package config

import (
	"strings"
	"testing"
)

// TestEnviron_Kubernetes gives the variables of Kubernetes services, and settings that look like them.
func TestEnviron_Kubernetes(t *testing.T) {
	family := func(name string) []string {
		return []string{
			name + "_SERVICE_HOST=10.0.0.11", name + "_SERVICE_PORT=8000", name + "_SERVICE_PORT_HTTP=8000",
			name + "_PORT=tcp://10.0.0.11:8000", name + "_PORT_8000_TCP=tcp://10.0.0.11:8000",
			name + "_PORT_8000_TCP_PROTO=tcp", name + "_PORT_8000_TCP_PORT=8000", name + "_PORT_8000_TCP_ADDR=10.0.0.11",
		}
	}
	for _, environ := range [][]string{
		family("BURROW"), family("BURROW_HTTP"), family("BURROW_CHAT_2"), family("BURROW_PORT"), family("BURROW_SERVICE"),
		{"BURROW_SERVICE_HOST=fd00::1", "BURROW_PORT=udp://[fd00::1]:53", "BURROW_PORT_53_UDP=udp://[fd00::1]:53"},
		{"BURROW_SERVICE_PORT=8000"}, {"BURROW_HTTP_PORT=tcp://10.0.0.11:80"}, {"BURROW_PORT_9_SCTP_PORT=9"},
	} {
		if _, err := load("", nil, environ); err != nil {
			t.Errorf("%q: %v", environ, err)
		}
	}
	for pair, meant := range map[string]string{
		"BURROW_HTTP_PORT=9":                  "BURROW_HTTP_ADDR",
		"BURROW_HTTP_PORT=":                   "BURROW_HTTP_ADDR",
		"BURROW_HTTP_PORT=:9":                 "BURROW_HTTP_ADDR",
		"BURROW_HTTP_PORT=http://x:9":         "BURROW_HTTP_ADDR",
		"BURROW_HTTP_PORT=tcp://":             "BURROW_HTTP_ADDR",
		"BURROW_PORT=9":                       "BURROW_HTTP_ADDR",
		"BURROW_HOST=0.0.0.0":                 "BURROW_HTTP_ADDR",
		"BURROW_REDIS_PORT=6379":              "BURROW_BROKER_REDIS_URL",
		"BURROW_BROKER_NATS_PORT=4222":        "BURROW_BROKER_NATS_URL",
		"BURROW_RABBITMQ_HOST=mq":             "BURROW_BROKER_AMQP_URL",
		"BURROW_HTTP_SERVICE_PORT=9":          "",
		"BURROW_SERVICE_HOST=localhost":       "",
		"BURROW_SERVICE_PORT=http":            "",
		"BURROW_PORT_8000_TCP_PROTO=http":     "",
		"BURROW_PORT_8000_TCP_ADDR=localhost": "",
		"BURROW_PORT_8000_TCP=8000":           "",
	} {
		_, err := load("", nil, []string{pair})
		name, _, _ := strings.Cut(pair, "=")
		if err == nil || !strings.Contains(err.Error(), name+": unknown variable") {
			t.Errorf("%s: got %v, want an error", pair, err)
		} else if meant != "" && !strings.HasSuffix(err.Error(), "did you mean "+meant+"?") {
			t.Errorf("%s: got %v, want the suggestion %s", pair, err, meant)
		}
	}
}
