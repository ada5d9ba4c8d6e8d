package dlq

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Types knows which message a topic carries: any that is linked into the program.
type Types struct {
	prefix   string
	validate protovalidate.Validator
}

// NewTypes returns the types of the topics that start with prefix, which is
// broker.topic_prefix.
func NewTypes(prefix string) (*Types, error) {
	v, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("dlq: validator: %w", err)
	}
	return &Types{prefix, v}, nil
}

// find returns the type of topic, or nil for one of somebody else.
func (t *Types) find(topic string) protoreflect.MessageType {
	name, ours := strings.CutPrefix(topic, t.prefix+".")
	if !ours {
		return nil
	}
	typ, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		return nil
	}
	return typ
}

// Check returns nil if payload is a message of topic that keeps the rules of its
// schema, else ErrRefused with the reason.
func (t *Types) Check(topic string, payload []byte) error {
	_, err := t.decode(topic, payload)
	return err
}

// decode returns the message, as far as it can be read, with the error of Check.
func (t *Types) decode(topic string, payload []byte) (proto.Message, error) {
	typ := t.find(topic)
	if typ == nil {
		return nil, fmt.Errorf("%w: this program knows no topic %q (broker.topic_prefix is %q)", ErrRefused, topic, t.prefix)
	}
	name := typ.Descriptor().FullName()
	m := typ.New().Interface()
	if err := proto.Unmarshal(payload, m); err != nil {
		return nil, fmt.Errorf("%w: it is not a %s: %w", ErrRefused, name, err)
	}
	if err := t.validate.Validate(m); err != nil {
		return m, fmt.Errorf("%w: it is not a valid %s: %w", ErrRefused, name, err)
	}
	return m, nil
}

// toJSON returns m as protobuf's JSON, in one line, the same every time.
func toJSON(m proto.Message) (json.RawMessage, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer // protojson varies its spaces on purpose
	if err := json.Compact(&b, text); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
