package media

import (
	"github.com/ivrbridge/ivrbridge/media/jitter"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// A lane puts what was received in order and fills its holes.
type lane struct {
	order   jitter.Reorder
	conceal jitter.Concealer
	next    uint32 // timestamp of the sample that is expected
	known   bool   // next is valid
	last    int    // samples of the last packet
	work    [jitter.MaxPayload]int16
}

// queue takes a packet in the order of its arrival.
func (l *Leg) queue(p jitter.Packet) {
	if len(p.Payload) > jitter.MaxPayload {
		l.take(p, 0) // packets of that length follow each other slowly
		return
	}
	l.in.lane.order.Push(p)
	l.arrange()
}

// arrange takes the packets whose turn it is.
func (l *Leg) arrange() {
	for {
		p, missing, ok := l.in.lane.order.Pop(l.now)
		if !ok {
			return
		}
		l.take(p, missing)
	}
}

// anew ends the stream: what waits is heard, and nothing is missing before what
// comes next.
func (l *Leg) anew() {
	n := &l.in.lane
	n.order.Restart()
	l.arrange()
	n.known = false
	n.conceal.Reset()
}

// take hears a packet of which missing others precede that never came.
func (l *Leg) take(p jitter.Packet, missing int) {
	if p.Kind != soundMu && p.Kind != soundA || len(p.Payload) == 0 {
		return
	}
	n := &l.in.lane
	peer := l.bridge.peer
	if !l.ears.open && peer == nil && l.in.tones.detector == nil {
		n.known = false
		return
	}
	if n.known {
		if gap := int(int32(p.TS - n.next)); gap > 0 {
			lost := min(gap, missing*n.last)
			l.toneGap(gap, lost)
			l.fill(gap, lost)
		}
	}
	n.next, n.known, n.last = p.TS+uint32(len(p.Payload)), true, len(p.Payload)
	law := pcm.Law(p.Kind - soundMu)
	muted := l.in.events.Active(p.At)
	for rest := p.Payload; l.in.tones.detector != nil && len(rest) > 0; {
		m := law.Decode(n.work[:], rest)
		rest = rest[m:]
		muted = l.tones(n.work[:m]) || muted
	}
	if muted {
		silence(p.Payload, law)
	}
	if peer != nil && !muted {
		peer.bridge.write(p.Payload, law, peer.p.Law)
	}
	for rest := p.Payload; len(rest) > 0; {
		m := law.Decode(n.work[:], rest)
		rest = rest[m:]
		n.conceal.Received(n.work[:m])
		l.ears.heard(n.work[:m])
	}
}

// fill stands in for samples that did not come: lost of them were on their way,
// the others were not sent. No more is filled in than time has passed, because
// frames do not wait for long.
func (l *Leg) fill(gap, lost int) {
	n := &l.in.lane
	for gap > 0 {
		part := n.work[:min(gap, frameSize)]
		if lost > 0 {
			part = part[:min(len(part), lost)]
			n.conceal.Conceal(part)
			if peer := l.bridge.peer; peer != nil && peer.bridge.n < bridgeMost/2 {
				peer.bridge.conceal(part, peer.p.Law)
			}
			lost -= len(part)
		} else {
			clear(part)
		}
		lack := l.ears.lack(l.now)
		if lack <= 0 && lost == 0 {
			return
		}
		l.ears.concealed(part[:max(min(len(part), lack), 0)])
		gap -= len(part)
	}
}
