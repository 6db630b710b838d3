// Package simnet spoils streams of RTP packets the way that networks do: it
// loses, delays, doubles, swaps and damages them, and moves them to another SSRC
// or port in the middle. What it does follows from the seed and the packets
// alone, so that a test meets the same network each time.
//
// A [Stream] is one direction and knows no clock and no socket: tests with
// virtual time ask it what becomes of a packet. A [Relay] puts two of them
// between two ends on UDP. The package knows of RTP only where the sequence
// number, the timestamp and the SSRC are (RFC 3550 section 5.1).
package simnet

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"
)

// Conditions are what a network does to the packets of one direction. The zero
// value passes everything on at once. Shares are between 0 and 1.
type Conditions struct {
	Seed uint64

	// Loss is the share of packets that never arrive, each by itself.
	Loss float64
	// Bursts are losses that come together.
	Bursts Bursts
	// Delay is how long each packet is under way. Jitter is added to or taken from
	// it, evenly spread; packets overtake each other by it. Use a Delay of at least
	// the Jitter, or the early half arrives at once.
	Delay, Jitter time.Duration
	// Duplicate is the share of packets that arrive twice.
	Duplicate float64
	// Reorder is the share of packets that stay behind until the next one has
	// passed.
	Reorder float64
	// Corrupt is the share of packets of which one byte is wrong on arrival.
	Corrupt float64
	// NewSSRC is after how many packets the source begins anew: another SSRC,
	// sequence number and timestamp; 0: never.
	NewSSRC int
	// NewPort is after how many packets they come from another port; 0: never.
	NewPort int
}

// Bursts is the model of Gilbert: a good state, in which nothing is lost, and a
// bad one, in which everything is.
type Bursts struct {
	Begin float64 // share of packets in the good state that turn it bad
	End   float64 // share of packets in the bad state that turn it good
}

// An Arrival is a packet at the other end.
type Arrival struct {
	Packet []byte
	After  time.Duration // since it was sent
	Moved  bool          // it comes from the other port
}

// Counts is what became of the packets so far.
type Counts struct {
	Sent, Lost, Doubled, Swapped, Damaged int
}

// A Stream is one direction of a connection. One goroutine at a time uses it.
type Stream struct {
	c      Conditions
	rnd    *rand.Rand
	bad    bool
	back   []Arrival // stays behind
	counts Counts
}

// NewStream returns a stream that has not begun.
func NewStream(c Conditions) *Stream {
	return &Stream{c: c, rnd: rand.New(rand.NewPCG(c.Seed, 0x5eed))} //nolint:gosec // repeatable, not secret
}

// Counts tells what happened so far.
func (s *Stream) Counts() Counts { return s.counts }

// Pass sends a packet and returns what arrives for it, in the order of leaving:
// nothing, itself, copies, or one that stayed behind before. The packet is
// copied.
func (s *Stream) Pass(packet []byte) []Arrival {
	s.counts.Sent++
	// Each packet draws the same numbers whatever the conditions are: what happens
	// to one does not depend on what happened to another.
	var draw [7]float64
	for i := range draw {
		draw[i] = s.rnd.Float64()
	}
	where := s.rnd.Uint32()
	behind := s.back
	s.back = nil
	if s.lost(draw[0], draw[1]) {
		s.counts.Lost++
		return behind
	}
	p := slices.Clone(packet)
	if s.c.NewSSRC > 0 && s.counts.Sent > s.c.NewSSRC {
		renew(p, s.c.Seed)
	}
	if draw[2] < s.c.Corrupt && len(p) > 0 {
		s.counts.Damaged++
		p[where%uint32(len(p))] ^= byte(1 + where>>24%255)
	}
	moved := s.c.NewPort > 0 && s.counts.Sent > s.c.NewPort
	out := []Arrival{{Packet: p, After: s.after(draw[3]), Moved: moved}}
	if draw[4] < s.c.Duplicate {
		s.counts.Doubled++
		out = append(out, Arrival{Packet: p, After: s.after(draw[5]), Moved: moved})
	}
	if draw[6] < s.c.Reorder && behind == nil {
		s.counts.Swapped++
		s.back = out
		return nil
	}
	return append(out, behind...)
}

// Flush returns what stayed behind.
func (s *Stream) Flush() []Arrival {
	behind := s.back
	s.back = nil
	return behind
}

func (s *Stream) lost(turn, one float64) bool {
	switch {
	case s.bad:
		s.bad = turn >= s.c.Bursts.End
	default:
		s.bad = turn < s.c.Bursts.Begin
	}
	return s.bad || one < s.c.Loss
}

func (s *Stream) after(draw float64) time.Duration {
	return max(0, s.c.Delay+time.Duration((2*draw-1)*float64(s.c.Jitter)))
}

const headerLen = 12 // RFC 3550 section 5.1

// renew makes p a packet of another source: a stream that jumps in everything
// by which it is told from others.
func renew(p []byte, seed uint64) {
	if len(p) < headerLen {
		return
	}
	r := rand.New(rand.NewPCG(seed, 0x55c)) //nolint:gosec // repeatable, not secret
	binary.BigEndian.PutUint16(p[2:], binary.BigEndian.Uint16(p[2:])+uint16(r.Uint32()))
	binary.BigEndian.PutUint32(p[4:], binary.BigEndian.Uint32(p[4:])+r.Uint32())
	binary.BigEndian.PutUint32(p[8:], binary.BigEndian.Uint32(p[8:])^(r.Uint32()|1))
}
