package router

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
)

const (
	rehearseRemove = 2 * time.Second  // bound on the removal of what does not exist yet, which shows the right to
	rehearseClean  = 10 * time.Second // bound on the removal of all that a rehearsal has created
)

// Rehearse tries on the broker what Run and Publish need, and leaves nothing behind:
// objects of the installation are verified, those that are missing are tried under the
// topic <prefix>.check-<random> and removed again. It consumes no message of a
// running installation. The error holds every problem. Run must not be called as well.
// It returns a remark if something could not be tried because a running Burrow uses it.
func (r *Router) Rehearse(ctx context.Context) (remark string, err error) {
	if err := r.knowsFunctions(); err != nil {
		return "", err
	}
	if busy, ok := r.drv.(inUse); ok {
		return busy.by, nil
	}
	r.mu.Lock()
	plan := slices.Clone(r.plan)
	r.mu.Unlock()
	trial := r.cfg.TopicPrefix + ".check-" + strings.ToLower(rand.Text()[:10])
	var errs []error
	var tried []*subscription
	for _, sub := range plan {
		log := r.log.With("topic", sub.topic, "function", sub.group)
		attempt := &subscription{
			topic:    trial + strings.TrimPrefix(sub.topic, r.cfg.TopicPrefix),
			delivery: sub.delivery, group: sub.group, window: 1, gap: func() {},
		}
		created := false
		err := insist(ctx, r.drv, r.cfg.ConnectTimeout, log, func(ctx context.Context) error {
			return r.rehearse(ctx, sub, attempt, &created)
		})
		if created {
			tried = append(tried, attempt)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("router: subscribe %s to %s: %w", sub.group, sub.topic, err))
		}
		if ctx.Err() != nil || err != nil && !isPermanent(err) && !r.drv.refuses(err) {
			break // the broker is away, and the others would wait for it as well
		}
	}
	// Only now: what is created together may be more than the broker has room for.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rehearseClean)
	defer cancel()
	for _, sub := range tried {
		if err := r.drv.remove(ctx, sub); err != nil {
			errs = append(errs, fmt.Errorf("router: remove what the check has created, %s: %w", sub.topic, err))
		}
	}
	return "", errors.Join(errs...)
}

// inUse stands for an embedded broker that runs in another process.
type inUse struct {
	*memoryDriver
	by string
}

// rehearse verifies sub, or tries it as trial if the broker does not have it yet. It sets
// created before it creates anything.
func (r *Router) rehearse(ctx context.Context, sub subscription, trial *subscription, created *bool) error {
	exists, err := r.drv.inspect(ctx, &sub)
	switch {
	case err != nil:
		return err
	case exists && sub.delivery == Task:
		return nil // reading it would consume tasks
	case exists:
		sub.window, sub.gap = 1, func() {}
		src, err := r.drv.open(ctx, &sub)
		if err != nil {
			return err
		}
		return src.close(ctx, true)
	}
	// What cannot be removed is not created.
	quick, cancel := context.WithTimeout(ctx, rehearseRemove)
	err = r.drv.remove(quick, trial)
	cancel()
	switch {
	case err != nil && r.drv.refuses(err):
		return err
	case err != nil:
		r.log.Warn("not tried on the broker: this user may not remove what would be created", "topic", sub.topic, "function", sub.group, "error", err)
		return nil
	}
	*created = true
	if err := r.drv.declare(ctx, trial.topic, trial.delivery, trial.group); err != nil {
		return err
	}
	src, err := r.drv.open(ctx, trial)
	if err != nil {
		return err
	}
	err = passOne(ctx, r.drv, src, trial)
	return errors.Join(err, src.close(ctx, true))
}

// passOne publishes a message, reads it and acknowledges it.
func passOne(ctx context.Context, drv driver, src source, trial *subscription) error {
	msg := message.NewMessage(watermill.NewUUID(), nil)
	if err := drv.publish(ctx, trial.topic, trial.delivery, []*message.Message{msg}); err != nil {
		return err
	}
	for {
		ds, err := src.next(ctx, 1)
		switch {
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("a published message was not delivered: %w", err)
		case err != nil:
			return err
		case len(ds) > 0:
			return src.ack(ctx, ds)
		}
	}
}
