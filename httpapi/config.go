package httpapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"burrow/auth"
	"burrow/gen/chat"
)

// HTTPConfig is the [http] table of config.toml.
type HTTPConfig struct {
	// Addr is where the server listens, as host:port. Port 0 takes a free one.
	// Default ":8000".
	Addr string `toml:"addr"`
	// AllowedOrigins are the web origins, besides the server's own, whose pages
	// may open WebSockets and sign in: "https://chat.example.org", or "*" for
	// every origin. Default none.
	AllowedOrigins []string `toml:"allowed_origins"`
	// BasePath is the path of the page behind a proxy, such as "/chat": it is the path of the cookies,
	// and requests below it are served whether or not the proxy strips it. Default "", the root.
	BasePath string `toml:"base_path"`
	// AllowedHosts are the names in Host headers that the server answers to: "chat.example.org",
	// "*.example.org", or "*" for all. On a loopback address loopback names are always
	// allowed, elsewhere also IP addresses and names outside the public DNS. Default none: then
	// other names are allowed from trusted proxies and public addresses, but not on a
	// loopback address.
	AllowedHosts []string `toml:"allowed_hosts"`
	// TrustedProxies are the addresses and networks ("10.0.0.0/8") of proxies whose
	// X-Forwarded-For is believed. Default those of this host.
	TrustedProxies []string `toml:"trusted_proxies"`
	// MaxConnectionsPerAddress bounds the open HTTP connections of one address to this
	// node, WebSockets and idle ones included; 0 is no limit. Over it the one that is idle
	// longest is closed, or else the newest. Default 4000.
	MaxConnectionsPerAddress int `toml:"max_connections_per_address" min:"0" max:"10000000"`
}

// DefaultHTTPConfig returns the defaults of the [http] table.
func DefaultHTTPConfig() HTTPConfig {
	return HTTPConfig{
		Addr: ":8000", AllowedOrigins: []string{}, AllowedHosts: []string{},
		TrustedProxies: []string{"127.0.0.0/8", "::1/128"}, MaxConnectionsPerAddress: 4000,
	}
}

// EdgeConfig is the [edge] table of config.toml: what one WebSocket may do.
type EdgeConfig struct {
	// MaxContentBytes bounds the content of one message, after trimming, in
	// bytes of UTF-8. Default 4096.
	MaxContentBytes int `toml:"max_content_bytes" min:"1" max:"65536"`
	// MaxFrameBytes bounds one incoming WebSocket message; over it the
	// connection is closed with 1009. Default 16384.
	MaxFrameBytes int `toml:"max_frame_bytes" min:"128" max:"1048576"`
	// Rate is how many frames a second one user may send to this node for long, over
	// all their connections; 0 is no limit. Default 20.
	Rate float64 `toml:"rate" min:"0" max:"1000000"`
	// Burst is how many frames one user may send at once. Default 40.
	Burst int `toml:"burst" min:"1" max:"1000000"`
	// Queue is how many live frames may wait for one connection. Over it for
	// SlowAfter, or over sixteen times as many at any moment, the connection is
	// closed with 1013. Default 256.
	Queue int `toml:"queue" min:"1" max:"65536"`
	// SlowAfter is how long a connection may stay over Queue. Default 5s.
	SlowAfter time.Duration `toml:"slow_after" min:"1ms" max:"10m"`
	// IOUring lets the server write to many sockets in one call of the system where it can:
	// Linux 5.12 or newer, and not where containers may not. Default true.
	IOUring bool `toml:"io_uring"`
	// PingInterval is the time between pings to a connection; one that misses two
	// is closed. Default 25s.
	PingInterval time.Duration `toml:"ping_interval" min:"10ms" max:"10m"`
	// MaxConnections bounds the WebSockets of this node; 0 is no limit. Over it
	// the upgrade gets 503. Default 0.
	MaxConnections int `toml:"max_connections" min:"0" max:"10000000"`
	// MaxConnectionsPerUser bounds the WebSockets of one user on this node; 0 is
	// no limit. Over it the newest is closed with 1013. Default 16.
	MaxConnectionsPerUser int `toml:"max_connections_per_user" min:"0" max:"1000000"`
	// UpgradeRate is how many WebSockets a second one address (of IPv6 one /64) may ask
	// for, for long; 0 is no limit. Over it the upgrade gets 429. Default 50.
	UpgradeRate float64 `toml:"upgrade_rate" min:"0" max:"1000000"`
	// UpgradeBurst is how many WebSockets one address may ask for at once. An office or
	// a carrier has one address for a thousand people with two tabs each, and after a
	// restart they are all back within 5 s. Default 2000.
	UpgradeBurst int `toml:"upgrade_burst" min:"1" max:"1000000"`
	// AddressRate is how many messages and typing events a second the users of one address
	// may send to this node, for long; 0 is no limit. Over it they get rate_limited.
	// Default 200.
	AddressRate float64 `toml:"address_rate" min:"0" max:"1000000"`
	// AddressBurst is how many messages the users of one address may send at once.
	// Default 400.
	AddressBurst int `toml:"address_burst" min:"1" max:"1000000"`
	// AddressBytes is how many bytes a second are read from the clients of one address, for
	// long; eight times as many at once. 0 is no limit. Over it TCP makes them wait, and
	// requests get rate_limited. Default 131072.
	AddressBytes int `toml:"address_bytes" min:"0" max:"1073741824"`
	// SignInRate is how many sign-ins a second one address may do, for long; 0 is no
	// limit. Default 1.
	SignInRate float64 `toml:"sign_in_rate" min:"0" max:"1000000"`
	// SignInBurst is how many sign-ins one address may do at once. Default 100.
	SignInBurst int `toml:"sign_in_burst" min:"1" max:"1000000"`
}

