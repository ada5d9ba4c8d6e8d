package httpapi

// tell puts what waits into the queues of those whom it is for, and into the memory. The caller
// holds the lock.
//
// The sessions clock it. A message that comes while nobody is being written to is told at once;
// what comes while they are, when that is done. So the more there is, the more is told together,
// and what is told together is one piece, made once for each dialect, and one write for each session.
func (h *hub) tell() {
	batch := h.pending
	if len(batch) == 0 {
		return
	}
	h.pending = nil
	h.batches++
	h.last = len(batch)
	for i := range batch {
		if batch[i].chat.ToUser != "" {
			h.setApart(batch[i].chat)
		}
	}
	var pieces [dialects][]item
	for d := range dialects {
		if h.speaking[d] > 0 {
			pieces[d] = piecesOf(d, batch)
		}
	}
	for _, s := range h.sessions {
		if s.apart == h.batches {
			for i := range batch {
				if e := &batch[i]; e.chat.ToUser == "" || e.isFor(s) {
					s.enqueue(e.in(s.dialect), 1)
				}
			}
			continue
		}
		for _, p := range pieces[s.dialect] {
			s.enqueue(p.frame, p.count)
		}
	}
	for _, e := range batch {
		if e.chat.ToUser != "" {
			h.private.add(e)
		} else {
			h.global.add(e)
		}
	}
	for _, w := range h.writers {
		if w.watch() {
			h.writing++
		}
	}
}

// setApart notes who gets the private message c, and so not the pieces that are for everyone.
func (h *hub) setApart(c *chatFrame) {
	for _, user := range [2]string{c.ToUser, c.Sender} {
		for _, s := range h.users[user] {
			s.apart = h.batches
		}
	}
}

// piecesOf returns the messages to everyone of batch, in as few pieces as one write may have bytes.
func piecesOf(d dialect, batch []entry) (pieces []item) {
	var frames []frame
	size := 0
	flush := func() {
		if len(frames) > 0 {
			pieces = append(pieces, item{onePiece(d, frames), len(frames)})
		}
		frames, size = frames[:0], 0
	}
	for i := range batch {
		if batch[i].chat.ToUser != "" {
			continue
		}
		f := batch[i].in(d)
		if size+len(f) > maxJoin {
			flush()
		}
		frames = append(frames, f)
		size += len(f)
	}
	flush()
	return pieces
}

// onePiece returns frames, of which there is at least one, in one piece.
func onePiece(d dialect, frames []frame) frame {
	if len(frames) == 1 {
		return frames[0]
	}
	b := batch{dialect: d, frames: frames}
	return b.bytes()
}

// reach returns how many sessions c is for. The caller holds the lock.
func (h *hub) reach(c *chatFrame) int {
	switch c.ToUser {
	case "":
		return len(h.sessions)
	case c.Sender:
		return len(h.users[c.Sender])
	}
	return len(h.users[c.ToUser]) + len(h.users[c.Sender])
}

// send queues e, which comes from the archive, for those whom it is for. The caller holds the
// lock.
func (h *hub) send(e *entry) {
	for _, s := range h.sessions {
		if e.chat.ToUser == "" || e.isFor(s) {
			s.enqueue(e.in(s.dialect), 1)
		}
	}
}

// written notes that one writer is done with what was told last, and tells what has come since if
// it was the last one.
func (h *hub) written() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.writing--; h.writing == 0 {
		h.tell()
	}
}

// tellNow tells what waits without waiting for the writers.
func (h *hub) tellNow() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell()
}

// pace returns how many messages were told the last time, and how many wait.
func (h *hub) pace() (last, waiting int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last, len(h.pending)
}

// waits reports whether a message with this id, or one of this user, waits to be told. The caller
// holds the lock.
func (h *hub) waits(id, sender string) bool {
	for i := range h.pending {
		if c := h.pending[i].chat; c.ID == id || c.Sender == sender {
			return true
		}
	}
	return false
}
