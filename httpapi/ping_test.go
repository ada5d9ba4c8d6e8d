package httpapi

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestPingsOfManySessionsLeaveTogether(t *testing.T) {
	s := &Server{hub: &hub{began: time.Now()}}
	s.cfg.Edge.PingInterval = 25 * time.Second
	moments := map[time.Time]bool{}
	for range 10_000 {
		due := s.hub.began.Add(time.Hour + rand.N(s.cfg.Edge.PingInterval))
		at := s.pingTime(due)
		if early := due.Sub(at); early < 0 || early >= s.cfg.Edge.PingInterval/100 {
			t.Fatalf("a ping that is due at %v leaves %v before that", due, early)
		}
		moments[at] = true
	}
	if len(moments) > 101 {
		t.Errorf("pings leave at %d moments of an interval", len(moments))
	}
	if at := s.pingTime(s.hub.began.Add(time.Hour)); s.pingTime(at.Add(s.cfg.Edge.PingInterval)) != at.Add(s.cfg.Edge.PingInterval) {
		t.Error("the moment of a session's pings moves")
	}
}
