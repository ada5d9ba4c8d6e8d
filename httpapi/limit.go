package httpapi

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxLimitedHosts bounds for how many addresses a limit is kept.
const maxLimitedHosts = 4096

// hostLimiter bounds how often one address may do something: burst times at once, and perSecond for
// long.
type hostLimiter struct {
	perSecond float64
	burst     int

	mu    sync.Mutex
	hosts map[netip.Prefix]*rate.Limiter
}

// newHostLimiter returns nil, which has no limit, if perSecond is 0.
func newHostLimiter(perSecond float64, burst int) *hostLimiter {
	if perSecond <= 0 {
		return nil
	}
	return &hostLimiter{perSecond: perSecond, burst: burst, hosts: make(map[netip.Prefix]*rate.Limiter)}
}

// take lets ip do it once, or returns how long until it may. A nil limiter has no limit.
func (l *hostLimiter) take(ip string, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.host(ip, now).ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// charge counts n more times that have happened already. The debt of an address is one burst at most.
func (l *hostLimiter) charge(ip string, n int, now time.Time) {
	if l == nil || n <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	host := l.host(ip, now)
	if room := int(host.TokensAt(now)) + l.burst; room > 0 {
		host.ReserveN(now, min(n, room, l.burst))
	}
}

// host returns what ip has left. The caller holds the lock.
func (l *hostLimiter) host(ip string, now time.Time) *rate.Limiter {
	key := hostPrefix(ip)
	host, ok := l.hosts[key]
	if !ok {
		if len(l.hosts) >= maxLimitedHosts {
			l.evict(now)
		}
		host = rate.NewLimiter(rate.Limit(l.perSecond), l.burst)
		l.hosts[key] = host
	}
	return host
}

// wait returns what take would, and takes nothing.
func (l *hostLimiter) wait(ip string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	host, ok := l.hosts[hostPrefix(ip)]
	if !ok {
		return 0
	}
	missing := 1 - host.TokensAt(now)
	return max(0, time.Duration(missing/l.perSecond*float64(time.Second)))
}

// evict makes room. It looks at a few addresses (Go's maps begin anywhere), forgets those that have
// no debt, and if all have, the one with the least: a flood of addresses costs little, and does not
// clear those that do it too often.
func (l *hostLimiter) evict(now time.Time) {
	const few = 32
	var least netip.Prefix
	most, looked := -1.0, 0
	for key, host := range l.hosts {
		if looked++; looked > few {
			break
		}
		tokens := host.TokensAt(now)
		if tokens >= float64(l.burst) {
			delete(l.hosts, key)
		} else if tokens > most {
			least, most = key, tokens
		}
	}
	if len(l.hosts) >= maxLimitedHosts {
		delete(l.hosts, least)
	}
}

// hostPrefix returns what is limited: an IPv4 address, or the /64 that one IPv6 host usually has.
func hostPrefix(ip string) netip.Prefix {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Prefix{}
	}
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits) // No error: bits fit.
	return prefix
}