// DefaultEdgeConfig returns the defaults of the [edge] table.
func DefaultEdgeConfig() EdgeConfig {
	return EdgeConfig{
		MaxContentBytes:       4096,
		MaxFrameBytes:         16384,
		Rate:                  20,
		Burst:                 40,
		Queue:                 256,
		SlowAfter:             5 * time.Second,
		IOUring:               true,
		PingInterval:          25 * time.Second,
		MaxConnections:        0,
		MaxConnectionsPerUser: 16,
		UpgradeRate:           50,
		UpgradeBurst:          2000,

		AddressRate:  200,
		AddressBurst: 400,
		AddressBytes: 128 << 10,
		SignInRate:   1,
		SignInBurst:  100,
	}
}

// HistoryConfig is the [history] table of config.toml.
type HistoryConfig struct {
	// Limit is how many global messages a newcomer sees; 0 is none. Default 20.
	Limit int `toml:"limit" min:"0" max:"1000"`
	// Buffer is how many global, and how many private, messages the node keeps
	// in memory. Default 1000.
	Buffer int `toml:"buffer" min:"1" max:"100000"`
	// ResumeOverlap is how long before the last message that a client has seen the
	// messages begin that it gets again when it resumes: nodes hear messages that are
	// sent at the same time in different orders, at most this far apart. Default 2s.
	ResumeOverlap time.Duration `toml:"resume_overlap" min:"1ms" max:"1m"`
}

// DefaultHistoryConfig returns the defaults of the [history] table.
func DefaultHistoryConfig() HistoryConfig {
	return HistoryConfig{Limit: 20, Buffer: 1000, ResumeOverlap: 2 * time.Second}
}

// AdminConfig is the [admin] table of config.toml.
type AdminConfig struct {
	// Token opens /admin/ and /metrics to requests with "Authorization: Bearer": 32
	// characters or more. Empty: both are closed; cmd/app generates a token and keeps it
	// in data_dir/admin.token. Default empty.
	Token string `toml:"token"`
}

// DefaultAdminConfig returns the defaults of the [admin] table.
func DefaultAdminConfig() AdminConfig { return AdminConfig{} }

// Publisher sends messages to their topics.
type Publisher interface {
	// Publish returns nil only when the broker has confirmed every message, in
	// the order given. After an error none, some or all may have been sent; none
	// after ErrRefused.
	Publish(ctx context.Context, msgs ...proto.Message) error
}

