package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"burrow/gen/edge"
)

// TestATinyRun starts a real server, talks to it, and looks into its archive.
func TestATinyRun(t *testing.T) {
	var stdout, stderr bytes.Buffer
	out := filepath.Join(t.TempDir(), "results.json")
	args := strings.Fields("-conns 8 -pubs 4 -inflight 2 -size 64 -warmup 0s -duration 300ms -archive -json " + out)
	if code := run(t.Context(), args, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, &stdout, &stderr)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var results []result
	if err := json.Unmarshal(text, &results); err != nil || len(results) != 1 {
		t.Fatalf("%v in %s", err, text)
	}
	r := results[0]
	if r.Connected != 8 || r.Accepted == 0 || r.Deliveries == 0 || r.Latency.P50 <= 0 || r.BytesEach == 0 || r.RSSBefore == 0 {
		t.Errorf("not everything was measured: %s", text)
	}
	if r.Archived != r.Accepted || r.broken() != "" {
		t.Errorf("%d accepted, %d archived; %s", r.Accepted, r.Archived, r.broken())
	}
	for _, want := range []string{"8 in ", "µs per delivery", "p99", "0 lost, 0 doubled, 0 out of order"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, &stdout)
		}
	}
}

// TestConfirmationsAreCounted starts a server for each protocol that has them.
func TestConfirmationsAreCounted(t *testing.T) {
	for _, protocol := range []string{"v1.json", "v1.proto"} {
		r := tinyRun(t, "-proto "+protocol+" -conns 6 -pubs 3 -newcomers 2 -inflight 2 -size 64 -warmup 0s -duration 200ms -archive")
		if r.Accepted == 0 || r.Acked != r.Accepted || r.Archived != r.Accepted || r.NewcomerCPU < 0 {
			t.Errorf("%s: %d accepted, %d confirmed, %d archived", protocol, r.Accepted, r.Acked, r.Archived)
		}
	}
	r := result{Load: load{Protocol: "v1.json"}, Accepted: 3, Acked: 2}
	if r.broken() == "" {
		t.Error("a message without a confirmation counts as kept promise")
	}
}

// TestSeveralNodesShareABroker has people on two nodes, of which one is measured.
func TestSeveralNodesShareABroker(t *testing.T) {
	if _, err := exec.LookPath("nats-server"); err != nil && os.Getenv("BURROW_TEST_REQUIRE") == "" {
		t.Skip("nats-server is not installed; CI sets BURROW_TEST_REQUIRE")
	}
	r := tinyRun(t, "-nodes 2 -broker nats -conns 6 -pubs 4 -inflight 2 -size 64 -warmup 0s -duration 200ms -archive")
	if r.Accepted == 0 || r.Archived != r.Accepted || r.Deliveries == 0 {
		t.Errorf("%+v", r)
	}
	l := load{Publishers: 4, Aside: true}
	var to []string
	for i := range 6 {
		to = append(to, l.node([]string{"a", "b"}, i))
	}
	if got := strings.Join(to, ""); got != "ababaa" {
		t.Errorf("connections go to %s, want ababaa", got)
	}
}

// tinyRun measures one load, which must keep every promise.
func tinyRun(t *testing.T, args string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), strings.Fields(args+" -json -"), &stdout, &stderr); code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", args, code, &stdout, &stderr)
	}
	var results []result
	if err := json.Unmarshal(stdout.Bytes(), &results); err != nil || len(results) != 1 {
		t.Fatalf("%v in %s", err, &stdout)
	}
	return results[0]
}

func TestWrongFlagsAreToldTogether(t *testing.T) {
	var stdout, stderr bytes.Buffer
	args := strings.Fields("-conns 0 -size 3 -proto telnet -repeat 0 -only ( -cases -addr x:1 -archive -nodes 2 -target x -docs y more")
	if code := run(t.Context(), args, &stdout, &stderr); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	for _, want := range []string{"-conns", "-size", "telnet", "-repeat", "-only", "-cases", "-archive", "-nodes", "-target", `"more"`} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("nothing is said about %s:\n%s", want, &stderr)
		}
	}
}

func TestMarkersAreFoundInAnyPayload(t *testing.T) {
	first := marker{run: 7, sender: 65535, seq: 1<<32 - 1, due: 5 * time.Second}
	second := marker{run: 8, seq: 1, due: time.Nanosecond}
	payload := append([]byte(`{"content":"~bm:`), "no marker but somebody's text, long enough to be one"...)
	payload = first.append(payload, markerSize+20)
	payload = append(payload, 0, 1, '"', '}')
	payload = second.append(payload, markerSize)

	var got []marker
	for rest := payload; ; {
		m, after, ok := nextMarker(rest)
		if !ok {
			break
		}
		got, rest = append(got, m), after
	}
	if len(got) != 2 || got[0] != first || got[1] != second {
		t.Errorf("found %+v, want %+v and %+v", got, first, second)
	}
	if m, _, ok := nextMarker(second.append(nil, markerSize)[:markerSize-1]); ok {
		t.Errorf("half a marker was taken for %+v", m)
	}
}

