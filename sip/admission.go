package sip

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"sync"

	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// A Trunk is a set of addresses that may call us, and what we need to call
// them. Sources that no trunk lists get no byte.
type Trunk struct {
	Name  string
	Peers []netip.Prefix // may call, never challenged
	Local bool           // answers REGISTER too, without a password

	// Username and Password answer the challenges of the trunk's own addresses
	// for Realm; empty: the first realm seen is taken for the trunk's.
	Username string
	Password secret.Secret
	Realm    string

	// Proxy is a URI that requests outside a dialog go to instead of their
	// target; empty: none.
	Proxy string
	// Advertise is the address in our Via and Contact for this trunk; the zero
	// value leaves it to Config.Advertise.
	Advertise netip.Addr
}

// admission knows who may talk to us.
type admission struct {
	mu     sync.RWMutex
	trunks []Trunk
	// guests are addresses that calls of ours go to, counted: they may answer
	// and send requests within those calls.
	guests map[netip.Addr]int
	realms map[string]string // trunk name to the realm first seen
}

func (a *admission) set(trunks []Trunk) error {
	seen := make(map[string]bool)
	for _, t := range trunks {
		if t.Name == "" || seen[t.Name] {
			return fmt.Errorf("trunk %q has no name of its own: %w", t.Name, ErrInvalid)
		}
		seen[t.Name] = true
		if t.Proxy != "" {
			if _, err := outgoingURI(t.Proxy); err != nil {
				return fmt.Errorf("proxy of trunk %s: %w", t.Name, err)
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.trunks = append([]Trunk(nil), trunks...)
	if a.guests == nil {
		a.guests, a.realms = make(map[netip.Addr]int), make(map[string]string)
	}
	return nil
}

// trunk returns the trunk with the longest prefix that has the address.
func (a *admission) trunk(ip netip.Addr) *Trunk {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.find(ip)
}

func (a *admission) find(ip netip.Addr) *Trunk {
	best, bits := -1, -1
	for i := range a.trunks {
		for _, p := range a.trunks[i].Peers {
			if p.Contains(ip) && p.Bits() > bits {
				best, bits = i, p.Bits()
			}
		}
	}
	if best < 0 {
		return nil
	}
	t := a.trunks[best]
	return &t
}

func (a *admission) named(name string) *Trunk {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for i := range a.trunks {
		if a.trunks[i].Name == name {
			t := a.trunks[i]
			return &t
		}
	}
	return nil
}

// admits reports whether anything from the address is read at all.
func (a *admission) admits(ip netip.Addr) bool {
	if !ip.IsValid() {
		return false
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.guests[ip] > 0 || a.find(ip) != nil
}

func (a *admission) welcome(ip netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.guests[ip]++
}

func (a *admission) leave(ip netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.guests[ip]--; a.guests[ip] <= 0 {
		delete(a.guests, ip)
	}
}

// pinned returns the realm that the trunk's credentials are for. An empty one
// becomes the one seen now.
func (a *admission) pinned(t *Trunk, seen string) string {
	if t.Realm != "" {
		return t.Realm
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if r, ok := a.realms[t.Name]; ok {
		return r
	}
	a.realms[t.Name] = seen
	return seen
}

// admit reports whether the address is a trunk's or takes part in a call.
func (s *Server) admit(ip netip.Addr) bool { return s.admission.admits(ip) }

// full reports whether another call would exceed the limit.
func (s *Server) full() bool {
	limit := 0
	if s.config.MaxCalls != nil {
		limit = s.config.MaxCalls()
	}
	return limit > 0 && s.live.Load() >= int64(limit)
}

// admitCall takes a place for one inbound call.
func (s *Server) admitCall() bool {
	if s.draining.Load() {
		return false
	}
	limit := 0
	if s.config.MaxCalls != nil {
		limit = s.config.MaxCalls()
	}
	if n := s.live.Add(1); limit > 0 && n > int64(limit) {
		s.live.Add(-1)
		return false
	}
	return true
}

// busyHeaders spreads the attempts that follow a 503.
func busyHeaders() []Header { return []Header{{"Retry-After", strconv.Itoa(2 + spread(9))}} }

// spread returns a number from 0 to n-1, so that peers do not act in step.
func spread(n int) int { return rand.IntN(n) } //nolint:gosec // It guards nothing.
