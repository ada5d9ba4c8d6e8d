package httpapi

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// controlCost is how many bytes a ping or pong counts for, beside its own.
	controlCost = 256
	// spareRate and spareBytes are for pings, pongs and headers, whatever edge.rate is: bytes a
	// second, and at once.
	spareRate, spareBytes = 8 << 10, 64 << 10
	maxFrameHeader        = 14
	// addressSeconds is the burst of edge.address_bytes, in seconds.
	addressSeconds = 8
)

// allowance is how much one user, or one address, may send to this node, over all connections
// together, one after the other too: reconnecting resets nothing. A nil allowance has no limit.
type allowance struct {
	frames   *rate.Limiter // Of a user: all frames. Of an address: messages and typing. Nil: no limit.
	refusals *rate.Limiter // Frames that are answered with an error. Nil: no limit.
	bytes    *rate.Limiter // That are read from clients. Nil: no limit.
	sessions int           // That use it.
}

// newUserAllowance returns the allowance of one user, or nil if edge.rate is 0.
func newUserAllowance(cfg EdgeConfig) *allowance {
	if cfg.Rate <= 0 {
		return nil
	}
	largest := float64(cfg.MaxFrameBytes + maxFrameHeader)
	return &allowance{
		frames:   rate.NewLimiter(rate.Limit(cfg.Rate), cfg.Burst),
		refusals: rate.NewLimiter(rate.Limit(cfg.Rate/2), 2*cfg.Burst),
		// All that the two above let through, at its largest, and what keeps a connection
		// alive: who sends as much as they may never waits.
		bytes: rate.NewLimiter(rate.Limit(1.5*cfg.Rate*largest+spareRate), 3*cfg.Burst*int(largest)+spareBytes),
	}
}

// newAddressAllowance returns the allowance of one address, or nil if it has no limit. With edge.rate
// 0 there is none either: an operator without limits for users has none for addresses.
func newAddressAllowance(cfg EdgeConfig) *allowance {
	if cfg.Rate <= 0 || cfg.AddressRate <= 0 && cfg.AddressBytes <= 0 {
		return nil
	}
	a := new(allowance)
	if cfg.AddressRate > 0 {
		a.frames = rate.NewLimiter(rate.Limit(cfg.AddressRate), cfg.AddressBurst)
	}
	if cfg.AddressBytes > 0 {
		a.bytes = rate.NewLimiter(rate.Limit(cfg.AddressBytes), max(addressSeconds*cfg.AddressBytes, 2*cfg.MaxFrameBytes))
	}
	return a
}

// throttle takes a token for one frame, or returns the error for a client without one.
func (a *allowance) throttle(message string) *errorBody {
	if a == nil || a.frames == nil {
		return nil
	}
	now := time.Now()
	r := a.frames.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait <= 0 {
		return nil
	}
	r.CancelAt(now)
	return limited(wait, message)
}

// The messages of refused frames.
const (
	tooFast        = "too many messages; this one was not sent: wait a moment and send it again"
	tooFastAddress = "too many messages from your address; this one was not sent: wait a moment and send it again"
	tooManyBytes   = "too many bytes from your address; this message was not sent: wait a moment and send it again"
	tooManyPages   = "too many pages of history from your address: wait a moment and ask again"
)

// limited tells a client to come back later.
func limited(wait time.Duration, message string) *errorBody {
	return &errorBody{Code: codeRateLimited, Message: message, RetryAfterMS: (wait + time.Millisecond - 1).Milliseconds()}
}

// refused counts a frame that is refused, and reports whether that is still bearable.
func (a *allowance) refused() bool { return a == nil || a.refusals == nil || a.refusals.Allow() }

// untilHeard returns how long until one more frame may be refused.
func (a *allowance) untilHeard() time.Duration {
	if a == nil {
		return 0
	}
	return untilOne(a.refusals)
}

// untilRead returns how long until one more byte may be read.
func (a *allowance) untilRead() time.Duration {
	if a == nil {
		return 0
	}
	return untilOne(a.bytes)
}

