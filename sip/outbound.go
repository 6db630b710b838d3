package sip

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	gosip "github.com/emiago/sipgo/sip"
	"go.uber.org/zap"
)

// An InviteRequest describes a call that we place.
type InviteRequest struct {
	To      string // URI to call: sip, or tel where the trunk has a proxy
	From    string // URI of the caller; empty: sip:ivrbridge at our address
	Display string // the caller's name; empty: none
	Trunk   string // name of the trunk whose credentials and proxy serve; empty: none
	Headers []Header
	// Target is a URI that the INVITE goes to instead of To's host; empty:
	// the trunk's proxy, or To.
	Target    string
	Transport Transport // empty: as the URI says, or UDP
	// ReferredBy and Replaces go into the headers of that name (RFC 3892,
	// RFC 3891).
	ReferredBy string
	Replaces   string
	// LateOffer sends the INVITE without a session description: the far end
	// offers in its 200, and Negotiator.Answer answers in the ACK.
	LateOffer bool
	// Progress is called for each 18x, in order, by the goroutine of Invite.
	Progress func(Progress)
}

// A Progress is a step of a call that is being set up, ours or the one of a
// transfer.
type Progress struct {
	Status int    // 100 to 699
	Reason string // the phrase
	Fork   string // To tag of the branch that rings; empty in a transfer
	SDP    []byte // early session description, nil if there is none
}

// Invite places a call and returns it once it is answered, acknowledged, and
// its media agreed. A refusal is a *StatusError. When ctx ends before the
// answer, Invite cancels the call in the background and returns the cause of
// ctx; an answer that comes all the same is acknowledged and ended. The same
// happens to the answers of further forks.
func (s *Server) Invite(ctx context.Context, r InviteRequest, n Negotiator) (*Call, error) {
	if n == nil {
		return nil, fmt.Errorf("invite without negotiator: %w", ErrInvalid)
	}
	c, routes, err := s.prepare(ctx, &r)
	if err != nil {
		return nil, fmt.Errorf("invite: %w", err)
	}
	if !s.enter(c) {
		return nil, ErrServerDown
	}
	var offer []byte
	if !r.LateOffer {
		if offer, err = n.Offer(ctx); err != nil {
			c.end(err, Reason{})
			return nil, fmt.Errorf("invite: %w", err)
		}
	}
	c.negotiator = n
	for i, to := range routes {
		if err = c.place(ctx, r, to, offer); err == nil {
			return c, nil
		}
		if i == len(routes)-1 || !elsewhere(err) || ctx.Err() != nil {
			break
		}
	}
	c.end(err, Reason{})
	return nil, fmt.Errorf("invite: %w", err)
}

// elsewhere reports whether the next address may do better (RFC 3263 4.3).
func elsewhere(err error) bool {
	if errors.Is(err, ErrBadAnswer) {
		return false
	}
	if se, ok := errors.AsType[*StatusError](err); ok {
		return se.Code == 503
	}
	return true
}

// prepare checks the request and makes the call and its dialog so far.
func (s *Server) prepare(ctx context.Context, r *InviteRequest) (*Call, []route, error) {
	if s.draining.Load() {
		return nil, nil, ErrServerDown
	}
	var trunk *Trunk
	if r.Trunk != "" {
		if trunk = s.admission.named(r.Trunk); trunk == nil {
			return nil, nil, fmt.Errorf("trunk %q is unknown: %w", r.Trunk, ErrInvalid)
		}
	}
	if err := checkHeaders(r.Headers); err != nil {
		return nil, nil, err
	}
	if hasControl(r.Replaces) || hasControl(r.Display) || len(r.Display) > 128 {
		return nil, nil, fmt.Errorf("display name or replaces: %w", ErrInvalid)
	}
	target, err := outgoingURI(r.To)
	if err != nil {
		return nil, nil, fmt.Errorf("to: %w", err)
	}
	next, err := s.nextTarget(r, trunk, target)
	if err != nil {
		return nil, nil, err
	}
	if r.ReferredBy != "" {
		if _, err := outgoingURI(r.ReferredBy); err != nil {
			return nil, nil, fmt.Errorf("referred by: %w", err)
		}
	}
	routes, err := s.resolve(ctx, next, r.Transport)
	if err != nil {
		return nil, nil, err
	}
	c := s.newCall(Outbound, trunk)
	self := s.self(trunk, routes[0])
	from := &gosip.Uri{Scheme: "sip", User: "ivrbridge", Host: uriHost(self.Addr())}
	if r.From != "" {
		if from, err = outgoingURI(r.From); err != nil {
			return nil, nil, fmt.Errorf("from: %w", err)
		}
	}
	tag := token()
	c.dialog = dialog{
		callID: token(), localTag: tag, local: nameAddr(r.Display, from) + ";tag=" + tag, remote: nameAddr("", target),
		localSeq: newSeq(), target: target, last: routes[0], self: self, user: escape(unescape(from.User), unreserved+"+"),
	}
	c.source = routes[0].addr
	c.from, _ = ParseAddress(nameAddr(r.Display, from))
	c.to, _ = ParseAddress(nameAddr("", target))
	c.uri = c.to
	c.log = c.log.With(zap.String("call_id", c.dialog.callID), zap.String("trunk", r.Trunk))
	return c, routes, nil
}

