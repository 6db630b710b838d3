package sip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	gosip "github.com/emiago/sipgo/sip"
	"go.uber.org/zap"
)

// phase is where a call stands.
type phase uint8

const (
	ringing phase = iota // no final response yet
	up                   // 2xx sent or received
	over
)

// A Cause tells the far end why it is hung up on.
type Cause struct {
	// Status refuses a call that was not answered yet; zero: 480.
	Status int
	// Reason goes into the BYE or the refusal (RFC 3326).
	Reason Reason
	// Headers go into the BYE besides.
	Headers []Header
}

// A Call is one INVITE, of the far end or ours, and the dialog it becomes. Its
// methods are safe for concurrent use.
type Call struct {
	server    *Server
	log       *zap.Logger
	id        string
	direction Direction
	trunk     *Trunk
	source    netip.AddrPort
	from, to  Address
	uri       Address
	headers   []Header // of the INVITE, or of the 2xx that answered ours
	offer     []byte   // of an inbound INVITE
	ctx       context.Context
	cancel    context.CancelCauseFunc
	requests  chan Request
	turns     chan struct{} // holds a token while nobody negotiates
	invite    *serverTx     // of an inbound call
	credits   *credentialStore

	mu         sync.Mutex
	phase      phase
	dialog     dialog
	key        string // in the dialog table
	negotiator Negotiator
	early      []byte // the answer sent in a 183
	accepting  bool
	acks       []*pendingAck
	theirs     *serverTx     // their re-INVITE or UPDATE that waits for its answer
	ours       bool          // our re-INVITE is unanswered
	settled    chan struct{} // closed and replaced when theirs, ours, or acks shrink
	bye        *Cause        // is sent when the ACK arrives
	reminder   *time.Timer   // repeats the provisional response
	orphan     *time.Timer   // ends a call whose flow is gone
	endReason  Reason
	subs       []*subscription
	guests     []netip.Addr
	alive      int // the call itself and its handler
	holds      int // what keeps the dialog in the table
	placed     bool
}

func (s *Server) newCall(d Direction, t *Trunk) *Call {
	c := &Call{
		server: s, id: token(), direction: d, trunk: t, requests: make(chan Request, 16), turns: make(chan struct{}, 1),
		settled: make(chan struct{}), alive: 1, holds: 1, credits: &credentialStore{},
	}
	c.turns <- struct{}{}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	c.log = s.log.With(zap.String("call", c.id))
	return c
}

// ID returns a random name for the call, unlike the Call-ID ours alone.
func (c *Call) ID() string { return c.id }

// CallID returns the Call-ID header's value.
func (c *Call) CallID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialog.callID
}

// Context is cancelled when the call is over; context.Cause tells why.
func (c *Call) Context() context.Context { return c.ctx }

// Trunk returns the name of the trunk that the call belongs to.
func (c *Call) Trunk() string {
	if c.trunk == nil {
		return ""
	}
	return c.trunk.Name
}

// Direction tells who began the call.
func (c *Call) Direction() Direction { return c.direction }

// From returns the caller's address as the INVITE had it.
func (c *Call) From() Address { return c.from }

// To returns the called address as the INVITE had it.
func (c *Call) To() Address { return c.to }

// RequestURI returns the Request-URI of the INVITE.
func (c *Call) RequestURI() Address { return c.uri }

// Header returns the values of all headers with that name, compact or long, of
// the INVITE, or of the 2xx that answered ours.
func (c *Call) Header(name string) []string { return headerValues(c.headers, longName(name)) }

// Source returns the address that the call came from or went to.
func (c *Call) Source() netip.AddrPort { return c.source }

// Offer returns the session description of an inbound INVITE, nil if it has
// none. The caller does not change it.
func (c *Call) Offer() []byte { return c.offer }

// UserAgent returns what the far end calls itself, empty if it does not.
func (c *Call) UserAgent() string {
	if ua := headerValue(c.headers, "User-Agent"); ua != "" {
		return plain(ua, 256)
	}
	return plain(headerValue(c.headers, "Server"), 256)
}

// Transport returns how the call's signalling travels.
func (c *Call) Transport() Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialog.last.transport
}

