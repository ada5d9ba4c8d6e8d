package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"burrow/internal/suggest"
)

const envPrefix = "BURROW_"

// kubernetes matches what it sets in every pod for services called burrow, burrow-http, …
var kubernetes = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

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
	for _, pair := range pairs {
		name, text, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, envPrefix) || strings.HasPrefix(name, "BURROW_TEST_") {
			continue
		}
		at := Problem{Env: clip(name)}
		f := byName[name]
		if f == nil {
			if !kubernetes.MatchString(name) {
				d.complain(at, "", "unknown variable%s", suggest.DidYouMean(suggest.Nearest(name, slices.Sorted(maps.Keys(byName)))))
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
