package dtmf

import (
	"encoding/binary"
	"time"
)

const (
	payloadSize = 4
	endBit      = 0x80

	remembered = 8 // presses whose late copies are known

	// lapse is how long an event lives without packets: three intervals of the
	// slowest usual sender (RFC 4733 section 2.5.2.2).
	lapse = 120 * time.Millisecond
	// stale is how long a packet can be under way at most.
	stale = 3 * time.Second

	// A sender that moves the timestamp inside an event stays within these.
	movedWithin  = 60 * time.Millisecond
	movedPackets = 2
	movedSlack   = 160

	// A long event goes on in a new segment when its duration is about to
	// overflow (RFC 4733 section 2.5.1.3).
	segment       = 0xFFFF
	segmentAlmost = segment - 2000
	segmentSlack  = 1600
)

// A Receiver makes key presses of the packets of one RTP stream's telephone
// events (RFC 4733). It reports a press on the first packet that belongs to it,
// whichever that is, so that neither a lost start, lost ends, disorder,
// duplication nor a sender's usual mistakes lose or double a key. The zero
// value is ready. One goroutine uses it; it does not allocate.
type Receiver struct {
	presses [remembered]press
	next    int  // index of the oldest
	known   bool // there is a latest
	latest  int  // index of the press that began last
	seq     uint16
	carried press // the last one before Reset
}

// A press is one key press as far as it was seen.
type press struct {
	used     bool
	event    byte
	ended    bool
	ts       uint32
	duration uint16
	at       time.Duration // of its last packet
}

// Packet takes one packet: its RTP sequence number, timestamp, marker and
// payload, and when it arrived on any monotonic clock. It returns the key, one
// of 0123456789*#ABCD, and true when the packet is the first of a press. What
// is too short or no key (events above 15) is ignored.
func (r *Receiver) Packet(seq uint16, ts uint32, marker bool, payload []byte, at time.Duration) (digit byte, ok bool) {
	if len(payload) < payloadSize || int(payload[0]) >= len(keys) {
		return 0, false
	}
	p := press{
		used:     true,
		event:    payload[0],
		ended:    payload[1]&endBit != 0,
		ts:       ts,
		duration: binary.BigEndian.Uint16(payload[2:]),
		at:       at,
	}
	if !r.known && r.carried.goesOn(p, marker) {
		r.carried.used = false
		r.begin(p, seq)
		return 0, false
	}
	gap := int16(seq - r.seq) // from the latest press's last packet
	if copied := r.find(p); copied != nil && !copied.again(p, gap) {
		copied.ended = copied.ended || p.ended
		copied.duration = max(copied.duration, p.duration)
		copied.at = at
		r.advance(gap, seq)
		return 0, false
	}
	if r.known {
		last := &r.presses[r.latest]
		switch {
		case int32(ts-last.ts) < 0 && gap <= 0 && at-last.at < stale:
			return 0, false // of a press before the latest, and late
		case last.continues(p), last.moved(p, gap, marker):
			*last = p
			r.advance(gap, seq)
			return 0, false
		}
	}
	r.begin(p, seq)
	return keys[p.event], true
}

// begin remembers a press as the latest.
func (r *Receiver) begin(p press, seq uint16) {
	r.latest, r.known, r.seq = r.next, true, seq
	r.presses[r.next] = p
	r.next = (r.next + 1) % remembered
}

// Active reports whether an event runs at the given time: the audio that comes
// meanwhile is the key's tone, or nothing.
func (r *Receiver) Active(at time.Duration) bool {
	last := &r.presses[r.latest]
	return r.known && !last.ended && at-last.at < lapse
}

// Reset forgets the stream. Call it when the SSRC changes: timestamps and
// sequence numbers begin anew. A key that is held meanwhile stays one press.
func (r *Receiver) Reset() {
	fresh := Receiver{carried: r.carried}
	if r.known {
		fresh.carried = r.presses[r.latest]
	}
	*r = fresh
}

// goesOn reports whether p is a packet of the same press under another SSRC: its
// duration has grown on, and it claims no beginning.
func (last *press) goesOn(p press, marker bool) bool {
	return last.used && !marker && last.event == p.event && p.duration >= last.duration && p.at-last.at < lapse
}

// find returns the press that p is a further packet of.
func (r *Receiver) find(p press) *press {
	for i := range r.presses {
		if c := &r.presses[i]; c.used && c.ts == p.ts && c.event == p.event && p.at-c.at < stale {
			return c
		}
	}
	return nil
}

// again reports whether p is a new press in spite of its old timestamp: it
// begins where the end has been seen before.
func (last *press) again(p press, gap int16) bool {
	return last.ended && !p.ended && gap > 0 && p.at-last.at >= shortest
}

func (r *Receiver) advance(gap int16, seq uint16) {
	if gap > 0 {
		r.seq = seq
	}
}

// continues reports whether p is of the next segment of a long press: its
// timestamp follows the end of a segment that had no end bit.
func (last *press) continues(p press) bool {
	if last.ended || last.event != p.event {
		return false
	}
	step := p.ts - last.ts
	return step == segment && p.at-last.at < stale ||
		last.duration >= segmentAlmost && step >= uint32(last.duration) && step-uint32(last.duration) <= segmentSlack && p.at-last.at < lapse
}

// moved reports whether p belongs to the same press although its timestamp is
// another one: some senders advance it with every packet, where RFC 4733
// section 2.5.1.1 wants the beginning of the event.
func (last *press) moved(p press, gap int16, marker bool) bool {
	if marker || last.event != p.event || gap < 1 || gap > movedPackets || p.at-last.at > movedWithin {
		return false
	}
	if last.ended && !p.ended {
		return false // pressed again at once
	}
	grown := int32(p.duration) - int32(last.duration)
	return grown >= 0 && int32(p.ts-last.ts) <= grown+movedSlack
}
