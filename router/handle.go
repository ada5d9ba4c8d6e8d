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
	"google.golang.org/protobuf/reflect/protoregistry"
)

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
// fn returns nil when done, an error to be tried again, an error with a method
// Permanent() bool that returns true to give up at once, and one with a method
// Unavailable() bool that returns true to be retried without a bound. Messages with the same
// routing key come one after the other; a message that failed may come late. fn
// must be idempotent, and its context ends with the time for one attempt.
func Handle[M proto.Message](r *Router, name string, fn func(context.Context, M) error) error {
	var zero M
	if !functionName.MatchString(name) {
		return fmt.Errorf("router: function name %q: use lower-case letters, digits and single dashes", name)
	}
	typ := zero.ProtoReflect().Type()
	return r.handle(name, typ, func(ctx context.Context, m proto.Message) error { return fn(ctx, m.(M)) })
}

// HandleMatching is Handle for every message type known to the program whose full
// name matches pattern, as subjects do in NATS: "*" stands for one element, and
// ">" at the end for one or more ("chat.*", "tasks.>", ">"). Known are the types
// of all packages that are linked in, but for those of protobuf itself and of
// buf. It is an error if none matches.
func HandleMatching(r *Router, name, pattern string, fn func(context.Context, proto.Message) error) error {
	if !functionName.MatchString(name) {
		return fmt.Errorf("router: function name %q: use lower-case letters, digits and single dashes", name)
	}
	elements := strings.Split(pattern, ".")
	for i, e := range elements {
		if e == "" || e == ">" && i < len(elements)-1 || e != "*" && e != ">" && strings.ContainsAny(e, "*>") {
			return fmt.Errorf("router: function %s: pattern %q: want elements of a protobuf name, * for one, > at the end for all that follow", name, pattern)
		}
	}
	var types []protoreflect.MessageType
	protoregistry.GlobalTypes.RangeMessages(func(typ protoreflect.MessageType) bool {
		desc := typ.Descriptor()
		full := string(desc.FullName())
		_, topLevel := desc.Parent().(protoreflect.FileDescriptor)
		if topLevel && !strings.HasPrefix(full, "google.") && !strings.HasPrefix(full, "buf.") && matches(elements, strings.Split(full, ".")) {
			types = append(types, typ)
		}
		return true
	})
	if len(types) == 0 {
		return fmt.Errorf("router: function %s: no message type matches %q", name, pattern)
	}
	slices.SortFunc(types, func(a, b protoreflect.MessageType) int {
		return strings.Compare(string(a.Descriptor().FullName()), string(b.Descriptor().FullName()))
	})
	for _, typ := range types {
		if err := r.handle(name, typ, fn); err != nil {
			return err
		}
	}
	return nil
}

func matches(pattern, name []string) bool {
	for i, e := range pattern {
		switch {
		case i == len(name):
			return false
		case e == ">":
			return true
		case e != "*" && e != name[i]:
			return false
		}
	}
	return len(pattern) == len(name)
}

// decode returns the message in payload. Its errors are permanent.
func (r *Router) decode(typ protoreflect.MessageType, payload []byte) (m proto.Message, err error) {
	defer func() {
		if p := recover(); p != nil { // the libraries should not; the bytes are anybody's
			m, err = nil, permanentError{fmt.Errorf("not a %s: %v", typ.Descriptor().FullName(), p)}
		}
	}()
	m = typ.New().Interface()
	if err := proto.Unmarshal(payload, m); err != nil {
		return nil, permanentError{fmt.Errorf("not a %s: %w", typ.Descriptor().FullName(), err)}
	}
	if err := r.validate.Validate(m); err != nil {
		return nil, permanentError{fmt.Errorf("not a valid %s: %w", typ.Descriptor().FullName(), err)}
	}
	return m, nil
}

func (r *Router) handle(name string, typ protoreflect.MessageType, fn func(context.Context, proto.Message) error) error {
	desc := typ.Descriptor()
	topic := r.cfg.TopicPrefix + "." + string(desc.FullName())
	delivery := deliveryOf(desc)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running {
		return fmt.Errorf("router: function %s: Handle comes before Run", name)
	}
	key := name + " on " + topic
	if _, twice := r.known[key]; twice {
		return fmt.Errorf("router: function %s handles %s already", name, desc.FullName())
	}
	r.known[key] = typ
	r.functions = append(r.functions, name)
	sub := subscription{topic: topic, delivery: delivery, group: name}
	if r.cfg.Functions != nil && !slices.Contains(r.cfg.Functions, name) {
		if delivery == Task {
			r.declare = append(r.declare, sub)
			r.plan = append(r.plan, sub)
		}
		return nil
	}
	r.plan = append(r.plan, sub)
	settings := r.cfg.Function[name].orDefault()
	s := newSubscriber(r.drv, delivery, name, settings, r.abandoned, r.log, r.metrics)
	s.patience = r.cfg.ConnectTimeout
	s.onGap = r.cfg.OnGap
	s.decode = func(msg *message.Message) (proto.Message, error) {
		if reason := msg.Metadata.Get(metaPoison); reason != "" {
			return nil, permanentError{fmt.Errorf("unreadable message: %s", reason)}
		}
		return r.decode(typ, msg.Payload)
	}
	r.subs[key] = s
	r.wm.AddConsumerHandler(key, topic, s, func(msg *message.Message) error {
		ctx := msg.Context()
		d := handlingOf(ctx).delivered()
		if d.unreadable != nil {
			return d.unreadable
		}
		return fn(ctx, d.decoded)
	}).AddMiddleware(r.chain(topic, name, settings)...)
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

// isUnavailable finds the mark of any package by its method.
func isUnavailable(err error) bool {
	var u interface{ Unavailable() bool }
	return errors.As(err, &u) && u.Unavailable()
}
