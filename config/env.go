package config

import (
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"burrow/internal/suggest"
)

const envPrefix = "BURROW_"

// kubernetes are the variables which Kubernetes sets in every pod for services called burrow, burrow-http, …:
// the form of the name, with the service first, and that of the value.
var kubernetes = []struct {
	name  *regexp.Regexp
	value func(string) bool
}{
	{regexp.MustCompile(`^(BURROW(?:_.+)?)_SERVICE_HOST$`), isIP},
	{regexp.MustCompile(`^(BURROW(?:_.+)?)_SERVICE_PORT(?:_.+)?$`), isPort},
	{regexp.MustCompile(`^(BURROW(?:_.+)?)_PORT(?:_[0-9]+_(?:TCP|UDP|SCTP))?$`), isPortURL},
	{regexp.MustCompile(`^(BURROW(?:_.+)?)_PORT_[0-9]+_(?:TCP|UDP|SCTP)_PROTO$`), isProtocol},
	{regexp.MustCompile(`^(BURROW(?:_.+)?)_PORT_[0-9]+_(?:TCP|UDP|SCTP)_PORT$`), isPort},
	{regexp.MustCompile(`^(BURROW(?:_.+)?)_PORT_[0-9]+_(?:TCP|UDP|SCTP)_ADDR$`), isIP},
}

// fromKubernetes reports whether a variable is one of a Kubernetes service and not a mistyped setting.
// BURROW_X_SERVICE_PORT could be either, and needs the BURROW_X_SERVICE_HOST of its service.
func fromKubernetes(name, value string, environ map[string]string) bool {
	for _, k := range kubernetes {
		m := k.name.FindStringSubmatch(name)
		if m == nil || !k.value(value) {
			continue
		}
		isSetting := strings.HasPrefix(name, m[1]+"_SERVICE_PORT") && m[1] != "BURROW"
		if !isSetting || isIP(environ[m[1]+"_SERVICE_HOST"]) {
			return true
		}
	}
	return false
}

func isIP(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

func isProtocol(text string) bool { return slices.Contains([]string{"tcp", "udp", "sctp"}, text) }

func isPortURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && isProtocol(u.Scheme) && u.Hostname() != "" && isPort(u.Port())
}

// envName returns the variable that sets key.
func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

// environ takes "NAME=value" pairs, as os.Environ returns them. An empty value sets
// a text or a list; anything else cannot be empty, and keeps what it has, because
// that is how compose files pass on a variable that nobody has set.
func (d *decoder) environ(pairs []string) {
	byName := map[string]*field{}
	for _, key := range d.keys {
		byName[envName(key)] = d.fields[key]
	}
	all := map[string]string{}
	for _, pair := range pairs {
		name, text, _ := strings.Cut(pair, "=")
		all[name] = text
	}
	for _, pair := range pairs {
		name, text, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, envPrefix) || strings.HasPrefix(name, "BURROW_TEST_") {
			continue
		}
		at := Problem{Env: clip(name)}
		f := byName[name]
		if f == nil {
			if !fromKubernetes(name, text, all) {
				d.complain(at, "", "unknown variable%s", suggest.DidYouMean(nearestVariable(name, slices.Sorted(maps.Keys(byName)))))
			}
			continue
		}
		if _, isText := f.value.Interface().(string); text == "" && !isText && f.value.Kind().String() != "slice" {
			continue
		}
		d.origin[f.key] = at
		if wrong := f.assign(text); wrong != "" {
			d.complain(at, f.key, "%s", wrong)
		}
	}
}

// nearestVariable returns the variable that was most likely meant. Addresses are one setting here, while other
// programs have one for the host and one for the port.
func nearestVariable(name string, known []string) string {
	if stem, is := strings.CutSuffix(name, "_PORT"); is || strings.HasSuffix(name, "_HOST") {
		stem = strings.TrimSuffix(stem, "_HOST")
		for word, key := range map[string]string{"NATS": "broker.nats.url", "REDIS": "broker.redis.url", "AMQP": "broker.amqp.url", "RABBITMQ": "broker.amqp.url"} {
			if strings.HasSuffix(stem, "_"+word) && slices.Contains(known, envName(key)) {
				return envName(key)
			}
		}
		if stem == "BURROW" && slices.Contains(known, envName("http.addr")) {
			return envName("http.addr")
		}
	}
	return suggest.Nearest(name, known)
}