// Archive reads stored messages.
type Archive interface {
	// Page returns up to limit messages with ids less than before (the newest
	// when before is empty), oldest first, and whether there are older ones. With
	// both users empty it pages the global talk, else the private talk of the two.
	Page(ctx context.Context, before string, limit int, users [2]string) ([]*chat.ChatMessage, bool, error)
	// PageAfter returns up to limit messages with ids greater than after, the oldest of
	// them, oldest first, and whether there are newer ones.
	PageAfter(ctx context.Context, after string, limit int, users [2]string) ([]*chat.ChatMessage, bool, error)
	// PageAll is Page for the messages of all talks together.
	PageAll(ctx context.Context, before string, limit int) ([]*chat.ChatMessage, bool, error)
}

// Presence is told about every session that joins or leaves this node. It is
// called without any lock held that Server.Status or Server.Away need, and must not block for long.
type Presence interface {
	// Join is called when a session of user begins, which is not away.
	Join(user string)
	// Away is called when a session of user is away, or is no longer.
	Away(user string, away bool)
	// Leave is called when a session of user ends, which was away or not.
	Leave(user string, away bool)
}

// Auth says who is asking. *auth.Auth is one.
type Auth interface {
	// Mode is auth.ModeOpen (a client is who it says it is), auth.ModeGuest (names are
	// proven by a cookie) or auth.ModeJWT (by a token that was made elsewhere).
	Mode() string
	// KeyID is a short name of the key of the cookies, for their names; empty: none.
	KeyID() string
	// SignIn claims name for the bearer of cookie (which may be empty) and returns
	// the cookie to set. It is not called in mode jwt.
	SignIn(ctx context.Context, cookie, name string) (auth.Session, string, error)
	// Verify returns the session that cookie, or in mode jwt a token, proves, or
	// auth.ErrNoSession.
	Verify(ctx context.Context, cookie string) (auth.Session, error)
	// Renew is Verify, and for a session that is getting old it returns a new one with
	// its cookie; the new cookie is empty otherwise.
	Renew(ctx context.Context, cookie string) (auth.Session, string, error)
	// Same reports whether two valid names are names of one user.
	Same(x, y string) bool
	// Resolve returns the spelling by which messages reach the user with a valid name, or
	// auth.ErrTaken if no user can take that name.
	Resolve(ctx context.Context, name string) (string, error)
}

// Checker reports whether a part of the system works: nil, or what is wrong.
type Checker func(ctx context.Context) error

// Config is everything that a Server needs. The zero value of a bound takes its
// default, except those that say what 0 means.
type Config struct {
	HTTP    HTTPConfig    `toml:"http"`
	Edge    EdgeConfig    `toml:"edge"`
	History HistoryConfig `toml:"history"`
	Admin   AdminConfig   `toml:"admin"`

	// ListLimit is how many users a newcomer is told of: presence.list_limit.
	ListLimit int `toml:"-"`
	// FlushInterval is the least time between two tellings of who came and went:
	// presence.flush_interval, and 0.2 ms for each connection (up to 2 s) if that is more.
	// Default 200ms.
	FlushInterval time.Duration `toml:"-"`
	// Node is what clients are told to be connected to. Default a random name.
	Node string `toml:"-"`
	// Installation is sent with /healthz, for a check on the same host. Default nothing.
	Installation string `toml:"-"`
	// LoginURL is auth.jwt.login_url: where the page sends people who have no token.
	LoginURL string `toml:"-"`
	// ArchivePrivate is store.archive_private: private messages are archived too.
	ArchivePrivate bool `toml:"-"`

	Publisher Publisher `toml:"-"` // Required.
	Auth      Auth      `toml:"-"` // Required.
	Archive   Archive   `toml:"-"` // Nil: there is only the memory of this node.
	Search    Searcher  `toml:"-"` // Nil: there is no search.
	Talks     Talker    `toml:"-"` // Nil: private talks are not listed.
	Refs      Refs      `toml:"-"` // Nil: this node remembers the latest ones, until it ends.
	Presence  Presence  `toml:"-"` // Nil: nobody is told.
	Letters   Letters   `toml:"-"` // Nil: there is no admin API.
	// Checks are the parts that /readyz asks, by name.
	Checks map[string]Checker `toml:"-"`
	// Vital fails for what only a restart of the process ends; /healthz asks it. Nil: nothing.
	Vital Checker `toml:"-"`
	// UI holds the page as index.html, and what it loads from /ui/. Nil: no page.
	UI fs.FS `toml:"-"`

	Log      *slog.Logger          `toml:"-"` // Default slog.Default().
	Metrics  prometheus.Registerer `toml:"-"` // Default a private registry.
	Gatherer prometheus.Gatherer   `toml:"-"` // What /metrics serves. Nil: there is no such route.
}

