package config

import (
	"fmt"
	"reflect"
	"strings"
)

// unused returns a warning for each setting that another setting makes void, in the order of keys.
// A setting that is empty or has its default is not meant. Several brokers' addresses beside a broker.driver
// with a separate address are a choice between them, not a mistake.
func (d *decoder) unused(c *Config) (warnings []*Problem) {
	defaults := newDecoder(Default()).fields
	set := func(key string) bool {
		if _, is := d.origin[key]; !is {
			return false // also gochannel, which has no address
		}
		value := d.fields[key].value
		return !value.IsZero() && !reflect.DeepEqual(value.Interface(), defaults[key].value.Interface())
	}
	for _, key := range d.keys {
		switchKey, now, needed := "", "", ""
		if rest, is := strings.CutPrefix(key, "broker."); is {
			if driver, _, is := strings.Cut(rest, "."); is && driver != c.Broker.Driver && !set("broker."+c.Broker.Driver+".url") {
				switchKey, now, needed = "broker.driver", c.Broker.Driver, driver
			}
		} else if strings.HasPrefix(key, "auth.jwt.") && c.Auth.Mode != "jwt" {
			switchKey, now, needed = "auth.mode", c.Auth.Mode, "jwt"
		} else if key == "auth.cookie_key" && c.Auth.Mode != "guest" {
			switchKey, now, needed = "auth.mode", c.Auth.Mode, "guest"
		}
		if switchKey == "" || !set(key) {
			continue
		}
		at := d.origin[key]
		at.Key = key
		at.Message = fmt.Sprintf("set but unused with %s = %q, did you mean %s = %q?", switchKey, now, switchKey, needed)
		if at.Env != "" {
			at.Message = fmt.Sprintf("set but unused with %s = %q, did you mean %s=%s?", switchKey, now, envName(switchKey), needed)
		}
		warnings = append(warnings, &at)
	}
	return warnings
}
