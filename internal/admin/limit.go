package admin

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxAddresses bounds the addresses that a limit remembers. Whoever has more of
// them than that is not to be held by limits per address.
const maxAddresses = 8192

// A limit is a budget for each address. Its methods may be called from any
// goroutine.
type limit struct {
	per   rate.Limit
	burst int

	mu     sync.Mutex
	byAddr map[netip.Prefix]*list.Element
	order  *list.List // of *spender, the latest first
}

type spender struct {
	addr netip.Prefix
	left *rate.Limiter
}

func newLimit(every time.Duration, burst int) *limit {
	return &limit{per: rate.Every(every), burst: burst, byAddr: map[netip.Prefix]*list.Element{}, order: list.New()}
}

// take spends one unit of an address's budget. When nothing is left it returns
// how long that lasts.
func (l *limit) take(addr netip.Addr) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.of(network(addr)).Reserve()
	if wait := r.Delay(); wait > 0 {
		r.Cancel()
		return wait, false
	}
	return 0, true
}

func (l *limit) of(addr netip.Prefix) *rate.Limiter {
	if e, ok := l.byAddr[addr]; ok {
		l.order.MoveToFront(e)
		return e.Value.(*spender).left //nolint:forcetypeassert // nothing else is in it
	}
	if l.order.Len() >= maxAddresses {
		oldest := l.order.Remove(l.order.Back()).(*spender) //nolint:forcetypeassert // nothing else is in it
		delete(l.byAddr, oldest.addr)
	}
	s := &spender{addr, rate.NewLimiter(l.per, l.burst)}
	l.byAddr[addr] = l.order.PushFront(s)
	return s.left
}

// network is what counts as one address: of IPv6 a customer has at least a /64.
func network(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // an invalid address has the zero prefix
	return p
}
