package presence

import (
	"fmt"
	"slices"
	"testing"
)

func TestChangesThatNobodyTakesAreBounded(t *testing.T) {
	r := newRoster(true)
	r.acquire("stays")
	r.acquire("left")
	r.changes = nil // the listener knows these two
	r.release("left")
	for i := range 5 * maxChanges {
		user := fmt.Sprint(i % 10)
		r.acquire(user)
		r.release(user)
	}
	r.acquire("new")
	if len(r.changes) > maxChanges {
		t.Errorf("%d changes wait, want at most %d", len(r.changes), maxChanges)
	}
	r.compact()
	want := []change{{"left", false}, {"new", true}}
	if !slices.Equal(r.changes, want) {
		t.Errorf("what is left is %v, want %v", r.changes, want)
	}
}
