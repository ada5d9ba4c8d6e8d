package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// stopGrace is how long a part may take to return once shutdown.timeout has passed and
// its context has ended. After it the process exits without that part.
const stopGrace = time.Second

// parts owns what a node has opened and runs. It reports the first part that ends
// unasked, and stops all of them in reverse order. Its methods may be called at the
// same time.
type parts struct {
	// replace, if set, is called with every part that is added, for tests.
	replace func(part) part

	failed context.Context // ends when a part ends before stop was called
	fail   context.CancelFunc

	mu       sync.Mutex
	list     []*part
	stopping bool
	causes   []error // of the parts that ended unasked
}

// part is something that has to be stopped.
type part struct {
	name string
	// run works until stop is called, which is no error, or ctx ends. A nil run means
	// that only stop is to be called.
	run func(ctx context.Context) error
	// stop asks run to return. Its error is reported.
	stop func(ctx context.Context) error

	ended  chan struct{} // closed when run has returned and err is set
	err    error
	cancel context.CancelFunc // ends the context of run
}

func newParts(replace func(part) part) *parts {
	p := &parts{replace: replace}
	p.failed, p.fail = context.WithCancel(context.Background())
	return p
}

// add starts a part. A part that is added after stop does not run.
func (p *parts) add(name string, run, stop func(context.Context) error) {
	one := &part{name: name, run: run, stop: stop}
	if p.replace != nil {
		*one = p.replace(*one)
	}
	one.ended = make(chan struct{})
	var work context.Context
	work, one.cancel = context.WithCancel(context.Background()) // a signal asks a part to stop; it does not cut its work off
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		one.cancel()
		return
	}
	p.list = append(p.list, one)
	if one.run == nil {
		close(one.ended)
		return
	}
	ended := launch(func() error { return one.run(work) })
	go func() { p.end(one, <-ended) }() // ends with the part
}

// end notes how a part has ended.
func (p *parts) end(one *part, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer close(one.ended)
	switch {
	case !p.stopping && err == nil:
		p.causes = append(p.causes, fmt.Errorf("%s ended before it was asked to", one.name))
		p.fail()
	case !p.stopping:
		p.causes = append(p.causes, fmt.Errorf("%s failed: %w", one.name, err))
		p.fail()
	case err != nil && !errors.Is(err, context.Canceled):
		one.err = fmt.Errorf("%s failed while stopping: %w", one.name, err)
	}
}

// stop stops every part, the last one first, and returns what went wrong: first the
// failures from before the stop. Each part has until ctx ends; then its context ends
// too, and after stopGrace it is left behind.
func (p *parts) stop(ctx context.Context) error {
	p.mu.Lock()
	p.stopping = true
	errs := slices.Clone(p.causes)
	list := p.list
	p.mu.Unlock()
	p.fail()
	for _, one := range slices.Backward(list) {
		release := context.AfterFunc(ctx, one.cancel)
		err, returned := await(ctx, stopGrace, launch(func() error {
			err := one.stop(ctx)
			<-one.ended
			return errors.Join(err, one.err)
		}))
		release()
		one.cancel()
		if !returned {
			err = fmt.Errorf("%s did not stop within shutdown.timeout", one.name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// launch runs fn in a goroutine and delivers its result. A panic is an error: it must
// not end the process with the exit code of a wrong setting.
func launch(fn func() error) <-chan error {
	ended := make(chan error, 1)
	go func() {
		err := errors.New("its goroutine exited (runtime.Goexit)")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
			ended <- err
		}()
		err = fn()
	}()
	return ended
}

// await returns what launch delivers, or false if nothing comes until grace after ctx
// has ended.
func await(ctx context.Context, grace time.Duration, ended <-chan error) (err error, returned bool) {
	select {
	case err := <-ended:
		return err, true
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err, true
	case <-timer.C:
		return nil, false
	}
}
