package line

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/media/rtc"
	"github.com/ivrbridge/ivrbridge/media/sdp"
	"github.com/ivrbridge/ivrbridge/sip"
)

// ofBrowser reports whether an offer's first audio is DTLS-SRTP (RFC 5764
// section 8), as JsSIP and other softphones in a page offer it.
func ofBrowser(offer []byte) bool {
	for line := range bytes.Lines(offer) {
		if rest, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("m=audio ")); ok {
			return bytes.Contains(rest, []byte(" UDP/TLS/RTP/SAVP")) || bytes.Contains(rest, []byte(" TCP/TLS/RTP/SAVP"))
		}
	}
	return false
}

// newSecure opens a line whose media is a peer connection.
func newSecure(conf Config, sink Sink) (*Line, error) {
	peer, err := conf.RTC.NewPeer(conf.leg(sink))
	if err != nil {
		return nil, fmt.Errorf("open peer: %w", err)
	}
	if conf.Afar {
		peer.Afar()
	}
	l := &Line{conf: conf, sink: sink, secure: peer, leg: peer.Leg(), want: sdp.SendRecv, done: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	context.AfterFunc(peer.Context(), l.mediaGone)
	return l, nil
}

// mediaGone ends the dialog of a peer connection that is over: there is no
// second way to the browser.
func (l *Line) mediaGone() {
	l.mu.Lock()
	c := l.call
	l.mu.Unlock()
	if c == nil || c.Context().Err() != nil {
		return
	}
	cause := context.Cause(l.secure.Context())
	l.conf.Log.Info("media of the browser is over", zap.Error(cause))
	reason := sip.Reason{Protocol: "Q.850", Cause: recoveryOnTimer, Text: "media lost"}
	if errors.Is(cause, rtc.ErrPeerClosed) {
		reason.Cause, reason.Text = normalClearing, "media closed"
	}
	c.Hangup(sip.Cause{Reason: reason})
}

// recoveryOnTimer is Q.850's word for a far end that fell silent.
const recoveryOnTimer = 102

// negotiator speaks for the line's media.
func (l *Line) negotiator() sip.Negotiator {
	if l.secure != nil {
		return secureNegotiator{l}
	}
	return negotiator{l}
}

// secureNegotiator lets the peer connection negotiate in the dialog.
type secureNegotiator struct{ *Line }

// Offer implements sip.Negotiator.
func (n secureNegotiator) Offer(ctx context.Context) ([]byte, error) {
	n.mu.Lock()
	want := n.want
	n.mu.Unlock()
	return n.secure.Offer(ctx, want == sdp.SendRecv)
}

// Answer implements sip.Negotiator.
func (n secureNegotiator) Answer(ctx context.Context, offer []byte) ([]byte, error) {
	answer, terms, err := n.secure.Answer(ctx, offer)
	if err != nil {
		return nil, err
	}
	n.agreed(terms)
	return answer, nil
}

// Accept implements sip.Negotiator.
func (n secureNegotiator) Accept(ctx context.Context, answer []byte) error {
	terms, err := n.secure.Accept(ctx, answer)
	if err != nil {
		return err
	}
	n.agreed(terms)
	return nil
}

func (l *Line) agreed(terms rtc.Terms) {
	l.mu.Lock()
	changed := terms.Held != l.held
	l.held = terms.Held
	l.mu.Unlock()
	if changed {
		l.sink.Hold(terms.Held)
	}
}
