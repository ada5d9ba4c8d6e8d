package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/gen/tasks"
	"burrow/store"
)

// NewLetter returns a letter of function about message, which failed now.
func NewLetter(function, message string) *tasks.DeadLetter {
	return &tasks.DeadLetter{
		MessageId: message, Topic: "burrow.tasks.ArchiveMessage", Function: function, Error: "disk on fire",
		Attempts: 3, Payload: []byte{0, 255, 1}, FailedAt: timestamppb.New(time.Now().Truncate(time.Microsecond)),
		Metadata: map[string]string{"burrow_key": "a/b"},
	}
}

// after returns letter as it is when the function has failed again, d later.
func after(letter *tasks.DeadLetter, d time.Duration, replay string) *tasks.DeadLetter {
	later := proto.CloneOf(letter)
	later.FailedAt, later.Replay = timestamppb.New(letter.GetFailedAt().AsTime().Add(d)), replay
	return later
}

// wantLetter compares the letter with this id with what it should hold.
func wantLetter(t *testing.T, s *store.Store, id int64, state string, attempts uint32, replays int) *store.DeadLetter {
	t.Helper()
	l, err := s.DeadLetter(t.Context(), id)
	must(t, err)
	if l.State != state || l.Attempts != attempts || l.Replays != replays {
		t.Errorf("letter %d: got %s, %d attempts, %d replays; want %s, %d, %d", id, l.State, l.Attempts, l.Replays, state, attempts, replays)
	}
	return l
}

// list returns all letters that are not over, highest id first.
func list(t *testing.T, s *store.Store) []*store.DeadLetter {
	t.Helper()
	letters, more, err := s.ListDeadLetters(t.Context(), store.LetterQuery{Limit: store.MaxDeadLetters})
	must(t, err)
	if more {
		t.Error("there are more letters than any test makes")
	}
	return letters
}

// add stores letter and returns its id.
func add(t *testing.T, s *store.Store, letter *tasks.DeadLetter) int64 {
	t.Helper()
	must(t, s.AddDeadLetter(t.Context(), letter))
	for _, l := range list(t, s) {
		if l.MessageID == letter.GetMessageId() && l.Function == letter.GetFunction() {
			return l.ID
		}
	}
	t.Fatalf("%v is not listed", letter)
	return 0
}

func request(t *testing.T, s *store.Store, id int64) string {
	t.Helper()
	l, err := s.RequestReplay(t.Context(), id, "ada")
	must(t, err)
	if l.State != store.Replaying || l.ReplayID == "" || l.RequestedBy != "ada" || l.RequestedAt.IsZero() {
		t.Errorf("a replay was requested, and the letter is %+v", l)
	}
	return l.ReplayID
}

func claim(t *testing.T, s *store.Store, lease time.Duration) *store.DeadLetter {
	t.Helper()
	l, err := s.ClaimReplay(t.Context(), []string{"archive", "audit"}, lease)
	must(t, err)
	return l
}

