package httpapi

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// allowance is how much one user may send to this node, over all connections together, be it one
// after the other: nobody gets more by connecting again.
type allowance struct {
	frames   *rate.Limiter
	refusals *rate.Limiter // Frames that are answered with an error.
	sessions int           // That use it.
}

func (a *allowance) isFull(now time.Time) bool {
	return a.frames.TokensAt(now) >= float64(a.frames.Burst()) && a.refusals.TokensAt(now) >= float64(a.refusals.Burst())
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
		a = &allowance{
			frames:   rate.NewLimiter(rate.Limit(cfg.Rate), cfg.Burst),
			refusals: rate.NewLimiter(rate.Limit(cfg.Rate/2), 2*cfg.Burst),
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
