package sip

import (
	"context"
	"errors"
	"fmt"
	"time"

	gosip "github.com/emiago/sipgo/sip"
	"go.uber.org/zap"
)

// Reoffer renegotiates the session with an INVITE of ours: n makes the offer
// and takes the answer. It waits for its turn, and if both sides offer at the
// same time it tries again after the pause of RFC 3261 14.1. A refusal is a
// *StatusError and leaves the session as it was; 481, 408, and silence end the
// call.
func (c *Call) Reoffer(ctx context.Context, n Negotiator) error {
	if n == nil {
		return fmt.Errorf("reoffer without negotiator: %w", ErrInvalid)
	}
	ctx, cancel := c.within(ctx)
	defer cancel()
	for {
		pause, err := c.reoffer(ctx, n)
		if err == nil || pause == 0 {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("reoffer: %w", context.Cause(ctx))
		}
	}
}

// glare is how long to wait after a 491: the owner of the Call-ID longer
// (RFC 3261 14.1).
func (c *Call) glare() time.Duration {
	if c.direction == Outbound {
		return 2100*time.Millisecond + time.Duration(spread(191))*10*time.Millisecond
	}
	return time.Duration(1+spread(200)) * 10 * time.Millisecond
}

// reoffer makes one attempt. A pause says that another one may succeed.
func (c *Call) reoffer(ctx context.Context, n Negotiator) (pause time.Duration, err error) {
	if err := c.claimOurs(ctx); err != nil {
		return 0, fmt.Errorf("reoffer: %w", err)
	}
	defer c.unclaimOurs()
	if err := c.turn(ctx); err != nil {
		return 0, fmt.Errorf("reoffer: %w", err)
	}
	defer c.giveTurn()
	offer, err := n.Offer(ctx)
	if err != nil {
		return 0, fmt.Errorf("reoffer: %w", err)
	}
	r, inv, err := c.reinvite(ctx, offer)
	switch {
	case err != nil:
		if c.ctx.Err() == nil {
			c.lost(nil, err)
		}
		return 0, fmt.Errorf("reoffer: %w", err)
	case r.code == 491:
		return c.glare(), r.status()
	case r.code == 500 && r.status().RetryAfter > 0 && r.status().RetryAfter <= 10*time.Second:
		return r.status().RetryAfter, r.status()
	case r.code >= 300:
		c.lost(r, nil)
		return 0, fmt.Errorf("reoffer: %w", r.status())
	}
	if target, err := contactOf(r.headers); err == nil {
		c.retarget(target)
	}
	inv.acknowledge(r, nil)
	answer, err := sessionOf(r.headers, r.body)
	if err == nil && answer == nil {
		err = ErrBadAnswer
	}
	if err == nil {
		err = n.Accept(ctx, answer)
	}
	if err != nil {
		return 0, fmt.Errorf("reoffer: answer: %w", err)
	}
	return 0, nil
}

// claimOurs waits until no offer is on its way, in either direction.
func (c *Call) claimOurs(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.phase != up {
			defer c.mu.Unlock()
			return c.gone()
		}
		if !c.ours && c.theirs == nil && len(c.acks) == 0 {
			c.ours = true
			c.mu.Unlock()
			return nil
		}
		settled := c.settled
		c.mu.Unlock()
		select {
		case <-settled:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *Call) unclaimOurs() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ours = false
	c.settle()
}

// reinvite sends an INVITE within the dialog and returns its final response;
// challenges are answered.
func (c *Call) reinvite(ctx context.Context, offer []byte) (*response, *invitation, error) {
	for attempt := 0; ; attempt++ {
		c.mu.Lock()
		d := c.dialog
		c.mu.Unlock()
		to := c.server.nextHop(ctx, &d)
		c.mu.Lock()
		c.dialog.localSeq++
		req := c.dialog.request(c.server, "INVITE", c.dialog.localSeq, to)
		c.mu.Unlock()
		appendHeader(req, "Allow", allowed)
		appendHeader(req, "Supported", supported)
		appendHeader(req, "Content-Type", sdpType)
		req.SetBody(offer)
		c.credits.authorize(req, c.trunk)
		inv, err := c.server.inviting(ctx, c, req, to, nil)
		if err != nil {
			return nil, nil, err
		}
		r, err := inv.final(ctx, nil)
		if err != nil {
			return nil, nil, err
		}
		if attempt < maxChallenges && (r.code == 401 || r.code == 407) && c.credits.take(c.server, c.trunk, r) {
			continue
		}
		return r, inv, nil
	}
}

// An invitation is an INVITE of ours, the first or a later one of a dialog.
type invitation struct {
	server   *Server
	call     *Call
	req      *gosip.Request
	to       route
	tx       *clientTx
	box      *mailbox[event]
	register func(*response) bool // takes a 2xx in the reader; false: another fork's
	acks     ackTable
}

// errDismissed says that an answer came which nobody waited for any more.
var errDismissed = errors.New("sip: answer was dismissed")

