package sip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// A ReferRequest asks the far end to call someone else (RFC 3515).
type ReferRequest struct {
	To         string   // URI to call; escaped and checked
	Display    string   // name beside it; empty: none
	ReferredBy string   // URI of who transfers; empty: our From
	Headers    []Header // of the REFER
	// ToHeaders become headers of the call that the far end places: they go
	// into the Refer-To URI (RFC 3261 19.1.1), User-to-User for one.
	ToHeaders []Header
	Replaces  *Call // a call of ours that the new one replaces; nil: none
}

// An Outcome is what became of a transfer. Accepted without Final is
// unconfirmed: the far end took the request and then told no more.
type Outcome struct {
	Status    int  // of the refusal, or the last one reported; zero: none
	Accepted  bool // the REFER was answered with 2xx, or news came for it
	Final     bool // no more news: Status tells success or failure
	RemoteBye bool // the far end hung up before the final news
}

// Success reports whether the new call was answered.
func (o Outcome) Success() bool { return o.Final && o.Accepted && o.Status >= 200 && o.Status < 300 }

// byeGrace is how long news of a transfer may come behind a BYE.
const byeGrace = time.Second

// Refer asks the far end to call r.To and follows what it reports, each step by
// a call of progress from the goroutine of Refer, until the final news, a
// refusal, the end of the call, or the end of ctx. A refusal is no error: its
// status is in the Outcome. An error says that the request could not be made
// or found no answer.
func (c *Call) Refer(ctx context.Context, r ReferRequest, progress func(Progress)) (Outcome, error) {
	to, by, err := c.referHeaders(&r)
	if err != nil {
		return Outcome{}, fmt.Errorf("refer: %w", err)
	}
	c.mu.Lock()
	if c.phase != up {
		defer c.mu.Unlock()
		return Outcome{}, fmt.Errorf("refer: %w", c.gone())
	}
	sub := &subscription{news: newMailbox[news]()}
	c.subs = append(c.subs, sub)
	c.holds++ // News may come behind the BYE.
	c.mu.Unlock()
	defer c.unsubscribe(sub)

	asking, stop := context.WithCancel(ctx)
	defer stop()
	ask := func() {
		res, err := c.do(asking, "REFER", func(req *gosip.Request, seq uint32) {
			c.mu.Lock()
			sub.id = strconv.FormatUint(uint64(seq), 10)
			c.mu.Unlock()
			appendHeader(req, "Refer-To", to)
			appendHeader(req, "Referred-By", by)
			for _, h := range r.Headers {
				appendHeader(req, h.Name, h.Value)
			}
		})
		sub.news.put(news{answer: res, err: err})
	}
	if !c.server.spawn(ask, func(any) { sub.news.put(news{err: ErrPanic}) }) {
		return Outcome{}, fmt.Errorf("refer: %w", ErrServerDown)
	}
	out, err := c.follow(ctx, sub, progress)
	if err != nil {
		return out, fmt.Errorf("refer: %w", err)
	}
	return out, nil
}

// follow waits for the answer to the REFER and for news until they are final.
// They may overtake one another, and news without an answer are as good. Without
// any (RFC 4488) only a BYE can still tell of success.
func (c *Call) follow(ctx context.Context, sub *subscription, progress func(Progress)) (out Outcome, err error) {
	live, cancel := c.within(ctx)
	defer cancel()
	for !out.Final {
		n, err := sub.news.take(live)
		switch {
		case err != nil && ctx.Err() == nil:
			if errors.Is(c.why(), ErrRemoteBye) {
				out.RemoteBye = true
				c.lastWord(ctx, sub, &out, progress)
			}
			return out, nil
		case err == nil && n.err == nil:
			c.hear(n, &out, progress)
		case out.Accepted && ctx.Err() != nil:
			return out, nil
		case err != nil:
			return out, err
		case !out.Accepted && c.ctx.Err() == nil:
			c.lost(nil, n.err)
			return out, n.err
		}
	}
	return out, nil
}

// lastWord waits a little for news behind a BYE.
func (c *Call) lastWord(ctx context.Context, sub *subscription, out *Outcome, progress func(Progress)) {
	ctx, cancel := context.WithTimeout(ctx, byeGrace)
	defer cancel()
	for !out.Final {
		n, err := sub.news.take(ctx)
		if err != nil {
			return
		}
		c.hear(n, out, progress)
	}
}

