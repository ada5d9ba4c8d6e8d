package storetest

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"burrow/store"
)

// NewID returns an id that was given age ago.
func NewID(age time.Duration) string {
	id := uuid.Must(uuid.NewV7())
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(time.Now().Add(-age).UnixMilli()))
	copy(id[:6], at[2:])
	return id.String()
}

// wantWinner claims a ref and compares what it stands for.
func wantWinner(t *testing.T, s *store.Store, sender, ref, id, want string) {
	t.Helper()
	if got, err := s.ClaimRef(t.Context(), sender, ref, id); err != nil || got != want {
		t.Errorf("ref %s of %s: got %s, %v, want %s", ref, sender, got, err, want)
	}
}

func refs(t *testing.T, open Open) {
	place := t.TempDir()
	s, other := start(t, open, place), start(t, open, place)
	ref, first, second, third := uuid.NewString(), NewID(0), NewID(0), NewID(0)
	wantWinner(t, s, "alice", ref, strings.ToUpper(first), first)
	wantWinner(t, s, "alice", ref, first, first)
	wantWinner(t, s, "alice", ref, second, first)
	wantWinner(t, other, "alice", strings.ToUpper(ref), third, first)
	wantWinner(t, other, "bob", ref, second, second)
	wantWinner(t, s, "bob", ref, first, second)
	wantWinner(t, s, "alice", uuid.NewString(), second, second)
	must(t, s.Close())
	must(t, other.Close())
	s = start(t, open, place)
	wantWinner(t, s, "alice", ref, NewID(0), first)
	wantWinner(t, s, "bob", ref, NewID(0), second)
}

// refsRace has many claim the same refs at once, while messages are appended.
func refsRace(t *testing.T, open Open) {
	place := t.TempDir()
	stores := []*store.Store{start(t, open, place), start(t, open, place)}
	for range 3 {
		ref := uuid.NewString()
		winners, ids := make([]string, 64), map[string]bool{}
		var wg sync.WaitGroup
		for i := range winners {
			id := NewID(0)
			ids[id] = true
			wg.Go(func() {
				var err error
				if winners[i], err = stores[i%2].ClaimRef(t.Context(), "alice", ref, id); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if err := stores[i%2].Append(t.Context(), NewMessage("alice", "", "hello")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if !ids[winners[0]] {
			t.Errorf("%s won, which nobody had claimed", winners[0])
		}
		for _, id := range winners {
			if id != winners[0] {
				t.Fatalf("both %s and %s won", winners[0], id)
			}
		}
	}
	if got := All(t, stores[0], [2]string{}, 100); len(got) != 3*64 {
		t.Errorf("got %d messages, want %d", len(got), 3*64)
	}
}

// refsEnd has more old refs than are removed at once.
func refsEnd(t *testing.T, open Open) {
	place := t.TempDir()
	s := start(t, open, place)
	const day = 24 * time.Hour
	young := map[string]string{}
	for i := range 20 {
		ref, id := uuid.NewString(), NewID(time.Duration(i)*6*day/20)
		young[ref] = id
		wantWinner(t, s, "alice", ref, id, id)
	}
	old := make([]string, 300)
	for i := range old {
		old[i] = uuid.NewString()
		id := NewID(store.KeepRefs + time.Duration(i+1)*time.Hour)
		wantWinner(t, s, "alice", old[i], id, id)
	}
	must(t, s.Close())
	s = start(t, open, place)
	for i := range 10 {
		id := NewID(0)
		wantWinner(t, s, fmt.Sprint("user", i), uuid.NewString(), id, id)
	}
	for _, ref := range old {
		id := NewID(0)
		wantWinner(t, s, "alice", ref, id, id)
	}
	for ref, id := range young {
		wantWinner(t, s, "alice", ref, NewID(0), id)
	}
}

// messageRef keeps a sender's ref with the message.
func messageRef(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	ref := uuid.NewString()
	for _, given := range []string{"", ref, strings.ToUpper(ref)} {
		for _, to := range []string{"", "bob"} {
			msg := NewMessage("alice", to, "hello")
			msg.Ref = given
			must(t, s.Append(t.Context(), msg))
			q := store.Query{Limit: 1}
			if to != "" {
				q.Users = [2]string{"alice", to}
			}
			msgs, _, err := s.Page(t.Context(), q)
			must(t, err)
			if want := strings.ToLower(given); len(msgs) != 1 || msgs[0].GetId() != msg.GetId() || msgs[0].GetRef() != want {
				t.Errorf("got %v, want %s with ref %q", msgs, msg.GetId(), want)
			}
		}
	}
}
