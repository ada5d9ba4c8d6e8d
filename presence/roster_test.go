package presence

import (
	"fmt"
	"slices"
	"testing"
)

func TestChangesThatNobodyTakesAreBounded(t *testing.T) {
	r := newRoster(true)
	r.move("stays", Offline, Online)
	r.move("left", Offline, Online)
	r.move("dozes", Offline, Online)
	r.move("blinks", Offline, Online)
	r.changes = nil // the listener knows these four
	r.move("left", Online, Offline)
	r.move("dozes", Online, Away)
	for i := range 5 * maxChanges {
		user := fmt.Sprint(i % 10)
		r.move(user, Offline, Online)
		r.move("blinks", Online, Away)
		r.move("blinks", Away, Online)
		r.move(user, Online, Offline)
	}
	r.move("new", Offline, Away)
	r.move("new", Away, Online)
	if len(r.changes) > maxChanges {
		t.Errorf("%d changes wait, want at most %d", len(r.changes), maxChanges)
	}
	r.compact()
	want := []change{{"left", Online, Offline}, {"dozes", Online, Away}, {"new", Offline, Online}}
	if !slices.Equal(r.changes, want) {
		t.Errorf("what is left is %v, want %v", r.changes, want)
	}
}
