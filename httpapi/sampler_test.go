package httpapi

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestSampler_Flood logs a few of many events, then the number of suppressed ones, and shortens and
// escapes the text of strangers.
func TestSampler_Flood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		var s sampler
		hostile := "x\nlevel=ERROR msg=forged" + strings.Repeat("y", 10_000)
		event := func() {
			s.log(log, slog.LevelWarn, "kind", "203.0.113.1", "refused", slog.String("user", hostile))
		}
		for range 1000 {
			event()
		}
		if got := strings.Count(out.String(), "\n"); got != sampledBurst {
			t.Errorf("%d lines of 1000 events, want %d", got, sampledBurst)
		}
		if out.Len() > sampledBurst*300 {
			t.Errorf("the lines have %d bytes", out.Len())
		}
		out.Reset()
		s.log(log, slog.LevelWarn, "kind", "203.0.113.2", "refused")
		if !strings.Contains(out.String(), "address=203.0.113.2 suppressed=990") {
			t.Errorf("one address suppresses the line of another: %s", out.String())
		}
		for i := range 100_000 {
			s.log(log, slog.LevelWarn, "kind", fmt.Sprintf("10.%d.%d.1", i>>8&255, i&255), "refused")
		}
		if got := strings.Count(out.String(), "\n"); got > kindBurst {
			t.Errorf("%d lines of many addresses, want at most %d", got, kindBurst)
		}
		event()
		out.Reset()
		time.Sleep(time.Minute) // In the bubble.
		event()
		if !strings.Contains(out.String(), "suppressed=") {
			t.Error("suppressed events are not counted")
		}
	})
}
