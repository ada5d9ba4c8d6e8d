package brokertest

import (
	"context"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Link is a way to a broker that a test may break.
type Link struct {
	t     testing.TB
	proxy *toxiproxy.Proxy
}

// Proxied returns another URL of the broker, and the link behind it.
func (s *Server) Proxied(t testing.TB) (string, *Link) {
	t.Helper()
	toxics := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	l := &Link{t: t, proxy: toxiproxy.NewProxy(toxics, "link", "127.0.0.1:0", s.Addr())}
	l.start()
	t.Cleanup(l.Cut)
	return url(s.kind, l.proxy.Listen), l
}

func (l *Link) start() {
	l.t.Helper()
	if err := l.proxy.Start(); err != nil {
		l.t.Fatal(err)
	}
}

// Cut ends every connection and refuses new ones.
func (l *Link) Cut() { l.proxy.Stop() }

// Stall lets connections be, and new ones come, but nothing gets through any more,
// in either direction, and what was on its way is lost.
func (l *Link) Stall() {
	l.t.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		toxic := `{"name":"` + stream + `","type":"timeout","stream":"` + stream + `","attributes":{"timeout":0}}`
		if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			l.t.Fatal(err)
		}
	}
}

// Restore ends what Cut or Stall began. Connections that were stalled are cut.
func (l *Link) Restore() {
	l.t.Helper()
	l.proxy.Stop()
	l.proxy.Toxics.ResetToxics(context.Background())
	l.start()
}
