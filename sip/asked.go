package sip

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	gosip "github.com/emiago/sipgo/sip"
	"go.uber.org/zap"
)

// askedTime is how long a request waits for its reader before this package
// answers it: well within the far end's 64*T1.
const askedTime = 5 * time.Second

// A Request is an INFO or REFER of the far end that waits for an answer. One
// that nobody answers within 5 s is declined.
type Request struct {
	Method      string // INFO or REFER
	ContentType string
	Body        []byte
	// ReferTo is the URI of a REFER, without its headers; ReferHeaders are
	// those (Replaces, User-to-User), unescaped. ReferredBy is a URI or empty.
	ReferTo      string
	ReferHeaders []Header
	ReferredBy   string

	asked *asked
}

// asked is the state of a Request.
type asked struct {
	call  *Call
	tx    *serverTx
	timer *time.Timer

	mu       sync.Mutex
	accepted bool
	silent   bool // the far end wants no news (RFC 4488)
	ended    bool
}

// Header returns the values of all headers with that name, compact or long.
func (r Request) Header(name string) []string { return r.asked.tx.req.header(name) }

// Respond answers the request with a final status. It returns ErrState if it
// was answered before.
func (r Request) Respond(code int, reason string) error {
	if code < 200 || code > 699 || hasControl(reason) {
		return fmt.Errorf("answer %s with %d: %w", r.Method, code, ErrInvalid)
	}
	r.asked.timer.Stop()
	_, err := r.asked.tx.respond(code, reason)
	return err
}

// Accept answers a REFER with 202 and tells that the call is being tried. The
// news that follow go by Notify, the last one with a status of 200 or more.
func (r Request) Accept(ctx context.Context) error {
	if r.Method != string(gosip.REFER) {
		return fmt.Errorf("accept %s: %w", r.Method, ErrState)
	}
	a := r.asked
	a.timer.Stop()
	var extra []Header
	if a.silent {
		extra = []Header{{"Refer-Sub", "false"}}
	}
	if _, err := a.tx.respond(202, "", extra...); err != nil {
		return err
	}
	a.mu.Lock()
	a.accepted = true
	a.mu.Unlock()
	return r.Notify(ctx, 100, "")
}

// Notify tells the far end how the call that it asked for fares: a status from
// 100 to 699. 200 and above end the subscription.
func (r Request) Notify(ctx context.Context, status int, reason string) error {
	a := r.asked
	if status < 100 || status > 699 || hasControl(reason) {
		return fmt.Errorf("notify %d: %w", status, ErrInvalid)
	}
	a.mu.Lock()
	if !a.accepted || a.ended {
		a.mu.Unlock()
		return fmt.Errorf("notify: %w", ErrState)
	}
	a.ended = status >= 200
	silent := a.silent
	a.mu.Unlock()
	if silent {
		return nil
	}
	if reason == "" {
		reason = phrase(status)
	}
	state := "active;expires=60"
	if status >= 200 {
		state = "terminated;reason=noresource"
	}
	res, err := a.call.do(ctx, "NOTIFY", func(req *gosip.Request, _ uint32) {
		appendHeader(req, "Event", "refer;id="+strconv.FormatUint(uint64(a.tx.req.seq), 10))
		appendHeader(req, "Subscription-State", state)
		appendHeader(req, "Content-Type", "message/sipfrag;version=2.0")
		req.SetBody([]byte("SIP/2.0 " + strconv.Itoa(status) + " " + reason + "\r\n"))
	})
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	if res.code >= 300 {
		return fmt.Errorf("notify: %w", res.status())
	}
	return nil
}

// Requests delivers INFO and REFER requests of the far end. Each must be
// answered; the channel is never closed. Those for which there is no room or
// no reader are declined.
func (c *Call) Requests() <-chan Request { return c.requests }

// onAsked takes an INFO or REFER, from the reader of the socket.
func (c *Call) onAsked(tx *serverTx) {
	r := Request{
		Method: tx.req.method, ContentType: headerValue(tx.req.headers, "Content-Type"), Body: tx.req.body,
		asked: &asked{call: c, tx: tx, silent: strings.EqualFold(headerValue(tx.req.headers, "Refer-Sub"), "false")},
	}
	decline := 480
	if r.Method == string(gosip.REFER) {
		decline = 603
		if err := r.readRefer(tx.req); err != nil {
			c.answered(tx, 400, Header{"Warning", "399 ivrbridge " + quote(plain(err.Error(), 64))})
			return
		}
	}
	c.mu.Lock()
	early := c.phase == ringing
	c.mu.Unlock()
	if early && decline == 603 {
		c.answered(tx, 480)
		return
	}
	r.asked.timer = c.server.after(askedTime, func() {
		if _, err := tx.respond(decline, ""); err == nil {
			c.log.Debug("request of the far end found no reader", zap.String("method", r.Method))
		}
	})
	select {
	case c.requests <- r:
	default:
		r.asked.timer.Stop()
		c.answered(tx, 503, soon())
	}
}

// readRefer reads Refer-To and Referred-By (RFC 3515 2.4.2, RFC 3892).
func (r *Request) readRefer(req *request) error {
	values := listed(req.headers, "Refer-To")
	if len(values) != 1 {
		return fmt.Errorf("%d Refer-To: %w", len(values), ErrInvalid)
	}
	to, err := ParseAddress(values[0])
	if err != nil {
		return err
	}
	uri, headers, _ := strings.Cut(to.URI, "?")
	r.ReferTo = uri
	for h := range strings.SplitSeq(headers, "&") {
		name, value, ok := strings.Cut(h, "=")
		if !ok {
			continue
		}
		name, value = unescape(name), unescape(value)
		if !isToken(name) || hasControl(value) || len(r.ReferHeaders) == 16 {
			return fmt.Errorf("headers of Refer-To: %w", ErrInvalid)
		}
		r.ReferHeaders = append(r.ReferHeaders, Header{longName(name), value})
	}
	if by, err := ParseAddress(headerValue(req.headers, "Referred-By")); err == nil {
		r.ReferredBy, _, _ = strings.Cut(by.URI, "?")
	}
	return nil
}

// Info sends an INFO within the call, such as a key press, and returns when it
// is answered with 2xx. A refusal is a *StatusError; 481, 408, and silence end
// the call.
func (c *Call) Info(ctx context.Context, contentType string, body []byte) error {
	if hasControl(contentType) || len(contentType) > 256 || len(body) > maxDatagram/2 {
		return fmt.Errorf("info: %w", ErrInvalid)
	}
	c.mu.Lock()
	if c.phase != up {
		defer c.mu.Unlock()
		return fmt.Errorf("info: %w", c.gone())
	}
	c.mu.Unlock()
	both, cancel := c.within(ctx)
	defer cancel()
	res, err := c.do(both, "INFO", func(req *gosip.Request, _ uint32) {
		if len(body) > 0 {
			appendHeader(req, "Content-Type", contentType)
			req.SetBody(body)
		}
	})
	switch {
	case err != nil:
		if c.ctx.Err() == nil {
			c.lost(nil, err)
		}
		return fmt.Errorf("info: %w", err)
	case res.code >= 300:
		c.lost(res, nil)
		return fmt.Errorf("info: %w", res.status())
	}
	return nil
}
