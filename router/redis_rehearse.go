package router

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// inspect has nothing to try elsewhere: permits changes nothing.
func (d *redisDriver) inspect(ctx context.Context, sub *subscription) (bool, error) {
	return true, d.permits(ctx, sub.topic, sub.delivery, sub.group)
}

// permits calls every command that the driver needs on the keys of a topic with an argument
// that is not valid. Redis checks rights, slots, memory and whether it may write before
// it looks at the arguments, so nothing changes.
func (d *redisDriver) permits(ctx context.Context, topic string, delivery Delivery, group string) error {
	const invalid = "no-id"
	commands := [][]any{
		{"XADD", topic, "0-0", "check", ""},
	}
	tidying := [][]any{}
	if delivery == Task {
		commands = append(commands,
			[]any{"XGROUP", "CREATE", topic, group, invalid}, // WRONGTYPE for a key of another kind
			[]any{"XREADGROUP", "GROUP", group, "check", "COUNT", 1, "STREAMS", topic, invalid},
			[]any{"XAUTOCLAIM", topic, group, "check", 1, invalid},
			[]any{"XPENDING", topic, group, "-", "+", 0},
			[]any{"XCLAIM", topic, group, "check", 1, invalid},
			[]any{"XACK", topic, group, "0-0"},
		)
		tidying = append(tidying,
			[]any{"EVAL", "return 0", 1, topic},
			[]any{"XLEN", topic},
			[]any{"XINFO", "GROUPS", topic},
			[]any{"XTRIM", topic, "MAXLEN", -1},
		)
	} else {
		commands = append(commands, []any{"XREAD", "COUNT", 1, "STREAMS", topic, invalid})
	}
	pipe := d.rdb.Pipeline()
	for _, command := range slices.Concat(commands, tidying) {
		pipe.Do(ctx, command...)
	}
	answers, _ := pipe.Exec(ctx) // each answer has its error
	for i, answer := range answers {
		err := redisTry(answer.Err())
		switch {
		case err == nil:
		case i < len(commands):
			return advised(fmt.Errorf("%v: %w", commands[i][0], err), "%s", redisFix(err))
		default:
			d.warnOnce.Do(func() { d.warnTidying(topic, err) })
		}
	}
	return nil
}

// redisTry returns nil if err is only about an argument, or about a stream or group that
// does not exist.
func redisTry(err error) error {
	switch {
	case err == nil || err == redis.Nil:
		return nil
	case redis.HasErrorPrefix(err, "NOGROUP"), redis.HasErrorPrefix(err, "BUSYGROUP"):
		return nil
	case strings.HasPrefix(err.Error(), "ERR ") && !strings.Contains(strings.ToLower(err.Error()), "unknown"):
		return nil
	}
	return err
}

func (d *redisDriver) remove(context.Context, *subscription) error { return nil }