// untilOne returns how long until l has a token. A nil limiter always has one.
func untilOne(l *rate.Limiter) time.Duration {
	if l == nil {
		return 0
	}
	missing := 1 - l.Tokens()
	return max(0, time.Duration(missing/float64(l.Limit())*float64(time.Second)))
}

// reads counts n bytes that were read, and returns how long to read nothing more. Control frames and
// empty pieces of messages count nowhere else.
func (a *allowance) reads(n int) time.Duration {
	if a == nil || a.bytes == nil {
		return 0
	}
	now := time.Now()
	return a.bytes.ReserveN(now, min(n, a.bytes.Burst())).DelayFrom(now)
}

func (a *allowance) isFull(now time.Time) bool {
	for _, l := range [...]*rate.Limiter{a.frames, a.refusals, a.bytes} {
		if l != nil && l.TokensAt(now) < float64(l.Burst()) {
			return false
		}
	}
	return true
}

// allowances are those of the users, or addresses, with a session, and of recent ones that have not
// got back all tokens. The zero value is good.
type allowances[K string | netip.Prefix] struct {
	mu  sync.Mutex
	all map[K]*allowance
}

// take returns the allowance of key, for one session more, made by fresh if there is none: nil if that
// returns nil.
func (l *allowances[K]) take(key K, fresh func(EdgeConfig) *allowance, cfg EdgeConfig) *allowance {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep()
	a := l.all[key]
	if a == nil {
		if a = fresh(cfg); a == nil {
			return nil
		}
		if l.all == nil {
			l.all = make(map[K]*allowance)
		}
		l.all[key] = a
	}
	a.sessions++
	return a
}

// leave ends what take began.
func (l *allowances[K]) leave(key K, a *allowance) {
	if a == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.sessions--; a.sessions == 0 && a.isFull(time.Now()) {
		delete(l.all, key)
	}
}

// knows reports whether key has a session, or had one lately.
func (l *allowances[K]) knows(key K) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[key] != nil
}

// sweep forgets some of those who are gone and have everything back. It looks at more of them than
// come meanwhile, so that they do not become more and more. The caller holds the lock.
func (l *allowances[K]) sweep() {
	now, looked := time.Now(), 0
	for key, a := range l.all { // Go's maps begin anywhere.
		if looked++; looked > 8 {
			return
		}
		if a.sessions == 0 && a.isFull(now) {
			delete(l.all, key)
		}
	}
}

// share is what one session, or one request, uses of the allowances of its user and its address.
type share struct {
	server  *Server
	user    string
	from    string     // The address.
	own     *allowance // Of the user.
	address *allowance
}

// share takes the share of user at the address from, which ends with leave.
func (s *Server) share(user, from string) share {
	return share{
		server: s, user: user, from: from,
		own:     s.senders.take(user, newUserAllowance, s.cfg.Edge),
		address: s.addresses.take(hostPrefix(from), newAddressAllowance, s.cfg.Edge),
	}
}

func (a *share) leave() {
	a.server.senders.leave(a.user, a.own)
	a.server.addresses.leave(hostPrefix(a.from), a.address)
}

// throttle takes a token of the user for one frame, or returns the error for a client without one.
func (a *share) throttle() *errorBody {
	bad := a.own.throttle(tooFast)
	if bad != nil {
		a.server.limitedUser(a.user, a.from, tooFast)
	}
	return bad
}

// publish takes a token of the address for a message or a typing event, or returns the error for a
// client without one.
func (a *share) publish() *errorBody {
	bad := a.address.throttle(tooFastAddress)
	if bad != nil {
		a.server.limited("messages", a.user, a.from)
	}
	return bad
}

// history takes a token of the address for a page of history, or returns the error for a client
// without one.
func (a *share) history() *errorBody {
	wait := a.server.readers.take(a.from, time.Now())
	if wait <= 0 {
		return nil
	}
	a.server.limited("pages of history", a.user, a.from)
	return limited(wait, tooManyPages)
}

// reads counts n bytes that were read, and returns how long to read nothing more.
func (a *share) reads(n int) time.Duration { return max(a.own.reads(n), a.address.reads(n)) }
