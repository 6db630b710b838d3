// Package line makes telephone lines, as internal/call wants them: a SIP call
// with its RTP leg, or a browser's peer connection. It negotiates the leg's
// media, follows holds, and keeps the two alive and apart: the leg closes with
// the dialog.
package line

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/guard"
	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/rtc"
	"github.com/ivrbridge/ivrbridge/media/sdp"
	"github.com/ivrbridge/ivrbridge/media/vad"
	"github.com/ivrbridge/ivrbridge/sip"
)

// A Sink takes what happens on a line. Hold is told when the far end holds us
// and when it no longer does.
type Sink interface {
	media.Events
	Hold(on bool)
}

// Config is what lines are made with. Lines of one trunk share it.
type Config struct {
	Engine *media.Engine
	Codecs []sdp.Codec
	// NoEvents says that keys come and go as tones: no telephone-event is agreed.
	NoEvents bool
	// Advertise returns the address for our SDP as the peer should see it.
	Advertise func(peer netip.Addr) netip.Addr
	// Media are networks that RTP may come from besides the SDP's and the
	// signalling address; Trusted also may be loopback or link-local.
	Media   []netip.Prefix
	Trusted []netip.Prefix
	VAD     vad.Config
	// FirstSilence and Silence are how long nothing may be received before the
	// line is asked whether it is still there; 0: for ever.
	FirstSilence time.Duration
	Silence      time.Duration
	// RTC takes offers of browsers (DTLS-SRTP with ICE, RFC 8827); nil: they are
	// refused like any other profile that is not ours.
	RTC  *rtc.API
	Afar bool // a browser is on another machine
	Log  *zap.Logger
}

// A Line is one call leg. It implements call.Line.
type Line struct {
	conf   Config
	sink   Sink
	leg    *media.Leg
	secure *rtc.Peer // the leg's, where the far end is a browser
	ctx    context.Context
	cancel context.CancelCauseFunc
	refers chan sip.Request // REFERs that the far end sent; nil: refused
	done   chan struct{}    // closed when the line's goroutine has returned

	mu      sync.Mutex // guards what the negotiation and the call share
	call    *sip.Call
	session sdp.Session
	peer    netip.Addr // signalling address of the far end
	want    sdp.Direction
	held    bool
}

// New opens the media of a line that has no dialog yet. Close it, or give it a
// call with Bind.
func New(conf Config, sink Sink) (*Line, error) {
	l := &Line{conf: conf, sink: sink, want: sdp.SendRecv, done: make(chan struct{})}
	leg, err := conf.Engine.NewLeg(conf.leg(sink))
	if err != nil {
		return nil, fmt.Errorf("open leg: %w", err)
	}
	l.leg = leg
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	return l, nil
}

// Close releases the media of a line that never got a call.
func (l *Line) Close() {
	l.cancel(errors.New("line: closed"))
	l.closeMedia()
}

func (l *Line) closeMedia() {
	if l.secure != nil {
		l.secure.Close()
		return
	}
	l.leg.Close()
}

// Aim says where the far end's signalling is, before there is a call.
func (l *Line) Aim(peer netip.Addr) { l.peer = peer.Unmap() }

// AcceptRefers lets the owner take REFERs of the far end; without it they are
// declined. Call it before Bind.
func (l *Line) AcceptRefers() <-chan sip.Request {
	l.refers = make(chan sip.Request, 1)
	return l.refers
}

// Bind gives the line its call. The line ends with it.
func (l *Line) Bind(c *sip.Call) {
	l.mu.Lock()
	l.call, l.peer = c, c.Source().Addr().Unmap()
	l.mu.Unlock()
	context.AfterFunc(c.Context(), func() {
		l.closeMedia()
		l.cancel(ending(context.Cause(c.Context()), c.EndReason()))
	})
	go func() {
		defer close(l.done)
		_ = guard.Run(l.conf.Log, "line requests", func() { l.serve(c) })
	}()
}

// Inbound is a line for a call that came.
func Inbound(conf Config, sink Sink, c *sip.Call) (*Line, error) {
	open := New
	if conf.RTC != nil && ofBrowser(c.Offer()) {
		open = newSecure
		conf.Afar = !c.Source().Addr().Unmap().IsLoopback()
	}
	l, err := open(conf, sink)
	if err != nil {
		return nil, err
	}
	l.Bind(c)
	return l, nil
}

