package client

import (
	"errors"
	"testing"
	"time"

	"burrow/gen/edge"
)

func TestRetries(t *testing.T) {
	fresh := func() *retries { return &retries{min: 500 * time.Millisecond, max: 30 * time.Second} }
	for _, tt := range []struct {
		err        error
		least, max time.Duration
		final      bool
	}{
		{errors.New("cut"), 250 * time.Millisecond, 750 * time.Millisecond, false},
		{errBehind, 0, 0, false},
		{&CloseError{1012, "retry-ms=1234"}, 1234 * time.Millisecond, 1234 * time.Millisecond, false},
		{&CloseError{1012, "retry-ms=0"}, 0, 0, false},
		{&CloseError{1012, "retry-ms=999999999"}, 5 * time.Minute, 5 * time.Minute, false},
		{&CloseError{1012, "retry-ms=-1"}, 250 * time.Millisecond, 750 * time.Millisecond, false},
		{&CloseError{1012, "soon"}, 250 * time.Millisecond, 750 * time.Millisecond, false},
		{&CloseError{1013, "too slow"}, 250 * time.Millisecond, 750 * time.Millisecond, false},
		{&CloseError{4429, "slow down"}, 2 * time.Second, 6 * time.Second, false},
		{&CloseError{4401, "expired"}, 0, 0, false},
		{&CloseError{1002, ""}, 0, 0, true},
		{&Error{Code: "starting", Status: 503, RetryAfter: 3 * time.Second}, 3 * time.Second, 3 * time.Second, false},
		{&Error{Code: "rate_limited", Status: 429, RetryAfter: 5 * time.Second}, 5 * time.Second, 5 * time.Second, false},
		{&Error{Code: "http_502", Status: 502}, 250 * time.Millisecond, 750 * time.Millisecond, false},
		{&Error{Code: "http_403", Status: 403}, 250 * time.Millisecond, 750 * time.Millisecond, false}, // Not the server's.
		{&Error{Code: "forbidden", Status: 403}, 0, 0, true},
		{&Error{Code: "name_taken", Status: 409}, 0, 0, true},
		{&Error{Code: "no_session", Status: 401}, 250 * time.Millisecond, 750 * time.Millisecond, false},
	} {
		wait, final := fresh().after(tt.err)
		if final != tt.final || !final && (wait < tt.least || wait > tt.max) {
			t.Errorf("%v: got %s, final %v; want %s to %s, final %v", tt.err, wait, final, tt.least, tt.max, tt.final)
		}
	}

	// It doubles, is spread, and has an end; what lasts makes it forget.
	r := fresh()
	for i, full := 0, 500*time.Millisecond; i < 100; i, full = i+1, min(2*full, 30*time.Second) {
		if wait, _ := r.after(errors.New("cut")); wait < full/2 || wait >= full*3/2 {
			t.Fatalf("failure %d: got %s, want %s spread by half", i, wait, full)
		}
	}
	r.stable()
	if wait, _ := r.after(errors.New("cut")); wait >= time.Second {
		t.Errorf("after a connection that lasted: %s", wait)
	}
	// A server that ends every session at once, or knows no proof, is left alone.
	r = fresh()
	if first, _ := r.after(&CloseError{4401, ""}); first != 0 {
		t.Errorf("expired: %s", first)
	}
	if second, _ := r.after(&CloseError{4401, ""}); second == 0 {
		t.Error("expired again: no delay")
	}
	r = fresh()
	for i := range maxUnauthorized {
		if _, final := r.after(&Error{Code: "no_session", Status: 401}); final != (i == maxUnauthorized-1) {
			t.Errorf("refused %d times: final %v", i+1, final)
		}
	}
}

// What waits leaves in order, not faster than the server takes it, and again after a new connection.
func TestOutbox(t *testing.T) {
	now := time.Now()
	o := new(outbox)
	var all []*request
	for i := range 2 * window {
		r := &request{ref: string(rune('a' + i)), frame: new(edge.ClientFrame)}
		all = append(all, r)
		if !o.add(r) {
			t.Fatal("it takes nothing")
		}
	}
	next := func(want *request, wantWait time.Duration) {
		t.Helper()
		if r, wait := o.next(now); r != want || wait != wantWait {
			t.Fatalf("got %v after %s, want %v after %s", r, wait, want, wantWait)
		}
	}
	for i := range window {
		next(all[i], 0)
	}
	next(nil, 0) // The window is full.
	o.remove(all[1])
	next(all[window], 0)

	// The first one was too fast: it goes first, after a while, and all keep that distance.
	o.again(all[0], 50*time.Millisecond, true, now)
	next(nil, 50*time.Millisecond)
	now = now.Add(50 * time.Millisecond)
	next(all[0], 0)
	o.remove(all[0])
	next(nil, 50*time.Millisecond)
	now = now.Add(50 * time.Millisecond)
	next(all[window+1], 0)
	o.remove(all[2])
	o.remove(all[3])
	now = now.Add(paceFor)
	next(all[window+2], 0)
	next(all[window+3], 0) // The pace is forgotten.

	o.reconnected()
	next(all[4], 0)
	next(all[5], 0)
	if left := o.drop(); len(left) != 2*window-4 || o.add(all[0]) || o.find(all[5].ref) != nil {
		t.Errorf("%d were dropped", len(left))
	}
	o.remove(all[4]) // Too late, and no harm.
	next(nil, 0)
}

func TestIDSetForgets(t *testing.T) {
	s := newIDSet(3)
	for i := range byte(10) {
		s.add([16]byte{i})
	}
	if len(s.ids) != 3 || !s.has([16]byte{9}) || !s.has([16]byte{7}) || s.has([16]byte{6}) {
		t.Errorf("it has %v", s.ids)
	}
}
