package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"burrow/dlq"
	"burrow/router"
	"burrow/store"
)

// lookAgain is how often a command that waits looks into the store.
const lookAgain = 100 * time.Millisecond

// result is what became of one letter of replay or drop.
type result struct {
	ID int64 `json:"id"`
	// Outcome is for programs: requested (nobody waited), sent (and it has not
	// failed since), pending (no node has sent it yet), failed (again), refused,
	// not_waiting, not_found, dropped or error.
	Outcome string      `json:"outcome"`
	Message string      `json:"message"` // the same for people
	Letter  *dlq.Letter `json:"letter,omitempty"`
}

// worked reports whether the command did what it was asked to.
func (r *result) worked() bool {
	switch r.Outcome {
	case "requested", "sent", "pending", "dropped":
		return true
	}
	return false
}

// failure says why nothing was done with a letter.
func failure(id int64, err error) *result {
	r := &result{ID: id, Outcome: "error", Message: err.Error()}
	if busy := new(dlq.NotWaitingError); errors.As(err, &busy) {
		r.Outcome, r.Message = "not_waiting", busy.Error()
	} else if errors.Is(err, dlq.ErrNoLetter) {
		r.Outcome, r.Message = "not_found", "there is no such dead letter"
	} else if errors.Is(err, dlq.ErrRefused) {
		r.Outcome = "refused"
	}
	return r
}

func (c *dlqCommand) drop(ctx context.Context) error {
	var results []*result
	for _, id := range c.ids {
		r := &result{ID: id, Outcome: "dropped", Message: "dropped"}
		var err error
		if r.Letter, err = c.desk.Drop(ctx, id, c.who); err != nil {
			r = failure(id, err)
		}
		results = append(results, r)
		c.say(r)
	}
	return c.finish(results)
}

// replay requests what was asked for, and waits to see what becomes of it.
func (c *dlqCommand) replay(ctx context.Context) error {
	ids := c.ids
	if c.all {
		var err error
		if ids, err = c.waiting(ctx); err != nil {
			return err
		}
		if len(ids) == 0 && !c.json {
			fmt.Fprintln(c.stdout, "no dead letter waits")
		}
	}
	results := []*result{}
	open := map[int64]*result{} // requested, and not known yet what became of them
	for _, id := range ids {
		if open[id] != nil {
			continue // named twice
		}
		r := &result{ID: id, Outcome: "requested", Message: "replay requested"}
		var err error
		if r.Letter, err = c.desk.Replay(ctx, id, c.who); err != nil {
			r = failure(id, err)
		} else {
			open[id] = r
		}
		results = append(results, r)
		c.say(r)
	}
	if err := c.follow(ctx, open); err != nil {
		return err
	}
	return c.finish(results)
}

// waiting returns the ids of all letters that wait, lowest first.
func (c *dlqCommand) waiting(ctx context.Context) (ids []int64, err error) {
	q := dlq.Query{State: store.Waiting, Function: c.function, Limit: store.MaxDeadLetters}
	for more := true; more; {
		page, err := c.desk.List(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, l := range page.Letters {
			ids = append(ids, l.ID)
			q.Before = l.ID
		}
		more = page.HasMore
	}
	slices.Reverse(ids)
	return ids, nil
}

// follow waits until it is known of all what became of them, but no longer than
// c.wait.
func (c *dlqCommand) follow(ctx context.Context, open map[int64]*result) error {
	if c.wait == 0 {
		return nil
	}
	end := time.NewTimer(c.wait)
	defer end.Stop()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	sent := map[int64]time.Time{} // when that was seen first
	for last := false; len(open) > 0 && !last; {
		select {
		case <-tick.C:
		case <-end.C:
			last = true
		case <-ctx.Done():
			return nil // nobody waits any more; the requests stay
		}
		for id, r := range open {
			letter, err := c.desk.Peek(ctx, id)
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				*r = *failure(id, err)
			} else {
				r.Letter = letter
				if letter.State == store.Replayed && sent[id].IsZero() {
					sent[id] = time.Now()
				}
				if !r.settle(sent[id], c.givesUpAfter(letter.Function), last, c.wait) {
					continue
				}
			}
			c.say(r)
			delete(open, id)
		}
	}
	return nil
}

// givesUpAfter returns how long the attempts of a function take that fails at once,
// at the most: one that has not given up by then works.
func (c *dlqCommand) givesUpAfter(function string) time.Duration {
	f, known := c.functions[function]
	if !known {
		f = router.DefaultFunction()
	}
	const most, running = 30 * time.Second, 750 * time.Millisecond
	all, wait := time.Duration(0), f.Backoff
	for range f.MaxAttempts - 1 {
		all += wait * 3 / 2 // waits are spread by half
		wait = min(2*wait, most)
	}
	return all + running
}

// settle says what became of a replay, as far as that is known, of a function that
// gives up after a while; last means that nobody waits any longer. It reports
// whether it is the end of it.
func (r *result) settle(sent time.Time, givesUpAfter time.Duration, last bool, waited time.Duration) bool {
	l := r.Letter
	switch l.State {
	case store.Replayed:
		early := time.Since(sent) < givesUpAfter
		if early && !last {
			return false
		}
		r.Outcome = "sent"
		r.Message = fmt.Sprintf("sent by a running node; %s has not failed in the %s since", l.Function, time.Since(sent).Round(time.Second/10))
		if early {
			r.Message += fmt.Sprintf(", but may still be trying: it gives up after %s at the most", givesUpAfter.Round(time.Second))
		}
	case store.Waiting:
		if l.Note != "" {
			r.Outcome, r.Message = "refused", "not sent, and it waits again: "+l.Note
			break
		}
		r.Outcome = "failed"
		r.Message = fmt.Sprintf("%s failed again (%d attempts by now): %s", l.Function, l.Attempts, l.Error)
	default:
		if !last {
			return false
		}
		r.Outcome = "pending"
		r.Message = fmt.Sprintf("no running node with the function %s has taken it in %s; it is sent when one does", l.Function, waited)
		if l.Note != "" {
			r.Message = "not sent yet, and a running node tries again: " + l.Note
		}
	}
	return true
}

// say tells a person about r.
func (c *dlqCommand) say(r *result) {
	if !c.json {
		fmt.Fprintf(c.stdout, "%d: %s\n", r.ID, dlq.Inert(r.Message))
	}
}

func (c *dlqCommand) finish(results []*result) error {
	var err error
	for _, r := range results {
		if !r.worked() {
			err = errNotAll
		}
	}
	if c.json {
		err = errors.Join(err, c.print(map[string]any{"results": results}))
	}
	return err
}
