package media

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
)

// A stream is the RTP stream that a leg sends. SSRC, sequence numbers and
// timestamps go on for as long as the leg lives: the timestamp is the time that
// has passed, whether packets were sent or not (RFC 3550 section 5.1).
type stream struct {
	due     time.Duration // of the next packet
	ptime   time.Duration
	size    int // samples of a packet
	seq     uint16
	ts      uint32
	ssrc    uint32
	flowing bool          // a packet was sent for the slot before
	spoke   bool          // it held more than silence
	last    time.Duration // when it was sent
	packets uint32        // as RTCP counts
	octets  uint32
	buf     [headerLen + maxSamples]byte
}

// setPtime sets the time that each packet holds.
func (o *stream) setPtime(d time.Duration) {
	if d == 0 {
		d = stdPtime
	}
	d = min(max(d, minPtime), maxPtime).Truncate(time.Millisecond)
	o.ptime, o.size = d, samples(d)
}

// send sends the packets that are due.
func (l *Leg) send(due time.Duration) {
	o := &l.out
	if late := due - o.due; late > maxLag {
		// Time passed that nobody used: it shows as a jump of the timestamp.
		late = late.Truncate(o.ptime)
		o.due += late
		o.ts += uint32(samples(late))
		o.flowing = false
		l.ears.skip(samples(late))
		l.keys.skip(samples(late))
	}
	for o.due <= due {
		l.emit()
		o.due += o.ptime
		o.ts += uint32(o.size)
	}
}

// emit makes and sends one packet.
func (l *Leg) emit() {
	o := &l.out
	body := o.buf[headerLen : headerLen+o.size]
	open := l.p.Send && l.source.reachable
	spoken, quiet, done := false, false, false
	if open && !l.p.Held {
		if l.keys.busy() {
			spoken, quiet, done = l.keys.fill(l, body)
		}
		if !done {
			spoken, quiet = l.sound(body)
		}
	} else {
		l.player.pause()
		l.bridge.wait()
		silence(body, l.p.Law)
	}
	l.ears.sent(body, l.p.Law)
	if open && !quiet {
		l.write(packet{payloadType: l.p.PayloadType, marker: !o.flowing || spoken && !o.spoke, ts: o.ts, size: o.size})
		l.shard.tally.n[sentAudio]++
	}
	o.flowing, o.spoke = open, spoken
	l.flush()
}

// sound makes the audio of a packet: of the cues, else of the joined leg. quiet
// tells that the packet is not to be sent: a key is being passed on instead.
func (l *Leg) sound(body []byte) (spoken, quiet bool) {
	switch {
	case l.bridge.relaying(l.now):
		l.player.pause()
		l.bridge.wait()
		silence(body, l.p.Law)
		return true, true
	case l.bridge.peer != nil && l.player.idle():
		return l.bridge.read(body, l.p.Law, l.now), false
	default:
		l.bridge.wait()
		return l.player.fill(body, l.p.Law, l.now), false
	}
}

// A packet is the header of what is in the buffer.
type packet struct {
	payloadType uint8
	marker      bool
	ts          uint32
	size        int
}

// write sends what is in the buffer.
func (l *Leg) write(p packet) {
	o := &l.out
	b := o.buf[:headerLen+p.size]
	b[0] = 2 << 6
	b[1] = p.payloadType & 0x7F
	if p.marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], o.seq)
	binary.BigEndian.PutUint32(b[4:], p.ts)
	binary.BigEndian.PutUint32(b[8:], o.ssrc)
	o.seq++
	l.transmit(l.rtp, b, l.source.dest)
	if also := l.source.also; also.IsValid() {
		l.transmit(l.rtp, b, also)
	}
	if o.flowing && o.ptime == stdPtime {
		l.shard.tally.interval(l.now - o.last)
	}
	o.last = l.now
	o.packets++
	o.octets += uint32(p.size)
	l.stats.Sent++
	l.stats.SentOctets += uint64(p.size)
}

// transmit sends one datagram. An error is about an earlier one (ICMP), or the
// system has no room: the stream goes on in any case.
func (l *Leg) transmit(port Port, b []byte, to netip.AddrPort) {
	for range 2 {
		err := port.Send(b, to)
		if err == nil {
			return
		}
		l.shard.tally.n[sendErrors]++
		l.stats.SendErrors++
		if errors.Is(err, ErrWouldBlock) {
			return
		}
	}
}
