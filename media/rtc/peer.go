package rtc

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/transport/v4/packetio"
	"github.com/pion/webrtc/v4"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// What ends a peer besides [ErrClosed].
var (
	// ErrNoMedia is the cause when ICE or DTLS was not completed in time.
	ErrNoMedia = errors.New("rtc: no media came to run")
	// ErrVanished is the cause when the far end fell silent for good.
	ErrVanished = errors.New("rtc: the far end has vanished")
	// ErrPeerClosed is the cause when the far end closed the connection.
	ErrPeerClosed = errors.New("rtc: the far end closed the connection")
	// ErrFault is the cause when a fault of ours ended the peer.
	ErrFault = errors.New("rtc: fault")
)

const (
	legWait   = 2 * time.Second // for a leg to end: it takes a slot of the wheel
	writeWait = 300 * time.Millisecond
	streamID  = "ivrbridge"
	// Restarts of ICE: few before media ran, and then as often as a page looks for
	// a way back.
	earlyRestarts = 3
	restartBurst  = 8
	restartEvery  = 2 * time.Second
)

// A Peer is one browser. Its methods may be called from any goroutine, not on
// the wheel.
type Peer struct {
	// Parameters.
	api    *API
	log    *zap.Logger
	pc     *webrtc.PeerConnection
	leg    *media.Leg
	ssrc   uint32
	ctx    context.Context
	cancel context.CancelCauseFunc

	// In and out.
	writer   writer
	sound    *sink
	reports  *sink
	bell     chan struct{}
	unclosed atomic.Int32  // ports that the leg has not closed
	gone     chan struct{} // closed when it has closed both
	sources  atomic.Int32

	connected chan struct{}

	// Negotiation: one at a time.
	turn  sync.Mutex
	talk  talk
	early []Candidate // of a description that has not come yet

	restarts *rate.Limiter // of ICE, when media has run
	afar     atomic.Bool   // the far end is on another machine

	mu     sync.Mutex
	up     bool          // connected is closed
	ready  *media.Params // what the leg is to be given when it is up
	timer  *time.Timer   // the deadline of what is waited for
	armed  bool          // something is
	began  time.Time     // of the first answer
	broken bool          // ICE hears nothing
}

func newPeer(a *API, c media.LegConfig) *Peer {
	log := c.Log
	if log == nil {
		log = a.log
	}
	p := &Peer{
		api: a, log: log, bell: make(chan struct{}, 1), gone: make(chan struct{}), connected: make(chan struct{}),
		restarts: rate.NewLimiter(rate.Every(restartEvery), restartBurst),
	}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	return p
}

// open makes the connection and the leg.
func (p *Peer) open(c media.LegConfig) error {
	soundIn, reportsIn := newRing(heardRing), newRing(reportRing)
	soundOut, reportsOut := newRing(spokenRing), newRing(reportRing)
	p.sound = newSink(p, packetio.RTPBufferPacket, soundIn)
	p.reports = newSink(p, packetio.RTCPBufferPacket, reportsIn)
	pc, err := p.api.connection(p)
	if err != nil {
		return err
	}
	out := &track{}
	t, err := pc.AddTransceiverFromTrack(out)
	if err != nil {
		return errors.Join(fmt.Errorf("add track: %w", err), pc.Close())
	}
	p.pc = pc
	p.writer = writer{pc: pc, track: out, rtp: soundOut, rtcp: reportsOut}
	p.ssrc = uint32(t.Sender().GetParameters().Encodings[0].SSRC)
	pc.OnTrack(func(*webrtc.TrackRemote, *webrtc.RTPReceiver) {})
	pc.OnICEConnectionStateChange(p.pathChanged)
	pc.OnConnectionStateChange(p.connectionChanged)

	p.unclosed.Store(2)
	closed := func() {
		if p.unclosed.Add(-1) == 0 {
			close(p.gone)
		}
	}
	late := p.api.meter.droppedOut
	c.Law, c.SSRC = pcm.Mu, p.ssrc
	p.leg, err = p.api.conf.Engine.NewLegOver(c,
		&port{far: farRTP, in: soundIn, out: soundOut, bell: p.bell, late: late, closed: closed},
		&port{far: farRTCP, in: reportsIn, out: reportsOut, bell: p.bell, late: late, closed: closed})
	if err != nil {
		return errors.Join(err, pc.Close())
	}
	return nil
}

// Leg returns the leg, which lives as long as the peer.
func (p *Peer) Leg() *media.Leg { return p.leg }

// Context is done when the peer is over; context.Cause says why: [ErrNoMedia],
// [ErrVanished], [ErrPeerClosed], [ErrFault] or [ErrClosed].
func (p *Peer) Context() context.Context { return p.ctx }

