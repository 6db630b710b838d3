package media

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/media/vad"
)

// LegConfig is what a [Leg] is made from.
type LegConfig struct {
	Events       Events        // nil: nobody listens
	VAD          vad.Config    // the zero Config: no speech events
	FirstSilence time.Duration // how long nothing may be received after Apply before Silent; 0: for ever
	Silence      time.Duration // the same, once something was received
	Law          pcm.Law       // until Apply
	SSRC         uint32        // of what the leg sends; 0: one at random
	Log          *zap.Logger   // with the call's fields; nil: the engine's
}

// Params is what was negotiated for a leg.
type Params struct {
	Remote     netip.AddrPort // where the far end receives, by its SDP
	RTCP       netip.AddrPort // where it receives RTCP; equal to Remote: multiplexed (RFC 5761); invalid: none is sent
	Signalling netip.Addr     // where its SIP comes from
	Allowed    []netip.Prefix // further networks its media may come from
	Law        pcm.Law        // what we send
	// PayloadType is that of Law; Accept those of the laws that we take, by law,
	// -1 for none.
	PayloadType uint8
	Accept      [2]int16
	Event       uint8 // payload type of telephone-event, where HasEvent
	HasEvent    bool
	Ptime       time.Duration // of the packets that we send, 10 to 60 ms; 0: 20 ms
	Send, Recv  bool          // what our direction allows
	Held        bool          // the far end holds us: what comes is its music
}

// A legState says who has a leg.
type legState uint8

const (
	running legState = iota
	moving           // on its way to another shard
	closing          // at the end of this visit
	gone
)

// A Leg is the media of one call leg: an RTP stream in each direction with its
// RTCP. Its methods may be called from any goroutine, the wheel's included; they
// never wait. What they ask for happens at the leg's next slot, 10 ms later at
// most, in the order of the calls.
type Leg struct {
	// Parameters.
	engine       *Engine
	to           Events
	log          *zap.Logger
	firstSilence time.Duration
	silence      time.Duration
	rtp, rtcp    Port
	number       uint16

	// Shared.
	mail   mailbox
	home   atomic.Pointer[place] // where it is served, or will be next
	agreed atomic.Pointer[Params]
	mu     sync.Mutex // guards shared; the wheel only tries it
	shared Stats

	// Owned by the wheel.
	shard   *shard
	state   legState
	leaving bool          // Close was called
	target  *place        // of a move
	arrived func()        // runs when it is over
	now     time.Duration // of this visit, since the engine's epoch
	wall    time.Time     // the same
	p       Params
	applied bool
	clock   bool // the RTP clock runs: since the first slot after Apply
	source  source
	out     stream
	player  player
	keys    keypad
	in      receiver
	ears    ears
	control control
	bridge  bridge
	watch   watch
	stats   Stats
}

func newLeg(e *Engine, c LegConfig, rtp, rtcp Port) *Leg {
	log := c.Log
	if log == nil {
		log = e.log
	}
	l := &Leg{
		engine: e, to: c.Events, log: log, firstSilence: c.FirstSilence, silence: c.Silence,
		rtp: rtp, rtcp: rtcp, number: rtp.LocalPort(),
	}
	l.p.Law = c.Law
	var random [18]byte
	_, _ = rand.Read(random[:]) // never fails
	l.out = stream{             // all at random: RFC 3550 section 5.1
		seq:  binary.BigEndian.Uint16(random[0:]),
		ts:   binary.BigEndian.Uint32(random[2:]),
		ssrc: binary.BigEndian.Uint32(random[6:]),
	}
	if c.SSRC != 0 {
		l.out.ssrc = c.SSRC
	}
	l.out.setPtime(stdPtime)
	l.control.cname = hex.EncodeToString(random[10:])
	l.ears.init(c.VAD)
	l.in.badSeq = noSeq
	return l
}

// LocalPort is the port that the leg receives RTP on, for our SDP. RTCP is the
// one after it.
func (l *Leg) LocalPort() uint16 { return l.number }

// CNAME is the canonical name that the leg's RTCP bears (RFC 3550 section
// 6.5.1), for our SDP. It says nothing about anybody.
func (l *Leg) CNAME() string { return l.control.cname }

// Apply sets what was negotiated: for the first answer and after each further
// one. SSRC, sequence numbers and timestamps go on, and so does what plays; the
// window for latching opens again.
func (l *Leg) Apply(p Params) {
	p.Remote = unmap(p.Remote)
	p.RTCP = unmap(p.RTCP)
	p.Signalling = p.Signalling.Unmap()
	p.Allowed = slices.Clone(p.Allowed)
	l.agreed.Store(&p)
	l.mail.post(func(l *Leg) { l.apply(p) })
}

