// Package jitter puts the packets of an RTP stream in order and hides the ones
// that are missing.
//
// Listening needs no playout buffer: a recogniser does not mind bursts. So what
// comes in order passes at once, and only a hole makes others wait, for 40 ms at
// most. The package knows neither sockets nor payload formats; it has no
// goroutines and no clock, and allocates nothing per packet.
package jitter

import (
	"slices"
	"time"
)

const (
	// Wait is how long packets wait for one that is missing before them.
	Wait = 40 * time.Millisecond
	// MaxPayload is the longest payload in bytes that is taken: 60 ms of G.711
	// and some more.
	MaxPayload = 512

	capacity = 12 // packets that wait: 120 ms of the shortest

	// RFC 3550 appendix A.1: what is farther apart is another stream.
	mostDropout  = 3000
	mostDisorder = 100
)

// A Packet is one RTP packet without its header.
type Packet struct {
	Seq     uint16
	TS      uint32
	Kind    uint8 // what the payload is, in the caller's terms
	Marker  bool
	At      time.Duration // of its arrival, on any monotonic clock
	Payload []byte
}

// Counts tell what became of the packets.
type Counts struct {
	Received  uint64 // pushed
	Delivered uint64
	Lost      uint64 // never came, or too late
	Late      uint64 // came when others had been delivered after the hole
	Duplicate uint64
	Reordered uint64 // came behind a younger one, and was delivered in its place
	Resyncs   uint64 // the stream began anew
	Rejected  uint64 // too long, or one too many
}

// A Reorder delivers packets in the order of their sequence numbers. The zero
// value is ready. One goroutine uses it.
type Reorder struct {
	slots   [capacity]slot
	waiting [capacity]uint8 // slots in use, in the order of delivery
	count   int
	free    uint32 // bit set of slots in use

	epoch   uint32 // of the stream that is pushed; each restart begins another
	begun   bool   // something of it was pushed
	newest  uint16 // its highest sequence number
	badSeq  uint32 // what would confirm a jump; none above 16 bits
	serving uint32 // epoch of what was delivered last
	served  bool   // next is valid
	next    uint16
	recent  uint64 // bit i: next-1-i was delivered

	counts Counts
}

type slot struct {
	epoch uint32
	used  Packet
	data  [MaxPayload]byte
}

const noSeq = 1 << 16

// Push takes a packet and copies its payload. Call Pop until it has nothing
// more after each Push, or at least after each visit to the socket. Packets far
// off the sequence begin a new stream when a second one follows them.
func (r *Reorder) Push(p Packet) {
	r.counts.Received++
	if len(p.Payload) > MaxPayload {
		r.counts.Rejected++
		return
	}
	if !r.begun {
		r.badSeq = noSeq
	} else if r.strays(p.Seq) {
		return
	}
	if r.served && r.serving == r.epoch {
		if behind := r.next - 1 - p.Seq; int16(p.Seq-r.next) < 0 {
			if behind < 64 && r.recent>>behind&1 == 1 {
				r.counts.Duplicate++
			} else {
				r.counts.Late++
			}
			return
		}
	}
	at := r.count
	for at > 0 && r.before(p.Seq, &r.slots[r.waiting[at-1]]) {
		at--
	}
	if at > 0 {
		if s := &r.slots[r.waiting[at-1]]; s.epoch == r.epoch && s.used.Seq == p.Seq {
			r.counts.Duplicate++
			return
		}
	}
	if r.count == capacity {
		r.counts.Rejected++
		return
	}
	if !r.begun || int16(p.Seq-r.newest) > 0 {
		r.begun, r.newest = true, p.Seq
	} else {
		r.counts.Reordered++
	}
	i := r.claim()
	s := &r.slots[i]
	s.epoch, s.used = r.epoch, p
	s.used.Payload = s.data[:copy(s.data[:], p.Payload)]
	copy(r.waiting[at+1:r.count+1], r.waiting[at:r.count])
	r.waiting[at] = i
	r.count++
}

// before reports whether sequence number seq of the present stream precedes
// what is in s.
func (r *Reorder) before(seq uint16, s *slot) bool {
	return s.epoch == r.epoch && int16(seq-s.used.Seq) < 0
}

// strays reports whether seq is too far off to belong to the stream. When the
// next number follows, it is a stream of its own and begins with that.
func (r *Reorder) strays(seq uint16) bool {
	ahead := seq - r.newest
	if ahead < mostDropout || ahead > 1<<16-1-mostDisorder {
		r.badSeq = noSeq
		return false
	}
	if uint32(seq) != r.badSeq {
		r.badSeq = uint32(seq + 1)
		r.counts.Rejected++
		return true
	}
	r.Restart()
	return false
}

func (r *Reorder) claim() uint8 {
	for i := range uint8(capacity) {
		if r.free>>i&1 == 0 {
			r.free |= 1 << i
			return i
		}
	}
	return 0 // never: there are as many slots as places in line
}

// Restart begins a new stream with the next packet pushed, for another SSRC.
// What waits is delivered first, without more waiting.
func (r *Reorder) Restart() {
	if r.begun {
		r.counts.Resyncs++
	}
	r.epoch++
	r.begun, r.badSeq = false, noSeq
}

// Pop returns the packet that comes next, if it may be delivered at the given
// time, and how many are missing before it. The payload is valid until the next
// Push. A gap in the timestamps that is not explained by missing packets is
// silence that was not sent.
func (r *Reorder) Pop(at time.Duration) (p Packet, missing int, ok bool) {
	if r.count == 0 {
		return Packet{}, 0, false
	}
	i := r.waiting[0]
	s := &r.slots[i]
	same := r.served && s.epoch == r.serving
	if same && s.used.Seq != r.next {
		if s.epoch == r.epoch && r.count < capacity && !r.expired(at) {
			return Packet{}, 0, false
		}
		missing = int(s.used.Seq - r.next)
	}
	r.counts.Delivered++
	r.counts.Lost += uint64(missing)
	r.recent = r.recent<<(missing+1) | 1
	if !same {
		r.recent = 1
	}
	r.serving, r.served, r.next = s.epoch, true, s.used.Seq+1
	r.free &^= 1 << i
	r.count--
	copy(r.waiting[:r.count], r.waiting[1:r.count+1])
	return s.used, missing, true
}

// expired reports whether any of those behind the hole has waited long enough.
func (r *Reorder) expired(at time.Duration) bool {
	return slices.ContainsFunc(r.waiting[:r.count], func(i uint8) bool {
		return at-r.slots[i].used.At >= Wait
	})
}

// Waiting is the number of packets that wait for one before them.
func (r *Reorder) Waiting() int { return r.count }

// Counts returns what became of the packets so far.
func (r *Reorder) Counts() Counts { return r.counts }
