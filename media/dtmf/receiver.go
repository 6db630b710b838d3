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

	// crossing is by how much the beginnings of a press may seem to differ that is
	// seen partly under one source and partly under another: a network delays
	// packets by more and by less.
	crossing = 250 * time.Millisecond

	// A long event goes on in a new segment when its duration is about to
	// overflow (RFC 4733 section 2.5.1.3).
	segment       = 0xFFFF
	segmentAlmost = segment - 2000
	segmentSlack  = 1600
)

// A Receiver makes key presses of the packets of one RTP session's telephone
// events (RFC 4733). It reports a press on the first packet that belongs to it,
// whichever that is, so that neither a lost start, lost ends, disorder,
// duplication, another source nor a sender's usual mistakes lose or double a
// key. The zero value is ready. One goroutine uses it; it does not allocate.
type Receiver struct {
	flows [2]flow // of the last two sources
	at    int     // index of the one that packets come from now
	newer int     // index of the one that began last
}

// A flow is what is known of one source's events.
type flow struct {
	source  uint32
	named   bool // source is known
	presses [remembered]press
	next    int  // index of the oldest
	known   bool // there is a latest
	latest  int  // index of the press that began last
	seq     uint16
}

// A press is one key press as far as it was seen.
type press struct {
	used     bool
	event    byte
	ended    bool
	begun    bool // its first packet, the marked one, was seen
	crossed  bool // the other source has the rest of it
	ts       uint32
	duration uint16        // the longest that was told
	least    uint16        // the shortest
	at       time.Duration // of its last packet
	start    time.Duration // when it began, by the packet that was delayed least
}

// Packet takes one packet: its RTP sequence number, timestamp, marker and
// payload, and when it arrived on any monotonic clock. It returns the key, one
// of 0123456789*#ABCD, and true when the packet is the first of a press. What
// is too short or no key (events above 15) is ignored.
func (r *Receiver) Packet(seq uint16, ts uint32, marker bool, payload []byte, at time.Duration) (digit byte, ok bool) {
	if len(payload) < payloadSize || int(payload[0]) >= len(keys) {
		return 0, false
	}
	duration := binary.BigEndian.Uint16(payload[2:])
	p := press{
		used:     true,
		event:    payload[0],
		ended:    payload[1]&endBit != 0,
		begun:    marker,
		ts:       ts,
		duration: duration,
		least:    duration,
		at:       at,
		start:    at - lasting(duration),
	}
	f := &r.flows[r.at]
	gap := int16(seq - f.seq) // from the latest press's last packet
	if copied := f.find(p); copied != nil && !copied.again(p, gap) {
		copied.add(p)
		f.advance(gap, seq)
		return 0, false
	}
	if f.known {
		last := &f.presses[f.latest]
		switch {
		case int32(ts-last.ts) < 0 && gap <= 0 && at-last.at < stale:
			return 0, false // of a press before the latest, and late
		case last.continues(p), last.moved(p, gap, marker):
			p.begun, p.crossed = p.begun || last.begun, last.crossed
			*last = p
			f.advance(gap, seq)
			return 0, false
		}
	}
	p.crossed = r.flows[1-r.at].shares(p, r.at == r.newer)
	f.begin(p, seq)
	return keys[p.event], !p.crossed
}

// lasting is the time of a duration in the packets.
func lasting(duration uint16) time.Duration { return time.Duration(duration) * time.Second / clockRate }

// begin remembers a press as the latest.
func (f *flow) begin(p press, seq uint16) {
	f.latest, f.known, f.seq = f.next, true, seq
	f.presses[f.next] = p
	f.next = (f.next + 1) % remembered
}

// Active reports whether an event runs at the given time: the audio that comes
// meanwhile is the key's tone, or nothing. An event is over with its end bit, with
// the next event, or when its packets cease for 120 ms.
func (r *Receiver) Active(at time.Duration) bool {
	return r.flows[0].active(at) || r.flows[1].active(at)
}

// Holds reports whether the event that runs at the given time is that of a key,
// one of 0123456789*#ABCD.
func (r *Receiver) Holds(digit byte, at time.Duration) bool {
	for i := range r.flows {
		if f := &r.flows[i]; f.active(at) && keys[f.presses[f.latest].event] == digit {
			return true
		}
	}
	return false
}

func (f *flow) active(at time.Duration) bool {
	last := &f.presses[f.latest]
	return f.known && !last.ended && at-last.at < lapse
}

// From says which source (SSRC) the packets are of that come next. The source
// before it is remembered: its packets may still be under way and come between
// those of its successor. A key that is held meanwhile stays one press.
func (r *Receiver) From(source uint32) {
	now, other := &r.flows[r.at], &r.flows[1-r.at]
	switch {
	case !now.named:
		now.source, now.named = source, true
		return
	case now.source == source:
		return
	case !other.named || other.source != source:
		r.follow(flow{source: source, named: true})
		return
	}
	r.at = 1 - r.at
}

// Reset says that the source begins anew: its timestamps and sequence numbers
// have nothing to do with those before. A key that is held meanwhile stays one
// press.
func (r *Receiver) Reset() {
	now := &r.flows[r.at]
	r.follow(flow{source: now.source, named: now.named})
}

// follow goes on with a flow in the place of the one before the last.
func (r *Receiver) follow(f flow) {
	before := &r.flows[r.at]
	for i := range before.presses {
		before.presses[i].crossed = false // to the flow that is forgotten
	}
	r.at = 1 - r.at
	r.newer = r.at
	r.flows[r.at] = f
}

// shares reports whether p, which is unknown under its own source, is part of a
// press that was seen under this one. later says that its source began after this
// one; else it is one that its successor has overtaken, or that has come back.
func (f *flow) shares(p press, later bool) bool {
	for i := range f.presses {
		c := &f.presses[i]
		if !c.used || c.crossed || c.event != p.event || max(c.start-p.start, p.start-c.start) > crossing {
			continue
		}
		if c.precedes(p) || !later && p.precedes(*c) {
			c.crossed = true
			return true
		}
	}
	return false
}

// precedes reports whether p can be the rest of a press that was seen up to last:
// it claims no beginning, and its duration has grown on, or it is another copy of
// the end.
func (last *press) precedes(p press) bool {
	switch {
	case p.begun:
		return false
	case last.ended:
		return p.ended && p.least == last.duration
	}
	return p.least >= last.duration
}

// find returns the press that p is a further packet of.
func (f *flow) find(p press) *press {
	for i := range f.presses {
		if c := &f.presses[i]; c.used && c.ts == p.ts && c.event == p.event && p.at-c.at < stale {
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

// add takes a further packet of the press.
func (last *press) add(p press) {
	last.ended, last.begun = last.ended || p.ended, last.begun || p.begun
	last.duration, last.least = max(last.duration, p.duration), min(last.least, p.least)
	last.at, last.start = p.at, min(last.start, p.start)
}

func (f *flow) advance(gap int16, seq uint16) {
	if gap > 0 {
		f.seq = seq
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
