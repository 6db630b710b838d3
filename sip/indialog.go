package sip

import (
	"slices"
	"strconv"

	gosip "github.com/emiago/sipgo/sip"
	"go.uber.org/zap"
)

// receive takes a request of the dialog in its order of arrival, from the
// reader of the socket. What takes time goes on in a goroutine.
func (c *Call) receive(r *request) {
	code, extra := c.order(r)
	if code == 0 {
		code, extra = c.server.inspect(r)
	}
	if code == 0 && !knownMethod(r.method) {
		code, extra = 405, []Header{{"Allow", allowed}}
	}
	tx, err := c.server.begin(r, "")
	if err != nil {
		c.log.Debug("request not answered", zap.Error(err))
		return
	}
	if code != 0 {
		c.server.metrics.requested(r.method, "refused")
		c.answered(tx, code, extra...)
		return
	}
	c.server.metrics.requested(r.method, "taken")
	switch gosip.RequestMethod(r.method) {
	case gosip.BYE:
		c.onBye(tx)
	case gosip.INVITE:
		c.onReinvite(tx)
	case gosip.UPDATE:
		c.onUpdate(tx)
	case gosip.INFO, gosip.REFER:
		c.onAsked(tx)
	case gosip.NOTIFY:
		c.onNotify(tx)
	case gosip.OPTIONS:
		c.answered(tx, 200, c.server.capabilities(c.trunk != nil && c.trunk.Local)...)
	default:
		c.answered(tx, 481)
	}
}

// answered sends a response without a body.
func (c *Call) answered(tx *serverTx, code int, extra ...Header) {
	if _, err := tx.respond(code, "", extra...); err != nil {
		c.log.Debug("response not sent", zap.Int("status", code), zap.Error(err))
	}
}

// order checks the CSeq and the state of the dialog (RFC 3261 12.2.2).
func (c *Call) order(r *request) (code int, extra []Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dialog.heard && r.seq <= c.dialog.remoteSeq {
		return 500, nil
	}
	c.dialog.remoteSeq, c.dialog.heard = r.seq, true
	if c.phase != over {
		if c.trunk.trusted(r.source.Addr()) || c.dialog.last.addr.Addr() == r.source.Addr() {
			c.dialog.last = r.path()
		}
		return 0, nil
	}
	if m := gosip.RequestMethod(r.method); m == gosip.BYE || m == gosip.NOTIFY {
		return 0, nil // A BYE that crossed ours; news of a transfer.
	}
	return 481, nil
}

func (c *Call) onBye(tx *serverTx) {
	reason := parseReason(tx.req.header("Reason"))
	c.answered(tx, 200)
	c.mu.Lock()
	early := c.phase == ringing && c.direction == Inbound
	c.mu.Unlock()
	if early { // RFC 3261 15.1.2: a caller may leave its early dialog so.
		c.server.apart(tx.req, c.invite, func() { c.answered(c.invite, 487) })
	}
	c.end(ErrRemoteBye, reason)
}

// soon asks for another attempt within 10 s (RFC 3261 14.2).
func soon() Header { return Header{"Retry-After", strconv.Itoa(spread(11))} }

// claim decides whether an offer of theirs can be taken now; zero: it can.
func (c *Call) claim(tx *serverTx, offer bool) (code int, extra []Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase == ringing, c.theirs != nil && !c.theirs.done(): // RFC 3261 14.2: only until our final response.
		return 500, []Header{soon()}
	case c.ours, slices.ContainsFunc(c.acks, func(p *pendingAck) bool { return p.negotiator != nil }):
		return 491, nil
	}
	if offer {
		c.theirs = tx
	}
	return 0, nil
}

// onReinvite takes an INVITE within the dialog (RFC 3261 14.2).
func (c *Call) onReinvite(tx *serverTx) {
	target, err := tx.req.contact()
	if err != nil {
		c.answered(tx, 400)
		return
	}
	if code, extra := c.claim(tx, true); code != 0 {
		c.answered(tx, code, extra...)
		return
	}
	c.answered(tx, 100)
	stopped := make(chan struct{})
	tx.mu.Lock()
	tx.cancel = func(*request) {
		if _, err := tx.respond(487, ""); err == nil {
			close(stopped)
		}
	}
	tx.mu.Unlock()
	c.server.spawn(func() { c.renegotiate(tx, target, stopped) }, func(any) {
		c.unclaim(tx)
		c.answered(tx, 500)
		c.giveUp(ErrPanic)
	})
}

// renegotiate lets the negotiator answer a re-INVITE.
func (c *Call) renegotiate(tx *serverTx, target *gosip.Uri, stopped <-chan struct{}) {
	defer c.unclaim(tx)
	if err := c.turn(c.ctx); err != nil {
		return // The end of the call answered with 487.
	}
	keep := false
	defer func() {
		if !keep {
			c.giveTurn()
		}
	}()
	ctx, cancel := c.within(c.ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-stopped:
			cancel()
		case <-stop:
		}
	}()
	offer, _ := sessionOf(tx.req.headers, tx.req.body)
	n := c.current()
	body, err := c.describe(ctx, n, offer)
	if err != nil {
		c.turnDown(tx, err)
		return
	}
	p := &pendingAck{call: c, tx: tx}
	if offer == nil {
		p.negotiator, keep = n, true
	}
	if err := c.answer(p, n, body); err != nil {
		keep = false
		return
	}
	c.retarget(target)
}

// turnDown refuses an offer for which the negotiator has no answer, or for
// which the call ended too early.
func (c *Call) turnDown(tx *serverTx, err error) {
	if c.ctx.Err() != nil {
		err = &StatusError{Code: 487}
	}
	tx.refuse(statusOf(err))
}

func (c *Call) current() Negotiator {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.negotiator
}

func (c *Call) unclaim(tx *serverTx) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.theirs == tx {
		c.theirs = nil
		c.settle()
	}
}

// retarget takes the Contact of a target refresh (RFC 3261 12.2.2).
func (c *Call) retarget(u *gosip.Uri) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialog.target = u
}

// onUpdate takes an UPDATE (RFC 3311 5.2). Without an offer it refreshes the
// target only.
func (c *Call) onUpdate(tx *serverTx) {
	target, err := tx.req.contact()
	if err != nil {
		c.answered(tx, 400)
		return
	}
	offer, _ := sessionOf(tx.req.headers, tx.req.body)
	c.mu.Lock()
	contact := Header{"Contact", c.dialog.contact(c.dialog.last.transport)}
	c.mu.Unlock()
	if offer == nil {
		c.answered(tx, 200, contact)
		c.retarget(target)
		return
	}
	if code, extra := c.claim(tx, true); code != 0 {
		c.answered(tx, code, extra...)
		return
	}
	c.server.spawn(func() {
		defer c.unclaim(tx)
		if err := c.turn(c.ctx); err != nil {
			return
		}
		defer c.giveTurn()
		body, err := c.describe(c.ctx, c.current(), offer)
		if err != nil {
			c.turnDown(tx, err)
			return
		}
		if _, err := tx.respondBody(200, "", sdpType, body, contact); err == nil {
			c.retarget(target)
		}
	}, func(any) {
		c.unclaim(tx)
		c.answered(tx, 500)
		c.giveUp(ErrPanic)
	})
}