// nextTarget is the URI whose host the INVITE goes to.
func (s *Server) nextTarget(r *InviteRequest, t *Trunk, to *gosip.Uri) (*gosip.Uri, error) {
	next := r.Target
	if next == "" && t != nil {
		next = t.Proxy
	}
	if next == "" {
		return to, nil
	}
	u, err := outgoingURI(next)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	return u, nil
}

// place sends the INVITE to one address and sees it through.
func (c *Call) place(ctx context.Context, r InviteRequest, to route, offer []byte) error {
	ctx, cancel := c.within(ctx)
	defer cancel()
	c.guest(to)
	for attempt := 0; ; attempt++ {
		req := c.firstInvite(&r, to, offer)
		if to.transport == UDP && r.Transport == "" && len(req.String()) > maxUDPRequest && c.server.speaksTCP(ctx, to) {
			to.transport = TCP
			req = c.firstInvite(&r, to, offer)
		}
		inv, err := c.server.inviting(ctx, c, req, to, c.establish)
		if err != nil {
			return err
		}
		res, err := inv.final(ctx, func(res *response) { report(res, r.Progress) })
		switch {
		case err != nil:
			return err
		case res.code < 300:
			return c.conclude(ctx, inv, res, offer == nil)
		case attempt < maxChallenges && (res.code == 401 || res.code == 407) && c.credits.take(c.server, c.trunk, res):
			continue
		}
		return res.status()
	}
}

// firstInvite builds the INVITE that begins the dialog.
func (c *Call) firstInvite(r *InviteRequest, to route, offer []byte) *gosip.Request {
	c.mu.Lock()
	c.dialog.last, c.dialog.self = to, c.server.self(c.trunk, to)
	c.dialog.localSeq++
	req := c.dialog.request(c.server, "INVITE", c.dialog.localSeq, to)
	c.mu.Unlock()
	fillInvite(req, r, offer)
	c.credits.authorize(req, c.trunk)
	return req
}

// maxUDPRequest is the length from which a request goes over TCP if the far
// end takes it (RFC 3261 18.1.1).
const maxUDPRequest = 1300

// speaksTCP tries the same address by TCP, briefly. The connection stays for
// the request that follows.
func (s *Server) speaksTCP(ctx context.Context, to route) bool {
	ctx, cancel := context.WithTimeout(ctx, s.t1)
	defer cancel()
	w, err := s.requestWire(ctx, route{transport: TCP, addr: to.addr})
	if err != nil {
		return false
	}
	_, _ = w.TryClose()
	return true
}

// guest admits the address for as long as the dialog is known.
func (c *Call) guest(to route) {
	c.server.admission.welcome(to.addr.Addr())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.guests = append(c.guests, to.addr.Addr())
}

func fillInvite(req *gosip.Request, r *InviteRequest, offer []byte) {
	appendHeader(req, "Allow", allowed)
	appendHeader(req, "Supported", supported)
	appendHeader(req, "Accept", sdpType)
	if r.ReferredBy != "" {
		if u, err := outgoingURI(r.ReferredBy); err == nil {
			appendHeader(req, "Referred-By", "<"+u.String()+">")
		}
	}
	if r.Replaces != "" {
		appendHeader(req, "Replaces", r.Replaces)
	}
	for _, h := range r.Headers {
		appendHeader(req, h.Name, h.Value)
	}
	if offer != nil {
		appendHeader(req, "Content-Type", sdpType)
	}
	req.SetBody(offer)
}

func report(res *response, progress func(Progress)) {
	if progress == nil {
		return
	}
	sdp, _ := sessionOf(res.headers, res.body)
	progress(Progress{Status: res.code, Reason: res.reason, Fork: res.toTag, SDP: sdp})
}

