package sip

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"strconv"
	"strings"

	gosip "github.com/emiago/sipgo/sip"
)

// cookie begins the branches of RFC 3261 user agents.
const cookie = gosip.RFC3261BranchMagicCookie

// A hop is one value of a Via header.
type hop struct {
	transport string // upper case
	host      string // as it stands, IPv6 in brackets
	port      int    // zero: none given
	params    parameters
	raw       string // the whole value
}

// parseHop reads "SIP/2.0/UDP host:port;params" with any white space.
func parseHop(s string) (hop, error) {
	s = strings.TrimSpace(s)
	h := hop{raw: s}
	bad := func() (hop, error) { return h, malformed("Via") }
	sentBy, params, _ := strings.Cut(s, ";")
	h.params = parseParams(params)
	parts := strings.SplitN(sentBy, "/", 3)
	if len(parts) != 3 {
		return bad()
	}
	fields := strings.Fields(parts[2])
	if len(fields) < 2 || !isToken(fields[0]) {
		return bad()
	}
	h.transport = strings.ToUpper(fields[0])
	h.host = strings.Join(fields[1:], "")
	if !strings.EqualFold(strings.TrimSpace(parts[0]), "SIP") || strings.TrimSpace(parts[1]) != "2.0" {
		return bad()
	}
	colon := strings.LastIndexByte(h.host, ':')
	if colon > strings.LastIndexByte(h.host, ']') {
		port, err := strconv.ParseUint(h.host[colon+1:], 10, 16)
		if err != nil {
			return bad()
		}
		h.host, h.port = h.host[:colon], int(port)
	}
	if !validHost(h.host) {
		// RFC 5118 4.5 asks for mercy with an IPv6 address without brackets.
		if a, err := netip.ParseAddr(h.host); err != nil || !a.Is6() {
			return bad()
		}
	}
	return h, nil
}

func (h hop) branch() string { b, _ := h.params.get("branch"); return b }

// A request is one that arrived, with what every step needs already read.
type request struct {
	msg           *gosip.Request
	method        string
	headers       []Header
	top           hop
	from, to      Address
	fromTag       string
	toTag         string
	callID        string
	seq           uint32
	maxForwards   int // -1: none given
	source        netip.AddrPort
	socket        netip.AddrPort // of ours, that a datagram came by
	transport     Transport
	flow          *flow  // that it came by; nil: a datagram
	trunk         *Trunk // nil: from an address that only a running call admits
	body          []byte
	viaValues     []string
	fromRaw, toOf string
}

// newRequest reads a request that passed scan. f is the flow that it came by,
// nil for a datagram.
func newRequest(m *gosip.Request, f *flow) (*request, error) {
	r := &request{
		msg: m, method: string(m.Method), body: m.Body(), maxForwards: -1, flow: f,
		transport: Transport(gosip.NetworkToLower(m.Transport())),
	}
	r.headers, r.source, r.socket = received(m.Headers(), m.Source())
	if f := strings.Fields(headerValue(r.headers, "CSeq")); len(f) == 2 && strings.EqualFold(f[1], r.method) {
		r.method = f[1] // sipgo turns methods into capitals; scan compared the two.
		m.Method = gosip.RequestMethod(f[1])
	}
	if err := r.read(); err != nil {
		return r, err
	}
	return r, nil
}

func (r *request) read() error {
	r.callID = headerValue(r.headers, "Call-ID")
	r.fromRaw, r.toOf = headerValue(r.headers, "From"), headerValue(r.headers, "To")
	for _, v := range headerValues(r.headers, "Via") {
		for _, h := range splitOutside(v, ',') {
			r.viaValues = append(r.viaValues, strings.TrimSpace(h))
		}
	}
	var err error
	if len(r.viaValues) == 0 {
		return malformed("no Via")
	}
	if r.top, err = parseHop(r.viaValues[0]); err != nil {
		return err
	}
	for _, v := range r.viaValues[1:] {
		if _, err := parseHop(v); err != nil {
			return err
		}
	}
	if r.seq, err = parseCSeq(headerValue(r.headers, "CSeq"), r.method); err != nil {
		return err
	}
	if r.from, err = ParseAddress(r.fromRaw); err != nil {
		return malformed("From: %v", err)
	}
	if r.to, err = ParseAddress(r.toOf); err != nil {
		return malformed("To: %v", err)
	}
	r.fromTag, _ = r.from.Param("tag")
	r.toTag, _ = r.to.Param("tag")
	if r.fromTag != "" && !isToken(r.fromTag) || r.toTag != "" && !isToken(r.toTag) {
		return malformed("tag")
	}
	if v := headerValue(r.headers, "Max-Forwards"); v != "" {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil || n > 255 {
			return malformed("Max-Forwards")
		}
		r.maxForwards = int(n)
	}
	return nil
}

