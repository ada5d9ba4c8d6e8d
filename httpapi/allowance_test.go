package httpapi

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestAllowanceOutlivesTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := EdgeConfig{Rate: 10, Burst: 20}
		var all allowances[string]
		first := all.take("alice", newUserAllowance, cfg)
		for range 20 {
			if !first.frames.Allow() {
				t.Fatal("the burst is smaller than it should be")
			}
		}
		second := all.take("alice", newUserAllowance, cfg)
		if second.frames.Allow() {
			t.Error("a second connection got more")
		}
		if !all.take("bob", newUserAllowance, cfg).frames.Allow() {
			t.Error("bob pays for alice")
		}
		all.leave("alice", first)
		all.leave("alice", second)
		again := all.take("alice", newUserAllowance, cfg)
		if again.frames.Allow() {
			t.Error("who comes back got more")
		}
		all.leave("alice", again)
		time.Sleep(time.Second)
		again = all.take("alice", newUserAllowance, cfg)
		for i := range 11 {
			if got, want := again.frames.Allow(), i < 10; got != want {
				t.Fatalf("after a second, frame %d: %v, want %v", i, got, want)
			}
		}
	})
}

func TestAllowancesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := EdgeConfig{Rate: 10, Burst: 20}
		var all allowances[string]
		for i := range 1000 {
			user := fmt.Sprint("user ", i)
			a := all.take(user, newUserAllowance, cfg)
			a.frames.Allow()
			all.leave(user, a)
		}
		if len(all.all) != 1000 {
			t.Errorf("%d are known who have not everything back, want 1000", len(all.all))
		}
		time.Sleep(time.Second)
		for i := range 1000 { // Who come and send nothing.
			user := fmt.Sprint("quiet ", i)
			all.leave(user, all.take(user, newUserAllowance, cfg))
		}
		if len(all.all) > 10 {
			t.Errorf("%d are known still", len(all.all))
		}
		if all.take("alice", newUserAllowance, EdgeConfig{Burst: 20}) != nil {
			t.Error("a rate of 0 is no limit")
		}
	})
}