// establish makes the dialog of the first 2xx, in the reader of the socket, so
// that a BYE right behind it finds the call. It returns false for other forks.
func (c *Call) establish(res *response) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != ringing || c.key != "" {
		return false
	}
	c.dialog.adopt(res)
	c.headers = res.headers
	c.phase = up
	c.ours = true // Until the answer is taken: an offer of theirs would be glare.
	c.key = dialogKey(c.dialog.callID, c.dialog.localTag, c.dialog.remoteTag)
	c.server.dialogs.put(c.key, c)
	return true
}

// adopt takes what a 2xx adds to a dialog (RFC 3261 12.1.2).
func (d *dialog) adopt(res *response) {
	d.remoteTag = res.toTag
	d.remote = headerValue(res.headers, "To")
	d.routes = routeSet(res.headers, true)
	if target, err := contactOf(res.headers); err == nil {
		d.target = target
	}
}

// conclude acknowledges the answer and gives it to the negotiator.
func (c *Call) conclude(ctx context.Context, inv *invitation, res *response, late bool) error {
	defer c.unclaimOurs()
	if err := c.turn(c.server.ctx); err != nil { //nolint:contextcheck // An answer is acknowledged whoever has left.
		inv.acknowledge(res, nil)
		return nil // Answered and already over: its context says why.
	}
	defer c.giveTurn()
	sdp, err := sessionOf(res.headers, res.body)
	if err == nil && sdp == nil {
		err = ErrBadAnswer
	}
	both, cancel := c.within(ctx)
	defer cancel()
	var answer []byte
	n := c.current()
	if late && err == nil {
		answer, err = n.Answer(both, sdp)
	}
	inv.acknowledge(res, answer)
	if !late && err == nil {
		err = n.Accept(both, sdp)
	}
	if err != nil && c.ctx.Err() == nil {
		c.giveUp(errors.Join(ErrBadAnswer, err))
		return fmt.Errorf("%w: %w", ErrBadAnswer, err)
	}
	return nil
}

// dismiss acknowledges and ends the answer of a fork that is not wanted.
func (inv *invitation) dismiss(res *response) {
	c := inv.call
	c.mu.Lock()
	d := c.dialog
	c.mu.Unlock()
	d.adopt(res)
	d.localSeq = res.seq + 1
	inv.ack(&d, res, nil)
	to := inv.server.nextHop(inv.server.ctx, &d)
	bye := d.request(inv.server, "BYE", d.localSeq, to)
	appendHeader(bye, "Reason", Reason{Protocol: "SIP", Cause: 487, Text: "not wanted"}.String())
	c.credits.authorize(bye, c.trunk)
	if _, err := inv.server.exchange(inv.server.ctx, bye, to); err != nil {
		inv.server.log.Debug("fork not ended", zap.Error(err))
	}
}

// ackTable remembers the ACKs of the forks of one INVITE.
type ackTable struct {
	mu   sync.Mutex
	sent map[string]func()
}

// expect notes that the ACK of a fork is being made; false: it is already.
func (t *ackTable) expect(tag string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.sent[tag]; ok || len(t.sent) >= 32 {
		return false
	}
	if t.sent == nil {
		t.sent = make(map[string]func())
	}
	t.sent[tag] = nil
	return true
}

// repeat sends the ACK of a fork again and reports whether there was one.
func (t *ackTable) repeat(tag string) bool {
	t.mu.Lock()
	again := t.sent[tag]
	t.mu.Unlock()
	if again == nil {
		return false
	}
	again()
	return true
}

func (t *ackTable) done(tag string, again func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent[tag] = again
}

// Replaces returns the value of a Replaces header for this call, as the far end
// of another one would send it (RFC 3891 6.1).
func (c *Call) Replaces() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialog.callID + ";to-tag=" + c.dialog.remoteTag + ";from-tag=" + c.dialog.localTag
}

// parseStatusLine reads the first line of a message/sipfrag body.
func parseStatusLine(line string) (code int, reason string, ok bool) {
	rest, ok := cutPrefixFold(line, "SIP/2.0 ")
	if !ok {
		return 0, "", false
	}
	digits, reason := cutAny(rest, " ")
	n, err := strconv.Atoi(digits)
	if err != nil || len(digits) != 3 || n < 100 || n > 699 {
		return 0, "", false
	}
	return n, plain(reason, 128), true
}
