// Package storetest checks the promises of package store on a real database.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/gen/chat"
	"burrow/gen/tasks"
	"burrow/store"
)

// Open opens the database of the given place (a directory, empty at first), with
// Config.ArchivePrivate set. The same place is the same database, which may be
// open more than once. The suite closes what it opens.
type Open func(t *testing.T, place string) *store.Store

// Run checks every promise, each on a database of its own.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name  string
		check func(t *testing.T, open Open)
	}{
		{"WhatIsAppendedIsRead", appended},
		{"SameIDIsStoredOnce", sameID},
		{"WhatCannotBeStoredIsRefusedForGood", refused},
		{"ConcurrentAppendsAreStoredOnceEach", concurrent},
		{"PagesNeitherSkipNorRepeat", pages},
		{"PagesKeepStillWhileOthersAppend", pagesLive},
		{"PrivateTalksAreApart", private},
		{"WhatIsArchivedIsFound", searchFinds},
		{"SearchMarksWhatItFound", searchMarks},
		{"SearchPagesNeitherSkipNorRepeat", searchPages},
		{"SearchShowsNobodyElsesTalk", searchPrivate},
		{"TalksAreOnesOwn", talks},
		{"AnyTextIsSearchedOrRefused", searchAnything},
		{"NameHasOneHolder", claims},
		{"ClaimsEnd", claimsEnd},
		{"OwnerHoldsFewNames", claimsFew},
		{"OneOfManyClaimsWins", claimsRace},
		{"RefStandsForItsFirstID", refs},
		{"OneOfManyRefClaimsWins", refsRace},
		{"OldRefsAreForgotten", refsEnd},
		{"MessageKeepsItsRef", messageRef},
		{"DeadLettersAddUp", lettersAddUp},
		{"ListedLettersPageByID", lettersPage},
		{"OneOfManyReplaysWins", replaysRace},
		{"ClaimedReplayIsTakenOverAfterItsLease", replayLease},
		{"FailedReplayComesBackWithItsCount", replayFails},
		{"LateCopyOfALetterChangesNothing", lateCopies},
		{"ReplayThatCannotBeSentWaitsAgain", replayRefused},
		{"DroppedLetterStaysDropped", lettersDropped},
		{"CanceledCallsReturn", canceled},
		{"CloseLosesNothing", closeLosesNothing},
		{"ClosedStaysClosed", closed},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(t, open) })
	}
}

// NewMessage returns a message that is sent now, with an id of its own.
func NewMessage(sender, recipient, content string) *chat.ChatMessage {
	return &chat.ChatMessage{
		Id: uuid.Must(uuid.NewV7()).String(), Sender: sender, ToUser: recipient, Content: content,
		SentAt: timestamppb.New(time.Now().Truncate(time.Microsecond)),
	}
}

