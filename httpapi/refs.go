package httpapi

import (
	"context"
	"sync"
)

// Refs remembers which message a sender means by a ref, so that one that is sent again is the
// same message. *store.Store is one.
type Refs interface {
	// ClaimRef returns the id that was claimed first for this sender's ref: id, if that
	// was now. It is on disk when it returns, and holds on every node that shares the store,
	// for as long as a client may try again. sender is a user's name, ref and id
	// are UUIDs.
	ClaimRef(ctx context.Context, sender, ref, id string) (string, error)
}

// maxMemoryRefs bounds how many refs a node without a store remembers.
const maxMemoryRefs = 1 << 16

// memoryRefs is Refs for a node without a store: it forgets the oldest refs, and all when it ends.
type memoryRefs struct {
	mu   sync.Mutex
	ids  map[[2]string]string
	ring [][2]string
	next int
}

func newMemoryRefs() *memoryRefs { return &memoryRefs{ids: make(map[[2]string]string)} }

// ClaimRef implements Refs.
func (m *memoryRefs) ClaimRef(_ context.Context, sender, ref, id string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := [2]string{sender, ref}
	if first, known := m.ids[key]; known {
		return first, nil
	}
	if len(m.ring) < maxMemoryRefs {
		m.ring = append(m.ring, key)
	} else {
		delete(m.ids, m.ring[m.next])
		m.ring[m.next] = key
		m.next = (m.next + 1) % maxMemoryRefs
	}
	m.ids[key] = id
	return id, nil
}
