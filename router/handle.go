package router

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// lanes is how many messages of one subscription are handled at the same time.
const lanes = 16

var functionName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// Topic returns the topic of m: the prefix, a dot and the protobuf full name.
func Topic(prefix string, m proto.Message) string {
	return prefix + "." + string(m.ProtoReflect().Descriptor().FullName())
}

// DeliveryOf returns how m is delivered: as a task if its package has an element
// "tasks", as an event otherwise.
func DeliveryOf(m proto.Message) Delivery {
	return deliveryOf(m.ProtoReflect().Descriptor())
}

func deliveryOf(d protoreflect.MessageDescriptor) Delivery {
	if slices.Contains(strings.Split(string(d.ParentFile().Package()), "."), "tasks") {
		return Task
	}
	return Event
}

// Handle subscribes fn to the topic of M: one process runs it if M is a task,
// every node otherwise. For tasks the name is the consumer group, so renaming a
// function is a migration. One name may handle several types, each once.
//
// fn returns nil when done, an error to be tried again, and an error with a method
// Permanent() bool that returns true to give up at once. Messages with the same
// routing key come one after the other; a message that failed may come late. fn
// must be idempotent, and its context ends with the time for one attempt.
func Handle[M proto.Message](r *Router, name string, fn func(context.Context, M) error) error {
	var zero M
	desc := zero.ProtoReflect().Descriptor()
	if !functionName.MatchString(name) {
		return fmt.Errorf("router: function name %q: use lower-case letters, digits and single dashes", name)
	}
	typ := zero.ProtoReflect().Type()
	return r.handle(name, desc, func(ctx context.Context, msg *message.Message) error {
		if reason := msg.Metadata.Get(metaPoison); reason != "" {
			return permanentError{fmt.Errorf("unreadable message: %s", reason)}
		}
		m := typ.New().Interface()
		if err := proto.Unmarshal(msg.Payload, m); err != nil {
			return permanentError{fmt.Errorf("not a %s: %w", desc.FullName(), err)}
		}
		if err := r.validate.Validate(m); err != nil {
			return permanentError{fmt.Errorf("not a valid %s: %w", desc.FullName(), err)}
		}
		return fn(ctx, m.(M))
	})
}

func (r *Router) handle(name string, desc protoreflect.MessageDescriptor, fn func(context.Context, *message.Message) error) error {
	topic := r.cfg.TopicPrefix + "." + string(desc.FullName())
	delivery := deliveryOf(desc)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running {
		return fmt.Errorf("router: function %s: Handle comes before Run", name)
	}
	key := name + " on " + topic
	if _, twice := r.subs[key]; twice {
		return fmt.Errorf("router: function %s handles %s already", name, desc.FullName())
	}
	r.functions = append(r.functions, name)
	if r.cfg.Functions != nil && !slices.Contains(r.cfg.Functions, name) {
		if delivery == Task {
			r.declare = append(r.declare, subscription{topic: topic, delivery: delivery, group: name})
		}
		return nil
	}
	s := newSubscriber(r.drv, delivery, name, lanes, r.abandoned, r.log, r.metrics)
	r.subs[key] = s
	r.wm.AddConsumerHandler(key, topic, s, func(msg *message.Message) error {
		return fn(msg.Context(), msg)
	}).AddMiddleware(r.chain(topic, name)...)
	return nil
}

// permanentError gives up on a message at once.
type permanentError struct{ error }

func (permanentError) Permanent() bool { return true }
func (e permanentError) Unwrap() error { return e.error }

// isPermanent finds the mark of any package by its method.
func isPermanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}
