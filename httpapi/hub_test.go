package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"burrow/auth"
)

// chats returns the ids of entries.
func chats(entries []entry) string {
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.chat.ID)
	}
	return fmt.Sprint(ids)
}

func TestRecentKeepsTheLast(t *testing.T) {
	r := recent{max: 3}
	for _, id := range []string{"b", "d", "f", "h"} {
		r.add(entry{chat: &chatFrame{ID: id}})
	}
	if got := chats(r.items); got != "[d f h]" {
		t.Errorf("got %s", got)
	}
	if !r.forgets("c") || r.forgets("e") {
		t.Error("forgets is wrong")
	}
	r.insert(entry{chat: &chatFrame{ID: "g"}})
	if got := chats(r.items); got != "[f g h]" {
		t.Errorf("got %s", got)
	}
	if got := chats(r.tail(2)); got != "[g h]" {
		t.Errorf("tail %s", got)
	}
	if got := chats(r.tail(9)); got != "[f g h]" {
		t.Errorf("tail %s", got)
	}
}

func TestIDSetIsBounded(t *testing.T) {
	s := idSet{max: 3, ids: map[string]struct{}{}}
	for i := range 100 {
		id := strconv.Itoa(i)
		if !s.add(id) || s.add(id) {
			t.Fatalf("%s is not new once", id)
		}
		if len(s.ids) > 3 || len(s.ring) > 3 {
			t.Fatalf("holds %d ids", len(s.ids))
		}
	}
	if s.add("98") || s.add("97") || !s.add("96") {
		t.Error("remembers the wrong ones")
	}
}

func TestRosterIsSorted(t *testing.T) {
	var r roster
	want := map[string]bool{}
	for range 2000 {
		name, on := strconv.Itoa(rand.IntN(50)), rand.IntN(2) == 0
		if got := r.set(name, on, frame(name)); got != (want[name] != on) {
			t.Fatalf("set %s %v: change %v", name, on, got)
		}
		want[name] = on
	}
	var names []string
	for _, m := range r.members {
		names = append(names, m.name)
	}
	if !slices.IsSorted(names) {
		t.Errorf("%v is not sorted", names)
	}
	for _, n := range names {
		if !want[n] {
			t.Errorf("%s is not online", n)
		}
	}
}

// An outbox gives back what was put into it, in order, and counts only what is live.
func TestOutbox(t *testing.T) {
	for range 50 {
		var o outbox
		var in, out []byte
		burst := make([]frame, rand.IntN(10))
		for i := range burst {
			burst[i] = newFrame(opText, []byte("burst"))
			in = append(in, burst[i]...)
		}
		o.start(burst)
		for i := range 500 {
			f := newFrame(opText, bytes.Repeat([]byte{byte(i)}, rand.IntN(3000)))
			if rand.IntN(50) == 0 {
				f = newFrame(opText, make([]byte, maxJoin+rand.IntN(1000)))
			}
			o.add(f, 1)
			in = append(in, f...)
			if rand.IntN(20) == 0 {
				b := batches.Get().(*batch)
				o.take(b)
				if b.size > maxJoin && len(b.frames) > 1 {
					t.Fatalf("a batch of %d frames has %d bytes", len(b.frames), b.size)
				}
				out = append(out, b.bytes()...)
				b.release()
			}
		}
		for o.len() > 0 {
			b := batches.Get().(*batch)
			o.take(b)
			out = append(out, b.bytes()...)
			b.release()
		}
		if !bytes.Equal(in, out) {
			t.Fatal("what came out is not what went in")
		}
		if o.live != 0 || o.bytes != 0 {
			t.Fatalf("empty, but %d live frames, %d bytes", o.live, o.bytes)
		}
	}
}

