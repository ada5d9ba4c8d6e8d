package router

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// redisPrefixes are answers that an operator can change while the client waits.
var redisPrefixes = []string{"READONLY", "NOREPLICAS", "MISCONF", "OOM", "BUSY "}

// redisTemporary tells if the same command may succeed later without a change of the
// configuration.
func redisTemporary(err error) bool {
	for _, prefix := range redisPrefixes {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return redisStarting(err)
}

// redisFix returns what a person can do about err, by the code that its text begins with.
func redisFix(err error) string {
	for _, one := range []struct{ prefix, fix string }{
		{"WRONGPASS", "correct user and password in broker.redis.url"},
		{"NOAUTH", "write user and password in broker.redis.url"},
		{"AUTH", "the server has no password for that user: correct user and password in broker.redis.url"},
		{"Client sent AUTH", "the server has no password: remove it from broker.redis.url"},
		{"NOPERM", "allow the user of broker.redis.url all commands of docs/operations.md on keys with broker.topic_prefix (ACL SETUSER)"},
		{"DB index", "correct the database number in broker.redis.url"},
		{"invalid DB", "correct the database number in broker.redis.url"},
		{"SELECT is not allowed", "the server has database 0 only: correct the number in broker.redis.url"},
		{"MOVED", "the server is part of a Redis Cluster, which is not supported: name a single server in broker.redis.url"},
		{"CROSSSLOT", "the server is part of a Redis Cluster, which is not supported: name a single server in broker.redis.url"},
		{"CLUSTERDOWN", "the server is part of a Redis Cluster, which is not supported: name a single server in broker.redis.url"},
		{"READONLY", "the server is a replica: make it a primary (REPLICAOF NO ONE), or name the primary in broker.redis.url"},
		{"MASTERDOWN", "the server is a replica without its primary: start that, or name the primary in broker.redis.url"},
		{"LOADING", "the server reads its data: wait, or raise broker.connect_timeout"},
		{"MISCONF", "the server cannot write its files: see its log and the space on its disk"},
		{"OOM", "the memory of the server is full: raise its maxmemory"},
		{"NOREPLICAS", "too few replicas are online: start them, or lower min-replicas-to-write"},
		{"WRONGTYPE", "another program uses that key: choose another broker.topic_prefix"},
		{"unknown command", "the server does not know that command: run Redis 6.2 or later, without rename-command"},
		{"max number of clients", "raise maxclients of the server"},
		{"DENIED", "the server is in protected mode: set a password there, and write it in broker.redis.url"},
	} {
		if redis.HasErrorPrefix(err, one.prefix) {
			return one.fix
		}
	}
	if _, answered := errors.AsType[redis.Error](err); answered {
		return "correct broker.redis.url, or the settings of the server"
	}
	return dialFix(err, "broker.redis.url")
}

// checkSettings warns of settings of the server that lose tasks, once for each value. Not
// every server lets a client read them.
func (d *redisDriver) checkSettings(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	for _, setting := range []struct {
		name, right, harm string
		except            bool // every value but right is unsafe; else only "no"
	}{
		{"appendonly", "yes", "tasks are lost when the server stops", false},
		{"maxmemory-policy", "noeviction", "tasks are evicted when the memory of the server is full", true},
	} {
		got, err := d.rdb.ConfigGet(ctx, setting.name).Result()
		if err != nil {
			return
		}
		value := got[setting.name]
		unsafe := value == "no" || setting.except && value != "" && value != setting.right
		switch {
		case unsafe && d.warned[setting.name] != value:
			d.log.Warn("redis is not safe for tasks: "+setting.harm+"; set "+setting.name+" "+setting.right, setting.name, value)
			d.warned[setting.name] = value
		case !unsafe && value != "" && d.warned[setting.name] != "":
			d.log.Info("redis is safe for tasks again", setting.name, value)
			delete(d.warned, setting.name)
		}
	}
}
