package httpapi_test

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"burrow/auth"
	"burrow/httpapi"
)

// BenchmarkBroadcast measures a global message of 128 bytes to all sessions of a node, read by
// clients of the same process: 32 messages are under way at a time.
func BenchmarkBroadcast(b *testing.B) {
	for _, sessions := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
			cfg := httpapi.DefaultConfig()
			cfg.HTTP.Addr = "127.0.0.1:0"
			cfg.History.Limit = 0
			cfg.Edge.MaxConnectionsPerUser, cfg.Edge.Queue = 0, 65536
			cfg.Publisher, cfg.Auth = &fakeBroker{}, &fakeAuth{mode: auth.ModeOpen}
			cfg.Metrics, cfg.Log = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
			joins := make(joinChannel, sessions)
			cfg.Presence = joins
			edge, err := httpapi.New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			if err := edge.Listen(); err != nil {
				b.Fatal(err)
			}
			var running sync.WaitGroup
			defer running.Wait()
			running.Go(func() { _ = edge.Run(b.Context()) })
			defer edge.Shutdown(b.Context())
			if err := edge.Seed(b.Context()); err != nil {
				b.Fatal(err)
			}

			var read atomic.Int64
			turned := make(chan struct{}, 1)
			for range sessions {
				conn, err := net.Dial("tcp", edge.Addr())
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				fmt.Fprintf(conn, "GET /ws/alice HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n", strings.Join(upgrade, "\r\n"))
				response := make([]byte, 129) // Of gorilla's 101.
				if _, err := conn.Read(response); err != nil {
					b.Fatal(err)
				}
				running.Go(func() {
					buf := make([]byte, 32<<10)
					for {
						n, err := conn.Read(buf)
						if err != nil {
							return
						}
						read.Add(int64(n))
						select {
						case turned <- struct{}{}:
						default:
						}
					}
				})
			}
			for range sessions {
				<-joins
			}
			content := strings.Repeat("x", 128)
			size := int64(len(`{"id":"","sender":"bot","content":"","to_user":"","sent_at":"2026-01-31T12:00:00.123Z"}`) + 4 + 36 + len(content))
			await := func(messages int64) {
				for read.Load() < messages*size*int64(sessions) {
					<-turned
				}
			}
			sent := int64(0)
			b.ReportAllocs()
			for b.Loop() {
				edge.Deliver(message(int(sent), "bot", "", content))
				sent++
				await(sent - 32)
			}
			await(sent)
			b.ReportMetric(float64(sent)*float64(sessions)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}

// joinChannel is a Presence that says when a session has joined.
type joinChannel chan struct{}

func (c joinChannel) Join(string)        { c <- struct{}{} }
func (c joinChannel) Away(string, bool)  {}
func (c joinChannel) Leave(string, bool) {}
