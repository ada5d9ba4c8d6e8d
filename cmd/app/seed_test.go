package main

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/gen/chat"
	"burrow/store"
)

// said is a message of the past.
type said struct {
	at                  time.Time
	sender, to, content string
}

// idAt returns the UUIDv7 that the n-th message of this time has.
func idAt(at time.Time, n int) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16)
	id[6] = 0x70 | byte(n>>8)&0x0f
	id[7] = byte(n)
	id[8] = 0x80
	binary.BigEndian.PutUint32(id[12:], uint32(n))
	return id.String()
}

// remember writes messages into the archive of an installation that does not run yet,
// and returns their ids.
func (in *installation) remember(t testing.TB, messages []said) []string {
	t.Helper()
	archive, err := store.Open(context.Background(), store.Config{DSN: filepath.Join(in.dir, "archive.db"), ArchivePrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]string, len(messages))
	wrote := make(chan error, len(messages))
	limit := make(chan struct{}, 256)
	for i, m := range messages {
		ids[i] = idAt(m.at, i)
		limit <- struct{}{}
		go func() {
			wrote <- archive.Append(context.Background(), &chat.ChatMessage{Id: ids[i], Sender: m.sender, ToUser: m.to, Content: m.content, SentAt: timestamppb.New(m.at)})
			<-limit
		}()
	}
	for range messages {
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return ids
}