// parseCSeq checks that the method is the request's own (RFC 3261 8.1.1.5).
func parseCSeq(s, method string) (uint32, error) {
	f := strings.Fields(s)
	if len(f) != 2 {
		return 0, malformed("CSeq")
	}
	n, err := strconv.ParseUint(f[0], 10, 31)
	if err != nil || method != "" && f[1] != method {
		return 0, malformed("CSeq")
	}
	return uint32(n), nil
}

// header returns the values of all headers with that name, compact or long.
func (r *request) header(name string) []string { return headerValues(r.headers, longName(name)) }

// contact returns the remote target that the request names.
func (r *request) contact() (*gosip.Uri, error) {
	return contactOf(r.headers)
}

func contactOf(hs []Header) (*gosip.Uri, error) {
	values := listed(hs, "Contact")
	if len(values) == 0 {
		return nil, malformed("no Contact")
	}
	if len(values) > 1 {
		return nil, malformed("more than one Contact")
	}
	a, err := ParseAddress(values[0])
	if err != nil {
		return nil, malformed("Contact: %v", err)
	}
	u, err := parseURI(a.URI)
	if err != nil || u.Scheme != "sip" && u.Scheme != "sips" {
		return nil, malformed("Contact")
	}
	u.Headers = nil // RFC 3261 19.1.1: not allowed in a Request-URI.
	u.UriParams.Remove("method")
	return u, nil
}

// txKey names the server transaction (RFC 3261 17.2.3). Without the cookie,
// the parts that RFC 2543 compares stand in for the branch.
func (r *request) txKey(method string) string {
	if method == string(gosip.ACK) {
		method = string(gosip.INVITE)
	}
	port := r.top.port
	if port == 0 {
		port = 5060
	}
	b := r.top.branch()
	if strings.HasPrefix(b, cookie) && len(b) > len(cookie) {
		return strings.Join([]string{b, r.top.host, strconv.Itoa(port), method}, "|")
	}
	return strings.Join([]string{
		"2543", r.top.host, strconv.Itoa(port), b, r.callID, r.fromTag, strconv.FormatUint(uint64(r.seq), 10), method,
	}, "|")
}

// mergeKey is the same for one request that reached us on several ways
// (RFC 3261 8.2.2.2).
func (r *request) mergeKey() string {
	return strings.Join([]string{r.callID, r.fromTag, strconv.FormatUint(uint64(r.seq), 10), r.method}, "|")
}

// tagSeed makes the tags of stateless answers unguessable, yet equal for
// retransmissions (RFC 3261 8.2.7).
var tagSeed = maphash.MakeSeed()

func (r *request) statelessTag() string {
	return strconv.FormatUint(maphash.String(tagSeed, r.txKey(r.method)+r.callID), 36)
}

// replyTo is where answers go: to the source, with the port of the Via unless
// it asks for symmetry (RFC 3261 18.2.2, RFC 3581 4).
func (r *request) replyTo() netip.AddrPort {
	if _, symmetric := r.top.params.get("rport"); symmetric || r.transport.reliable() {
		return r.source
	}
	return r.sentBy()
}

// sentBy is the request's source with the port that its sender listens on.
func (r *request) sentBy() netip.AddrPort {
	if r.top.port == 0 {
		return netip.AddrPortFrom(r.source.Addr(), 5060)
	}
	return netip.AddrPortFrom(r.source.Addr(), uint16(r.top.port))
}

// respond builds an answer (RFC 3261 8.2.6). tag goes into To if none is there.
func (r *request) respond(code int, reason, tag string, extra ...Header) *gosip.Response {
	if reason == "" {
		reason = phrase(code)
	}
	res := gosip.NewResponse(code, plain(reason, 128))
	res.SetTransport(strings.ToUpper(string(r.transport)))
	res.SetDestination(r.replyTo().String())
	for i, v := range r.viaValues {
		if i == 0 {
			v = r.stampedVia()
		}
		appendHeader(res, "Via", v)
	}
	if r.method == string(gosip.INVITE) && code > 100 && code < 300 {
		for _, v := range r.header("Record-Route") {
			appendHeader(res, "Record-Route", v)
		}
	}
	to := r.toOf
	if r.toTag == "" && tag != "" && to != "" && code > 100 {
		to += ";tag=" + tag
	}
	for _, h := range []Header{
		{"From", r.fromRaw}, {"To", to}, {"Call-ID", r.callID}, {"CSeq", headerValue(r.headers, "CSeq")},
	} {
		if h.Value != "" { // One that is malformed may lack some.
			appendHeader(res, h.Name, h.Value)
		}
	}
	if code == 100 {
		for _, v := range r.header("Timestamp") {
			appendHeader(res, "Timestamp", v)
		}
	}
	for _, h := range extra {
		appendHeader(res, h.Name, h.Value)
	}
	return res
}

