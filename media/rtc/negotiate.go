package rtc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// Terms is what a description of the far end has led to.
type Terms struct {
	Held       bool // the far end holds us: it takes nothing of what we send
	Send, Recv bool // what our direction allows
	Codec      pcm.Law
}

// A Candidate is a way to reach the far end that it found after its offer
// (RFC 8838), as a browser's RTCIceCandidate has it. The empty one says that
// there are no more.
type Candidate struct {
	Candidate     string
	SDPMid        *string
	SDPMLineIndex *uint16
}

// A talk is the state of the negotiation.
type talk struct {
	far     *remote // what was agreed on; nil: nothing yet
	ours    local
	who     identity
	wish    bool   // we take what the far end sends: no hold of ours
	offered *local // an offer of ours waits for its answer
	tried   int    // candidates of the far end since its last ufrag
	early   int    // restarts before media ran
}

// Answer answers an offer of the far end: its first, and each later one, which
// holds, resumes, changes codecs, or restarts ICE where its ice-ufrag is another.
// It waits for our candidates, two seconds at most. The answer has all of them.
// It fails with an *[Error], which leaves everything as it was, with the error of
// ctx, or with the cause of the peer's end.
func (p *Peer) Answer(ctx context.Context, offer []byte) ([]byte, Terms, error) {
	d, bad := read(offer)
	if bad != nil {
		return nil, Terms{}, bad
	}
	p.turn.Lock()
	defer p.turn.Unlock()
	if err := p.able(ctx); err != nil {
		return nil, Terms{}, fmt.Errorf("answer: %w", err)
	}
	t := &p.talk
	at := -1
	if t.far != nil {
		at = t.far.at
	}
	far, bad := d.understand(at, p.near())
	if bad != nil {
		return nil, Terms{}, bad
	}
	first := t.far == nil
	restart := !first && (far.ufrag != t.far.ufrag || far.pwd != t.far.pwd)
	if !first {
		if bad := t.compatible(far); bad != nil {
			return nil, Terms{}, bad
		}
		if far.setup == t.ours.setup {
			return nil, Terms{}, unacceptable("the part in DTLS is another one, and a new DTLS association is not made")
		}
	}
	if restart && !p.mayRestart() {
		return nil, Terms{}, unacceptable("ICE is restarted too often, wait a moment")
	}
	ours := t.ours
	if first || restart {
		var err error
		if ours, err = p.connect(ctx, far, first); err != nil {
			return nil, Terms{}, fmt.Errorf("answer: %w", err)
		}
		t.tried = len(far.candidates)
	} else {
		p.try(far.candidates)
	}
	if first {
		t.who = identity{id: rand.Uint64N(1 << 62), ssrc: p.ssrc, cname: p.leg.CNAME()} //nolint:gosec // names, guards nothing
		t.wish = true
	}
	t.far, t.offered = far, nil
	terms := t.settle(&ours)
	t.ours = ours
	t.who.version++
	p.recall()
	p.apply(t.params(terms))
	return t.ours.write(far, t.who), terms, nil
}

// Offer makes an offer of ours in a session that runs: recv says whether we take
// what the far end sends; if not, we hold it. It changes nothing until
// [Peer.Accept]. It fails before the first Answer, and with the cause of the
// peer's end.
func (p *Peer) Offer(ctx context.Context, recv bool) ([]byte, error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	if err := p.able(ctx); err != nil {
		return nil, fmt.Errorf("offer: %w", err)
	}
	t := &p.talk
	if t.far == nil {
		return nil, fmt.Errorf("offer: %w", unacceptable("the first offer is the far end's"))
	}
	ours := t.ours
	ours.send, ours.recv = true, recv
	t.offered = &ours
	t.who.version++
	shown := ours
	shown.setup = "actpass" // RFC 8842 section 5.5: the association stays
	return shown.write(t.far, t.who), nil
}

// Accept takes the answer to the last Offer. It fails as Answer does.
func (p *Peer) Accept(ctx context.Context, answer []byte) (Terms, error) {
	d, bad := read(answer)
	if bad != nil {
		return Terms{}, bad
	}
	p.turn.Lock()
	defer p.turn.Unlock()
	if err := p.able(ctx); err != nil {
		return Terms{}, fmt.Errorf("accept: %w", err)
	}
	t := &p.talk
	if t.offered == nil {
		return Terms{}, malformed("there was no offer to answer")
	}
	far, bad := d.understand(t.far.at, p.near())
	if bad != nil {
		return Terms{}, bad
	}
	if far.ufrag != t.far.ufrag || far.pwd != t.far.pwd {
		return Terms{}, malformed("the answer restarts ICE unasked")
	}
	if bad := t.compatible(far); bad != nil {
		return Terms{}, bad
	}
	if !subset(far.formats, t.far.formats) {
		return Terms{}, malformed("the answer has payload types that were not offered")
	}
	far.lines = t.far.lines // theirs are ours, and rejected ones say no more than that
	t.wish = t.offered.recv
	ours := *t.offered
	t.far, t.offered = far, nil
	terms := t.settle(&ours)
	t.ours = ours
	p.apply(t.params(terms))
	return terms, nil
}

// AddCandidate adds a way to reach the far end. One that cannot be tried is
// passed over; one of a description that has not come yet waits for it.
func (p *Peer) AddCandidate(c Candidate) error {
	if len(c.Candidate) > 1024 {
		return malformed("the candidate is too long")
	}
	p.turn.Lock()
	defer p.turn.Unlock()
	if err := p.able(context.Background()); err != nil {
		return fmt.Errorf("add candidate: %w", err)
	}
	p.add(c)
	return nil
}

