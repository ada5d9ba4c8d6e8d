package httpapi_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/auth"
	"burrow/gen/chat"
	"burrow/gen/edge"
	"burrow/httpapi"
)

func typingTo(user string) *edge.ClientFrame {
	return &edge.ClientFrame{Frame: &edge.ClientFrame_Typing{Typing: &edge.Typing{ClientId: "mallory", ToUser: user}}}
}

func TestV1Typing(t *testing.T) {
	eachEncoding(t, func(t *testing.T, protocol string) {
		n := start(t, nil)
		old := n.join(t, "old")
		alice, tab := n.joinV1(t, protocol, "alice"), n.joinV1(t, protocol, "alice")
		bob, carol := n.joinV1(t, protocol, "bob"), n.joinV1(t, protocol, "carol")
		for range 3 { // In any order: a session is in before that is told.
			if frame := old.next(); !strings.Contains(frame, "online") {
				t.Fatalf("got %s", frame)
			}
		}

		for range 5 { // Once in two seconds: the rest of them nobody sees.
			alice.sendFrame(typingTo(""))
		}
		alice.ponged() // They have been handled.
		tab.sendFrame(typingTo("carol"))
		for _, c := range []*v1{bob, carol} {
			if got := c.nextTalk().GetTyping(); got.GetClientId() != "alice" || got.GetToUser() != "" {
				t.Errorf("got %v", got)
			}
		}
		bob.sendFrame(typingTo("carol"))
		if got := carol.nextTalk().GetTyping(); got.GetClientId() != "bob" || got.GetToUser() != "carol" {
			t.Errorf("got %v", got)
		}
		carol.sendFrame(typingTo("-"))
		carol.fails("invalid_user", "")
		// Late ones, as of a broker that was away, are not shown.
		n.Typing(&chat.Typing{Sender: "bob", SentAt: timestamppb.New(time.Now().Add(-time.Minute))})
		n.Deliver(message(1, "bob", "", "end"))
		old.hears("bob", "", "end")
		for _, c := range []*v1{alice, tab, bob, carol} {
			c.hears("bob", "", "end")
		}
		for _, kinds := range n.broker.published() {
			if kinds != "" {
				t.Errorf("published %q", kinds)
			}
		}
		// A broker that is away is no error, and holds up nothing.
		n.broker.fail(errors.New("away"))
		carol.sendFrame(typingTo(""))
		if before := carol.ponged(); slices.ContainsFunc(before, func(f *edge.ServerFrame) bool { return f.GetError() != nil }) {
			t.Errorf("got %v", before)
		}
	})
}

func renewWith(token string) *edge.ClientFrame {
	return &edge.ClientFrame{Frame: &edge.ClientFrame_Renew{Renew: &edge.Renew{Token: token}}}
}

func TestV1Renew(t *testing.T) {
	eachEncoding(t, func(t *testing.T, protocol string) {
		t.Parallel()
		n := start(t, nil)
		n.auth.mode = auth.ModeJWT
		end := time.Now().Add(10 * time.Second).Truncate(time.Millisecond)
		prove := func(proof, user string, expires time.Time) {
			n.auth.mu.Lock()
			defer n.auth.mu.Unlock()
			n.auth.cookies[proof] = auth.Session{Name: user, Expires: expires}
		}
		prove("first", "alice", end)
		prove("later", "alice", end.Add(500*time.Millisecond))
		prove("of-bob", "bob", end.Add(time.Hour))
		alice := n.dialV1(t, protocol, "alice", "", "Authorization: Bearer first")
		if welcome, _, _ := alice.hello(); !welcome.ExpiresAt.AsTime().Equal(end) {
			t.Errorf("expires_at is %v, want %v", welcome.ExpiresAt.AsTime(), end)
		}
		for token, code := range map[string]string{"": "no_session", "forged": "no_session", "of-bob": "forbidden"} {
			alice.sendFrame(renewWith(token))
			alice.fails(code, "")
		}
		alice.sendFrame(renewWith("later"))
		if got := alice.nextTalk().GetRenewed(); !got.GetExpiresAt().AsTime().Equal(end.Add(500 * time.Millisecond)) {
			t.Errorf("renewed until %v", got)
		}
		alice.closed(4401)
		if early := time.Until(end.Add(500 * time.Millisecond)); early > 0 {
			t.Errorf("closed %v before its time", early)
		}
	})
}

func TestV1RenewWhereNothingEnds(t *testing.T) {
	n := start(t, nil)
	alice := n.joinV1(t, v1JSON, "alice")
	alice.sendFrame(renewWith("x"))
	alice.fails("bad_frame", "")
}

// Whoever keeps guessing tokens is closed.
func TestV1RenewIsNoOracle(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.Rate, c.Edge.Burst = 1000, 2 })
	cookie := n.guest("alice")
	alice := n.joinV1(t, v1JSON, "alice", cookie)
	for range 2 {
		alice.sendFrame(renewWith("forged"))
		alice.fails("no_session", "")
	}
	go func() {
		for range 1000 { // Until the server has closed; what does not get out is not needed.
			if alice.Write(t.Context(), 1, []byte(`{"renew":{"token":"forged"}}`)) != nil {
				return
			}
		}
	}()
	alice.closed(4429)
}

// Everyone at once is told in frames of a bounded size.
func TestV1StatusOfManyIsCut(t *testing.T) {
	n := start(t, nil)
	alice := n.joinV1(t, v1Proto, "alice")
	long := fmt.Sprintf("%060d", 0)
	for i := range 3000 {
		n.Status(fmt.Sprintf("%s%04d", long, i), true)
	}
	names := map[string]bool{}
	for len(names) < 3000 {
		st := alice.next().GetStatus()
		size := 0
		for _, u := range slices.Concat(st.GetOnline(), st.GetOffline()) {
			names[u] = true
			size += len(u)
		}
		delete(names, "alice")
		if size > 33<<10 {
			t.Fatalf("a status has %d bytes of names", size)
		}
	}
}
