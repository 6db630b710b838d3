package media

import (
	"net/netip"
	"time"
)

// The rules by which the far end's address is learnt: those of Asterisk's
// strict RTP, and no symmetric RTP beyond them. Who is allowed to speak is
// decided before anything is learnt from a packet.
const (
	latchWindow  = 5 * time.Second        // after Apply
	latchPackets = 4                      // in sequence
	latchSpan    = 58 * time.Millisecond  // that they take at least: 60 ms, less what a sender's timer varies
	rebindSilent = 500 * time.Millisecond // of the old source, before another port of its address
	rebindInRow  = 5
	ownAlive     = 100 * time.Millisecond // while packets come from where they should, no other wins
	otherStale   = 200 * time.Millisecond // a candidate that paused makes room for another

	connectAfter = 5 * time.Second        // of receiving from where we send
	breakAfter   = 400 * time.Millisecond // of silence a connected port is opened again
)

// A source knows whom a leg sends to and takes packets from.
type source struct {
	sdp     netip.AddrPort // what the far end told
	signals netip.Addr
	allowed []netip.Prefix

	dest      netip.AddrPort // where we send, and a source of packets
	also      netip.AddrPort // another port of the SDP's address that packets come from; sent to as well
	heardDest bool           // packets have come from dest
	reachable bool           // something may be sent to dest
	locked    bool           // dest is settled until the next Apply or silence
	connected bool           // the port is
	until     time.Duration  // end of the window
	heard     time.Duration  // the last packet from dest
	steady    time.Duration  // since when they have come without a break
	own       candidate      // dest, until it is locked
	other     candidate
}

// A candidate is an address that packets come from in sequence.
type candidate struct {
	addr        netip.AddrPort
	ssrc        uint32
	seq         uint16
	inRow       int
	first, last time.Duration
}

// saw counts a packet of addr.
func (c *candidate) saw(addr netip.AddrPort, ssrc uint32, seq uint16, at time.Duration) {
	switch {
	case c.inRow > 0 && c.addr != addr && at-c.last < otherStale:
		return // one at a time: a sprayer cannot push out the other
	case c.addr == addr && c.ssrc == ssrc && seq == c.seq && c.inRow > 0:
		return // a duplicate
	case c.addr == addr && c.ssrc == ssrc && seq == c.seq+1 && c.inRow > 0:
		c.inRow++
	default:
		*c = candidate{addr: addr, ssrc: ssrc, inRow: 1, first: at}
	}
	c.seq, c.last = seq, at
}

// A verdict is what becomes of a packet.
type verdict uint8

const (
	accepted   verdict = iota
	latched            // accepted, and dest is locked now
	moved              // accepted, and dest is another one now
	learning           // dropped: a candidate that has not shown enough
	stranger           // dropped: not allowed
	unexpected         // dropped: allowed, with a payload type that was not negotiated
)

// apply takes a new answer.
func (s *source) apply(p *Params, now time.Duration) {
	s.signals, s.allowed = p.Signalling, p.Allowed
	s.until = now + latchWindow
	s.locked = false
	s.own, s.other = candidate{}, candidate{}
	if !p.Remote.IsValid() || p.Remote.Port() == 0 || p.Remote.Addr().IsUnspecified() {
		return // hold of old: where to send stays known
	}
	if p.Remote != s.sdp {
		s.sdp, s.dest, s.also, s.heardDest = p.Remote, p.Remote, netip.AddrPort{}, false
		s.heard, s.steady = now, now
		s.reachable = !hidden(p.Remote.Addr(), p.Signalling)
	}
}

// hidden tells an address that cannot be reached: it is of a private network
// while the signalling comes from a public one, so the far end sits behind a NAT.
func hidden(media, signalling netip.Addr) bool {
	return private(media) && signalling.IsValid() && !private(signalling) &&
		!signalling.IsLoopback() && !signalling.IsLinkLocalUnicast()
}