// An event is a response, or the end without one.
type event struct {
	res *response
	err error
}

// inviting sends an INVITE. register sees the first 2xx of each fork in the
// reader of the socket, before anything that follows it there.
func (s *Server) inviting(ctx context.Context, c *Call, req *gosip.Request, to route, register func(*response) bool) (*invitation, error) {
	inv := &invitation{server: s, call: c, req: req, to: to, box: newMailbox[event](), register: register}
	var err error
	if inv.tx, err = s.send(ctx, req, to, inv.on, func(err error) { inv.box.put(event{err: err}) }); err != nil {
		return nil, err
	}
	ip := to.addr.Addr()
	s.admission.welcome(ip) // Repeated answers must reach us even if the call is over.
	if !inv.tx.tx.OnTerminate(func(string, error) { s.admission.leave(ip) }) {
		s.admission.leave(ip)
	}
	return inv, nil
}

// on takes a response in the reader of the socket.
func (inv *invitation) on(r *response) {
	if r.code >= 200 && r.code < 300 {
		if inv.acks.repeat(r.toTag) {
			return
		}
		if !inv.acks.expect(r.toTag) {
			return // Its ACK is being made.
		}
		if inv.register != nil && !inv.register(r) {
			inv.server.spawn(func() { inv.dismiss(r) }, nil)
			inv.box.put(event{err: errDismissed})
			return
		}
		if inv.register == nil && r.toTag != inv.call.remoteTag() {
			return
		}
	}
	if !inv.box.put(event{res: r}) && r.code >= 200 {
		inv.call.log.Warn("too many responses")
	}
}

func (c *Call) remoteTag() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialog.remoteTag
}

// final waits for the final response; each is given to progress before. When
// ctx ends, the INVITE is cancelled in the background.
func (inv *invitation) final(ctx context.Context, progress func(*response)) (*response, error) {
	provisional := false
	for {
		e, err := inv.box.take(ctx)
		if err != nil {
			inv.server.leave(func() { inv.abandon(provisional) }) //nolint:contextcheck // It outlives the caller.
			return nil, fmt.Errorf("INVITE: %w", err)
		}
		if e.err != nil {
			return nil, e.err
		}
		if e.res.code >= 200 {
			return e.res, nil
		}
		provisional = true
		if progress != nil && e.res.code > 100 {
			progress(e.res)
		}
	}
}

// abandon cancels the INVITE as soon as the far end has shown itself
// (RFC 3261 9.1), and acknowledges and ends what is answered all the same.
func (inv *invitation) abandon(provisional bool) {
	ctx, cancel := context.WithCancel(inv.server.ctx)
	defer cancel()
	sent := false
	for {
		if provisional && !sent {
			sent = true
			inv.cancelRequest()
			defer time.AfterFunc(64*inv.server.t1, cancel).Stop()
		}
		e, err := inv.box.take(ctx)
		switch {
		case err != nil:
			inv.tx.tx.Terminate()
			return
		case e.err != nil || e.res.code >= 300:
			return
		case e.res.code >= 200:
			inv.dismiss(e.res)
			return
		}
		provisional = true
	}
}

// cancelRequest sends CANCEL.
func (inv *invitation) cancelRequest() {
	req := gosip.NewRequest(gosip.CANCEL, *inv.req.Recipient.Clone())
	for _, name := range []string{"Via", "Route", "From", "To", "Call-ID"} {
		for _, h := range inv.req.GetHeaders(name) {
			appendHeader(req, name, h.Value())
		}
	}
	appendHeader(req, "Max-Forwards", "70")
	seq, _ := cutAny(headerText(inv.req, "CSeq"), " ")
	appendHeader(req, "CSeq", seq+" CANCEL")
	appendHeader(req, "User-Agent", inv.server.config.UserAgent)
	inv.server.spawn(func() {
		if _, err := inv.server.exchange(inv.server.ctx, req, inv.to); err != nil && !errors.Is(err, ErrServerDown) {
			inv.server.log.Debug("cancel not answered", zap.Error(err))
		}
	}, nil)
}

// acknowledge sends the ACK of a 2xx and remembers it for repetitions.
func (inv *invitation) acknowledge(r *response, answer []byte) {
	c := inv.call
	c.mu.Lock()
	d := c.dialog
	c.mu.Unlock()
	inv.ack(&d, r, answer)
}

func (inv *invitation) ack(d *dialog, r *response, answer []byte) {
	to := inv.server.nextHop(inv.server.ctx, d)
	req := d.request(inv.server, "ACK", r.seq, to)
	copyCredentials(inv.req, req)
	if answer != nil {
		appendHeader(req, "Content-Type", sdpType)
	}
	req.SetBody(answer)
	send := func() {
		if err := inv.server.write(inv.server.ctx, req, to); err != nil {
			inv.server.log.Debug("ack not sent", zap.Error(err))
		}
	}
	send()
	inv.acks.done(r.toTag, func() { inv.server.spawn(send, nil) })
}
