package router

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// answer is what became of a message that was handed out.
type answer int

const (
	unanswered answer = iota // nobody waits for it any more
	acked
	nacked
)

// A worker is a goroutine that handles one message after the other; a stream has at most
// as many as the function may run at the same time. It begins as one that hands a message
// to Watermill's router. That makes a goroutine for it, and calls the function's
// middleware there, whose outermost link, inTurn, then does not return: with the rest of
// the chain it handles the messages that follow, and waits for more. To pass each of them
// through Watermill's channels, to a goroutine of its own, and the answer back, cost more
// than all the rest.

// wake has a worker look for what is ready, if there is something and none is about to.
// It will wake the next, so that there are as many as there is work for, and no more. The
// caller holds the lock.
func (st *stream) wake() {
	if st.waking || st.ready.first == nil || st.stop.Err() != nil {
		return
	}
	switch {
	case st.idle > 0:
		st.waking = true
		st.work.Signal()
	case st.running < st.s.settings.Concurrency:
		st.waking = true
		st.running++
		st.beginning.Go(st.begin)
	}
}

// dismiss ends the workers that have nothing to do. None begins after the stream stopped.
func (st *stream) dismiss() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.dismissed = true
	st.work.Broadcast()
	if st.running == 0 {
		close(st.quiet)
	}
}

// leave ends a worker. The caller holds the lock.
func (st *stream) leave() {
	if st.running--; st.running == 0 && st.dismissed {
		close(st.quiet) // once, for none begins any more
	}
}

// begin hands out messages until inTurn takes over, or there are none.
func (st *stream) begin() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.waking = false
	for d := st.take(); d != nil; d = st.take() {
		st.mu.Unlock()
		answer, over := st.hand(d)
		st.mu.Lock()
		st.settle(d, answer)
		if over {
			st.wake()
			return
		}
	}
	st.leave()
}

// hand gives one message to whoever reads the channel, and waits for the answer. It tells
// if inTurn took over.
func (st *stream) hand(d *delivered) (answer answer, over bool) {
	h := st.attempt(d, nil)
	msg := d.msg.Copy() // an answer is for good, and d may come again
	msg.SetContext(h)
	select {
	case st.out <- msg:
	case <-st.stop.Done():
		return unanswered, false
	}
	select {
	case <-msg.Acked():
		answer = acked
		h.end()
	case <-msg.Nacked():
		answer = nacked
		h.end()
	case <-st.s.abandoned.Done(): // and not when its time is over: it still runs
	}
	return answer, !h.own(byStream)
}

// inTurn is the outermost link of a function's chain: it makes a worker of the goroutine
// that Watermill has for a message.
func inTurn(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		h := handlingOf(ctx)
		if h == nil || !h.own(byTurns) {
			return next(msg)
		}
		if err := call(next, msg); err != nil {
			msg.Nack()
		} else {
			msg.Ack()
		}
		msg.Payload, msg.Metadata = nil, nil // the worker may live for long
		h.stream.follow(next, ctx)
		return nil, nil
	}
}

// follow handles messages for as long as the stream lives. Their contexts have the values
// of outer.
func (st *stream) follow(next message.HandlerFunc, outer context.Context) {
	st.mu.Lock()
	for {
		d := st.take()
		if d != nil {
			st.mu.Unlock()
			answer := st.handle(d, next, outer)
			st.mu.Lock()
			if !st.over {
				st.settle(d, answer)
			}
			continue
		}
		if st.stop.Err() != nil {
			break
		}
		if len(st.handled) > 0 {
			st.flush()
		}
		st.idle++
		st.work.Wait()
		st.idle--
		st.waking = false
	}
	st.leave()
	st.mu.Unlock()
}

// handle is one attempt.
func (st *stream) handle(d *delivered, next message.HandlerFunc, outer context.Context) answer {
	h := st.attempt(d, outer)
	defer h.end()
	msg := d.msg
	if d.handed {
		msg = msg.Copy() // an answer is for good
	}
	d.handed = true
	msg.SetContext(h)
	if err := call(next, msg); err != nil {
		msg.Nack()
		return nacked
	}
	msg.Ack()
	return acked
}

// call turns a panic into an error, as Watermill does.
func call(next message.HandlerFunc, msg *message.Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	_, err = next(msg) // a function has nothing to say
	return err
}

// attempt prepares d to be handled once.
func (st *stream) attempt(d *delivered, outer context.Context) *handling {
	if st.s.decode != nil { // anew for each: the last one may have changed it
		d.decoded, d.unreadable = st.s.decode(d.msg)
	}
	return &handling{stream: st, outer: outer, deadline: time.Now().Add(st.s.settings.Timeout), d: d}
}