func TestOutboxSendsControlFramesFirst(t *testing.T) {
	var o outbox
	o.add(newFrame(opText, []byte("text")), 1)
	o.pong, o.ping = newFrame(opPong, []byte("p")), true
	b := new(batch)
	o.take(b)
	if got, want := string(b.bytes()), "\x8a\x01p\x89\x00\x81\x04text"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestIDsOnlyGrow(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	c := newIDClock(func() time.Time { return now })
	last := ""
	check := func() {
		t.Helper()
		id, at := c.next()
		u, err := uuid.Parse(id)
		if err != nil || u.Version() != 7 || u.Variant() != uuid.RFC4122 {
			t.Fatalf("%s is not a UUIDv7", id)
		}
		if id <= last || !at.Equal(now) {
			t.Fatalf("%s after %s, at %v", id, last, at)
		}
		last = id
	}
	for range 10000 { // More than fit into a millisecond.
		check()
	}
	now = now.Add(-time.Hour) // The clock was set back.
	check()
	now = now.Add(2 * time.Hour)
	check()
	at := func(d time.Duration) string {
		other := newIDClock(func() time.Time { return now.Add(d) })
		id, _ := other.next()
		return id
	}
	ahead := at(59 * time.Second)
	c.observe(ahead)
	if check(); last <= ahead {
		t.Errorf("%s is not after %s, which was seen", last, ahead)
	}
	for _, wild := range []string{at(2 * time.Minute), "", "x", uuid.NewString(), "ffffffff-ffff-7fff-bfff-ffffffffffff"} {
		c.observe(wild)
		if check(); wild == at(2*time.Minute) || last > at(61*time.Second) {
			t.Errorf("%s took the clock along, to %s", wild, last)
		}
	}
}

func TestIDsAreUniqueAmongGoroutines(t *testing.T) {
	c := newIDClock(time.Now)
	ids := make([][]string, 8)
	var making sync.WaitGroup
	for g := range ids {
		making.Go(func() {
			for range 2000 {
				id, _ := c.next()
				ids[g] = append(ids[g], id[:23]) // Without the random part.
			}
		})
	}
	making.Wait()
	all := slices.Concat(ids...)
	slices.Sort(all)
	if got := len(slices.Compact(all)); got != 16000 {
		t.Errorf("%d of 16000 are different", got)
	}
}

func TestSignInLimiterIsBounded(t *testing.T) {
	signInRate, signInBurst := DefaultEdgeConfig().SignInRate, DefaultEdgeConfig().SignInBurst
	l, now := newHostLimiter(signInRate, signInBurst), time.Now()
	for range signInBurst {
		if wait := l.take("192.0.2.1", now); wait > 0 {
			t.Fatal("refused within the burst")
		}
	}
	for i := range 3 * maxLimitedHosts {
		if wait := l.take(fmt.Sprintf("10.%d.%d.1", i/256, i%256), now); wait > 0 {
			t.Fatal("refused a new address")
		}
		if len(l.hosts) > maxLimitedHosts {
			t.Fatalf("keeps %d addresses", len(l.hosts))
		}
	}
	if l.take("192.0.2.1", now) == 0 {
		t.Error("forgot the one with the greatest debt")
	}
	if l.take("192.0.2.1", now.Add(6*time.Second)) > 0 {
		t.Error("refused after the time")
	}
	l.take("10.0.0.1", now.Add(time.Hour)) // Everyone's debt is gone.
	l.take("172.16.0.1", now.Add(time.Hour))
	for i := range signInBurst + 10 {
		wait := l.take(fmt.Sprintf("2001:db8::%x", i), now)
		if (wait > 0) != (i >= signInBurst) {
			t.Errorf("address %d of one network: wait %v", i, wait)
		}
	}
}

// TestOfficeComesBack has a thousand people with two tabs each come from one address within 5 s,
// as a server that restarts tells them, and half as many more in the 25 s after.
func TestOfficeComesBack(t *testing.T) {
	edge := DefaultEdgeConfig()
	l, now := newHostLimiter(edge.UpgradeRate, edge.UpgradeBurst), time.Now()
	for i := range 2000 {
		if wait := l.take("192.0.2.1", now.Add(time.Duration(i)*5*time.Second/2000)); wait > 0 {
			t.Fatalf("connection %d has to wait for %v", i, wait)
		}
	}
	for i := range 1000 {
		if wait := l.take("192.0.2.1", now.Add(5*time.Second+time.Duration(i)*25*time.Second/1000)); wait > 0 {
			t.Fatalf("connection %d of the second wave has to wait for %v", i, wait)
		}
	}
}

func TestFloodOfAddressesIsBounded(t *testing.T) {
	edge := DefaultEdgeConfig()
	l, now := newHostLimiter(edge.UpgradeRate, edge.UpgradeBurst), time.Now()
	for range edge.UpgradeBurst {
		l.take("2001:db8:ffff::1", now)
	}
	for i := range 20_000 {
		if wait := l.take(fmt.Sprintf("2001:db8:%x:%x::1", i>>16, i&0xffff), now); wait > 0 {
			t.Fatal("refused a new network")
		}
		if len(l.hosts) > maxLimitedHosts {
			t.Fatalf("keeps %d networks", len(l.hosts))
		}
	}
	if l.take("2001:db8:ffff::2", now) == 0 {
		t.Error("forgot the network with the greatest debt")
	}
}

func TestEveryErrorHasAStatus(t *testing.T) {
	for _, err := range []error{
		errInvalidClientID, errInvalidName, errInvalidUser, errUpgradeRequired, errForeignOrigin, errNoSession, errOtherName,
		errNameTaken, errTooManyNames, errNotJSON, errTooLarge, errDraining, errFull, errStarting,
		badRequest("x"), unavailable("x", nil), errTokenMissing, &auth.TokenError{Reason: "x"}, errors.New("anything"), context.Canceled,
	} {
		e := asAPIError(err)
		if statuses[e.code] < 400 || e.message == "" {
			t.Errorf("%v: status %d %s, message %q", err, statuses[e.code], http.StatusText(statuses[e.code]), e.message)
		}
	}
}

func TestGate(t *testing.T) {
	var g gate
	for i, want := range []bool{true, true, false} {
		if got := g.enter(2); got != want {
			t.Errorf("number %d with a limit of 2: got %v", i+1, got)
		}
	}
	g.leave()
	empty := g.close()
	if g.enter(0) {
		t.Error("entered after close")
	}
	select {
	case <-empty:
		t.Error("empty with one inside")
	default:
	}
	g.leave()
	<-empty
	<-new(gate).close()
}
