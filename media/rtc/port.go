package rtc

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ivrbridge/ivrbridge/media"
)

const (
	heardRing  = 128  // RTP packets that wait for the leg: what a network kept back for two seconds
	spokenRing = 32   // RTP packets that wait to be written: later than that nobody wants them
	reportRing = 8    // RTCP packets
	packetSize = 192  // bytes of a packet that there is room for without another allocation: 20 ms and a little
	packetMost = 2048 // bytes of a packet that are kept: longer than any that is for us
)

// The far end as the leg knows it: where its packets really come from is ICE's
// business, and DTLS has proven who sends them. The addresses are of a prefix
// that leads nowhere (RFC 6666).
var (
	farRTP  = netip.AddrPortFrom(netip.MustParseAddr("100::1"), 1)
	farRTCP = netip.AddrPortFrom(netip.MustParseAddr("100::1"), 2)
)

// A packet waits in a ring.
type packet struct {
	number uint64 // of its place in the ring's history
	full   bool   // nobody has taken it
	at     time.Time
	data   []byte // reused
}

// A ring hands packets from one goroutine to one other, neither of which ever
// waits for the other: the wheel is at one end of each. A place always holds a
// packet; who puts or takes one leaves its spare there. When it is full the
// oldest is dropped.
type ring struct {
	places []atomic.Pointer[packet]
	next   atomic.Uint64 // number of the next to be put

	spare *packet // of who puts
	first uint64  // number of the next to be taken
	taken *packet // of who takes: what was taken last
}

func newRing(n int) *ring {
	packets, room := make([]packet, n+2), make([]byte, (n+2)*packetSize)
	for i := range packets {
		packets[i].data = room[i*packetSize : i*packetSize : (i+1)*packetSize]
	}
	r := &ring{places: make([]atomic.Pointer[packet], n), spare: &packets[n], taken: &packets[n+1]}
	for i := range r.places {
		r.places[i].Store(&packets[i])
	}
	return r
}

// put copies a packet into the ring and reports whether another was dropped for
// it.
func (r *ring) put(b []byte, at time.Time) (dropped bool) {
	p, n := r.spare, r.next.Load()
	p.data = append(p.data[:0], b[:min(len(b), packetMost)]...)
	p.number, p.at, p.full = n, at, true
	r.spare = r.places[n%uint64(len(r.places))].Swap(p)
	r.next.Store(n + 1)
	dropped = r.spare.full
	r.spare.full = false
	return dropped
}

// take returns the oldest packet, valid until the next take, or nil.
func (r *ring) take() *packet {
	next, size := r.next.Load(), uint64(len(r.places))
	if int64(next-r.first) <= 0 {
		return nil
	}
	if next-r.first > size {
		r.first = next - size
	}
	r.taken.full = false
	p := r.places[r.first%size].Swap(r.taken)
	// Overtaken meanwhile, it is the newest; those between are dropped, which
	// whoever puts will count.
	r.first = p.number + 1
	r.taken = p
	return p
}

// A port is a [media.Port] between a leg and a peer connection.
type port struct {
	far     netip.AddrPort
	in, out *ring
	bell    chan struct{} // rung when something is to be written
	late    prometheus.Counter
	stamp   time.Time
	closed  func()
}

// Recv implements [media.Port].
func (p *port) Recv(b []byte) (int, netip.AddrPort, error) {
	got := p.in.take()
	if got == nil {
		return 0, netip.AddrPort{}, media.ErrWouldBlock
	}
	p.stamp = got.at
	return copy(b, got.data), p.far, nil
}

// Stamp is when the packet came that Recv returned last.
func (p *port) Stamp() (time.Time, bool) { return p.stamp, !p.stamp.IsZero() }

// Send implements [media.Port].
func (p *port) Send(b []byte, _ netip.AddrPort) error {
	if p.out.put(b, time.Time{}) {
		p.late.Inc()
	}
	select {
	case p.bell <- struct{}{}:
	default:
	}
	return nil
}

// Connect implements [media.Port]: there is one peer in any case.
func (p *port) Connect(netip.AddrPort) error { return nil }

// LocalPort implements [media.Port]: there is none of the leg's own.
func (p *port) LocalPort() uint16 { return 0 }

// Close implements [media.Port].
func (p *port) Close() error {
	p.closed()
	return nil
}
