package sip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	gosip "github.com/emiago/sipgo/sip"
	"go.uber.org/zap"
)

// remindEvery is how often a provisional response is repeated, lest proxies
// give up (RFC 3261 13.3.1.1).
const remindEvery = time.Minute

// onInvite begins a call, from the reader of the socket.
func (s *Server) onInvite(r *request) {
	target, err := r.contact()
	if err != nil {
		s.refuse(r, 400, Header{"Warning", "399 ivrbridge " + quote(plain(err.Error(), 64))})
		return
	}
	if !s.admitCall() {
		s.refuse(r, 503, busyHeaders()...)
		return
	}
	c := s.newCall(Inbound, r.trunk)
	c.placed = true
	tag := token()
	if c.invite, err = s.begin(r, tag); err != nil {
		s.live.Add(-1)
		s.log.Debug("invite not taken", zap.Error(err))
		return
	}
	c.source, c.headers = r.source, r.headers
	c.from, c.to = r.from, r.to
	c.uri, _ = ParseAddress("<" + r.msg.Recipient.String() + ">")
	c.offer, _ = sessionOf(r.headers, r.body)
	c.dialog = s.inboundDialog(r, target, tag)
	c.key = dialogKey(r.callID, tag, r.fromTag)
	c.alive = 2
	c.log = c.log.With(zap.String("call_id", plain(r.callID, 128)), zap.String("trunk", r.trunk.Name))
	if !s.enter(c) {
		s.live.Add(-1)
		return
	}
	s.dialogs.put(c.key, c)
	c.invite.mu.Lock()
	c.invite.cancel = func(cancel *request) { c.cancelled(cancel) }
	c.invite.mu.Unlock()
	s.metrics.requested(r.method, "taken")
	if _, err := c.invite.respond(100, ""); err != nil {
		c.log.Debug("trying not sent", zap.Error(err))
	}
	s.spawn(c.serve, nil)
}

// serve runs the handler and cleans up behind it.
func (c *Call) serve() {
	defer c.die()
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("handler panicked", zap.Any("panic", p), zap.Stack("stack"))
			c.hangup(Cause{Status: 500, Reason: Reason{Protocol: "SIP", Cause: 500, Text: "internal error"}}, ErrPanic)
		}
	}()
	c.server.config.Handler.ServeCall(c.ctx, c)
	c.hangup(Cause{Status: 480, Reason: Reason{Protocol: "Q.850", Cause: 16, Text: "normal clearing"}}, ErrLocalBye)
}

// cancelled ends a call whose caller gave up.
func (c *Call) cancelled(cancel *request) {
	reason := parseReason(cancel.header("Reason"))
	if _, err := c.invite.respond(487, ""); err != nil {
		if errors.Is(err, ErrState) {
			return // The final response was quicker: RFC 3261 9.2.
		}
		c.log.Debug("487 not sent", zap.Error(err))
	}
	c.end(ErrCancelled, reason)
}

// Ring tells the caller that the call is offered to someone: 180. It may be
// repeated. The response is repeated every minute until the final one.
func (c *Call) Ring(context.Context) error {
	return c.provisional(180, nil)
}

// Progress sends 183 with an answer of n to the caller's offer, so that media
// can flow before the call is answered. Accept sends the same answer again. An
// INVITE without an offer gets a 183 without a session description: an
// unreliable response must not carry ours (RFC 3261 13.2.1).
func (c *Call) Progress(ctx context.Context, n Negotiator) error {
	if c.direction == Outbound {
		return fmt.Errorf("progress of an outbound call: %w", ErrState)
	}
	if c.offer == nil || n == nil {
		return c.provisional(183, nil)
	}
	if err := c.turn(ctx); err != nil {
		return err
	}
	defer c.giveTurn()
	c.mu.Lock()
	early := c.early
	c.mu.Unlock()
	if early == nil {
		both, cancel := c.within(ctx)
		defer cancel()
		answer, err := n.Answer(both, slices.Clone(c.offer))
		if err != nil {
			return fmt.Errorf("early answer: %w", err)
		}
		c.mu.Lock()
		c.early, early = answer, answer
		c.mu.Unlock()
	}
	return c.provisional(183, early)
}

// provisional sends a 1xx and arranges for its repetition.
func (c *Call) provisional(code int, sdp []byte) error {
	if c.direction == Outbound {
		return fmt.Errorf("provisional response of an outbound call: %w", ErrState)
	}
	c.mu.Lock()
	if c.phase != ringing {
		defer c.mu.Unlock()
		return fmt.Errorf("send %d: %w", code, c.gone())
	}
	contact := c.dialog.contact(c.dialog.last.transport)
	again := func() {
		if c.ctx.Err() == nil {
			_ = c.provisional(code, sdp)
		}
	}
	if c.reminder != nil {
		c.reminder.Stop()
	}
	c.reminder = c.server.after(remindEvery, again)
	c.mu.Unlock()
	contentType := ""
	if sdp != nil {
		contentType = sdpType
	}
	_, err := c.invite.respondBody(code, "", contentType, sdp, Header{"Contact", contact}, Header{"Allow", allowed})
	if err != nil {
		return fmt.Errorf("send %d: %w", code, err)
	}
	return nil
}