func TestStreamsTellLossesDoublesAndDisorder(t *testing.T) {
	for _, tt := range []struct {
		name              string
		came              []uint32
		seen, late, again int64
	}{
		{name: "in order", came: []uint32{0, 1, 2}, seen: 3},
		{name: "one is missing", came: []uint32{0, 2, 3}, seen: 3},
		{name: "the first is missing", came: []uint32{1}, seen: 1},
		{name: "two changed places", came: []uint32{0, 2, 1, 3}, seen: 4, late: 1},
		{name: "the last came twice", came: []uint32{0, 1, 1}, seen: 2, again: 1},
		{name: "an old one came twice", came: []uint32{0, 1, 2, 0}, seen: 3, again: 1},
		{name: "late and twice", came: []uint32{1, 0, 0}, seen: 2, late: 1, again: 1},
	} {
		var s stream
		var behind, repeated int64
		for _, seq := range tt.came {
			switch s.see(seq) {
			case late:
				behind++
			case again:
				repeated++
			case inOrder:
			}
		}
		if s.seen() != tt.seen || behind != tt.late || repeated != tt.again {
			t.Errorf("%s: %d seen, %d late, %d again; want %d, %d, %d", tt.name, s.seen(), behind, repeated, tt.seen, tt.late, tt.again)
		}
	}
}

// TestLossesAreCountedForEachConnection has two connections of which one misses a message, and a
// message that was refused and so is missed by nobody.
func TestLossesAreCountedForEachConnection(t *testing.T) {
	c := newCrowd(load{Connections: 2, Publishers: 1})
	c.sent[0].Store(3)
	for i, seqs := range [][]uint32{{0, 2}, {2}} {
		c.conns[i] = &conn{tally: c.tallies[i], streams: make([]stream, 1)}
		for _, seq := range seqs {
			c.tallies[i].see(c.conns[i].streams[0].see(seq), marker{}, 0)
		}
	}
	c.tallies[0].refused = 1
	var r result
	c.account(&r)
	if r.Accepted != 2 || r.Lost != 1 || r.Refused != 1 {
		t.Errorf("%d accepted, %d lost, %d refused; want 2, 1, 1", r.Accepted, r.Lost, r.Refused)
	}
	if r.broken() == "" {
		t.Error("a loss counts as kept promise")
	}
}

func TestOnlyWhatWasDueWhileMeasuringCountsForLatency(t *testing.T) {
	tl := newTally()
	tl.measure(time.Second, 2*time.Second)
	for due := range 4 {
		at := time.Duration(due) * time.Second
		tl.see(inOrder, marker{due: at}, at+time.Duration(due+1)*10*time.Millisecond)
	}
	all := sum([]*tally{tl, newTally()})
	if got := all.quantiles(); all.deliveries != 4 || got.P50 != got.Max || got.Max < 19.9 || got.Max > 20.1 {
		t.Errorf("%d deliveries, latency %+v; want 4 and 20 ms", all.deliveries, got)
	}
}

// TestMessagesAreThoseOfTheProtocol decodes what the load sends with the generated types.
func TestMessagesAreThoseOfTheProtocol(t *testing.T) {
	content := marker{run: rand.Uint32(), seq: 3}.append(nil, 200)
	var plain struct{ Content string }
	if err := json.Unmarshal(sendPlain(nil, content), &plain); err != nil || plain.Content != string(content) {
		t.Errorf("plain: %v, %q", err, plain.Content)
	}
	for name, decode := range map[string]func([]byte, proto.Message) error{
		"v1.json": protojson.Unmarshal, "v1.proto": proto.Unmarshal,
	} {
		var in edge.ClientFrame
		if err := decode(protocols[name].send(nil, content), &in); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if in.GetSend().GetContent() != string(content) || len(in.GetSend().GetRef()) != 36 {
			t.Errorf("%s: sends %v", name, &in)
		}
	}
	refusal := &edge.ServerFrame{Frame: &edge.ServerFrame_Error{Error: &edge.Error{Code: "unavailable"}}}
	spoken := &edge.ServerFrame{Frame: &edge.ServerFrame_Chat{Chat: &edge.Chat{Content: "hello"}}}
	batch, err := proto.Marshal(&edge.ServerBatch{Frames: []*edge.ServerFrame{spoken, refusal, spoken, refusal}})
	if err != nil {
		t.Fatal(err)
	}
	if got := errorsProto(batch); got != 2 {
		t.Errorf("v1.proto: %d errors found, want 2", got)
	}
	if got := acksProto(batch); got != 0 {
		t.Errorf("v1.proto: %d acks found, want none", got)
	}
	errorsProto(batch[:len(batch)-3]) // Must end.
	if got := errorsJSON([]byte(`{"error":{"code":"unavailable"}}`)); got != 1 {
		t.Errorf("plain: %d errors found, want 1", got)
	}
}

func TestProcIsRead(t *testing.T) {
	stat := []byte("42 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20\n")
	status := []byte("Name:\tburrow\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n")
	u, err := parseUsage(stat, status)
	if want := (usage{cpu: 3 * time.Second, rss: 1 << 20, peak: 2 << 20}); err != nil || u != want {
		t.Errorf("got %+v, %v, want %+v", u, err, want)
	}
	for _, bad := range []string{"", "42 (x) S 1", "42 (x) S 1 2 3 4 5 6 7 8 9 10 x y"} {
		if _, err := parseUsage([]byte(bad), status); err == nil {
			t.Errorf("%q was taken for a stat", bad)
		}
	}
}