// mayRestart bounds how often ICE begins anew: each time checks are sent to
// wherever the far end says, so that its requests must not become a flood. Called
// with turn held.
func (p *Peer) mayRestart() bool {
	p.mu.Lock()
	up := p.up
	p.mu.Unlock()
	if up {
		return p.restarts.Allow()
	}
	p.talk.early++
	return p.talk.early <= earlyRestarts
}

// near reports whether loopback addresses of the far end are tried.
func (p *Peer) near() bool { return p.api.conf.Loopback && !p.afar.Load() }

// Afar says that the far end is on another machine: its loopback addresses would
// be ours, and are not tried. Call it before Answer.
func (p *Peer) Afar() { p.afar.Store(true) }

// able says why nothing can be negotiated.
func (p *Peer) able(ctx context.Context) error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx) //nolint:contextcheck // why the peer is over
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// add tries a candidate, or keeps it. Called with turn held.
func (p *Peer) add(c Candidate) {
	clean, ufrag, ok := candidate(c.Candidate, p.near())
	if !ok {
		return
	}
	far := p.talk.far
	if far == nil || ufrag != "" && ufrag != far.ufrag {
		if len(p.early) < candidateMost {
			p.early = append(p.early, c)
		}
		return
	}
	if far.owns(c) {
		p.try([]string{clean})
	}
}

// recall tries what came before its description; what is of none that came is
// dropped. Called with turn held.
func (p *Peer) recall() {
	for _, c := range slices.Clone(p.early) {
		p.add(c)
	}
	p.early = nil
}

// try lets ICE try candidates, so many at most since its last restart. Called
// with turn held.
func (p *Peer) try(all []string) {
	for _, c := range all {
		if p.talk.tried == candidateMost {
			return
		}
		p.talk.tried++
		// An error is about the end of the connection, which is told elsewhere.
		_ = p.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: "candidate:" + c})
	}
}

// owns reports whether a candidate is of the transport of our audio.
func (r *remote) owns(c Candidate) bool {
	switch {
	case c.SDPMid != nil && *c.SDPMid != "":
		return slices.Contains(r.mids, *c.SDPMid)
	case c.SDPMLineIndex != nil:
		i := int(*c.SDPMLineIndex)
		if i >= len(r.lines) {
			return false
		}
		mid, ok := r.lines[i].get("mid")
		return i == r.at || ok && r.bundled && slices.Contains(r.mids, mid)
	default:
		return true
	}
}

// connect lets the peer connection take a transport: the first, or another path
// for the one that there is. Called with turn held. The description that it is
// shown is our own: a failure is that of the connection, which is over then.
func (p *Peer) connect(ctx context.Context, far *remote, first bool) (ours local, err error) {
	p.mu.Lock()
	if first {
		p.began = time.Now()
	}
	p.broken = false
	if first || p.up { // nobody stays half open by asking again
		p.arm(p.api.conf.ICETimeout)
	}
	p.mu.Unlock()
	defer func() {
		if err != nil {
			p.end(err)
		}
	}()
	shown := *far
	if !first {
		shown.setup = p.talk.far.setup // the association stays as it is
	}
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: shown.shown()}); err != nil {
		return ours, fmt.Errorf("set remote description: %w", err)
	}
	answer, err := p.pc.CreateAnswer(nil)
	if err != nil {
		return ours, fmt.Errorf("create answer: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(answer); err != nil {
		return ours, fmt.Errorf("set local description: %w", err)
	}
	most := time.NewTimer(gatherWait)
	defer most.Stop()
	select {
	case <-gathered:
	case <-most.C:
	case <-ctx.Done():
	case <-p.ctx.Done():
		return ours, context.Cause(p.ctx) //nolint:contextcheck // why the peer is over
	}
	l := p.pc.LocalDescription()
	if l == nil {
		return ours, errors.New("no local description")
	}
	ours.seen(l.SDP)
	ours.candidates = p.api.addresses(ours.candidates)
	if !first {
		ours.setup = p.talk.ours.setup
	}
	return ours, nil
}

// compatible says why a later description cannot go on with what there is. Other
// certificates mean another association (RFC 8842 section 5.5).
func (t *talk) compatible(far *remote) *Error {
	if far.hash == t.far.hash && far.print != t.far.print {
		return unacceptable("the fingerprint is another one, and a new DTLS association is not made")
	}
	if far.mid != t.far.mid {
		return malformed("the mid of the audio is another one")
	}
	return nil
}

// settle finds our direction with respect to the far end's and to our wish.
func (t *talk) settle(ours *local) Terms {
	ours.send, ours.recv = t.far.recv, t.far.send && t.wish
	return Terms{Held: !t.far.recv, Send: ours.send, Recv: ours.recv, Codec: t.far.law}
}

// params is what the leg is given.
func (t *talk) params(terms Terms) media.Params {
	r := t.far
	return media.Params{
		Remote: farRTP, RTCP: farRTCP, Law: r.law, PayloadType: r.pt, Accept: r.accept, Event: r.event, HasEvent: r.hasEvnt,
		Ptime: r.ptime, Send: terms.Send, Recv: terms.Recv, Held: terms.Held,
	}
}

// subset reports whether all of a are in b.
func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}
