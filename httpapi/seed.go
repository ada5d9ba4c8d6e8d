package httpapi

import (
	"context"
	"fmt"
	"slices"
	"time"

	"burrow/gen/chat"
)

// seedTimeout bounds the second Seed, which nobody waits for.
const seedTimeout = 30 * time.Second

// Seed fills the memory with the newest messages of the archive. It is called once the
// broadcast function is subscribed, so that nothing falls between the two; sessions are
// let in, and the server is ready, only after it has succeeded. An error is the archive's; call
// again to try again.
func (s *Server) Seed(ctx context.Context) error {
	if err := s.seed(ctx); err != nil {
		return err
	}
	s.seedOnce.Do(func() { close(s.seeded) })
	return nil
}

func (s *Server) seed(ctx context.Context) error {
	began := time.Now()
	if s.cfg.Archive == nil {
		s.hub.merge(nil, firstID(began), firstID(began))
		s.hub.seeded(began)
		return nil
	}
	found, globalFrom, err := s.newest(ctx, func(before string, limit int) ([]*chat.ChatMessage, bool, error) {
		return s.cfg.Archive.Page(ctx, before, limit, [2]string{})
	})
	if err != nil {
		return err
	}
	privateFrom := ""
	if s.cfg.ArchivePrivate {
		// With whom somebody talks is not asked, but what was said last by anybody.
		var all []*chatFrame
		all, privateFrom, err = s.newest(ctx, func(before string, limit int) ([]*chat.ChatMessage, bool, error) {
			return s.cfg.Archive.PageAll(ctx, before, limit)
		})
		if err != nil {
			return err
		}
		private := slices.DeleteFunc(all, func(c *chatFrame) bool { return c.ToUser == "" })
		found = append(found, private...)
	}
	s.metrics.seeded.Add(float64(s.hub.merge(found, globalFrom, privateFrom)))
	if holed := s.hub.hole(globalFrom); len(holed) > 0 {
		s.log.Warn("more was missed than the memory holds: clients have to resume", "sessions", len(holed))
		for _, sess := range holed {
			sess.close(closeRestart, s.retryReason(len(holed)))
		}
	}
	s.hub.seeded(began)
	return nil
}

// newest returns as many messages as the memory holds, oldest first, and the id from which on
// these are all there are: "" if they are all at all.
func (s *Server) newest(ctx context.Context, page func(before string, limit int) ([]*chat.ChatMessage, bool, error)) (found []*chatFrame, from string, err error) {
	before := ""
	for want := s.cfg.History.Buffer; want > 0; {
		msgs, more, err := page(before, min(want, maxPage))
		if err != nil {
			return nil, "", fmt.Errorf("httpapi: load recent messages: %w", err)
		}
		for _, msg := range slices.Backward(msgs) {
			s.ids.observe(msg.GetId())
			found = append(found, newChatFrame(msg, time.Now()))
		}
		if !more || len(msgs) == 0 {
			from = ""
			break
		}
		want -= len(msgs)
		before = msgs[0].GetId()
		from = before
	}
	slices.Reverse(found)
	return found, from, nil
}

// Refill merges the archive into the memory soon, and shows everyone what was missing: call it
// when messages may have been lost on their way here. It does not wait, and many calls are as one.
func (s *Server) Refill() {
	s.hub.gap()
	select {
	case s.refill <- struct{}{}:
	default:
	}
}

// BehindSince returns the last message before those that this node may not have found yet after a
// Refill, or "" if there are none: what it tells the other nodes, whose Behind takes it.
func (s *Server) BehindSince() string { return s.hub.behind() }

// Behind notes that node may not know yet what was said after the message last, or if that is
// empty, that it has just started: who was there meanwhile and goes on here gets all of it once
// more. Of this node itself it changes nothing.
func (s *Server) Behind(node, last string) {
	if node != s.cfg.Node {
		s.hub.otherBehind(last)
	}
}

// keepFilled merges the archive into the memory once more a while after the first Seed, for messages
// that were sent before this node subscribed and archived after it looked, and when a task that a dead
// worker held must have been archived by another; and after each Refill at once, and as often. A merge
// that fails is tried again, after growing waits. What a merge finds is shown underway later.
func (s *Server) keepFilled() {
	select {
	case <-s.seeded:
	case <-s.ctx.Done():
		return
	}
	last := time.Now()
	due := []time.Time{last.Add(s.reseedAfter), last.Add(refillLast)}
	again := refillGap
	var release <-chan time.Time
	for {
		var wake <-chan time.Time
		if len(due) > 0 {
			wake = time.After(time.Until(due[0]))
		}
		select {
		case <-s.refill:
			s.hub.missedEvents()
			now := time.Now()
			due = []time.Time{last.Add(refillGap), now.Add(s.reseedAfter), now.Add(refillLast)}
			slices.SortFunc(due, time.Time.Compare)
			continue
		case <-release:
			release = nil
			shown, held := s.hub.release()
			s.metrics.seeded.Add(float64(shown))
			if held > 0 {
				release = time.After(underway)
			}
			continue
		case <-wake:
			due = due[1:]
		case <-s.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, seedTimeout)
		err := s.seed(ctx)
		cancel()
		last = time.Now()
		if err == nil {
			again = refillGap
			if release == nil {
				release = time.After(underway)
			}
			continue
		}
		if s.ctx.Err() == nil {
			s.log.Warn("merging late messages; trying again", "error", err)
		}
		due = append(due, last.Add(again))
		slices.SortFunc(due, time.Time.Compare)
		again = min(2*again, refillLast)
	}
}
