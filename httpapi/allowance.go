package httpapi

import (
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
)

// allowance is how much one user may send to this node, over all connections together, be it one
// after the other: nobody gets more by connecting again.
type allowance struct {
	frames   *rate.Limiter
	refusals *rate.Limiter // Frames that are answered with an error.
	bytes    *rate.Limiter // That are read from WebSockets.
	sessions int           // That use it.
}

// throttle takes a token for one frame, or returns what to tell a client that has none.
func (a *allowance) throttle() *errorBody {
	if a == nil {
		return nil
	}
	now := time.Now()
	r := a.frames.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait <= 0 {
		return nil
	}
	r.CancelAt(now)
	return limited(wait, "too many messages; this one was not sent: wait a moment and send it again")
}

// limited tells a client to come back later.
func limited(wait time.Duration, message string) *errorBody {
	return &errorBody{Code: codeRateLimited, Message: message, RetryAfterMS: (wait + time.Millisecond - 1).Milliseconds()}
}

// refused counts a frame that is refused, and reports whether that is still bearable.
func (a *allowance) refused() bool { return a == nil || a.refusals.Allow() }

// untilHeard returns how long until one more frame may be refused.
func (a *allowance) untilHeard() time.Duration {
	if a == nil {
		return 0
	}
	missing := 1 - a.refusals.Tokens()
	return max(0, time.Duration(missing/float64(a.refusals.Limit())*float64(time.Second)))
}

// reads counts n bytes that were read, and returns how long to read nothing more. Control frames and
// empty pieces of messages count nowhere else.
func (a *allowance) reads(n int) time.Duration {
	if a == nil {
		return 0
	}
	now := time.Now()
	return a.bytes.ReserveN(now, min(n, a.bytes.Burst())).DelayFrom(now)
}

func (a *allowance) isFull(now time.Time) bool {
	return a.frames.TokensAt(now) >= float64(a.frames.Burst()) && a.refusals.TokensAt(now) >= float64(a.refusals.Burst()) &&
		a.bytes.TokensAt(now) >= float64(a.bytes.Burst())
}

// allowances are those of the users who are connected, and of those who were lately and have not
// got back what they used. The zero value is good.
type allowances struct {
	mu    sync.Mutex
	users map[string]*allowance
}

// take returns the allowance of user, for one session more. With a rate of 0 there is none: nil.
func (l *allowances) take(user string, cfg EdgeConfig) *allowance {
	if cfg.Rate <= 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep()
	a := l.users[user]
	if a == nil {
		largest := float64(cfg.MaxFrameBytes + maxFrameHeader)
		a = &allowance{
			frames:   rate.NewLimiter(rate.Limit(cfg.Rate), cfg.Burst),
			refusals: rate.NewLimiter(rate.Limit(cfg.Rate/2), 2*cfg.Burst),
			// All that the two above let through, at its largest, and what keeps a connection
			// alive: who sends as much as they may never waits.
			bytes: rate.NewLimiter(rate.Limit(1.5*cfg.Rate*largest+spareRate), 3*cfg.Burst*int(largest)+spareBytes),
		}
		if l.users == nil {
			l.users = make(map[string]*allowance)
		}
		l.users[user] = a
	}
	a.sessions++
	return a
}

// leave ends what take began.
func (l *allowances) leave(user string, a *allowance) {
	if a == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.sessions--; a.sessions == 0 && a.isFull(time.Now()) {
		delete(l.users, user)
	}
}

// knows reports whether user is connected, or was lately.
func (l *allowances) knows(user string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.users[user] != nil
}

// sweep forgets some of those who are gone and have everything back. It looks at more of them than
// come meanwhile, so that they do not become more and more. The caller holds the lock.
func (l *allowances) sweep() {
	now, looked := time.Now(), 0
	for user, a := range l.users { // Go's maps begin anywhere.
		if looked++; looked > 8 {
			return
		}
		if a.sessions == 0 && a.isFull(now) {
			delete(l.users, user)
		}
	}
}
