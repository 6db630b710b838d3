package media

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"github.com/ivrbridge/ivrbridge/media/dtmf"
	"github.com/ivrbridge/ivrbridge/media/jitter"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// drainMost is how many packets are taken in one visit: enough to find ours
// behind those of someone who sprays the port.
const drainMost = 64

// What a payload type holds.
const (
	nothing uint8 = iota
	soundMu       // soundMu+law
	soundA
	events
	noise // comfort noise (RFC 3389), which is taken and not rendered
)

const noiseType = 13

// RFC 3550 appendix A.1: what is farther apart is another stream.
const (
	dropoutMost  = 3000
	disorderMost = 100
)

// A receiver follows the RTP stream of the far end.
type receiver struct {
	kinds  [128]uint8
	busy   bool // the last visit found something
	events dtmf.Receiver
	lane   lane
	tones  inband

	numbers         // of the source that packets come from now
	before  numbers // of the one before it, whose packets may still be under way

	jitter   uint32 // in 1/16 samples (RFC 3550 appendix A.8)
	lostPast uint64 // of streams before these
	seenPast uint64
	tallied  uint64 // lost packets that the metrics know
}

// Numbers follow the sequence numbers and the clock of one source.
type numbers struct {
	started  bool
	ssrc     uint32
	highest  uint16
	cycles   uint32
	base     uint32 // extended number of the stream's first packet
	received uint64 // since base
	badSeq   uint32 // the number that would confirm a jump
	transit  int64  // samples
	clocked  bool   // transit is known
}

// A change says what a packet means to what was received before it.
type change uint8

const (
	same    change = iota
	another        // it is of another source than the packet before it
	jumped         // its source begins anew
)

const noSeq = 1 << 16 // no sequence number

// apply takes the payload types that are negotiated.
func (r *receiver) apply(p *Params) {
	r.kinds = [128]uint8{noiseType: noise}
	for _, law := range [...]pcm.Law{p.Law ^ 1, p.Law} {
		if t := p.Accept[law&1]; t >= 0 && t < 128 {
			r.kinds[t] = soundMu + uint8(law&1)
		}
	}
	if p.HasEvent {
		r.kinds[p.Event&0x7F] = events
	}
	r.tones.apply(p)
}

// A header is what of an RTP header is of use.
type header struct {
	marker  bool
	kind    uint8
	seq     uint16
	ts      uint32
	ssrc    uint32
	payload []byte
}

// parse reads a packet (RFC 3550 section 5.1). What is wrong about one is not
// told: nobody could do anything about it.
func parse(b []byte) (h header, ok bool) {
	if len(b) < headerLen || b[0]>>6 != 2 {
		return h, false
	}
	at := headerLen + 4*int(b[0]&0x0F)
	if b[0]&0x10 != 0 {
		if len(b) < at+4 {
			return h, false
		}
		at += 4 + 4*int(binary.BigEndian.Uint16(b[at+2:]))
	}
	end := len(b)
	if b[0]&0x20 != 0 {
		end -= int(b[end-1])
		if b[len(b)-1] == 0 {
			return h, false
		}
	}
	if at > end {
		return h, false
	}
	return header{
		marker: b[1]&0x80 != 0, kind: b[1] & 0x7F, seq: binary.BigEndian.Uint16(b[2:]),
		ts: binary.BigEndian.Uint32(b[4:]), ssrc: binary.BigEndian.Uint32(b[8:]), payload: b[at:end],
	}, true
}

// receive takes the packets that have come, some at most.
func (l *Leg) receive() {
	buf := l.shard.buf[:]
	got := 0
	// With a packet every 20 ms one of two visits finds one, and asking for a
	// second is in vain. Whoever sends more is drained at the second visit.
	for got < drainMost && (got != 1 || l.in.busy) {
		n, from, err := l.rtp.Recv(buf)
		if errors.Is(err, ErrWouldBlock) {
			break
		}
		got++
		if err != nil {
			l.shard.tally.n[sendErrors]++ // ICMP, about what was sent
			l.stats.SendErrors++
			continue
		}
		if n == len(buf) { // cut off, no packet of ours is as long
			l.reject(rejectedMalformed)
			continue
		}
		l.packet(buf[:n], unmap(from), l.arrival(l.rtp))
	}
	l.in.busy = got > 0
	l.lift()
	l.arrange()
}

// arrival is when the packet came that was taken last from p: by the kernel's
// clock, where it tells.
func (l *Leg) arrival(p Port) time.Duration {
	if s, ok := p.(stamper); ok {
		if stamp, ok := s.Stamp(); ok {
			if ago := l.wall.Sub(stamp); ago > 0 && ago < time.Second {
				return l.now - ago
			}
		}
	}
	return l.now
}

