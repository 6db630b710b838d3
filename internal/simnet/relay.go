package simnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Relay stands between two ends on UDP, near and far, and spoils what they
// send each other. Each end knows the relay's port on its side and takes it for
// the other end's. Its methods are safe for concurrent use.
type Relay struct {
	near, far, moved *net.UDPConn // moved is what far becomes by NewPort
	work             sync.WaitGroup

	mu        sync.Mutex
	out, back *Stream // from near to far, and back
	a, b      netip.AddrPort
	timers    map[*time.Timer]struct{}
	closed    bool
}

// NewRelay opens a relay at addr. out holds from the near end to the far one,
// back for the other direction, whose NewPort is not looked at.
func NewRelay(addr netip.Addr, out, back Conditions) (*Relay, error) {
	r := &Relay{out: NewStream(out), back: NewStream(back), timers: map[*time.Timer]struct{}{}}
	for _, c := range []**net.UDPConn{&r.near, &r.far, &r.moved} {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open relay: %w", err), r.Close())
		}
		*c = conn
	}
	r.work.Go(func() { r.serve(r.near, true) })
	r.work.Go(func() { r.serve(r.far, false) })
	r.work.Go(func() { r.serve(r.moved, false) })
	return r, nil
}

// Near is where the near end sends to.
func (r *Relay) Near() netip.AddrPort { return address(r.near) }

// Far is where the far end sends to: what the near end tells it as its own.
func (r *Relay) Far() netip.AddrPort { return address(r.far) }

// Connect says where the two ends are. Packets that come before that are lost.
func (r *Relay) Connect(near, far netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.a, r.b = near, far
}

// Counts tells what became of the packets of both directions.
func (r *Relay) Counts() (out, back Counts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Counts(), r.back.Counts()
}

// Close ends the relay. What is under way is lost.
func (r *Relay) Close() error {
	r.mu.Lock()
	r.closed = true
	for t := range r.timers {
		t.Stop()
	}
	r.mu.Unlock()
	var errs []error
	for _, c := range []*net.UDPConn{r.near, r.far, r.moved} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	r.work.Wait()
	return errors.Join(errs...)
}

// serve takes what arrives on one socket.
func (r *Relay) serve(from *net.UDPConn, outward bool) {
	var buf [2048]byte
	for {
		n, _, err := from.ReadFromUDPAddrPort(buf[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			r.pass(buf[:n], outward)
		}
	}
}

func (r *Relay) pass(p []byte, outward bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	stream, to := r.back, r.a
	if outward {
		stream, to = r.out, r.b
	}
	if r.closed || !to.IsValid() {
		return
	}
	for _, a := range stream.Pass(p) {
		by := r.near
		switch {
		case outward && a.Moved:
			by = r.moved
		case outward:
			by = r.far
		}
		r.send(by, a, to)
	}
}

// send lets a packet go when its time has come. Called with mu held.
func (r *Relay) send(by *net.UDPConn, a Arrival, to netip.AddrPort) {
	if a.After == 0 {
		_, _ = by.WriteToUDPAddrPort(a.Packet, to)
		return
	}
	var t *time.Timer
	t = time.AfterFunc(a.After, func() {
		r.mu.Lock()
		delete(r.timers, t)
		r.mu.Unlock()
		_, _ = by.WriteToUDPAddrPort(a.Packet, to)
	})
	r.timers[t] = struct{}{}
}

func address(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }
