package line

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/guard"
	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/media/rtc"
)

// A Dialer calls somebody whom a browser's caller is handed to: a browser cannot
// be sent elsewhere by REFER, so the bridge calls and joins the two. It returns
// when the far end has answered, with its refusal, or when ctx ends. Progress is
// told each provisional status.
type Dialer func(ctx context.Context, r call.Referral, progress func(status int)) (*Line, error)

// A Browser is the line of a page: a peer connection whose signalling is not
// SIP. It implements call.Line.
type Browser struct {
	peer   *rtc.Peer
	sink   Sink
	dial   Dialer
	log    *zap.Logger
	ctx    context.Context
	cancel context.CancelCauseFunc

	turn sync.Mutex // one negotiation at a time: holds are told in their order
	held bool       // guarded by turn

	mu      sync.Mutex
	over    bool
	partner *Line  // who the caller was handed to; nil: nobody
	part    func() // ends the joining
	talks   sync.WaitGroup
}

// NewBrowser opens a line for a page; nothing flows before Negotiate. Dial is
// nil where callers cannot be handed over.
func NewBrowser(api *rtc.API, conf Config, sink Sink, dial Dialer) (*Browser, error) {
	peer, err := api.NewPeer(conf.leg(sink))
	if err != nil {
		return nil, fmt.Errorf("open peer: %w", err)
	}
	if conf.Afar {
		peer.Afar()
	}
	b := &Browser{peer: peer, sink: sink, dial: dial, log: conf.Log}
	b.ctx, b.cancel = context.WithCancelCause(context.Background())
	context.AfterFunc(peer.Context(), b.vanished)
	return b, nil
}

// Negotiate answers an offer of the page: its first, and every later one, which
// restarts ICE or holds. The error is that of [rtc.Peer.Answer].
func (b *Browser) Negotiate(ctx context.Context, offer string) (answer string, err error) {
	b.turn.Lock()
	defer b.turn.Unlock()
	out, terms, err := b.peer.Answer(ctx, []byte(offer))
	if err != nil {
		return "", fmt.Errorf("answer the page: %w", err)
	}
	if terms.Held != b.held {
		b.held = terms.Held
		b.sink.Hold(terms.Held)
	}
	return string(out), nil
}

// Candidate adds a way to reach the page that it found after its offer.
func (b *Browser) Candidate(c rtc.Candidate) error { return b.peer.AddCandidate(c) }

// Context implements call.Line.
func (b *Browser) Context() context.Context { return b.ctx }

// Answer implements call.Line: the page has its answer, and it is up when the
// media is.
func (b *Browser) Answer(ctx context.Context) error {
	select {
	case <-b.peer.Connected():
		return nil
	case <-b.ctx.Done():
		return context.Cause(b.ctx) //nolint:contextcheck // of the line's end
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Hangup implements call.Line. A caller who was handed over stays with whom he
// talks to; the line is over when one of them hangs up.
func (b *Browser) Hangup(h call.Hangup) {
	if h.HandedOver && b.HandedOver() {
		return
	}
	b.end(&call.EndError{Class: call.ClassCompleted, Why: h.Why})
}

// HandedOver reports whether the caller talks to somebody else.
func (b *Browser) HandedOver() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.partner != nil
}

// Leave ends the line whoever is on it: the page has hung up, or an operator
// wants it.
func (b *Browser) Leave(class call.Class, why string) {
	b.end(&call.EndError{Class: class, Why: why})
}

// end closes the line once.
func (b *Browser) end(why error) {
	b.mu.Lock()
	if b.over {
		b.mu.Unlock()
		return
	}
	b.over = true
	partner, part := b.partner, b.part
	b.mu.Unlock()
	if partner != nil {
		part()
		partner.Hangup(call.Hangup{Why: why.Error()})
	}
	b.peer.Close()
	b.cancel(why)
}

// vanished follows the end of the peer connection.
func (b *Browser) vanished() {
	cause := context.Cause(b.peer.Context())
	e := &call.EndError{Class: call.ClassServerError, Why: "the browser's connection was closed"}
	switch {
	case errors.Is(cause, rtc.ErrPeerClosed):
		e.Class, e.Why = call.ClassCallerHangup, "the browser closed the connection"
	case errors.Is(cause, rtc.ErrVanished):
		e.Class, e.Why = call.ClassMediaTimeout, "the browser could not be reached any longer"
	case errors.Is(cause, rtc.ErrNoMedia):
		e.Class, e.Why = call.ClassClientError, "no connection to the browser came about: its network or a firewall keeps UDP and TCP away"
	}
	b.end(e)
}

// Refer implements call.Line: it calls the target and joins the two. The caller
// hears what is played until the target answers.
func (b *Browser) Refer(ctx context.Context, r call.Referral, progress func(status int)) (call.Referred, error) {
	if b.dial == nil {
		return call.Referred{Status: 501, Final: true}, nil
	}
	if progress == nil {
		progress = func(int) {}
	}
	progress(100)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(b.ctx, stop)() //nolint:contextcheck // who hangs up calls nobody any longer
	far, err := b.dial(ctx, r, progress)
	if err != nil {
		var refused interface{ SIPStatus() int }
		switch {
		case errors.As(err, &refused):
			return call.Referred{Status: refused.SIPStatus(), Accepted: true, Final: true, Called: true}, nil
		case errors.Is(err, context.DeadlineExceeded):
			return call.Referred{Status: 408, Accepted: true, Final: true, Called: true}, nil
		case errors.Is(err, context.Canceled): // the caller has gone, or the conversation wants it no longer
			return call.Referred{Status: 487, Accepted: true, Final: true, Called: true}, nil
		}
		return call.Referred{Called: true}, fmt.Errorf("call the target: %w", err)
	}
	if !b.join(far) {
		far.Hangup(call.Hangup{Why: "the caller has gone"})
		far.Wait()
		return call.Referred{Status: 487, Accepted: true, Final: true, Called: true}, nil
	}
	return call.Referred{Status: 200, Accepted: true, Final: true, Called: true}, nil
}

// join lets the caller talk with far. It fails when the line is over.
func (b *Browser) join(far *Line) bool {
	b.mu.Lock()
	if b.over {
		b.mu.Unlock()
		return false
	}
	b.partner = far
	b.part = media.Join(b.peer.Leg(), far.Leg())
	b.talks.Go(func() {
		_ = guard.Run(b.log, "handed-over call", func() {
			<-far.Context().Done()
			b.end(&call.EndError{Class: call.ClassTransferred, Why: "the called party hung up"})
			far.Wait()
		})
	})
	b.mu.Unlock()
	b.peer.Leg().Stop() // the music
	return true
}

// Alive implements call.Line: consent is asked for all the time (RFC 7675), so
// that a line which is up is alive.
func (b *Browser) Alive(context.Context) error {
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx) //nolint:contextcheck // of the line's end
	}
	return nil
}

// Wait returns when the line is over and nobody is on it.
func (b *Browser) Wait() {
	<-b.ctx.Done()
	b.talks.Wait()
}

// Leg returns the media, to be joined with another leg's.
func (b *Browser) Leg() *media.Leg { return b.peer.Leg() }

// Play implements call.Line.
func (b *Browser) Play(c media.Cue) { b.peer.Leg().Play(c) }

// Queue implements call.Line.
func (b *Browser) Queue(c media.Cue) { b.peer.Leg().Queue(c) }

// Stop implements call.Line.
func (b *Browser) Stop() { b.peer.Leg().Stop() }

// SendDigits implements call.Line.
func (b *Browser) SendDigits(seq uint64, digits string) {
	b.peer.Leg().SendDigits(seq, digits, media.DigitsAuto)
}

// Digit takes a key that came by signalling.
func (b *Browser) Digit(d byte) { b.peer.Leg().Press(d, 0) }

// Attach implements call.Line.
func (b *Browser) Attach(t media.Tap) (detach func()) { return b.peer.Leg().Attach(t) }

// Stats implements call.Line.
func (b *Browser) Stats() media.Stats { return b.peer.Leg().Stats() }

// leg is what a leg of this configuration is made from.
func (c Config) leg(sink media.Events) media.LegConfig {
	return media.LegConfig{
		Events: sink, VAD: c.VAD, FirstSilence: c.FirstSilence, Silence: c.Silence, Law: pcm.Mu, Log: c.Log,
	}
}