// packet takes one datagram from the RTP port.
func (l *Leg) packet(b []byte, from netip.AddrPort, at time.Duration) {
	if !l.source.permits(from.Addr()) {
		l.reject(rejectedSource)
		return
	}
	if len(b) > 1 && b[0]>>6 == 2 && b[1] >= 192 && b[1] <= 223 && l.control.mux { // RFC 5761 section 4
		l.reported(b, from, at)
		return
	}
	h, ok := parse(b)
	if !ok {
		l.reject(rejectedMalformed)
		return
	}
	kind := l.in.kinds[h.kind]
	switch l.source.judge(from, h.ssrc, h.seq, kind != nothing, at) {
	case stranger:
		l.reject(rejectedSource)
		return
	case learning:
		l.reject(rejectedLearning)
		return
	case unexpected:
		l.watch.heard(at)
		l.reject(rejectedPayload)
		return
	case moved:
		if l.source.connected {
			l.disconnect()
		}
		l.post(Event{Kind: Latched})
	case latched:
		l.post(Event{Kind: Latched})
	case accepted:
	}
	l.watch.heard(at)
	l.stats.Received++
	l.stats.ReceivedOctets += uint64(len(h.payload))
	switch l.in.count(&h, at) {
	case same:
	case another:
		l.in.events.From(h.ssrc)
		l.anew()
	case jumped:
		l.in.events.Reset()
		l.anew()
	}
	if kind == events {
		l.shard.tally.n[receivedEvents]++
	} else {
		l.shard.tally.n[receivedAudio]++
	}
	if !l.p.Recv || l.p.Held && l.bridge.peer == nil {
		return
	}
	if kind == events && !l.p.Held {
		l.event(&h, at)
	}
	l.queue(jitter.Packet{Seq: h.seq, TS: h.ts, Kind: kind, Marker: h.marker, At: at, Payload: h.payload})
}

// event takes a telephone-event packet, in whatever order it comes.
func (l *Leg) event(h *header, at time.Duration) {
	if d, ok := l.in.events.Packet(h.seq, h.ts, h.marker, h.payload, at); ok {
		l.key(d, FromRTP)
	}
	if peer := l.bridge.peer; peer != nil {
		peer.relay(h.ts, h.marker, h.payload)
	}
}

// count follows sequence numbers and jitter as RFC 3550 appendices A.1, A.3 and
// A.8 do. Where packets of two sources come mixed, as they do when a network's
// delays vary while one follows the other, each goes on where it was.
func (r *receiver) count(h *header, at time.Duration) (c change) {
	switch {
	case r.started && h.ssrc == r.ssrc:
	case r.before.started && h.ssrc == r.before.ssrc:
		r.numbers, r.before = r.before, r.numbers
		r.clocked, c = false, another
	default:
		r.lostPast, r.seenPast = r.lostPast+r.before.lost(), r.seenPast+r.before.expected()
		r.before = r.numbers
		r.begin(h)
		c = another
	}
	switch delta := h.seq - r.highest; {
	case delta < dropoutMost:
		if h.seq < r.highest {
			r.cycles += 1 << 16
		}
		r.highest = h.seq
	case delta <= 1<<16-disorderMost:
		if uint32(h.seq) != r.badSeq {
			// A jump is believed when the next packet confirms it.
			r.badSeq = uint32(h.seq+1) & 0xFFFF
			return c
		}
		r.lostPast, r.seenPast = r.lostPast+r.lost(), r.seenPast+r.expected()
		r.begin(h)
		c = jumped
	}
	r.badSeq = noSeq
	r.received++
	transit := int64(samples(at)) - int64(h.ts)
	if r.clocked {
		// Timestamps wrap: the difference is what counts.
		d := int64(int32(uint32(transit) - uint32(r.transit)))
		d = min(max(d, -d), pcm.Rate)
		r.jitter += uint32(d) - (r.jitter+8)>>4
	}
	r.transit, r.clocked = transit, true
	return c
}

// begin starts counting another stream.
func (n *numbers) begin(h *header) {
	*n = numbers{started: true, ssrc: h.ssrc, highest: h.seq, base: uint32(h.seq), badSeq: noSeq}
}

// expected is how many packets the source has sent, by their numbers.
func (n *numbers) expected() uint64 {
	if !n.started {
		return 0
	}
	return uint64(n.cycles+uint32(n.highest)-n.base) + 1
}

// lost is how many of them have not come.
func (n *numbers) lost() uint64 { return n.expected() - min(n.received, n.expected()) }

// expectedTotal is how many packets the far end has sent, by their numbers.
func (r *receiver) expectedTotal() uint64 { return r.seenPast + r.before.expected() + r.expected() }

// lostTotal is how many of them have not come.
func (r *receiver) lostTotal() uint64 { return r.lostPast + r.before.lost() + r.lost() }
