package heap

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// pieces returns 64 MiB.
func pieces() (held [64][]byte) {
	for i := range held {
		held[i] = make([]byte, 1<<20)
	}
	return held
}

// rush leaves 64 MiB of garbage and has Go find out. It keeps them, as long as as much is alive.
func rush() {
	runtime.KeepAlive(pieces())
	runtime.GC()
}

func TestMemoryIsGivenBackWhenARushHasPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // With its time nothing else happens between two looks.
		alive := pieces()
		defer runtime.KeepAlive(alive)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go Trim(ctx)
		synctest.Wait() // It has had its first look.
		wait := func(what string, d time.Duration, held bool) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if s := newState(); s.worthIt() != held {
				t.Fatalf("%s %d bytes are free and not given back", what, s.read(free))
			}
		}
		for range 5 {
			rush()
			wait("in a rush", every, true)
		}
		wait("after it", every, false)

		rush()
		wait("in another one", every, true)
		wait("soon after it", pause-3*every, true)
		wait("after a minute", 3*every, false)
	})
}

func TestLittleIsNotWorthACollection(t *testing.T) {
	for name, c := range map[string]struct {
		objects, live, free, unused, stacks uint64
		want                                bool
	}{
		"nothing has been collected yet":  {objects: 40 << 20, stacks: 1 << 20},
		"all is alive":                    {objects: 40 << 20, live: 40 << 20, stacks: 10 << 20},
		"little is free":                  {objects: 20 << 20, live: 20 << 20, free: 7 << 20},
		"a small part is free":            {objects: 99 << 20, live: 99 << 20, free: 20 << 20},
		"much is between objects":         {objects: 20 << 20, live: 20 << 20, unused: 20 << 20},
		"much is free":                    {objects: 20 << 20, live: 20 << 20, free: 9 << 20, want: true},
		"much is garbage":                 {objects: 40 << 20, live: 20 << 20, stacks: 20 << 20, want: true},
		"more is alive than there is now": {objects: 20 << 20, live: 40 << 20},
	} {
		if got := worthIt(c.objects, c.live, c.free, c.unused, c.stacks); got != c.want {
			t.Errorf("%s: a collection is worth it: %v", name, got)
		}
	}
}