// All returns every message of a talk, oldest first, page by page.
func All(t *testing.T, s *store.Store, users [2]string, limit int) []*chat.ChatMessage {
	t.Helper()
	var all []*chat.ChatMessage
	q := store.Query{Limit: limit, Users: users}
	for {
		msgs, more, err := s.Page(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(msgs) > limit || (more && len(msgs) != limit) {
			t.Fatalf("page of %d messages with limit %d, more=%v", len(msgs), limit, more)
		}
		all = append(slices.Clone(msgs), all...)
		if !more {
			return all
		}
		q.Before = msgs[0].GetId()
	}
}

func start(t *testing.T, open Open, place string) *store.Store {
	t.Helper()
	s := open(t, place)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}

func wantIDs(t *testing.T, msgs []*chat.ChatMessage, want ...string) {
	t.Helper()
	if got := ids(msgs); !slices.Equal(got, want) {
		t.Errorf("got %d messages %v, want %d %v", len(got), got, len(want), want)
	}
}

func ids(msgs []*chat.ChatMessage) []string {
	out := make([]string, len(msgs))
	for i, msg := range msgs {
		out[i] = msg.GetId()
	}
	return out
}

func appended(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	must(t, s.Ping(t.Context()))
	msgs, more, err := s.Page(t.Context(), store.Query{Limit: 5})
	if err != nil || len(msgs) != 0 || more {
		t.Errorf("an empty archive gives %v, %v, %v", msgs, more, err)
	}
	for _, content := range []string{"hello", "<b>'; DROP TABLE messages; --", "Grüße, 世界 👋🏽", "a\x00b\n\t", strings.Repeat("x", 65536)} {
		msg := NewMessage("Ünal Ö. 世", "", content)
		given := proto.Clone(msg)
		must(t, s.Append(t.Context(), msg))
		if !proto.Equal(msg, given) {
			t.Error("Append changed the message")
		}
		msgs, _, err := s.Page(t.Context(), store.Query{Limit: 1})
		must(t, err)
		if len(msgs) != 1 || !proto.Equal(msgs[0], msg) {
			t.Errorf("got %.200v, want %.200v", msgs, msg)
		}
	}

	untimed := NewMessage("alice", "", "when?")
	untimed.SentAt = nil
	before := time.Now().Truncate(time.Microsecond)
	must(t, s.Append(t.Context(), untimed))
	msgs, _, err = s.Page(t.Context(), store.Query{Limit: 1})
	must(t, err)
	if at := msgs[0].GetSentAt().AsTime(); at.Before(before) || at.After(time.Now()) {
		t.Errorf("a message without a time is from %v, want now", at)
	}
}

func sameID(t *testing.T, open Open) {
	place := t.TempDir()
	s, other := start(t, open, place), start(t, open, place)
	msg := NewMessage("alice", "", "first")
	must(t, s.Append(t.Context(), msg))
	again := proto.CloneOf(msg)
	again.Content = "second"
	must(t, s.Append(t.Context(), again))
	must(t, other.Append(t.Context(), again))
	again.Id = strings.ToUpper(again.GetId())
	must(t, s.Append(t.Context(), again))
	msgs := All(t, s, [2]string{}, 10)
	if len(msgs) != 1 || !proto.Equal(msgs[0], msg) {
		t.Errorf("got %v, want only %v", msgs, msg)
	}
	msgs, _, err := s.Page(t.Context(), store.Query{Limit: 1, Before: strings.ToUpper(NewMessage("", "", "").GetId())})
	must(t, err)
	wantIDs(t, msgs, msg.GetId())
}

func refused(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	change := func(f func(*chat.ChatMessage)) *chat.ChatMessage {
		msg := NewMessage("alice", "bob", "hello")
		f(msg)
		return msg
	}
	for name, msg := range map[string]*chat.ChatMessage{
		"nothing":                  nil,
		"no id":                    change(func(m *chat.ChatMessage) { m.Id = "" }),
		"an id that is no UUID":    change(func(m *chat.ChatMessage) { m.Id = "1" }),
		"a UUID in braces":         change(func(m *chat.ChatMessage) { m.Id = "{" + m.Id + "}" }),
		"no sender":                change(func(m *chat.ChatMessage) { m.Sender = "" }),
		"a sender with separator":  change(func(m *chat.ChatMessage) { m.Sender = "a & b" }),
		"content that is no UTF-8": change(func(m *chat.ChatMessage) { m.Content = "\xff" }),
		"a ref that is no UUID":    change(func(m *chat.ChatMessage) { m.Ref = "1" }),
		"a time out of range":      change(func(m *chat.ChatMessage) { m.SentAt = &timestamppb.Timestamp{Seconds: 1 << 60} }),
	} {
		err := s.Append(t.Context(), msg)
		permanent, ok := errors.AsType[interface {
			error
			Permanent() bool
		}](err)
		if !errors.Is(err, store.ErrInvalid) || !ok || !permanent.Permanent() {
			t.Errorf("%s: got %v, want a permanent ErrInvalid", name, err)
		}
	}
	for _, q := range []store.Query{
		{}, {Limit: -1}, {Limit: 1, Before: "x"}, {Limit: 1, After: "x"},
		{Limit: 1, All: true, Users: [2]string{"alice", "bob"}}, {Limit: 1, All: true, After: NewMessage("", "", "").GetId()},
		{Limit: 1, Before: NewMessage("", "", "").GetId(), After: NewMessage("", "", "").GetId()},
		{Limit: 1, Users: [2]string{"alice", ""}}, {Limit: 1, Users: [2]string{"", "alice"}},
	} {
		_, _, err := s.Page(t.Context(), q)
		wantErr(t, err, store.ErrInvalid)
	}
	wantErr(t, s.Claim(t.Context(), "", "o", time.Hour), store.ErrInvalid)
	wantErr(t, s.Claim(t.Context(), "alice", "", time.Hour), store.ErrInvalid)
	wantErr(t, s.Claim(t.Context(), "alice", "o", 0), store.ErrInvalid)
	ref, id := uuid.NewString(), NewID(0)
	for _, claim := range [][3]string{
		{"", ref, id}, {"\xff", ref, id}, {"alice", "", id}, {"alice", ref[1:], id}, {"alice", "{" + ref + "}", id},
		{"alice", strings.Repeat("z", 36), id}, {"alice", ref, ""}, {"alice", ref, "1"}, {"alice", ref, uuid.NewString()},
	} {
		_, err := s.ClaimRef(t.Context(), claim[0], claim[1], claim[2])
		wantErr(t, err, store.ErrInvalid)
	}
	wantErr(t, s.AddDeadLetter(t.Context(), nil), store.ErrInvalid)
	for _, q := range []store.LetterQuery{{}, {Limit: -1}, {Limit: 1, State: "lost"}} {
		_, _, err := s.ListDeadLetters(t.Context(), q)
		wantErr(t, err, store.ErrInvalid)
	}
}

// concurrent gives every message to several goroutines of two stores at once.
func concurrent(t *testing.T, open Open) {
	place := t.TempDir()
	stores := []*store.Store{start(t, open, place), start(t, open, place)}
	var want []string
	var wg sync.WaitGroup
	for i := range 300 {
		msg := NewMessage("alice", "", fmt.Sprint(i))
		want = append(want, msg.GetId())
		for _, s := range []*store.Store{stores[0], stores[0], stores[1]} {
			wg.Go(func() {
				if err := s.Append(t.Context(), msg); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	slices.Sort(want)
	wantIDs(t, All(t, stores[1], [2]string{}, 64), want...)
}

func pages(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	var global, private []string
	var msgs []*chat.ChatMessage
	for i := range 60 {
		msg := NewMessage("alice", "", fmt.Sprint(i))
		global = append(global, msg.GetId())
		whisper := NewMessage("bob", "alice", fmt.Sprint(i))
		private = append(private, whisper.GetId())
		msgs = append(msgs, msg, whisper)
	}
	rand.Shuffle(len(msgs), func(i, j int) { msgs[i], msgs[j] = msgs[j], msgs[i] })
	for _, msg := range msgs {
		must(t, s.Append(t.Context(), msg))
	}
	slices.Sort(global)
	slices.Sort(private)
	for _, limit := range []int{1, 7, 59, 60, 61, store.MaxPage * 2} {
		q := min(limit, store.MaxPage)
		wantIDs(t, All(t, s, [2]string{}, q), global...)
		wantIDs(t, All(t, s, [2]string{"alice", "bob"}, q), private...)
	}
	// Before is exclusive, and need not be a message of this talk.
	page, more, err := s.Page(t.Context(), store.Query{Limit: 3, Before: global[10]})
	must(t, err)
	wantIDs(t, page, global[7:10]...)
	if !more {
		t.Error("older messages are there, but the page says no")
	}
	page, more, err = s.Page(t.Context(), store.Query{Limit: 100, Before: private[10]})
	must(t, err)
	at, _ := slices.BinarySearch(global, private[10])
	wantIDs(t, page, global[:at]...)
	if more {
		t.Error("no older messages are there, but the page says so")
	}
	// All has both talks.
	page, more, err = s.Page(t.Context(), store.Query{Limit: 7, Before: private[20], All: true})
	must(t, err)
	both := slices.Sorted(slices.Values(slices.Concat(global, private)))
	at, _ = slices.BinarySearch(both, private[20])
	wantIDs(t, page, both[at-7:at]...)
	if !more {
		t.Error("older messages of both talks are there, but the page says no")
	}
	// After is exclusive too, and goes the other way.
	page, more, err = s.Page(t.Context(), store.Query{Limit: 3, After: private[10]})
	must(t, err)
	at, _ = slices.BinarySearch(global, private[10])
	wantIDs(t, page, global[at:at+3]...)
	if !more {
		t.Error("newer messages are there, but the page says no")
	}
	page, more, err = s.Page(t.Context(), store.Query{Limit: 5, After: global[len(global)-6]})
	must(t, err)
	wantIDs(t, page, global[len(global)-5:]...)
	if more {
		t.Error("no newer messages are there, but the page says so")
	}
}

// pagesLive follows the pages while newer messages, and some a little older than
// the newest, arrive.
func pagesLive(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	var want []string
	for i := range 100 {
		msg := NewMessage("alice", "", fmt.Sprint(i))
		want = append(want, msg.GetId())
		must(t, s.Append(t.Context(), msg))
	}
	slices.Sort(want)
	first, more, err := s.Page(t.Context(), store.Query{Limit: 10})
	must(t, err)
	got := ids(first)
	for more {
		var page []*chat.ChatMessage
		newer := NewMessage("bob", "", "newer")
		must(t, s.Append(t.Context(), newer))
		if page, more, err = s.Page(t.Context(), store.Query{Limit: 10, Before: got[0]}); err != nil {
			t.Fatal(err)
		}
		got = append(ids(page), got...)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d messages %v, want %d %v", len(got), got, len(want), want)
	}
}

func private(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	add := func(sender, recipient string) string {
		msg := NewMessage(sender, recipient, sender+" to "+recipient)
		must(t, s.Append(t.Context(), msg))
		return msg.GetId()
	}
	public := add("alice", "")
	there, back := add("alice", "bob"), add("bob", "alice")
	third := add("alice", "carol")
	self := add("alice", "alice")
	other := add("Alice", "bob")
	tricky := add("alice", "bob - carol")

	for _, c := range []struct {
		a, b string
		want []string
	}{
		{"", "", []string{public}},
		{"alice", "bob", []string{there, back}},
		{"bob", "alice", []string{there, back}},
		{"carol", "alice", []string{third}},
		{"bob", "carol", nil},
		{"alice", "alice", []string{self}},
		{"bob", "bob", nil},
		{"Alice", "bob", []string{other}}, // users are compared exactly, as the edge does
		{"bob - carol", "alice", []string{tricky}},
		{"alice", "%", nil},
		{"mallory", "bob", nil},
	} {
		wantIDs(t, All(t, s, [2]string{c.a, c.b}, 2), c.want...)
	}
}

func claims(t *testing.T, open Open) {
	place := t.TempDir()
	s, other := start(t, open, place), start(t, open, place)
	holds := func(name, owner string, want bool) {
		t.Helper()
		for _, s := range []*store.Store{s, other} {
			if got, _, err := s.Holds(t.Context(), name, owner); err != nil || (got != "") != want {
				t.Errorf("%q held by %s: got %q, %v, want %v", name, owner, got, err, want)
			}
		}
	}
	holds("Alice", "one", false)
	must(t, s.Claim(t.Context(), "Alice", "one", time.Hour))
	taken := since(t, s, "Alice", "one")
	if age := time.Since(taken); age < 0 || age > time.Minute {
		t.Errorf("a name that was just taken is held since %s", taken)
	}
	must(t, other.Claim(t.Context(), "alice", "one", time.Hour)) // renewed
	if again := since(t, s, "alice", "one"); !again.Equal(taken) {
		t.Errorf("renewed, the name is held since %s, want since %s still", again, taken)
	}
	for _, alike := range []string{"Alice", "alice", "ALICE", "Ａｌｉｃｅ"} {
		wantErr(t, other.Claim(t.Context(), alike, "two", time.Hour), store.ErrTaken)
		holds(alike, "one", true)
		holds(alike, "two", false)
	}
	must(t, s.Claim(t.Context(), "Straße", "one", time.Hour))
	wantErr(t, s.Claim(t.Context(), "STRASSE", "two", time.Hour), store.ErrTaken)
	must(t, s.Claim(t.Context(), "Jos\u00e9", "one", time.Hour))
	wantErr(t, s.Claim(t.Context(), "jose\u0301", "two", time.Hour), store.ErrTaken)
	must(t, s.Claim(t.Context(), "alicia", "two", time.Hour))
	for _, alike := range []string{"\u0430lice", "a1ice", "aIice", "alice\u02c8", "\u1d00lice"} {
		wantErr(t, other.Claim(t.Context(), alike, "two", time.Hour), store.ErrTaken)
		wantErr(t, other.Claim(t.Context(), alike, "one", time.Hour), store.ErrTaken) // two names of one owner
		holds(alike, "one", false)
	}
	for name, want := range map[string]string{"ALICE": "Alice", "Ａlice": "Alice", "bob": "", "Straße": "Straße"} {
		if spelling, err := other.Spelling(t.Context(), name); err != nil || spelling != want {
			t.Errorf("%q is held as %q, %v, want %q", name, spelling, err, want)
		}
	}
	_, err := other.Spelling(t.Context(), "\u0430lice")
	wantErr(t, err, store.ErrTaken)
	_, err = other.Spelling(t.Context(), "")
	wantErr(t, err, store.ErrInvalid)
	if spelling, _, err := s.Holds(t.Context(), "alice", "one"); err != nil || spelling != "Alice" {
		t.Errorf("the claim that was renewed as alice has the spelling %q, %v, want its first", spelling, err)
	}
	ended := time.Now().Add(30 * time.Millisecond)
	must(t, s.Claim(t.Context(), "b\u043eb", "two", 30*time.Millisecond)) // Cyrillic, and the first to come
	for s.Claim(t.Context(), "bob", "one", time.Hour) != nil {
		if time.Since(ended) > 10*time.Second {
			t.Fatal("a claim that has ended keeps names that look like it")
		}
	}
	if time.Now().Before(ended) {
		t.Error("a name that looks like a held one was free")
	}
}

// since returns since when owner holds name, which they must.
func since(t *testing.T, s *store.Store, name, owner string) time.Time {
	t.Helper()
	spelling, since, err := s.Holds(t.Context(), name, owner)
	if err != nil || spelling == "" {
		t.Fatalf("%q held by %s: %q, %v", name, owner, spelling, err)
	}
	return since
}

func claimsEnd(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	const ttl = 50 * time.Millisecond
	claimed := time.Now()
	must(t, s.Claim(t.Context(), "alice", "one", ttl))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		err := s.Claim(ctx, "alice", "two", time.Hour)
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrTaken) {
			t.Fatal(err)
		}
	}
	if after := time.Since(claimed); after < ttl {
		t.Errorf("a claim for %s was gone after %s", ttl, after)
	}
	if spelling, _, err := s.Holds(t.Context(), "alice", "one"); spelling != "" || err != nil {
		t.Errorf("the first owner still holds the name: %q, %v", spelling, err)
	}
	if since := since(t, s, "alice", "two"); since.Before(claimed.Add(ttl).Truncate(time.Microsecond)) {
		t.Errorf("the second owner has the name since %s, before the first one's time was over", since)
	}
	wantErr(t, s.Claim(t.Context(), "alice", "one", time.Hour), store.ErrTaken)
}

func claimsFew(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	for i := range store.MaxNamesPerOwner {
		must(t, s.Claim(t.Context(), fmt.Sprint("name", i), "one", time.Hour))
	}
	wantErr(t, s.Claim(t.Context(), "more", "one", time.Hour), store.ErrTooManyNames)
	must(t, s.Claim(t.Context(), "name0", "one", time.Hour)) // its own
	must(t, s.Claim(t.Context(), "more", "two", time.Hour))
	wantErr(t, s.Claim(t.Context(), "more", "one", time.Hour), store.ErrTaken)
}

func claimsRace(t *testing.T, open Open) {
	place := t.TempDir()
	stores := []*store.Store{start(t, open, place), start(t, open, place)}
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			switch err := stores[i%2].Claim(t.Context(), "alice", fmt.Sprint(i), time.Hour); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, store.ErrTaken):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 15 {
		t.Errorf("%d claims won and %d lost, want 1 and 15", won.Load(), lost.Load())
	}
}

func canceled(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := s.Page(ctx, store.Query{Limit: 1})
	wantErr(t, err, context.Canceled)
	_, _, err = s.Holds(ctx, "alice", "one")
	wantErr(t, err, context.Canceled)
	_, _, err = s.ListDeadLetters(ctx, store.LetterQuery{Limit: 1})
	wantErr(t, err, context.Canceled)
	wantErr(t, s.Claim(ctx, "alice", "one", time.Hour), context.Canceled)
	wantErr(t, s.AddDeadLetter(ctx, &tasks.DeadLetter{Topic: "t", Function: "f"}), context.Canceled)
	wantErr(t, s.Ping(ctx), context.Canceled)
	// Append may be quicker than its context; it must only not hang.
	if err := s.Append(ctx, NewMessage("alice", "", "late")); err != nil {
		wantErr(t, err, context.Canceled)
	}
	if _, err := s.ClaimRef(ctx, "alice", uuid.NewString(), NewID(0)); err != nil {
		wantErr(t, err, context.Canceled)
	}
	must(t, s.Append(t.Context(), NewMessage("alice", "", "later")))
}

// closeLosesNothing closes the store under load: what Append said is stored is
// there afterwards, and nothing else than ErrClosed came back.
func closeLosesNothing(t *testing.T, open Open) {
	place := t.TempDir()
	s := start(t, open, place)
	var mu sync.Mutex
	stored := map[string]bool{}
	enough := make(chan struct{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				msg := NewMessage("alice", "", "hello")
				if err := s.Append(context.Background(), msg); err != nil {
					wantErr(t, err, store.ErrClosed)
					return
				}
				mu.Lock()
				stored[msg.GetId()] = true
				if len(stored) == 100 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	must(t, s.Close())
	wg.Wait()
	got := ids(All(t, start(t, open, place), [2]string{}, 100))
	if len(got) != len(stored) {
		t.Errorf("%d messages are there, %d were said to be stored", len(got), len(stored))
	}
	for _, id := range got {
		if !stored[id] {
			t.Errorf("%s is there and was not said to be stored", id)
		}
	}
}

func closed(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	must(t, s.Close())
	must(t, s.Close())
	ctx := t.Context()
	wantErr(t, s.Append(ctx, NewMessage("alice", "", "hello")), store.ErrClosed)
	_, _, err := s.Page(ctx, store.Query{Limit: 1})
	wantErr(t, err, store.ErrClosed)
	_, err = s.ClaimRef(ctx, "alice", uuid.NewString(), NewID(0))
	wantErr(t, err, store.ErrClosed)
	wantErr(t, s.Claim(ctx, "alice", "one", time.Hour), store.ErrClosed)
	_, _, err = s.Holds(ctx, "alice", "one")
	wantErr(t, err, store.ErrClosed)
	wantErr(t, s.AddDeadLetter(ctx, &tasks.DeadLetter{Topic: "t", Function: "f"}), store.ErrClosed)
	_, _, err = s.ListDeadLetters(ctx, store.LetterQuery{Limit: 1})
	wantErr(t, err, store.ErrClosed)
	wantErr(t, s.Ping(ctx), store.ErrClosed)
}
