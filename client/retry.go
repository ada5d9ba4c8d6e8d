package client

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Close codes that mean something to a client, as docs/protocol.md lists them.
const (
	closeNormal     = 1000
	closeTooBig     = 1009
	closeRestart    = 1012
	closeExpired    = 4401
	closeTooMany    = 4429
	maxRetryMS      = 5 * 60 * 1000
	stableAfter     = 10 * time.Second // Connected for so long, failures are forgotten.
	maxUnauthorized = 3                // In a row; then it is final.
)

// errBehind ends a connection that was not read because the queue was full, and now has room.
var errBehind = errors.New("fetching what did not fit into the queue")

// retries counts failures in a row, and says how long to wait after each. Of run alone.
type retries struct {
	min, max     time.Duration
	failed       int
	unauthorized int
}

// after returns how long to wait after a connection, or an attempt, has ended with err; final
// means that there is no use in trying.
func (r *retries) after(err error) (wait time.Duration, final bool) {
	if errors.Is(err, errBehind) {
		return 0, false
	}
	var refused *Error
	if errors.As(err, &refused) {
		switch refused.Status {
		case 400, 403, 409:
			if refused.ours() {
				return 0, true
			}
		case 401:
			if !refused.ours() {
				break
			}
			if r.unauthorized++; r.unauthorized >= maxUnauthorized {
				return 0, true
			}
		}
		return max(r.next(), refused.RetryAfter), false
	}
	var closed *CloseError
	if errors.As(err, &closed) {
		switch closed.Code {
		case 1002, 1003, 1007:
			return 0, true
		case closeRestart:
			if ms, ok := strings.CutPrefix(closed.Reason, "retry-ms="); ok {
				if n, err := strconv.Atoi(ms); err == nil && n >= 0 {
					return time.Duration(min(n, maxRetryMS)) * time.Millisecond, false
				}
			}
		case closeExpired:
			if r.failed == 0 { // A fresh one is at hand; but a server that never likes it is left alone.
				r.failed++
				return 0, false
			}
		case closeTooMany:
			r.failed = max(r.failed, 3)
		}
	}
	return r.next(), false
}

// next returns the delay of one more failure: doubled each time, spread by half.
func (r *retries) next() time.Duration {
	d := r.max
	if r.failed < 30 && r.min<<r.failed < r.max {
		d = r.min << r.failed
	}
	r.failed++
	return d/2 + rand.N(d)
}

// welcomed notes that the server has let one in.
func (r *retries) welcomed() { r.unauthorized = 0 }

// stable notes that a connection has lasted.
func (r *retries) stable() { r.failed = 0 }