// private tells the networks of RFC 1918, RFC 4193 and RFC 6598.
func private(a netip.Addr) bool {
	if a.IsPrivate() {
		return true
	}
	b := a.As16()
	return a.Is4() && b[12] == 100 && b[13]&0xC0 == 64
}

// permits tells whether packets of an address may be looked at.
func (s *source) permits(a netip.Addr) bool {
	if a == s.dest.Addr() || a == s.sdp.Addr() || a == s.signals {
		return a.IsValid()
	}
	for _, n := range s.allowed {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// judge decides about an RTP packet. known tells that its payload type was
// negotiated.
func (s *source) judge(from netip.AddrPort, ssrc uint32, seq uint16, known bool, at time.Duration) verdict {
	if from == s.dest || from == s.also {
		s.heardDest = s.heardDest || from == s.dest
		return s.expected(from, ssrc, seq, known, at)
	}
	if !s.permits(from.Addr()) {
		return stranger
	}
	if !known {
		return unexpected
	}
	// The address of the SDP itself may take its stream back, should a stray have
	// been first.
	window := at < s.until && (!s.locked || from == s.sdp)
	rebind := from.Addr() == s.dest.Addr()
	if !window && !rebind {
		return stranger
	}
	c := &s.other
	c.saw(from, ssrc, seq, at)
	alive := !s.locked && s.own.inRow > 0 && at-s.heard < ownAlive
	proven := window && !alive && c.inRow >= latchPackets && at-c.first >= latchSpan ||
		rebind && c.inRow >= rebindInRow && at-s.heard >= rebindSilent
	if c.addr != from || !proven {
		return learning
	}
	s.follow(from)
	s.lock(at)
	return moved
}

// follow sends to a source that has proven itself. A peer that sends from
// another port of the very address that it receives at, and never from the port
// that it told, either receives where it said (RFC 4961 is no duty) or sits
// behind a NAT that changed the port: nothing tells the two apart, so both ports
// are sent to.
func (s *source) follow(from netip.AddrPort) {
	if s.reachable && !s.heardDest && s.dest == s.sdp && from.Addr() == s.sdp.Addr() {
		s.also = from
		return
	}
	s.dest, s.also, s.heardDest = from, netip.AddrPort{}, true
}

// expected is a packet that comes from where we send.
func (s *source) expected(from netip.AddrPort, ssrc uint32, seq uint16, known bool, at time.Duration) verdict {
	if at-s.heard > breakAfter {
		s.steady = at
	}
	s.heard = at
	if !known {
		return unexpected
	}
	if from == s.dest && s.also.IsValid() {
		// It sends from where it receives after all: the other port was a stray.
		if s.own.saw(from, ssrc, seq, at); s.own.inRow >= latchPackets && at-s.own.first >= latchSpan {
			s.also, s.own = netip.AddrPort{}, candidate{}
		}
	}
	if s.locked {
		return accepted
	}
	s.own.saw(from, ssrc, seq, at)
	if s.own.inRow < latchPackets || at-s.own.first < latchSpan {
		return accepted
	}
	s.lock(at)
	return latched
}

func (s *source) lock(at time.Duration) {
	s.locked, s.reachable = true, true
	s.heard, s.steady = at, at
	s.own, s.other = candidate{}, candidate{}
}

// tend connects the port to a peer that sends from where it receives, and opens
// it again when the peer falls silent: it may have moved.
func (l *Leg) tend() {
	s := &l.source
	silent := l.now - s.heard
	switch {
	case s.connected && silent > breakAfter:
		l.disconnect()
	case !s.connected && s.locked && !s.also.IsValid() && silent < breakAfter/2 && l.now-s.steady >= connectAfter:
		if err := l.rtp.Connect(s.dest); err != nil {
			s.steady = l.now // tried again later
			l.shard.tally.n[sendErrors]++
			return
		}
		s.connected = true
	}
}

func (l *Leg) disconnect() {
	l.source.connected = false
	if err := l.rtp.Connect(netip.AddrPort{}); err != nil {
		l.shard.tally.n[sendErrors]++
	}
}
