package sip

import (
	"context"
	"crypto/rand"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	gosip "github.com/emiago/sipgo/sip"
)

// A dialog is the state of RFC 3261 12. The owner's lock guards it.
type dialog struct {
	callID    string
	localTag  string
	remoteTag string
	local     string // value of From in our requests, with its tag
	remote    string // value of To in our requests, with its tag
	localSeq  uint32
	remoteSeq uint32
	heard     bool // remoteSeq is set
	target    *gosip.Uri
	routes    []string // values of Route, nearest first
	last      route    // where the far end was heard or reached
	self      netip.AddrPort
	user      string // of our Contact, escaped
}

// dialogTable finds calls by Call-ID and both tags.
type dialogTable struct {
	mu sync.Mutex
	m  map[string]*Call
}

func dialogKey(callID, localTag, remoteTag string) string {
	return callID + "|" + localTag + "|" + remoteTag
}

func (t *dialogTable) find(r *request) *Call {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[dialogKey(r.callID, r.toTag, r.fromTag)]
}

func (t *dialogTable) put(key string, c *Call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = make(map[string]*Call)
	}
	t.m[key] = c
	c.server.metrics.dialogs.Set(float64(len(t.m)))
}

func (t *dialogTable) drop(key string, c *Call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m[key] == c {
		delete(t.m, key)
	}
	c.server.metrics.dialogs.Set(float64(len(t.m)))
}

func (t *dialogTable) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.m)
}

// inboundDialog is the dialog that our answers to an INVITE make
// (RFC 3261 12.1.1).
func (s *Server) inboundDialog(r *request, target *gosip.Uri, tag string) dialog {
	last := r.path()
	return dialog{
		callID: r.callID, localTag: tag, remoteTag: r.fromTag,
		local: r.toOf + ";tag=" + tag, remote: r.fromRaw,
		localSeq: newSeq(), remoteSeq: r.seq, heard: true,
		target: target, routes: routeSet(r.headers, false), last: last, self: s.self(r.trunk, last),
		user: escape(unescape(r.msg.Recipient.User), unreserved+"+"),
	}
}

// routeSet reads the Record-Route headers (RFC 3261 12.1.1, 12.1.2). What does
// not parse is left out: it could not be obeyed.
func routeSet(hs []Header, reverse bool) []string {
	var set []string
	for _, v := range listed(hs, "Record-Route") {
		if _, err := ParseAddress(v); err == nil {
			set = append(set, v)
		}
	}
	if reverse {
		for i, j := 0, len(set)-1; i < j; i, j = i+1, j-1 {
			set[i], set[j] = set[j], set[i]
		}
	}
	return set
}

// hop returns the URI that the next request goes to first.
func (d *dialog) hop() *gosip.Uri {
	if len(d.routes) > 0 {
		if a, err := ParseAddress(d.routes[0]); err == nil {
			if u, err := parseURI(a.URI); err == nil {
				return u
			}
		}
	}
	return d.target
}

// request builds a request within the dialog (RFC 3261 12.2.1.1).
func (d *dialog) request(s *Server, method string, seq uint32, to route) *gosip.Request {
	recipient, routes := d.target, d.routes
	if len(routes) > 0 {
		first := d.hop()
		if _, loose := uriParam(first, "lr"); !loose {
			recipient = first.Clone()
			recipient.Headers = nil
			routes = append(append([]string(nil), routes[1:]...), "<"+d.target.String()+">")
		}
	}
	req := gosip.NewRequest(gosip.RequestMethod(method), *recipient.Clone())
	appendHeader(req, "Via", viaValue(to.transport, d.self))
	appendHeader(req, "Max-Forwards", "70")
	for _, r := range routes {
		appendHeader(req, "Route", r)
	}
	appendHeader(req, "From", d.local)
	appendHeader(req, "To", d.remote)
	appendHeader(req, "Call-ID", d.callID)
	appendHeader(req, "CSeq", strconv.FormatUint(uint64(seq), 10)+" "+method)
	if method != "ACK" && method != "BYE" && method != "INFO" {
		appendHeader(req, "Contact", d.contact(to.transport))
	}
	appendHeader(req, "User-Agent", s.config.UserAgent)
	return req
}

// contact writes our Contact.
func (d *dialog) contact(t Transport) string {
	u := "sip:"
	if d.user != "" {
		u += d.user + "@"
	}
	u += hostPort(d.self)
	if t != UDP {
		u += ";transport=" + t.param()
	}
	return "<" + u + ">"
}

func viaValue(t Transport, self netip.AddrPort) string {
	return "SIP/2.0/" + strings.ToUpper(string(t)) + " " + hostPort(self) + ";rport;branch=" + cookie + "-" + token()
}

// token returns a text that cannot be guessed.
func token() string { return rand.Text() }

// newSeq chooses where our CSeq begins.
func newSeq() uint32 {
	var b [2]byte
	_, _ = rand.Read(b[:])
	return uint32(b[0])<<8 | uint32(b[1]) | 1
}

// nextHop finds where a request of the dialog goes. An address that is not the
// trunk's, such as a private one from behind a translator, or a name that
// nobody knows, gives way to where the far end was last heard. What came over a
// WebSocket goes back over it: nothing else leads to a browser (RFC 7118 5.1).
func (s *Server) nextHop(ctx context.Context, d *dialog) route {
	if d.last.transport.webSocket() {
		return d.last
	}
	u := d.hop()
	t := d.last.transport
	if p, ok := uriParam(u, "transport"); ok {
		t = Transport(strings.ToLower(p))
	}
	if ip, ok := hostOf(u); ok && t == d.last.transport && t.reliable() && ip == d.last.addr.Addr() {
		if s.flows.to(d.last) != nil {
			return d.last
		}
	}
	routes, err := s.resolve(ctx, u, t)
	if err != nil {
		return d.last
	}
	for _, r := range routes {
		if s.admit(r.addr.Addr()) {
			r.socket = d.last.socket
			return r
		}
	}
	return d.last
}
