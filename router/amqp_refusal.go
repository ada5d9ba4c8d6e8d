package router

import (
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// amqpText returns the text of RabbitMQ's answer in err, or "".
func amqpText(err error) string {
	var e *amqp.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// amqpExplain adds the fix to err, the answer about an exchange or a queue. One code has
// many causes: the text decides.
func amqpExplain(what string, err error) error {
	code, text := amqpCode(err), amqpText(err)
	has := func(part string) bool { return strings.Contains(text, part) }
	err = fmt.Errorf("%s: %w", what, err)
	switch {
	case has("queue limit"):
		return advised(err, "raise max-queues of the vhost (rabbitmqctl set_vhost_limits), or use another vhost in broker.amqp.url")
	case has("limit"):
		return advised(err, "raise that limit of the vhost, the user or the server")
	case has("inequivalent arg"):
		return advised(err, "it is on RabbitMQ with other settings: delete it there, or choose another broker.topic_prefix")
	case code == amqp.ResourceLocked:
		return advised(err, "a connection of another program owns it: stop that program, or choose another broker.topic_prefix")
	case code == amqp.AccessRefused && has("reserved"), code == amqp.AccessRefused && has("prefix"):
		return advised(err, "choose another broker.topic_prefix")
	case code == amqp.AccessRefused:
		return advised(err, "the user in broker.amqp.url needs the permissions configure, write and read for names with broker.topic_prefix, and write for amq.default")
	case code == amqp.NotImplemented, has("feature flag"):
		return advised(err, "enable it on the server (rabbitmqctl enable_feature_flag all), or run RabbitMQ 3.10 or later")
	}
	return err
}

// amqpLoginFix returns the fix for a connection that RabbitMQ refused, or ended with the
// code of a refusal.
func amqpLoginFix(err error, uri amqp.URI) string {
	text := amqpText(err)
	has := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case has("channel_max"):
		return "raise channel_max in the configuration of RabbitMQ: each function of a node needs several channels"
	case has("channels opened"):
		return fmt.Sprintf("raise max-channels of user %q (rabbitmqctl set_user_limits): all nodes count together, each with several for a function", uri.Username)
	case has("user connection limit"):
		return fmt.Sprintf("raise max-connections of user %q (rabbitmqctl set_user_limits): each node needs two", uri.Username)
	case has("limit"):
		return fmt.Sprintf("raise max-connections of vhost %q (rabbitmqctl set_vhost_limits): each node needs two", uri.Vhost)
	case has("not found"):
		return fmt.Sprintf("vhost %q does not exist: create it (rabbitmqctl add_vhost), or correct broker.amqp.url", uri.Vhost)
	case has("is down"):
		return fmt.Sprintf("vhost %q is down: see the log of RabbitMQ (rabbitmqctl restart_vhost)", uri.Vhost)
	case has("loopback"):
		return fmt.Sprintf("user %q may only connect from the host of RabbitMQ: create another user, and correct broker.amqp.url", uri.Username)
	case has("vhost"):
		return fmt.Sprintf("give user %q permissions in vhost %q (rabbitmqctl set_permissions), or correct broker.amqp.url", uri.Username, uri.Vhost)
	case has("SASL"), has("mechanism") && !has("Login was refused"):
		return "allow the mechanism PLAIN on the server, or correct broker.amqp.url"
	case amqpCode(err) == amqp.NotAllowed:
		return "see the log of RabbitMQ"
	}
	return fmt.Sprintf("correct broker.amqp.url: unknown user %q or wrong password", uri.Username)
}
