package httpapi

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"burrow/gen/edge"
)

// benchDialects are those with batches.
var benchDialects = map[string]dialect{"v1.json": v1JSON, "v1.proto": v1Proto}

// BenchmarkEncode turns a message into the frame that all sessions of a dialect share.
func BenchmarkEncode(b *testing.B) {
	for name, d := range benchDialects {
		for _, size := range []int{128, 4096} {
			b.Run(fmt.Sprintf("%s/bytes=%d", name, size), func(b *testing.B) {
				f := &edge.ServerFrame{Frame: &edge.ServerFrame_Chat{Chat: &edge.Chat{Id: anID, Sender: "alice", Content: strings.Repeat("x", size), SentAt: at, Ref: aRef}}}
				b.ReportAllocs()
				for b.Loop() {
					if len(d.encode(f)) < size {
						b.Fatal("the frame is too short")
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}

// BenchmarkJoin makes one frame of those that are due for a session: what batches cost each one.
func BenchmarkJoin(b *testing.B) {
	for name, d := range benchDialects {
		for _, n := range []int{2, 16, 128} {
			b.Run(fmt.Sprintf("%s/frames=%d", name, n), func(b *testing.B) {
				f := d.encode(&edge.ServerFrame{Frame: &edge.ServerFrame_Chat{Chat: &edge.Chat{Id: anID, Sender: "alice", Content: strings.Repeat("x", 128), SentAt: at}}})
				frames := make([]frame, n)
				for i := range frames {
					frames[i] = f
				}
				var joined []byte
				b.ReportAllocs()
				for b.Loop() {
					joined = d.join(joined[:0], frames)
				}
				b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}

// BenchmarkDecode reads what a client says.
func BenchmarkDecode(b *testing.B) {
	for name, d := range benchDialects {
		for _, size := range []int{128, 4096} {
			b.Run(fmt.Sprintf("%s/bytes=%d", name, size), func(b *testing.B) {
				in := &edge.ClientFrame{Frame: &edge.ClientFrame_Send{Send: &edge.Send{Ref: aRef, Content: strings.Repeat("x", size)}}}
				data, err := proto.Marshal(in)
				if d == v1JSON {
					data, err = protojson.Marshal(in)
				}
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					if f, bad := d.decode(data); bad != nil || len(f.GetSend().GetContent()) != size {
						b.Fatal(bad)
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}