// RemoteTarget returns the URI that requests of the dialog are for. It changes
// with re-INVITEs and UPDATEs.
func (c *Call) RemoteTarget() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dialog.target == nil {
		return ""
	}
	return c.dialog.target.String()
}

// Local returns our signalling address as the far end sees it.
func (c *Call) Local() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialog.self
}

// Tags returns the local and the remote tag of the dialog, for a Replaces.
func (c *Call) Tags() (local, remote string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialog.localTag, c.dialog.remoteTag
}

// EndReason returns the Reason header of the BYE or CANCEL that ended the call,
// the zero Reason if there was none.
func (c *Call) EndReason() Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.endReason
}

// Hangup ends the call: it cancels or refuses what is not answered and sends
// BYE otherwise, as soon as the protocol allows. It returns when that is
// queued; the call's context ends at once with ErrLocalBye.
func (c *Call) Hangup(cause Cause) { c.hangup(cause, ErrLocalBye) }

func (c *Call) hangup(cause Cause, why error) {
	if err := checkHeaders(cause.Headers); err != nil {
		c.log.Warn("headers of hang-up left out", zap.Error(err))
		cause.Headers = nil
	}
	c.mu.Lock()
	was := c.phase
	c.mu.Unlock()
	if was == ringing && c.direction == Inbound {
		code := cause.Status
		if code < 300 || code > 699 {
			code = 480
		}
		if c.refuse(&StatusError{Code: code}, why, cause.Reason) {
			return
		}
	}
	c.bringDown(cause, why, true)
}

// bringDown ends the call and sends BYE, once its answer is acknowledged or
// was long enough not (RFC 3261 15). wait is false where that time is over.
func (c *Call) bringDown(cause Cause, why error, wait bool) {
	c.mu.Lock()
	if c.phase == over {
		c.mu.Unlock()
		return
	}
	established := c.phase == up || c.direction == Inbound && c.invite.accepted()
	unacknowledged := slices.ContainsFunc(c.acks, func(p *pendingAck) bool { return p.initial })
	if established {
		c.holds++ // Until the BYE is answered.
	}
	if established && wait && unacknowledged {
		c.bye = &cause
	}
	c.mu.Unlock()
	c.end(why, cause.Reason)
	if established && (!wait || !unacknowledged) {
		c.sendBye(cause)
	}
}

// end makes the call over, if it is not yet.
func (c *Call) end(why error, reason Reason) {
	c.mu.Lock()
	if c.phase == over {
		c.mu.Unlock()
		return
	}
	c.phase = over
	c.endReason = reason
	if c.reminder != nil {
		c.reminder.Stop()
	}
	if c.orphan != nil {
		c.orphan.Stop()
	}
	if c.bye == nil {
		for _, p := range c.acks {
			if p.timer != nil {
				p.timer.Stop()
			}
		}
		c.acks = nil
	}
	theirs := c.theirs
	placed := c.placed
	c.placed = false
	c.mu.Unlock()
	if placed {
		c.server.live.Add(-1)
	}
	if theirs != nil && !theirs.done() {
		_, _ = theirs.respond(487, "") // RFC 3261 15.1.2.
	}
	c.cancel(why)
	c.log.Debug("call over", zap.NamedError("cause", why))
	c.die()
	c.release()
}

// die takes away one of the lives of the call: its own and its handler's.
func (c *Call) die() {
	c.mu.Lock()
	c.alive--
	gone := c.alive == 0
	c.mu.Unlock()
	if gone {
		c.server.left(c)
	}
}

// release takes away one reason to know the dialog.
func (c *Call) release() {
	c.mu.Lock()
	c.holds--
	gone := c.holds == 0
	key, guests := c.key, c.guests
	if gone {
		c.guests = nil
	}
	c.mu.Unlock()
	if !gone {
		return
	}
	if key != "" {
		c.server.dialogs.drop(key, c)
	}
	for _, ip := range guests {
		c.server.admission.leave(ip)
	}
	c.server.notify()
}

