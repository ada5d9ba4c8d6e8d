package httpapi_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"burrow/httpapi"
)

// clientIP is the address of the client in these tests, behind a trusted proxy.
const clientIP = "203.0.113.7"

// TestOperatorLog_Events logs each sign-in, refusal and abnormal close with user, address and reason, at
// levels usable in production, and a flood of each in few lines.
func TestOperatorLog_Events(t *testing.T) {
	guest := func(n *node) { n.guest("alice") }
	post := func(path, body string, headers ...string) func(*testing.T, *node) {
		return func(t *testing.T, n *node) {
			n.request(t, "POST", path, body, append(headers, jsonBody, "X-Forwarded-For: "+clientIP)...)
		}
	}
	get := func(path string, headers ...string) func(*testing.T, *node) {
		return func(t *testing.T, n *node) {
			n.request(t, "GET", path, "", append(append(headers, "X-Forwarded-For: "+clientIP), upgrade...)...)
		}
	}
	for name, tt := range map[string]struct {
		config func(*httpapi.Config)
		auth   func(*node)
		do     func(*testing.T, *node)
		want   string // Parts of one line, separated by "; ".
	}{
		"sign-in":          {auth: guest, do: post("/api/session", `{"name":"bob"}`), want: `level=INFO; msg="signed in"; user=bob`},
		"name taken":       {auth: guest, do: post("/api/session", `{"name":"taken"}`), want: `level=WARN; msg=refused; user=taken; code=name_taken; reason=`},
		"too many names":   {auth: guest, do: post("/api/session", `{"name":"greedy"}`), want: `level=WARN; msg=refused; user=greedy; code=too_many_names; reason=`},
		"invalid name":     {auth: guest, do: post("/api/session", `{"name":"a\nb"}`), want: `level=WARN; msg=refused; user="a\nb"; code=invalid_name; reason=`},
		"no cookie":        {auth: guest, do: get("/ws/alice"), want: `level=WARN; msg=refused; user=alice; path=/ws/alice; code=no_session; reason=`},
		"no cookie, SSE":   {auth: guest, do: get("/events?client_id=alice"), want: `level=WARN; msg=refused; user=alice; path=/events; code=no_session`},
		"wrong cookie":     {auth: guest, do: get("/api/history?client_id=alice", "Cookie: burrow_session=forged"), want: `level=WARN; msg=refused; user=alice; path=/api/history; code=no_session`},
		"page, old cookie": {auth: guest, do: get("/api/session", "Cookie: burrow_session=old"), want: `level=WARN; msg=refused; path=/api/session; code=no_session`},
		"another's name":   {auth: guest, do: get("/ws/bob", "Cookie: burrow_session=cookie-of-alice"), want: `level=WARN; msg=refused; user=bob; code=forbidden; reason=`},
		"origin":           {auth: guest, do: get("/ws/alice", "Origin: https://evil.example"), want: `level=WARN; msg=refused; user=alice; code=foreign_origin; reason=`},
		"token sign-in": {config: byToken(t), do: func(t *testing.T, n *node) {
			post("/api/session", "", "Authorization: Bearer "+tokenOf(t, "carol", time.Hour))(t, n)
		}, want: `level=INFO; msg="signed in"; user=carol`},
		"token expired": {config: byToken(t), do: func(t *testing.T, n *node) {
			get("/ws/carol", "Authorization: Bearer "+tokenOf(t, "carol", -time.Hour))(t, n)
		}, want: `level=WARN; msg=refused; user=carol; code=invalid_token; reason=`},
		"rate of a user": {config: func(c *httpapi.Config) { c.Edge.Rate, c.Edge.Burst = 0.001, 1 },
			do: func(t *testing.T, n *node) {
				for i := range 2 {
					post("/api/messages?client_id=alice", posted(ref(i), "x", ""))(t, n)
				}
			}, want: `level=WARN; msg="user over a limit"; user=alice; reason=; settings="edge.rate, edge.burst"`},
		"rate of an address": {config: func(c *httpapi.Config) { c.Edge.AddressRate, c.Edge.AddressBurst = 0.001, 1 },
			do: func(t *testing.T, n *node) {
				for i := range 2 {
					post("/api/messages?client_id=alice", posted(ref(i), "x", ""))(t, n)
				}
			}, want: `level=WARN; msg="address over a limit; user=alice; of=messages; settings="edge.address_rate, edge.address_burst"`},
		"too many sessions": {config: func(c *httpapi.Config) { c.Edge.MaxConnectionsPerUser = 1 },
			do: func(t *testing.T, n *node) {
				n.join(t, "alice", "X-Forwarded-For: "+clientIP)
				n.dial(t, "alice", "X-Forwarded-For: "+clientIP)
			}, want: `level=INFO; msg="session closed"; user=alice; code=1013; reason=`},
		"refused frames": {config: func(c *httpapi.Config) { c.Edge.Rate, c.Edge.Burst = 0.001, 1 },
			do: func(t *testing.T, n *node) {
				c := n.rawDial(t, "alice", 0, "X-Forwarded-For: "+clientIP)
				for range 8 {
					c.write(0x81, "no JSON")
				}
			}, want: `level=INFO; msg="session closed"; user=alice; code=4429; reason=`},
		"full": {config: func(c *httpapi.Config) { c.Edge.MaxConnections = 1 },
			do: func(t *testing.T, n *node) {
				n.join(t, "alice", "X-Forwarded-For: "+clientIP)
				get("/ws/bob")(t, n)
			}, want: `level=WARN; msg=refused; user=bob; code=full; reason=`},
	} {
		t.Run(name, func(t *testing.T) {
			said := new(syncBuffer)
			n := prepare(t, func(c *httpapi.Config) {
				if tt.config != nil {
					tt.config(c)
				}
				c.Log = slog.New(slog.NewTextHandler(said, nil))
			})
			if tt.auth != nil {
				tt.auth(n)
			}
			n.run(t)
			if err := n.Seed(t.Context()); err != nil {
				t.Fatal(err)
			}
			tt.do(t, n)
			parts := append(strings.Split(tt.want, "; "), "address="+clientIP)
			eventually(t, fmt.Sprintf("a line with %q", parts), func() bool {
				for line := range strings.Lines(said.String()) {
					if hasAll(line, parts) {
						return true
					}
				}
				return false
			})
		})
	}
}

func hasAll(line string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(line, p) {
			return false
		}
	}
	return true
}