// Reject refuses an inbound call with a code from 300 to 699 and ends it with
// ErrRejected. An empty reason is the usual phrase of the code.
func (c *Call) Reject(code int, reason string) error {
	if code < 300 || code > 699 {
		return fmt.Errorf("refuse with %d: %w", code, ErrInvalid)
	}
	if hasControl(reason) {
		return fmt.Errorf("reason phrase: %w", ErrInvalid)
	}
	if c.direction == Outbound || !c.refuse(&StatusError{Code: code, Reason: reason}, ErrRejected, Reason{}) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return fmt.Errorf("refuse with %d: %w", code, c.gone())
	}
	return nil
}

// refuse sends a final failure and reports whether it was the first final one.
func (c *Call) refuse(e *StatusError, why error, reason Reason) bool {
	var extra []Header
	if v := reason.String(); v != "" {
		extra = append(extra, Header{"Reason", v})
	}
	if e.Warning != "" {
		extra = append(extra, Header{"Warning", "399 ivrbridge " + quote(plain(e.Warning, 128))})
	}
	if e.RetryAfter > 0 {
		extra = append(extra, retryHeader(e.RetryAfter))
	} else if e.Code == 503 {
		extra = append(extra, busyHeaders()...)
	}
	if _, err := c.invite.respond(e.Code, e.Reason, extra...); err != nil {
		if errors.Is(err, ErrState) {
			return false
		}
		c.log.Debug("refusal not sent", zap.Error(err))
	}
	c.end(why, reason)
	return true
}

func retryHeader(d time.Duration) Header {
	seconds := max(1, int((d+time.Second-1)/time.Second))
	return Header{"Retry-After", strconv.Itoa(seconds)}
}

