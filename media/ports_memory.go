package media

import (
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// A MemoryNetwork carries datagrams between ports of one process, at once and
// without loss. It serves tests; inside a testing/synctest bubble their times
// are exact. It is safe for concurrent use.
type MemoryNetwork struct {
	mu    sync.Mutex
	ports map[netip.AddrPort]*memoryPort
}

// NewMemoryNetwork makes a network without ports.
func NewMemoryNetwork() *MemoryNetwork {
	return &MemoryNetwork{ports: make(map[netip.AddrPort]*memoryPort)}
}

// MemoryPorts is [UDPPorts] on a network in memory.
func MemoryPorts(n *MemoryNetwork, addr netip.Addr, lo, hi uint16, quarantine time.Duration) *PortRange {
	return newPortRange(addr, lo, hi, quarantine, n.Listen)
}

// Listen opens the port at. It fails with EADDRINUSE where there is one.
func (n *MemoryNetwork) Listen(at netip.AddrPort) (Port, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ports[at] != nil {
		return nil, fmt.Errorf("listen on %s: %w", at, syscall.EADDRINUSE)
	}
	p := &memoryPort{net: n, at: at}
	n.ports[at] = p
	return p, nil
}

// memoryQueue is how many datagrams wait at most, as in a socket's buffer.
const memoryQueue = 256

type memoryPort struct {
	net *MemoryNetwork
	at  netip.AddrPort

	// Guarded by net.mu.
	peer    netip.AddrPort // connected to
	queue   [memoryQueue]memoryPacket
	head    int
	waiting int
	stamp   time.Time
}

type memoryPacket struct {
	from netip.AddrPort
	at   time.Time
	data []byte // reused
}

// Recv implements [Port].
func (p *memoryPort) Recv(b []byte) (int, netip.AddrPort, error) {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	if p.waiting == 0 {
		return 0, netip.AddrPort{}, ErrWouldBlock
	}
	q := &p.queue[p.head]
	p.head = (p.head + 1) % memoryQueue
	p.waiting--
	p.stamp = q.at
	return copy(b, q.data), q.from, nil
}

// Stamp implements stamper.
func (p *memoryPort) Stamp() (time.Time, bool) {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	return p.stamp, !p.stamp.IsZero()
}

// Send implements [Port]. What nobody listens to is lost.
func (p *memoryPort) Send(b []byte, to netip.AddrPort) error {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	if p.peer.IsValid() {
		to = p.peer
	}
	far := p.net.ports[to]
	if far == nil || far.waiting == memoryQueue || far.peer.IsValid() && far.peer != p.at {
		return nil
	}
	q := &far.queue[(far.head+far.waiting)%memoryQueue]
	q.from, q.at = p.at, time.Now()
	q.data = append(q.data[:0], b...)
	far.waiting++
	return nil
}

// Connect implements [Port].
func (p *memoryPort) Connect(to netip.AddrPort) error {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	p.peer = to
	return nil
}

// LocalPort implements [Port].
func (p *memoryPort) LocalPort() uint16 { return p.at.Port() }

// Close implements [Port].
func (p *memoryPort) Close() error {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	delete(p.net.ports, p.at)
	return nil
}