// Connected is closed when media runs for the first time.
func (p *Peer) Connected() <-chan struct{} { return p.connected }

// Close ends the peer and its leg. It is idempotent and does not wait.
func (p *Peer) Close() { p.end(ErrClosed) }

// end says why the peer is over. The first cause is the one that stays.
func (p *Peer) end(why error) {
	p.cancel(why)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.disarm()
}

// fault ends the peer because of a panic in what the connection calls.
func (p *Peer) fault(fault any) {
	p.log.Error("browser's peer ended by a fault", zap.Any("fault", fault), zap.ByteString("stack", debug.Stack()))
	p.end(fmt.Errorf("%w: %v", ErrFault, fault))
}

// guarded runs what the connection calls.
func (p *Peer) guarded(f func()) {
	defer func() {
		if fault := recover(); fault != nil {
			p.fault(fault)
		}
	}()
	f()
}

// tend writes what the leg sends until the peer is over, and takes it down.
func (p *Peer) tend() {
	quit := make(chan struct{})
	written := make(chan struct{})
	go func() {
		defer close(written)
		p.guarded(func() { p.write(quit) })
	}()
	select {
	case <-p.ctx.Done():
	case <-p.gone:
		p.end(ErrClosed)
	}
	p.log.Debug("browser's peer is over", zap.Error(context.Cause(p.ctx)))
	p.leg.Close() // its last report goes out
	wait(p.gone, legWait)
	close(quit)
	wait(written, writeWait)
	p.sound.stop()
	p.reports.stop()
	if err := p.pc.GracefulClose(); err != nil {
		p.log.Debug("peer connection not closed", zap.Error(err))
	}
	<-written
}

// wait waits for done, not for ever.
func wait(done <-chan struct{}, most time.Duration) {
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

// write is the one goroutine that writes to the connection.
func (p *Peer) write(quit <-chan struct{}) {
	for {
		select {
		case <-p.bell:
			p.writer.drain()
		case <-quit:
			p.writer.drain()
			return
		}
	}
}

// arm sets the deadline of what is waited for: a path, keys, or a sign of life.
// Called with mu held.
func (p *Peer) arm(d time.Duration) {
	if p.ctx.Err() != nil {
		return
	}
	p.armed = true
	if p.timer == nil {
		p.timer = time.AfterFunc(d, p.expired)
		return
	}
	p.timer.Reset(d)
}

// disarm says that nothing is waited for. Called with mu held.
func (p *Peer) disarm() {
	p.armed = false
	if p.timer != nil {
		p.timer.Stop()
	}
}

// expired ends a peer whose deadline has passed.
func (p *Peer) expired() {
	p.mu.Lock()
	armed := p.armed
	p.mu.Unlock()
	if armed {
		p.fail(ErrVanished)
	}
}

// fail ends a peer whose media does not run, or for why not any more.
func (p *Peer) fail(why error) {
	p.mu.Lock()
	if !p.up {
		why = ErrNoMedia
	}
	p.mu.Unlock()
	p.end(why)
}

// pathChanged follows ICE.
func (p *Peer) pathChanged(s webrtc.ICEConnectionState) {
	p.guarded(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch s {
		case webrtc.ICEConnectionStateConnected, webrtc.ICEConnectionStateCompleted:
			p.broken = false
			if p.up {
				p.disarm()
				return
			}
			p.arm(p.api.conf.DTLSTimeout)
		case webrtc.ICEConnectionStateDisconnected:
			// Half of Vanish has passed, and up to a tenth of it until this was
			// noticed.
			if p.up && !p.broken {
				p.broken = true
				p.arm(p.api.conf.Vanish * 35 / 100)
			}
		default: // on the way, or told by the connection as a whole
		}
	})
}

// connectionChanged follows ICE and DTLS together. It is called by a goroutine of
// its own for each change.
func (p *Peer) connectionChanged(s webrtc.PeerConnectionState) {
	p.guarded(func() {
		switch s {
		case webrtc.PeerConnectionStateConnected:
			p.rise()
		case webrtc.PeerConnectionStateFailed:
			p.fail(ErrVanished)
		case webrtc.PeerConnectionStateClosed:
			p.fail(ErrPeerClosed) // no news when it is we who close
		default: // on the way
		}
	})
}

// rise lets the leg begin when media runs for the first time.
func (p *Peer) rise() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up || p.ctx.Err() != nil {
		return
	}
	p.up = true
	p.disarm()
	if p.ready != nil {
		p.leg.Apply(*p.ready)
		p.ready = nil
	}
	p.api.meter.setup.Observe(time.Since(p.began).Seconds())
	close(p.connected)
}

// apply gives the leg what was negotiated, now or when media runs.
func (p *Peer) apply(params media.Params) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up {
		p.leg.Apply(params)
		return
	}
	p.ready = &params
}