func retryAfter(hs []Header) time.Duration {
	v, _ := cutAny(headerValue(hs, "Retry-After"), ";( ")
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// Accept answers an inbound call with 200 and returns when that is sent. n
// answers the caller's offer, or makes ours if the INVITE had none; it serves
// the later re-INVITEs of the far end too. An error of n refuses the call. A
// missing acknowledgement ends the call's context with ErrNoAck after 64*T1,
// an unusable answer in it with ErrBadAnswer.
func (c *Call) Accept(ctx context.Context, n Negotiator) error {
	if c.direction == Outbound || n == nil {
		return fmt.Errorf("accept: %w", ErrState)
	}
	if err := c.turn(ctx); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	keep := false
	defer func() {
		if !keep {
			c.giveTurn()
		}
	}()
	c.mu.Lock()
	if c.phase != ringing || c.accepting {
		defer c.mu.Unlock()
		return fmt.Errorf("accept: %w", c.gone())
	}
	c.accepting = true
	body := c.early
	c.mu.Unlock()
	if body == nil {
		var err error
		if body, err = c.describe(ctx, n, c.offer); err != nil {
			c.refuse(statusOf(err), ErrRejected, Reason{})
			if why := c.why(); why != nil && !errors.Is(why, ErrRejected) {
				return fmt.Errorf("accept: %w", why)
			}
			return fmt.Errorf("accept: %w", err)
		}
	}
	p := &pendingAck{call: c, tx: c.invite, initial: true}
	if c.offer == nil {
		p.negotiator, keep = n, true // The turn ends with the ACK's answer.
	}
	if err := c.answer(p, n, body); err != nil {
		keep = false
		if errors.Is(err, ErrState) { // A CANCEL was quicker, and the call is about to end.
			select {
			case <-c.ctx.Done():
				err = context.Cause(c.ctx) //nolint:contextcheck // of the call's end
			case <-ctx.Done():
			}
		}
		return fmt.Errorf("accept: %w", err)
	}
	return nil
}

// describe asks n for an answer, or for an offer if there is none to answer.
func (c *Call) describe(ctx context.Context, n Negotiator, offer []byte) ([]byte, error) {
	both, cancel := c.within(ctx)
	defer cancel()
	var body []byte
	var err error
	if offer != nil {
		body, err = n.Answer(both, slices.Clone(offer))
	} else {
		body, err = n.Offer(both)
	}
	if err == nil && len(body) == 0 {
		err = fmt.Errorf("negotiator returned no session description: %w", ErrInvalid)
	}
	return body, err
}

// A pendingAck is a 200 to an INVITE that waits for its ACK. The call's lock
// guards it.
type pendingAck struct {
	call       *Call
	tx         *serverTx
	initial    bool
	negotiator Negotiator // takes the answer in the ACK; nil: none is due
	response   *gosip.Response
	timer      *time.Timer
	wait       time.Duration // until the next repetition
	since      time.Time
}

// answer sends the 200 of an INVITE and repeats it, from T1 doubling up to T2,
// until the ACK (RFC 3261 13.3.1.4). To a browser it is not repeated: it came
// there or the connection is gone.
func (c *Call) answer(p *pendingAck, n Negotiator, body []byte) error {
	c.mu.Lock()
	if c.phase == over {
		defer c.mu.Unlock()
		return c.gone()
	}
	contact := c.dialog.contact(c.dialog.last.transport)
	p.wait, p.since = c.server.t1, time.Now()
	if p.tx.req.direct() {
		p.wait = 64 * c.server.t1
	}
	c.acks = append(c.acks, p) // Before the 200 is out: the ACK may be quick.
	if p.initial {
		c.negotiator = n
	}
	c.mu.Unlock()
	res, err := p.tx.respondBody(200, "", sdpType, body, Header{"Contact", contact}, Header{"Allow", allowed}, Header{"Supported", supported})
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && errors.Is(err, ErrState) {
		c.forget(p)
		if cause := context.Cause(c.ctx); cause != nil {
			return cause
		}
		return err
	}
	if p.initial {
		if c.reminder != nil {
			c.reminder.Stop()
		}
		if c.phase == ringing {
			c.phase = up
		}
	}
	if (c.phase != over || c.bye != nil) && slices.Contains(c.acks, p) {
		p.response = res
		p.timer = c.server.after(p.wait, p.repeat)
	}
	return nil
}

// forget removes p, with the lock held.
func (c *Call) forget(p *pendingAck) {
	i := slices.Index(c.acks, p)
	if i < 0 {
		return
	}
	c.acks = slices.Delete(c.acks, i, i+1)
	if p.timer != nil {
		p.timer.Stop()
	}
	c.settle()
}

// repeat sends the 200 again or gives up.
func (p *pendingAck) repeat() {
	c := p.call
	c.mu.Lock()
	if !slices.Contains(c.acks, p) {
		c.mu.Unlock()
		return
	}
	left := 64*c.server.t1 - time.Since(p.since)
	if left > 0 {
		p.wait = min(2*p.wait, c.server.t2)
		p.timer.Reset(min(p.wait, left))
		c.mu.Unlock()
		_ = p.tx.tx.Respond(p.response)
		return
	}
	c.forget(p)
	bye := c.bye
	c.bye = nil
	c.mu.Unlock()
	if bye != nil {
		c.sendBye(*bye)
		return
	}
	c.log.Info("answer was not acknowledged")
	c.bringDown(Cause{Reason: Reason{Protocol: "SIP", Cause: 408, Text: "no ACK"}}, ErrNoAck, false)
}

// onAck takes the ACK of a 200, from the reader of the socket.
func (c *Call) onAck(r *request) {
	c.mu.Lock()
	i := slices.IndexFunc(c.acks, func(p *pendingAck) bool { return p.tx.req.seq == r.seq })
	if i < 0 {
		c.mu.Unlock()
		return // A repetition.
	}
	p := c.acks[i]
	c.forget(p)
	bye := c.bye
	c.bye = nil
	if c.phase == ringing {
		c.phase = up // The goroutine that answered is not that far yet.
	}
	c.dialog.last = r.path()
	c.mu.Unlock()
	switch {
	case bye != nil:
		c.sendBye(*bye)
	case p.negotiator != nil:
		c.server.spawn(func() { c.takeAnswer(p.negotiator, r) }, func(any) { c.giveUp(ErrPanic) })
	}
}

// takeAnswer gives the answer in an ACK to the negotiator, whose turn it still
// is.
func (c *Call) takeAnswer(n Negotiator, r *request) {
	defer c.giveTurn()
	sdp, err := sessionOf(r.headers, r.body)
	if err == nil && sdp == nil {
		err = ErrBadAnswer
	}
	if err == nil {
		err = n.Accept(c.ctx, sdp)
	}
	if err != nil && c.ctx.Err() == nil {
		c.log.Info("answer in ack is unusable", zap.Error(err))
		c.giveUp(errors.Join(ErrBadAnswer, err))
	}
}

// giveUp hangs up for a fault in what was negotiated.
func (c *Call) giveUp(why error) {
	c.bringDown(Cause{Reason: Reason{Protocol: "SIP", Cause: 488, Text: "unusable session"}}, why, true)
}