// ending says in the words of a conversation why a dialog is over.
func ending(cause error, reason sip.Reason) error {
	e := &call.EndError{Class: call.ClassServerError, Why: "the line was closed"}
	switch {
	case errors.Is(cause, sip.ErrRemoteBye):
		e.Class, e.Why = call.ClassCallerHangup, "the caller hung up"
	case errors.Is(cause, sip.ErrCancelled):
		e.Class, e.Why = call.ClassCallerHangup, "the caller gave up before the answer"
	case errors.Is(cause, sip.ErrLocalBye):
		e.Class, e.Why = call.ClassCompleted, "we hung up"
	case errors.Is(cause, sip.ErrNoAck):
		e.Class, e.Why = call.ClassClientError, "the caller's side never acknowledged the answer"
	case errors.Is(cause, sip.ErrBadAnswer):
		e.Class, e.Why = call.ClassClientError, "the caller's side answered with a description that cannot be used"
	case errors.Is(cause, sip.ErrDialogGone):
		e.Class, e.Why = call.ClassClientError, "the caller's side no longer knew the call"
	case errors.Is(cause, sip.ErrExpired):
		e.Class, e.Why = call.ClassMediaTimeout, "the session was not refreshed in time"
	case errors.Is(cause, sip.ErrServerDown):
		e.Why = "the bridge was shut down"
	case cause != nil:
		e.Why = "the line was closed: " + cause.Error()
	}
	if reason.Text != "" {
		e.Why += " (" + reason.Text + ")"
	}
	return e
}

// Context implements call.Signaling.
func (l *Line) Context() context.Context { return l.ctx }

// Wait returns when the line's own goroutine has ended.
func (l *Line) Wait() { <-l.done }

// Answer implements call.Signaling.
func (l *Line) Answer(ctx context.Context) error { return l.call.Accept(ctx, l.negotiator()) }

// Hangup implements call.Signaling.
func (l *Line) Hangup(h call.Hangup) {
	cause := sip.Cause{Reason: sip.Reason{Protocol: "Q.850", Cause: h.Cause, Text: h.Why}}
	if h.Cause == 0 {
		cause.Reason.Cause = normalClearing
	}
	for _, name := range sortedKeys(h.Headers) {
		cause.Headers = append(cause.Headers, sip.Header{Name: name, Value: h.Headers[name]})
	}
	l.call.Hangup(cause)
}

// normalClearing is Q.850's cause of an ordinary end.
const normalClearing = 16

// Refer implements call.Signaling.
func (l *Line) Refer(ctx context.Context, r call.Referral, progress func(status int)) (call.Referred, error) {
	req := sip.ReferRequest{To: r.URI}
	if r.UUI != "" {
		req.Headers = append(req.Headers, sip.Header{Name: "User-to-User", Value: r.UUI})
	}
	for _, name := range sortedKeys(r.Headers) {
		req.Headers = append(req.Headers, sip.Header{Name: name, Value: r.Headers[name]})
	}
	o, err := l.call.Refer(ctx, req, func(p sip.Progress) {
		if progress != nil {
			progress(p.Status)
		}
	})
	return call.Referred{Status: o.Status, Accepted: o.Accepted, Final: o.Final, Gone: o.RemoteBye}, err
}

// Alive implements call.Signaling.
func (l *Line) Alive(ctx context.Context) error { return l.call.Probe(ctx) }

// Hold holds the far end, or resumes with it, by a re-INVITE of ours. It blocks
// until that is answered.
func (l *Line) Hold(ctx context.Context, on bool) error {
	l.mu.Lock()
	l.want = sdp.SendRecv
	if on {
		l.want = sdp.SendOnly
	}
	l.mu.Unlock()
	return l.call.Reoffer(ctx, l.negotiator())
}

// Play implements call.Audio.
func (l *Line) Play(c media.Cue) { l.leg.Play(c) }

// Queue implements call.Audio.
func (l *Line) Queue(c media.Cue) { l.leg.Queue(c) }

// Stop implements call.Audio.
func (l *Line) Stop() { l.leg.Stop() }

// SendDigits implements call.Audio.
func (l *Line) SendDigits(seq uint64, digits string) {
	l.leg.SendDigits(seq, digits, media.DigitsAuto)
}

// Attach implements call.Audio.
func (l *Line) Attach(t media.Tap) (detach func()) { return l.leg.Attach(t) }

// Stats implements call.Audio.
func (l *Line) Stats() media.Stats { return l.leg.Stats() }

// Leg is the line's media, to join it with another's.
func (l *Line) Leg() *media.Leg { return l.leg }

// SIP is the line's dialog, nil before Bind.
func (l *Line) SIP() *sip.Call { return l.call }

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, strings.Compare)
	return keys
}
