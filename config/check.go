package config

import (
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"burrow/auth"
	"burrow/httpapi"
)

// topicPrefix is what every broker accepts in its names, NATS subjects included.
var topicPrefix = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)

// check looks at what tags cannot say: the form of texts, and settings that must fit
// one another.
func (d *decoder) check(c *Config) {
	if d.torn {
		return // what was read is no whole
	}
	if c.DataDir == "" {
		d.wrong("it is empty; name a directory", "data_dir")
	}
	if a := c.HTTP.Addr; a != "" && !validAddr(a) { // Empty is for workers; the command checks that.
		d.wrong("this is no address to listen on; write host:port, or :port for every interface, with a port of 0 to 65535", "http.addr")
	}
	if err := httpapi.CheckBasePath(c.HTTP.BasePath); err != nil {
		d.wrong(err.Error(), "http.base_path")
	}
	for _, origin := range c.HTTP.AllowedOrigins {
		if err := httpapi.CheckOrigin(origin); err != nil {
			d.wrong(clip(strconv.Quote(origin))+" "+err.Error(), "http.allowed_origins")
		}
	}
	for _, host := range c.HTTP.AllowedHosts {
		if err := httpapi.CheckHost(host); err != nil {
			d.wrong(clip(strconv.Quote(host))+" "+err.Error(), "http.allowed_hosts")
		}
	}
	for _, proxy := range c.HTTP.TrustedProxies {
		if !httpapi.ValidProxy(proxy) {
			d.wrong(clip(strconv.Quote(proxy))+` is no address and no network; write "10.0.0.7", "10.0.0.0/8" or "fd00::/8"`, "http.trusted_proxies")
		}
	}
	if n := len(c.Auth.CookieKey); n > 0 && n < 32 {
		d.wrong("the key is too short to protect the cookies; write 32 characters or more, or leave it empty for a random one", "auth.cookie_key")
	}
	d.tokens(c.Auth)
	if t := c.Admin.Token; t != "" && !httpapi.ValidToken(t) {
		d.wrong("this is no token; write 32 or more letters, digits and punctuation marks, without spaces, as openssl rand -hex 32 makes them, or leave it empty", "admin.token")
	}
	if c.Edge.MaxFrameBytes < c.Edge.MaxContentBytes {
		d.wrong("a frame must have room for the longest message: edge.max_frame_bytes (%d) is below edge.max_content_bytes (%d)",
			"edge.max_frame_bytes", "edge.max_content_bytes")
	}
	if c.Broker.MaxMessageBytes < c.Edge.MaxFrameBytes {
		d.wrong("the broker must carry what a frame holds: broker.max_message_bytes (%d) is below edge.max_frame_bytes (%d)",
			"broker.max_message_bytes", "edge.max_frame_bytes")
	}
	if c.History.Buffer < c.History.Limit {
		d.wrong("what a newcomer sees comes from memory: history.buffer (%d) is below history.limit (%d)",
			"history.buffer", "history.limit")
	}
	if c.Presence.Lease/2 <= c.Presence.Heartbeat {
		d.wrong("one lost heartbeat must not end a lease: presence.lease (%s) must be over twice presence.heartbeat (%s)",
			"presence.lease", "presence.heartbeat")
	}
	if p := c.Broker.TopicPrefix; len(p) > 64 || !topicPrefix.MatchString(p) {
		d.wrong("this is no prefix; write lower-case letters, digits, - and _, in elements joined by single dots, 64 characters at most", "broker.topic_prefix")
	}
	switch c.Broker.Driver {
	case "nats":
		if c.Broker.NATS.URL != "" { // else embedded
			d.addresses("broker.nats.url", c.Broker.NATS.URL, "nats://host:4222, or leave it empty for the embedded server", "nats", "tls", "ws", "wss")
		}
	case "redis":
		d.addresses("broker.redis.url", c.Broker.Redis.URL, "redis://host:6379/0", "redis", "rediss", "unix")
	case "amqp":
		d.addresses("broker.amqp.url", c.Broker.AMQP.URL, "amqp://user:password@host:5672/", "amqp", "amqps")
	}
	if scheme, _, is := strings.Cut(c.Store.DSN, "://"); is && scheme != "file" {
		d.wrong("only SQLite is supported; write a path or a file: URI, or leave it empty", "store.dsn")
	}
}

// tokens checks what mode jwt needs; the key file is read at start.
func (d *decoder) tokens(c auth.Config) {
	if c.Mode != auth.ModeJWT {
		return
	}
	switch j := c.JWT; {
	case j.Key == "" && j.KeyFile == "":
		d.wrong(`auth.mode "jwt" needs the key that tokens are signed with; name its file here, or for HS256 set auth.jwt.key`, "auth.jwt.key_file")
	case j.Key != "" && j.KeyFile != "":
		d.wrong("auth.jwt.key is set too; leave one of them empty", "auth.jwt.key_file")
	case j.Key != "" && j.Algorithm != "HS256":
		d.wrong("this is for HS256 only; put the public key into a file and name that with auth.jwt.key_file", "auth.jwt.key")
	case j.Key != "" && len(j.Key) < 32:
		d.wrong("the secret is too short; write 32 characters or more, as openssl rand -base64 32 makes them", "auth.jwt.key")
	}
	if u := c.JWT.LoginURL; u != "" && !validLoginURL(u) {
		d.wrong("the page cannot send people there; write https://host/path, http://host/path, or a path that begins with one /", "auth.jwt.login_url")
	}
}

// wrong complains about the keys, unless one has a problem of its own, at the first
// that was set, by preference in the environment. The message has a verb for each
// of several keys: its value.
func (d *decoder) wrong(message string, keys ...string) {
	at, key := Problem{}, keys[0]
	for _, k := range slices.Backward(keys) {
		if d.bad[k] {
			return
		}
		if o, set := d.origin[k]; set && (o.Env != "" || at.Env == "") {
			at, key = o, k
		}
	}
	if len(keys) == 1 {
		d.complain(at, key, "%s", message)
		return
	}
	var values []any
	for _, k := range keys {
		values = append(values, d.fields[k].value.Interface())
	}
	d.complain(at, key, message, values...)
}

// addresses checks a list of URLs. It says nothing of their content, which may be secret.
func (d *decoder) addresses(key, text, example string, schemes ...string) {
	for part := range strings.SplitSeq(text, ",") {
		if key != "broker.nats.url" {
			part = text // only NATS takes a list
		}
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil || !slices.Contains(schemes, u.Scheme) || u.Host == "" && u.Scheme != "unix" {
			d.wrong("this is no URL for the chosen broker.driver; write "+example+" (schemes: "+strings.Join(schemes, ", ")+")", key)
			return
		}
	}
}

func validAddr(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// validLoginURL lets nothing through that a browser takes for a script or, as "//host" and
// "/\host", for another host by accident.
func validLoginURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || strings.ContainsAny(text, "\\ \t\r\n") {
		return false
	}
	if u.Scheme == "" {
		return strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "//")
	}
	return (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil
}