// hear takes the answer to the REFER, or a NOTIFY, into account.
func (c *Call) hear(n news, out *Outcome, progress func(Progress)) {
	switch {
	case n.err != nil:
	case n.answer == nil:
		out.learn(n, progress)
	case n.answer.code >= 300:
		c.lost(n.answer, nil)
		*out = Outcome{Status: n.answer.code, Final: true, RemoteBye: out.RemoteBye}
	default:
		out.Accepted = true
	}
}

// learn takes one NOTIFY into account.
func (o *Outcome) learn(n news, progress func(Progress)) {
	o.Accepted = true
	if n.status > 0 {
		o.Status = n.status
		if progress != nil {
			progress(Progress{Status: n.status, Reason: n.reason})
		}
	}
	if n.status >= 200 || n.terminated {
		o.Final, o.RemoteBye = true, false
	}
}

// referHeaders writes Refer-To and Referred-By.
func (c *Call) referHeaders(r *ReferRequest) (to, by string, err error) {
	if err := checkHeaders(r.Headers); err != nil {
		return "", "", err
	}
	target, err := outgoingURI(r.To)
	if err != nil {
		return "", "", fmt.Errorf("refer to: %w", err)
	}
	if hasControl(r.Display) || len(r.Display) > 128 {
		return "", "", fmt.Errorf("display name: %w", ErrInvalid)
	}
	var hs []string
	for _, h := range r.ToHeaders {
		if err := checkHeaders([]Header{h}); err != nil {
			return "", "", err
		}
		hs = append(hs, escape(h.Name, headerUnreserved)+"="+escape(h.Value, headerUnreserved))
	}
	if r.Replaces != nil {
		hs = append(hs, "Replaces="+escape(r.Replaces.Replaces(), unreserved))
	}
	uri := target.String()
	if len(hs) > 0 {
		if target.Scheme == "tel" {
			return "", "", fmt.Errorf("a tel URI carries no headers: %w", ErrInvalid)
		}
		uri += "?" + strings.Join(hs, "&")
	}
	if len(uri) > 4*maxURI {
		return "", "", fmt.Errorf("refer to: longer than %d bytes: %w", 4*maxURI, ErrInvalid)
	}
	to = "<" + uri + ">"
	if r.Display != "" {
		to = quote(r.Display) + " " + to
	}
	if r.ReferredBy != "" {
		u, err := outgoingURI(r.ReferredBy)
		if err != nil {
			return "", "", fmt.Errorf("referred by: %w", err)
		}
		return to, "<" + u.String() + ">", nil
	}
	return to, c.ourURI(), nil
}

// ourURI is our side of the dialog, in brackets.
func (c *Call) ourURI() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, err := ParseAddress(c.dialog.local)
	if err != nil {
		return c.dialog.contact(c.dialog.last.transport)
	}
	return "<" + a.URI + ">"
}

// A subscription is one that a REFER of ours made. The call's lock guards id.
type subscription struct {
	id   string // CSeq number of the REFER
	news *mailbox[news]
}

// news is one NOTIFY, or what became of the REFER itself.
type news struct {
	answer     *response // to the REFER
	err        error     // or why it has none
	status     int       // zero: none told
	reason     string
	terminated bool
}

func (c *Call) unsubscribe(sub *subscription) {
	c.mu.Lock()
	c.subs = slices.DeleteFunc(c.subs, func(s *subscription) bool { return s == sub })
	c.mu.Unlock()
	c.release()
}

// onNotify takes news of a transfer, from the reader of the socket
// (RFC 3515 2.4.4, 2.4.6).
func (c *Call) onNotify(tx *serverTx) {
	r := tx.req
	event, params, _ := strings.Cut(headerValue(r.headers, "Event"), ";")
	if !strings.EqualFold(strings.TrimSpace(event), "refer") {
		c.answered(tx, 489, Header{"Allow-Events", "refer"})
		return
	}
	id, _ := parseParams(params).get("id")
	c.mu.Lock()
	i := slices.IndexFunc(c.subs, func(s *subscription) bool { return id == "" || s.id == id })
	var sub *subscription
	if i >= 0 {
		sub = c.subs[i]
	}
	c.mu.Unlock()
	if sub == nil {
		c.answered(tx, 481)
		return
	}
	state, _, _ := strings.Cut(headerValue(r.headers, "Subscription-State"), ";")
	n := news{terminated: strings.EqualFold(strings.TrimSpace(state), "terminated")}
	line, _, _ := strings.Cut(strings.TrimSpace(string(r.body)), "\n")
	if code, reason, ok := parseStatusLine(strings.TrimRight(line, "\r")); ok {
		n.status, n.reason = code, reason
	}
	c.answered(tx, 200) // before anything that the news lead to, such as our BYE
	sub.news.put(n)
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
