package media

import (
	"sync/atomic"
	"time"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

const (
	bridgeRing   = 2048                   // samples: a quarter of a second
	bridgeMargin = pcm.Rate / 50          // that wait beyond a packet before sound goes out
	bridgeMost   = pcm.Rate / 5           // that wait at most
	bridgeWindow = 2 * time.Second        // in which the fewest that waited are watched
	relayTime    = 60 * time.Millisecond  // that a key's packet keeps the audio away
	segmentTime  = 150 * time.Millisecond // a key without packets for so long is over
)

// A place is where a leg is served.
type place struct {
	shard *shard
	slot  int
}

// A bridge takes to a leg what its joined leg hears. The wheel that serves both
// owns it.
type bridge struct {
	peer *Leg

	ring    [bridgeRing]byte // in the law of the leg that sends it
	head, n int
	primed  bool
	least   int // that waited since the window began
	window  time.Duration

	event struct {
		theirs, ours uint32 // timestamps of the key that is passed on
		known        bool
		last         time.Duration
		until        time.Duration // the audio is kept away
	}
}

// Join lets two legs hear each other: b moves to the shard of a, and from then
// on each sends what the other receives, with its own SSRC, sequence numbers,
// timestamps and payload types. Sound of the same law is copied; the other is
// turned over by a table. Keys are passed on as telephone-events, or as tones
// where the far end takes none, and are told as events as well. What is played
// on a leg goes before what its partner says. stop separates them; it may be
// called more than once. A leg that was joined to a third is separated from it.
func Join(a, b *Leg) (stop func()) {
	if a == b {
		return func() {}
	}
	var over atomic.Bool
	b.mail.post(func(b *Leg) { b.follow(a, &over) })
	return func() {
		if over.Swap(true) {
			return
		}
		b.mail.post(func(b *Leg) {
			if b.bridge.peer == a {
				b.unlink()
			}
		})
	}
}

// follow moves a leg to the shard of another and joins them there.
func (l *Leg) follow(a *Leg, over *atomic.Bool) {
	if l.state == moving {
		l.state = running // not gone yet, and asked to go elsewhere
	}
	if over.Load() || l.state != running {
		return
	}
	home := a.home.Load()
	if home.shard != l.shard {
		l.unlink() // legs are joined on one shard only
		l.state, l.target = moving, home
		l.arrived = func() { l.follow(a, over) }
		return
	}
	// A leg is owned by its home's wheel, which is this one; one that is still at
	// the door is of this wheel already.
	if a.state == gone || a.state == closing {
		return
	}
	a.unlink()
	l.unlink()
	a.bridge.start(l, a.now)
	l.bridge.start(a, l.now)
}

// unlink separates a leg from its partner.
func (l *Leg) unlink() {
	if peer := l.bridge.peer; peer != nil {
		peer.bridge.reset()
		peer.bridge.peer = nil
		l.bridge.reset()
		l.bridge.peer = nil
	}
}

func (b *bridge) start(peer *Leg, now time.Duration) {
	b.reset()
	b.peer, b.window = peer, now
}

// reset forgets what waits.
func (b *bridge) reset() {
	b.head, b.n, b.primed, b.least = 0, 0, false, bridgeRing
	b.event.known, b.event.until = false, 0
}

// write takes sound that the partner received.
func (b *bridge) write(coded []byte, from, to pcm.Law) {
	for len(coded) > 0 {
		if b.n == bridgeMost {
			b.drop(min(len(coded), bridgeMost))
		}
		tail := (b.head + b.n) % bridgeRing
		n := pcm.Transcode(b.ring[tail:min(bridgeRing, tail+bridgeMost-b.n)], coded, from, to)
		b.n += n
		coded = coded[n:]
	}
}

// conceal takes sound that stands for packets that the partner did not receive.
func (b *bridge) conceal(sound []int16, to pcm.Law) {
	var coded [frameSize]byte
	b.write(coded[:to.Encode(coded[:], sound)], to, to)
}

// wait keeps sound for when it can be sent, a little of it.
func (b *bridge) wait() {
	b.primed = false
	b.drop(max(b.n-2*bridgeMargin, 0))
}

func (b *bridge) drop(n int) {
	n = min(n, b.n)
	b.head = (b.head + n) % bridgeRing
	b.n -= n
}

// read makes a packet of what waits and reports whether there was any of it.
func (b *bridge) read(dst []byte, law pcm.Law, now time.Duration) bool {
	if !b.primed && b.n < len(dst)+bridgeMargin {
		silence(dst, law)
		return false
	}
	b.primed = true
	b.trim(now)
	n := 0
	for n < len(dst) && b.n > 0 {
		got := copy(dst[n:], b.ring[b.head:min(bridgeRing, b.head+b.n)])
		b.drop(got)
		n += got
	}
	if n < len(dst) {
		b.primed = false
		silence(dst[n:], law)
	}
	b.least = min(b.least, b.n)
	return n > 0
}

// trim takes out delay that a burst has left: what waited through a whole
// window without being needed.
func (b *bridge) trim(now time.Duration) {
	if now-b.window < bridgeWindow {
		return
	}
	if b.least > 2*bridgeMargin && b.least < bridgeRing {
		b.drop(b.least - bridgeMargin)
	}
	b.least, b.window = bridgeRing, now
}

// relaying tells that a key is being passed on, in the place of audio.
func (b *bridge) relaying(now time.Duration) bool { return now < b.event.until }

// relay passes on a telephone-event packet of the joined leg.
func (l *Leg) relay(ts uint32, marker bool, payload []byte) {
	if !l.p.HasEvent || !l.p.Send || !l.source.reachable || l.p.Held || !l.clock || len(payload) < 4 {
		return
	}
	e := &l.bridge.event
	switch {
	case !e.known || ts != e.theirs && (int32(ts-e.theirs) > 0 || l.now-e.last > segmentTime):
		e.theirs, e.ours, e.known = ts, l.out.ts, true
	case ts != e.theirs:
		return // late, of the key before
	}
	e.last = l.now
	if payload[1]&0x80 == 0 {
		e.until = l.now + relayTime
	} else {
		e.until = l.now
	}
	copy(l.out.buf[headerLen:], payload[:4])
	l.write(packet{payloadType: l.p.Event, marker: marker, ts: e.ours, size: 4})
	l.shard.tally.n[sentEvents]++
}
