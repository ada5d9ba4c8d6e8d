package client

import (
	"math/rand/v2"
	"time"

	"burrow/gen/edge"
)

const (
	// renewLead is how long before the end of a session a token is renewed, if it is good for
	// longer than that.
	renewLead = time.Minute
	// renewRetry is how long after a failure it is tried again.
	renewRetry = 5 * time.Second
)

// renewed notes when the session ends.
func (l *link) renewed(at time.Time) {
	select {
	case <-l.expires: // An older one.
	default:
	}
	select {
	case l.expires <- at:
	default:
	}
}

// keepSignedIn renews the session before it ends, for as long as the connection lasts.
func (c *Conn) keepSignedIn(l *link) {
	var due <-chan time.Time
	var timer *time.Timer
	after := func(d time.Duration) {
		if timer != nil {
			timer.Stop()
		}
		timer = time.NewTimer(d)
		due = timer.C
	}
	defer func() {
		if timer != nil {
			timer.Stop()
		}
	}()
	var expires time.Time
	for {
		select {
		case expires = <-l.expires:
			after(c.web.renewAfter(time.Until(expires)))
			continue
		case <-due:
			due = nil
		case <-l.ctx.Done():
			return
		}
		proof, err := c.web.renew(l.ctx)
		switch {
		case l.ctx.Err() != nil:
			return
		case err != nil:
			c.log.Warn("renew the session", "error", err)
			after(renewRetry/2 + rand.N(renewRetry))
		case proof == "":
			after(max(renewRetry, c.web.renewAfter(time.Until(expires)))) // It is not old enough yet.
		default:
			l.note(&edge.ClientFrame{Frame: &edge.ClientFrame_Renew{Renew: &edge.Renew{Token: proof}}})
			after(renewRetry + max(0, time.Until(expires)/2)) // If no answer comes.
		}
	}
}

// renewAfter returns when to renew a session that lasts for another while: a token shortly before its
// end, a guest's cookie once the server gives another one, which is past half of its life.
func (w *web) renewAfter(left time.Duration) time.Duration {
	if w.token == nil {
		return max(time.Second, left*6/10)
	}
	return max(0, left-min(renewLead, left/4))
}
