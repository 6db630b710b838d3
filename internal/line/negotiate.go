package line

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/media/sdp"
	"github.com/ivrbridge/ivrbridge/sip"
)

// A negotiator answers for the media of a line's dialog. It implements
// sip.Negotiator.
type negotiator struct{ *Line }

// Offer implements sip.Negotiator: for an INVITE without a description, and for
// re-INVITEs of ours.
func (n negotiator) Offer(context.Context) ([]byte, error) {
	l := n.Line
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session.Offer(l.local())
}

// Answer implements sip.Negotiator: for INVITE, re-INVITE and UPDATE of the far
// end. A refusal leaves the session as it was.
func (n negotiator) Answer(_ context.Context, offer []byte) ([]byte, error) {
	l := n.Line
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.session
	answer, m, err := next.Answer(offer, l.local())
	if err != nil {
		return nil, fmt.Errorf("answer offer: %w", err)
	}
	if err := l.admissible(m.Remote.Addr()); err != nil {
		return nil, err
	}
	l.session = next
	l.apply(m)
	return answer, nil
}

// Accept implements sip.Negotiator: the far end has answered our offer.
func (n negotiator) Accept(_ context.Context, answer []byte) error {
	l := n.Line
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.session
	m, err := next.Accept(answer)
	if err != nil {
		return fmt.Errorf("accept answer: %w", err)
	}
	if err := l.admissible(m.Remote.Addr()); err != nil {
		return err
	}
	l.session = next
	l.apply(m)
	return nil
}

func (l *Line) local() sdp.Local {
	return sdp.Local{
		Addr: l.conf.Advertise(l.peer), Port: l.leg.LocalPort(), Codecs: l.conf.Codecs, Direction: l.want, Name: "ivrbridge",
		NoEvents: l.conf.NoEvents,
	}
}

// admissible refuses a far end's address that would make us send to ourselves,
// to a link or to a group, unless the trunk is known to live there. Holding
// with no address at all is fine.
func (l *Line) admissible(addr netip.Addr) error {
	addr = addr.Unmap()
	trusted := slices.ContainsFunc(l.conf.Trusted, func(p netip.Prefix) bool { return p.Contains(addr) }) ||
		slices.ContainsFunc(l.conf.Media, func(p netip.Prefix) bool { return p.Contains(addr) })
	local := addr.IsLoopback() || addr.IsLinkLocalUnicast()
	if addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || local && !trusted {
		l.conf.Log.Warn("media address refused", zap.Stringer("address", addr))
		return &sip.StatusError{Code: 488, Warning: "media address is not allowed"}
	}
	return nil
}

// apply sets the leg to what was agreed and tells holds.
func (l *Line) apply(m sdp.Media) {
	p := media.Params{
		Remote: m.Remote, RTCP: m.RTCP, Signalling: l.peer, Allowed: l.conf.Media,
		Law: law(m.Codec), PayloadType: m.PayloadType, Accept: [2]int16{-1, -1},
		Event: m.Event, HasEvent: m.HasEvent, Ptime: m.Ptime,
		Send: m.Direction.Send(), Recv: m.Direction.Recv(), Held: m.Held,
	}
	for codec, payload := range m.Payloads {
		p.Accept[law(sdp.Codec(codec))] = payload
	}
	if m.Remote.Addr().IsPrivate() && l.peer.IsValid() && !l.peer.IsPrivate() && !l.peer.IsLoopback() {
		p.Remote = netip.AddrPort{} // behind a NAT: the source of what comes is latched
	}
	l.leg.Apply(p)
	if m.Held != l.held {
		l.held = m.Held
		l.sink.Hold(m.Held)
	}
}

func law(c sdp.Codec) pcm.Law {
	if c == sdp.PCMA {
		return pcm.A
	}
	return pcm.Mu
}