func wantActions(t *testing.T, s *store.Store, id int64, want ...string) {
	t.Helper()
	actions, err := s.DeadLetterActions(t.Context(), id, 100)
	must(t, err)
	var got []string
	for _, a := range actions {
		got = append(got, a.Who+": "+a.What)
		if time.Since(a.At) > time.Minute {
			t.Errorf("%s was at %s", a.What, a.At)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got actions %q, want %q", got, want)
	}
}

func lettersAddUp(t *testing.T, open Open) {
	place := t.TempDir()
	s, other := start(t, open, place), start(t, open, place)
	if got := list(t, other); len(got) != 0 {
		t.Errorf("an empty store lists %v", got)
	}
	letter := NewLetter("archive", "m1")
	id := add(t, s, letter)
	must(t, other.AddDeadLetter(t.Context(), letter)) // delivered again
	got := wantLetter(t, other, id, store.Waiting, 3, 0)
	if got.MessageID != "m1" || got.Topic != letter.GetTopic() || got.Error != "disk on fire" || string(got.Payload) != "\x00\xff\x01" ||
		got.Bytes != 3 || got.Metadata["burrow_key"] != "a/b" || !got.FailedAt.Equal(letter.GetFailedAt().AsTime()) {
		t.Errorf("got %+v, want %v", got, letter)
	}

	later := after(letter, time.Second, "")
	later.Attempts, later.Error = 2, "still on fire"
	must(t, s.AddDeadLetter(t.Context(), later))
	must(t, s.AddDeadLetter(t.Context(), letter)) // once more, although it is not the latest
	must(t, s.AddDeadLetter(t.Context(), after(letter, -time.Second, "")))
	if got := wantLetter(t, s, id, store.Waiting, 8, 0); got.Error != "still on fire" {
		t.Errorf("the latest error is %q", got.Error)
	}

	audit := NewLetter("audit", "m1")
	audit.Payload, audit.Metadata = nil, nil
	if other := add(t, s, audit); other == id {
		t.Error("two functions share a letter")
	}
	for _, payload := range []string{"a", "b"} { // without an id they are two letters
		must(t, s.AddDeadLetter(t.Context(), &tasks.DeadLetter{Topic: "t", Function: "f", Payload: []byte(payload)}))
	}
	if got := list(t, s); len(got) != 4 {
		t.Errorf("got %d letters, want 4", len(got))
	}
}

func lettersPage(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	var want []int64
	for i := range 7 {
		function := "archive"
		if i%2 == 1 {
			function = "audit"
		}
		id := add(t, s, NewLetter(function, fmt.Sprint(i)))
		if function == "audit" {
			want = append([]int64{id}, want...)
		}
	}
	var got []int64
	q := store.LetterQuery{Function: "audit", State: store.Waiting, Limit: 2}
	for more := true; more; {
		var letters []*store.DeadLetter
		var err error
		letters, more, err = s.ListDeadLetters(t.Context(), q)
		must(t, err)
		for _, l := range letters {
			got = append(got, l.ID)
			if l.Payload != nil || l.Bytes != 3 {
				t.Errorf("a list holds the payload %v of %d bytes", l.Payload, l.Bytes)
			}
		}
		q.Before = letters[len(letters)-1].ID
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if letters, _, err := s.ListDeadLetters(t.Context(), store.LetterQuery{State: store.Replayed, Limit: 9}); err != nil || len(letters) > 0 {
		t.Errorf("nothing was replayed, and listed are %v, %v", letters, err)
	}
}

func replaysRace(t *testing.T, open Open) {
	place := t.TempDir()
	stores := []*store.Store{start(t, open, place), start(t, open, place)}
	id := add(t, stores[0], NewLetter("archive", "m1"))
	var won, lost, claimed atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			_, err := stores[i%2].RequestReplay(t.Context(), id, fmt.Sprint("user ", i))
			busy, ok := errors.AsType[*store.NotWaitingError](err)
			switch {
			case err == nil:
				won.Add(1)
			case ok && busy.State == store.Replaying && busy.ID == id && !busy.Since.IsZero() && busy.By != "":
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 15 {
		t.Errorf("%d requests won and %d lost, want 1 and 15", won.Load(), lost.Load())
	}
	for i := range 16 {
		wg.Go(func() {
			l, err := stores[i%2].ClaimReplay(t.Context(), []string{"archive"}, time.Hour)
			if err != nil {
				t.Error(err)
			}
			if l != nil {
				claimed.Add(1)
			}
		})
	}
	wg.Wait()
	if claimed.Load() != 1 {
		t.Errorf("%d nodes send the replay, want one", claimed.Load())
	}
	wantLetter(t, stores[1], id, store.Replaying, 3, 1)
	_, err := stores[0].RequestReplay(t.Context(), id+1, "ada")
	wantErr(t, err, store.ErrNoLetter)
	_, err = stores[0].RequestReplay(t.Context(), id, "")
	wantErr(t, err, store.ErrInvalid)
}

func replayLease(t *testing.T, open Open) {
	place := t.TempDir()
	s, other := start(t, open, place), start(t, open, place)
	id := add(t, s, NewLetter("archive", "m1"))
	if l := claim(t, s, time.Hour); l != nil {
		t.Errorf("nobody requested a replay, and %v is claimed", l)
	}
	replay := request(t, s, id)
	if l, err := s.ClaimReplay(t.Context(), []string{"presence"}, time.Hour); l != nil || err != nil {
		t.Errorf("a node without the function claims %v, %v", l, err)
	}
	const lease = 50 * time.Millisecond
	begun := time.Now()
	if l := claim(t, s, lease); l == nil || l.ID != id || l.ReplayID != replay || string(l.Payload) != "\x00\xff\x01" {
		t.Fatalf("claimed %+v", l)
	}
	var l *store.DeadLetter
	for l == nil && time.Since(begun) < 10*time.Second { // the first node has died
		l = claim(t, other, time.Hour)
	}
	if l == nil || l.ReplayID != replay || time.Since(begun) < lease {
		t.Fatalf("the other node has %+v after %s, with a lease of %s", l, time.Since(begun), lease)
	}
	must(t, other.DeferReplay(t.Context(), id, replay, "the broker is away", time.Nanosecond))
	if l := wantLetter(t, s, id, store.Replaying, 3, 1); l.Note != "the broker is away" {
		t.Errorf("the note is %q", l.Note)
	}
	if l := claim(t, s, time.Hour); l == nil {
		t.Error("what was given back cannot be claimed again")
	}
	must(t, s.EndReplay(t.Context(), id, replay, "node b", ""))
	must(t, other.EndReplay(t.Context(), id, replay, "node a", "too late to say so"))
	wantLetter(t, s, id, store.Replayed, 3, 1)
	_, err := s.RequestReplay(t.Context(), id, "bob")
	if busy, ok := errors.AsType[*store.NotWaitingError](err); !ok || busy.State != store.Replayed || busy.By != "ada" {
		t.Errorf("replayed twice: got %v", err)
	}
	wantActions(t, s, id, "ada: replay requested", "node b: sent")
}

func replayFails(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	letter := NewLetter("archive", "m1")
	id := add(t, s, letter)
	for n, fast := range []bool{false, true} { // fails after, or before, the node has noted that it was sent
		replay := request(t, s, id)
		if claim(t, s, time.Hour) == nil {
			t.Fatal("nothing to send")
		}
		again := after(letter, time.Duration(n+1)*time.Hour, replay)
		if !fast {
			must(t, s.EndReplay(t.Context(), id, replay, "node", ""))
		}
		must(t, s.AddDeadLetter(t.Context(), again))
		if fast {
			must(t, s.EndReplay(t.Context(), id, replay, "node", ""))
		}
		must(t, s.AddDeadLetter(t.Context(), again))
		must(t, s.AddDeadLetter(t.Context(), letter))
		wantLetter(t, s, id, store.Waiting, uint32(3*(n+2)), n+1)
	}
	wantActions(t, s, id, "ada: replay requested", "node: sent", "function archive: failed again",
		"ada: replay requested", "function archive: failed again")
}

func lateCopies(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	letter := NewLetter("archive", "m1")
	id := add(t, s, letter)
	first := request(t, s, id)
	must(t, s.AddDeadLetter(t.Context(), letter))
	wantLetter(t, s, id, store.Replaying, 3, 1)
	// Another node gave up on the message as it came first, and says so only now.
	must(t, s.AddDeadLetter(t.Context(), after(letter, -time.Second, "")))
	wantLetter(t, s, id, store.Replaying, 6, 1)
	claim(t, s, time.Hour)
	must(t, s.EndReplay(t.Context(), id, first, "node", ""))
	must(t, s.AddDeadLetter(t.Context(), letter))
	must(t, s.AddDeadLetter(t.Context(), after(letter, -2*time.Second, "")))
	wantLetter(t, s, id, store.Replayed, 9, 1)

	failed := after(letter, time.Hour, first)
	must(t, s.AddDeadLetter(t.Context(), failed))
	wantLetter(t, s, id, store.Waiting, 12, 1)
	second := request(t, s, id)
	must(t, s.AddDeadLetter(t.Context(), failed))                                 // a copy
	must(t, s.AddDeadLetter(t.Context(), after(failed, time.Microsecond, first))) // on another node
	wantLetter(t, s, id, store.Replaying, 15, 2)
	must(t, s.AddDeadLetter(t.Context(), after(failed, time.Hour, second)))
	wantLetter(t, s, id, store.Waiting, 18, 2)
}

func replayRefused(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	id := add(t, s, NewLetter("archive", "m1"))
	replay := request(t, s, id)
	claim(t, s, time.Hour)
	must(t, s.EndReplay(t.Context(), id, replay, "node", "not a valid message"))
	if l := wantLetter(t, s, id, store.Waiting, 3, 0); l.Note != "not a valid message" {
		t.Errorf("the note is %q", l.Note)
	}
	if claim(t, s, time.Hour) != nil {
		t.Error("it is sent all the same")
	}
	wantActions(t, s, id, "ada: replay requested", "node: not sent")
	if request(t, s, id) == replay {
		t.Error("two replays have the same id")
	}
}

func lettersDropped(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	letter := NewLetter("archive", "m1")
	id := add(t, s, letter)
	request(t, s, id)
	l, err := s.DropDeadLetter(t.Context(), id, "ada")
	if err != nil || l.ID != id || l.Function != "archive" {
		t.Errorf("dropped %+v, %v", l, err)
	}
	if claim(t, s, time.Hour) != nil {
		t.Error("the replay of a dropped letter is sent")
	}
	must(t, s.AddDeadLetter(t.Context(), letter)) // delivered again
	must(t, s.AddDeadLetter(t.Context(), after(letter, -time.Second, "")))
	if got := list(t, s); len(got) != 0 {
		t.Errorf("listed are %+v", got)
	}
	_, err = s.DeadLetter(t.Context(), id)
	wantErr(t, err, store.ErrNoLetter)
	_, err = s.RequestReplay(t.Context(), id, "ada")
	wantErr(t, err, store.ErrNoLetter)
	_, err = s.DropDeadLetter(t.Context(), id, "ada")
	wantErr(t, err, store.ErrNoLetter)
	wantActions(t, s, id, "ada: replay requested", "ada: dropped")

	must(t, s.AddDeadLetter(t.Context(), after(letter, time.Hour, ""))) // a new failure is news
	if got := wantLetter(t, s, id, store.Waiting, 9, 1); string(got.Payload) != "\x00\xff\x01" {
		t.Errorf("it is back with %v", got.Payload)
	}
}