// Play ends all cues and begins c: what played fades out in 10 ms. Each cue that
// is given to Play or Queue comes to exactly one PlayEnd, in the order of the
// calls.
func (l *Leg) Play(c Cue) {
	l.cue(c, func(l *Leg) { l.player.replace(c, l.p.Law) })
}

// Queue lets c follow the cues before it, without a gap.
func (l *Leg) Queue(c Cue) {
	l.cue(c, func(l *Leg) { l.player.add(c) })
}

func (l *Leg) cue(c Cue, run func(*Leg)) {
	if c.Clip == nil {
		c.Clip = pcm.NewClip(pcm.Mu)
		c.Clip.Close(errors.New("media: cue without a clip"))
		l.cue(c, func(l *Leg) { l.player.add(c) })
		return
	}
	if !l.mail.post(run) {
		l.tell(Event{Kind: PlayEnd, At: time.Now(), Seq: c.Seq, Why: Stopped, Err: ErrClosed})
	}
}

// Stop ends all cues. What plays fades out in 10 ms; the stream goes on with
// silence.
func (l *Leg) Stop() {
	l.mail.post(func(l *Leg) { l.player.stop(l.p.Law) })
}

// Listen turns the detection of speech off and on again. It is on at first
// where LegConfig.VAD is set.
func (l *Leg) Listen(on bool) {
	l.mail.post(func(l *Leg) {
		if !on && l.ears.on {
			l.hush()
		}
		l.ears.listen(on)
	})
}

// Close ends the leg at its next slot: cues end, RTCP says BYE, the ports go to
// their quarantine. It is idempotent and does not wait.
func (l *Leg) Close() {
	l.mail.post(func(l *Leg) { l.leaving = true })
}

func (l *Leg) apply(p Params) {
	was := l.p
	l.p = p
	l.out.setPtime(p.Ptime)
	l.in.apply(&p)
	if was.Law != p.Law {
		l.bridge.reset() // what waits is in the old one
	}
	if l.source.connected {
		l.disconnect()
	}
	l.source.apply(&p, l.now)
	l.control.apply(&p)
	l.watch = watch{since: l.now}
	if was.Held != p.Held || was.Recv != p.Recv {
		l.anew() // nothing was heard meanwhile
	}
	l.hold(p.Held)
	l.applied = true
}

// visit is one turn of the leg on the wheel. due is the time of the slot; full
// tells the leg's own slot from the one half a turn later.
func (l *Leg) visit(due time.Duration, wall time.Time, full bool) {
	l.now, l.wall = wall.Sub(l.engine.epoch), wall
	for c := l.mail.take(); c != nil; c = c.next {
		c.run(l)
	}
	if l.state != running {
		return
	}
	if l.leaving {
		l.state = closing
		return
	}
	if full && l.applied && !l.clock {
		l.clock = true
		l.out.due = due
		l.ears.start(l.now)
	}
	if l.clock {
		l.send(due)
	} else {
		l.flush()
	}
	l.receive()
	l.hear()
	if full {
		l.report()
		l.look()
		l.publish()
	}
}

// finish is the end of a leg, on the wheel. The ports are released after it.
func (l *Leg) finish(cause error) {
	for c := l.mail.close(); c != nil; c = c.next {
		c.run(l)
	}
	l.state = gone
	l.unlink()
	l.player.stop(l.p.Law)
	l.flush()
	l.keys.finish(l)
	l.bye()
	if cause != nil {
		l.post(Event{Kind: Crashed, Err: cause})
	}
	l.mu.Lock()
	l.shared = l.stats
	l.shared.Closed = true
	l.mu.Unlock()
}

// release closes the ports, outside the wheel.
func (l *Leg) release() {
	if err := errors.Join(l.rtp.Close(), l.rtcp.Close()); err != nil {
		l.log.Warn("rtp ports not closed", zap.Error(err))
	}
}

// flush posts the events that waited for their packet.
func (l *Leg) flush() {
	for i := range l.player.notes {
		n := &l.player.notes[i]
		if n.at == nextPacket {
			n.at = l.now
		}
		n.event.At = l.engine.clock(n.at)
		if n.event.Kind == PlayStart {
			l.ears.prompt()
		}
		l.tell(n.event)
	}
	clear(l.player.notes)
	l.player.notes = l.player.notes[:0]
}

// post tells an event of this visit.
func (l *Leg) post(e Event) {
	e.At = l.engine.clock(l.now)
	l.tell(e)
}

func (l *Leg) tell(e Event) {
	if l.to != nil && !l.to.Post(e) {
		l.engine.meter.eventsDropped.Add(1)
	}
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