// stampedVia adds received and rport to the top Via (RFC 3261 18.2.1, RFC
// 3581 4).
func (r *request) stampedVia() string {
	v := r.viaValues[0]
	rport, symmetric := r.top.params.get("rport")
	host, err := netip.ParseAddr(strings.Trim(r.top.host, "[]"))
	differs := err != nil || host.Unmap() != r.source.Addr()
	if !symmetric && !differs {
		return v
	}
	head, rest, _ := strings.Cut(v, ";")
	var b strings.Builder
	b.WriteString(strings.TrimSpace(head))
	for _, part := range splitOutside(rest, ';') {
		name, _, _ := strings.Cut(strings.TrimSpace(part), "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if name == "" || name == "received" || name == "rport" && rport == "" {
			continue
		}
		b.WriteString(";" + strings.TrimSpace(part))
	}
	if differs || symmetric {
		b.WriteString(";received=" + r.source.Addr().String())
	}
	if symmetric && rport == "" {
		b.WriteString(";rport=" + strconv.Itoa(int(r.source.Port())))
	}
	return b.String()
}

// A response is one that arrived.
type response struct {
	msg     *gosip.Response
	code    int
	reason  string
	headers []Header
	branch  string
	method  string
	seq     uint32
	fromTag string
	toTag   string
	callID  string
	source  netip.AddrPort
	body    []byte
}

func newResponse(m *gosip.Response) (*response, error) {
	r := &response{msg: m, code: m.StatusCode, reason: m.Reason, body: m.Body()}
	r.headers, r.source, _ = received(m.Headers(), m.Source())
	hops := listed(r.headers, "Via")
	if len(hops) != 1 {
		return nil, fmt.Errorf("response with %d Via: %w", len(hops), ErrInvalid) // RFC 3261 8.1.3.3.
	}
	top, err := parseHop(hops[0])
	if err != nil {
		return nil, err
	}
	cseq := strings.Fields(headerValue(r.headers, "CSeq"))
	if len(cseq) != 2 {
		return nil, malformed("CSeq")
	}
	if r.seq, err = parseCSeq(headerValue(r.headers, "CSeq"), ""); err != nil {
		return nil, err
	}
	r.branch, r.method, r.callID = top.branch(), cseq[1], headerValue(r.headers, "Call-ID")
	to, err := ParseAddress(headerValue(r.headers, "To"))
	if err != nil {
		return nil, err
	}
	from, err := ParseAddress(headerValue(r.headers, "From"))
	if err != nil {
		return nil, err
	}
	r.toTag, _ = to.Param("tag")
	r.fromTag, _ = from.Param("tag")
	if r.toTag != "" && !isToken(r.toTag) {
		return nil, malformed("tag")
	}
	return r, nil
}

// status returns the failure that the response is.
func (r *response) status() *StatusError {
	e := &StatusError{Code: r.code, Reason: r.reason, RetryAfter: retryAfter(r.headers)}
	if w := headerValue(r.headers, "Warning"); w != "" {
		if i := strings.IndexByte(w, '"'); i >= 0 {
			e.Warning = plain(unquote(w[i:]), 256)
		}
	}
	return e
}

// path is the way that the request came.
func (r *request) path() route { return route{r.transport, r.source, r.socket, r.flow} }

// direct reports whether the far end's user agent is at the other end of the
// request's WebSocket, so that nothing between it and us can lose an answer.
func (r *request) direct() bool { return r.transport.webSocket() && len(r.viaValues) == 1 }

// received returns the headers of a message and where it came from: source, if
// the message came by a connection.
func received(hs []gosip.Header, source string) (out []Header, from, socket netip.AddrPort) {
	out = make([]Header, 0, len(hs))
	for _, h := range hs {
		if h.Name() == sourceHeader {
			a, b, _ := strings.Cut(h.Value(), " ")
			source, socket = a, addrPort(b)
			continue
		}
		out = append(out, Header{longName(h.Name()), h.Value()})
	}
	return out, addrPort(source), socket
}

// addrPort reads what a net.Addr prints; the zero value if it is something
// else.
func addrPort(s string) netip.AddrPort {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
