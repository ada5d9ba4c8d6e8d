package router

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// inspect calls every command that the driver needs on the keys of sub with an argument
// that is not valid. Redis checks rights, slots, memory and whether it may write before
// it looks at the arguments, so nothing changes. There is never anything to try elsewhere.
func (d *redisDriver) inspect(ctx context.Context, sub *subscription) (bool, error) {
	const invalid = "no-id"
	topic, group := sub.topic, sub.group
	commands := [][]any{
		{"XLEN", topic}, // WRONGTYPE for a key of another kind
		{"XADD", topic, "0-0", "check", ""},
	}
	optional := [][]any{}
	if sub.delivery == Task {
		commands = append(commands,
			[]any{"XGROUP", "CREATE", topic, group, invalid},
			[]any{"XREADGROUP", "GROUP", group, "check", "COUNT", 1, "STREAMS", topic, invalid},
			[]any{"XAUTOCLAIM", topic, group, "check", 1, invalid},
			[]any{"XPENDING", topic, group, "-", "+", 0},
			[]any{"XCLAIM", topic, group, "check", 1, invalid},
			[]any{"XACK", topic, group, "0-0"},
		)
		optional = append(optional,
			[]any{"EVAL", "return 0", 1, topic},
			[]any{"XINFO", "GROUPS", topic},
			[]any{"XTRIM", topic, "MAXLEN", -1},
		)
	} else {
		commands = append(commands, []any{"XREAD", "COUNT", 1, "STREAMS", topic, invalid})
	}
	for _, command := range commands {
		if err := redisTry(d.rdb.Do(ctx, command...).Err()); err != nil {
			return true, fmt.Errorf("%v: %w; %s", command[0], err, redisFix(err))
		}
	}
	for _, command := range optional {
		if err := redisTry(d.rdb.Do(ctx, command...).Err()); err != nil {
			d.log.Warn("handled tasks stay in redis until its memory is full: allow the user EVAL, EVALSHA, XINFO, XPENDING, XTRIM and XGROUP", "topic", topic, "error", err)
			break
		}
	}
	return true, nil
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