// DefaultConfig returns the defaults of the three tables.
func DefaultConfig() Config {
	return Config{
		HTTP:          DefaultHTTPConfig(),
		Edge:          DefaultEdgeConfig(),
		History:       DefaultHistoryConfig(),
		ListLimit:     200,
		FlushInterval: 200 * time.Millisecond,
	}
}

// withDefaults fills what is missing and reports everything that is wrong.
func (c Config) withDefaults() (Config, error) {
	edge, history := DefaultEdgeConfig(), DefaultHistoryConfig()
	c.Edge.MaxContentBytes = positive(c.Edge.MaxContentBytes, edge.MaxContentBytes)
	c.Edge.MaxFrameBytes = positive(c.Edge.MaxFrameBytes, edge.MaxFrameBytes)
	c.Edge.Burst = positive(c.Edge.Burst, edge.Burst)
	c.Edge.Queue = positive(c.Edge.Queue, edge.Queue)
	c.Edge.SlowAfter = positive(c.Edge.SlowAfter, edge.SlowAfter)
	c.Edge.UpgradeBurst = positive(c.Edge.UpgradeBurst, edge.UpgradeBurst)
	c.Edge.AddressBurst = positive(c.Edge.AddressBurst, edge.AddressBurst)
	c.Edge.SignInBurst = positive(c.Edge.SignInBurst, edge.SignInBurst)
	c.Edge.PingInterval = positive(c.Edge.PingInterval, edge.PingInterval)
	c.History.Buffer = positive(c.History.Buffer, history.Buffer)
	c.History.ResumeOverlap = positive(c.History.ResumeOverlap, history.ResumeOverlap)
	c.ListLimit = positive(c.ListLimit, 200)
	c.FlushInterval = positive(c.FlushInterval, 200*time.Millisecond)
	if c.Refs == nil {
		c.Refs = newMemoryRefs()
	}
	if c.Node == "" {
		c.Node = "node-" + rand.Text()
	}
	if c.HTTP.Addr == "" {
		c.HTTP.Addr = DefaultHTTPConfig().Addr
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}

	var errs []error
	c.HTTP.BasePath = strings.TrimSuffix(c.HTTP.BasePath, "/")
	if c.Publisher == nil {
		errs = append(errs, errors.New("httpapi: Config.Publisher is nil; give it the router"))
	}
	if c.Auth == nil {
		errs = append(errs, errors.New("httpapi: Config.Auth is nil; give it an auth.Auth"))
	}
	errs = append(errs, c.Admin.problems()...)
	errs = append(errs, c.HTTP.problems()...)
	return c, errors.Join(errs...)
}

// problems returns everything that is wrong with c.
func (c AdminConfig) problems() (errs []error) {
	if t := c.Token; t != "" && !ValidToken(t) {
		errs = append(errs, errors.New("admin.token: use 32 or more letters, digits and punctuation marks, without spaces"))
	}
	return errs
}

// problems returns everything that is wrong with c.
func (c HTTPConfig) problems() (errs []error) {
	if err := CheckBasePath(c.BasePath); err != nil {
		errs = append(errs, fmt.Errorf("http.base_path: %w", err))
	}
	for _, raw := range c.AllowedOrigins {
		if err := CheckOrigin(raw); err != nil {
			errs = append(errs, fmt.Errorf("http.allowed_origins: %q %w", raw, err))
		}
	}
	for _, raw := range c.AllowedHosts {
		if err := CheckHost(raw); err != nil {
			errs = append(errs, fmt.Errorf("http.allowed_hosts: %q %w", raw, err))
		}
	}
	for _, raw := range c.TrustedProxies {
		if !ValidProxy(raw) {
			errs = append(errs, fmt.Errorf("http.trusted_proxies: %q is neither an address nor a network; write 10.0.0.7 or 10.0.0.0/8", raw))
		}
	}
	return errs
}

func positive[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}