// sendBye sends BYE in a goroutine of its own and releases the dialog when it
// is answered or given up.
func (c *Call) sendBye(cause Cause) {
	c.server.spawn(func() {
		defer c.release()
		_, err := c.do(c.server.ctx, "BYE", func(req *gosip.Request, _ uint32) {
			if r := cause.Reason.String(); r != "" {
				appendHeader(req, "Reason", r)
			}
			for _, h := range cause.Headers {
				appendHeader(req, h.Name, h.Value)
			}
		})
		if err != nil {
			c.log.Debug("bye not answered", zap.Error(err))
		}
	}, nil)
}

// within returns a context that ends with ctx or with the call, whichever is
// first.
func (c *Call) within(ctx context.Context) (context.Context, context.CancelFunc) {
	both, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ctx, func() { cancel(context.Cause(c.ctx)) })
	return both, func() {
		stop()
		cancel(context.Canceled)
	}
}

// turn waits until nobody else negotiates; giveTurn lets the next one.
func (c *Call) turn(ctx context.Context) error {
	select {
	case <-c.turns:
		return nil
	case <-c.ctx.Done():
		return c.why()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// why is the cause of the call's end, nil while it lives.
func (c *Call) why() error { return context.Cause(c.ctx) }

func (c *Call) giveTurn() { c.turns <- struct{}{} }

// settle wakes those who wait for an offer or ACK to be done with. The lock is
// held.
func (c *Call) settle() {
	close(c.settled)
	c.settled = make(chan struct{})
}

// gone says why a method cannot do its work, with the lock held.
func (c *Call) gone() error {
	if c.phase == over {
		if cause := context.Cause(c.ctx); cause != nil {
			return cause
		}
		return ErrLocalBye
	}
	return ErrState
}

// lost ends the call because the far end does not know it any more or is
// silent (RFC 3261 12.2.1.2), and returns whether it did. Where its connection
// is gone, it has time to come back.
func (c *Call) lost(r *response, err error) bool {
	switch {
	case r != nil && r.code == 481:
		c.end(ErrDialogGone, Reason{})
		return true
	case r != nil && r.code == 408, errors.Is(err, ErrNoResponse) && !errors.Is(err, ErrTransport) && !errors.Is(err, errCut):
		c.bringDown(Cause{Reason: Reason{Protocol: "SIP", Cause: 408, Text: "no response"}}, ErrDialogGone, false)
		return true
	}
	return false
}

// do sends one request of the dialog and returns its final response. It
// answers challenges of the call's trunk. fill adds what the method needs; it
// is called again, with a new CSeq, for each attempt.
func (c *Call) do(ctx context.Context, method string, fill func(req *gosip.Request, seq uint32)) (*response, error) {
	for attempt := 0; ; attempt++ {
		c.mu.Lock()
		d := c.dialog
		c.mu.Unlock()
		to := c.server.nextHop(ctx, &d)
		c.mu.Lock()
		c.dialog.localSeq++
		seq := c.dialog.localSeq
		req := c.dialog.request(c.server, method, seq, to)
		c.mu.Unlock()
		if fill != nil {
			fill(req, seq)
		}
		c.credits.authorize(req, c.trunk)
		r, err := c.server.exchange(ctx, req, to)
		if err != nil {
			return nil, err
		}
		if attempt < maxChallenges && (r.code == 401 || r.code == 407) && c.credits.take(c.server, c.trunk, r) {
			continue
		}
		return r, nil
	}
}

// exchange sends a request other than INVITE and waits for the final response.
func (s *Server) exchange(ctx context.Context, req *gosip.Request, to route) (*response, error) {
	if req.Body() == nil {
		req.SetBody(nil)
	}
	answer := make(chan *response, 1)
	failed := make(chan error, 1)
	t, err := s.send(ctx, req, to, func(r *response) {
		if r.code >= 200 {
			answer <- r
		}
	}, func(err error) { failed <- err })
	if err != nil {
		return nil, err
	}
	select {
	case r := <-answer:
		return r, nil
	case err := <-failed:
		return nil, err
	case <-ctx.Done():
		t.tx.Terminate()
		return nil, fmt.Errorf("%s: %w", req.Method, context.Cause(ctx))
	}
}
