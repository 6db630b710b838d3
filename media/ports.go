package media

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

var (
	// ErrNoPorts is returned by [Ports] when each pair is in use or in quarantine.
	ErrNoPorts = errors.New("media: no free rtp ports")
	// ErrWouldBlock is returned by [Port] when there is nothing to receive, or no
	// room to send.
	ErrWouldBlock = errors.New("media: would block")
)

// A Port is a datagram socket that never waits. One goroutine at a time uses it:
// the wheel's, once a leg has it.
type Port interface {
	// Recv takes the next datagram. Without one it returns [ErrWouldBlock] at
	// once; any other error is about an earlier datagram (ICMP), and Recv may be
	// called again. A datagram longer than p is cut.
	Recv(p []byte) (n int, from netip.AddrPort, err error)
	// Send sends p. While the port is connected, to is not looked at.
	Send(p []byte, to netip.AddrPort) error
	// Connect restricts the port to one peer, which makes sending cheaper; the
	// zero AddrPort lifts that.
	Connect(to netip.AddrPort) error
	// LocalPort is the number of the port.
	LocalPort() uint16
	// Close gives the port back. Nothing else may be called after it.
	Close() error
}

// A stamper is a Port that knows when the datagram arrived that Recv returned
// last: the kernel's clock instead of the next slot's.
type stamper interface{ Stamp() (time.Time, bool) }

// Ports hands out pairs of ports. It is safe for concurrent use.
type Ports interface {
	// Open opens an even port for RTP and the next one for RTCP (RFC 3550
	// section 11). It fails with [ErrNoPorts], or with the system's error.
	Open() (rtp, rtcp Port, err error)
	// Free is how many pairs could be opened now.
	Free() int
}

// A PortRange is a range of port numbers at one address. Pairs are given out in
// turn from a random start; a pair that was closed stays bound in quarantine
// until no packet has come for a while, so that the stream of an old call never
// reaches a new one.
type PortRange struct {
	addr       netip.Addr
	lo         uint16
	quarantine time.Duration
	bind       func(netip.AddrPort) (Port, error)

	mu      sync.Mutex
	taken   []bool // by pair: open or resting
	free    int
	next    int
	resting []*pair
	sweeper *time.Timer // runs while pairs rest
	closed  bool
}

// A pair is what Open gave out.
type pair struct {
	index     int
	rtp, rtcp Port
	open      int // ports of the pair that are not closed yet
	since     time.Time
	heard     time.Time // when the last packet was drained
}

const (
	maxSweep      = time.Second
	quarantineMax = 20 // quarantines that a pair rests at most while packets come
	drainPerSweep = 512
)

func newPortRange(addr netip.Addr, lo, hi uint16, quarantine time.Duration, bind func(netip.AddrPort) (Port, error)) *PortRange {
	first, last := int(lo)+int(lo&1), int(hi)
	n := max((last-first+1)/2, 0)
	r := &PortRange{addr: addr, lo: uint16(first), quarantine: quarantine, bind: bind, taken: make([]bool, n), free: n}
	if n > 0 {
		r.next = rand.IntN(n) //nolint:gosec // who may speak to a port is decided elsewhere
	}
	return r
}

// Open opens the next free pair. It fails with [ErrNoPorts] when there is none,
// or with the system's error (no descriptors, not our address).
func (r *PortRange) Open() (rtp, rtcp Port, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, fmt.Errorf("open rtp port: %w", ErrClosed)
	}
	for range r.taken {
		i := r.next
		r.next = (r.next + 1) % len(r.taken)
		if r.taken[i] {
			continue
		}
		p, err := r.open(i)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue // someone else's
		}
		if err != nil {
			return nil, nil, err
		}
		r.taken[i] = true
		r.free--
		return &leased{Port: p.rtp, from: r, pair: p}, &leased{Port: p.rtcp, from: r, pair: p}, nil
	}
	return nil, nil, ErrNoPorts
}

func (r *PortRange) open(i int) (*pair, error) {
	number := r.lo + uint16(2*i)
	rtp, err := r.bind(netip.AddrPortFrom(r.addr, number))
	if err != nil {
		return nil, fmt.Errorf("open rtp port %d: %w", number, err)
	}
	rtcp, err := r.bind(netip.AddrPortFrom(r.addr, number+1))
	if err != nil {
		_ = rtp.Close()
		return nil, fmt.Errorf("open rtcp port %d: %w", number+1, err)
	}
	return &pair{index: i, rtp: rtp, rtcp: rtcp, open: 2}, nil
}

// Free is how many pairs are neither open nor in quarantine.
func (r *PortRange) Free() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.free
}

// Used is how many pairs are open or in quarantine.
func (r *PortRange) Used() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.taken) - r.free
}

// Close ends all quarantines and lets no more ports be opened. Pairs that are
// open stay so until they are closed themselves.
func (r *PortRange) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.sweeper != nil {
		r.sweeper.Stop()
	}
	var errs []error
	for _, p := range r.resting {
		errs = append(errs, r.release(p))
	}
	r.resting = nil
	return errors.Join(errs...)
}

// rest puts a pair into quarantine. Called with mu held.
func (r *PortRange) rest(p *pair) error {
	if r.quarantine <= 0 || r.closed {
		return r.release(p)
	}
	for _, port := range [...]Port{p.rtp, p.rtcp} {
		_ = port.Connect(netip.AddrPort{}) // strays come from anywhere
	}
	p.since = time.Now()
	p.heard = p.since
	r.resting = append(r.resting, p)
	if len(r.resting) == 1 {
		r.sweeper = time.AfterFunc(r.pause(), r.sweep)
	}
	return nil
}

// release closes the sockets of a pair. Called with mu held.
func (r *PortRange) release(p *pair) error {
	r.taken[p.index] = false
	r.free++
	return errors.Join(p.rtp.Close(), p.rtcp.Close())
}

func (r *PortRange) pause() time.Duration {
	return min(maxSweep, max(r.quarantine/4, time.Millisecond))
}

// sweep drains the ports in quarantine and ends those that are over.
func (r *PortRange) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	now := time.Now()
	kept := r.resting[:0]
	for _, p := range r.resting {
		if drain(p.rtp)+drain(p.rtcp) > 0 {
			p.heard = now
		}
		if now.Sub(p.heard) >= r.quarantine || now.Sub(p.since) >= quarantineMax*r.quarantine {
			_ = r.release(p)
			continue
		}
		kept = append(kept, p)
	}
	clear(r.resting[len(kept):])
	r.resting = kept
	if len(kept) > 0 {
		r.sweeper.Reset(r.pause())
	}
}

// drain discards what waits in p and returns how much it was.
func drain(p Port) int {
	var waste [64]byte
	got := 0
	for range drainPerSweep {
		_, _, err := p.Recv(waste[:])
		if errors.Is(err, ErrWouldBlock) {
			break
		}
		if err == nil {
			got++
		}
	}
	return got
}

// A leased port goes to quarantine with its sibling when both are closed.
type leased struct {
	Port
	from *PortRange
	pair *pair
	once sync.Once
}

// Stamp is that of the port below.
func (l *leased) Stamp() (time.Time, bool) {
	if s, ok := l.Port.(stamper); ok {
		return s.Stamp()
	}
	return time.Time{}, false
}

// Close gives the port back to its range.
func (l *leased) Close() error {
	var err error
	l.once.Do(func() {
		l.from.mu.Lock()
		defer l.from.mu.Unlock()
		if l.pair.open--; l.pair.open == 0 {
			err = l.from.rest(l.pair)
		}
	})
	return err
}
