package sip

import (
	"slices"
	"strings"

	gosip "github.com/emiago/sipgo/sip"
	"go.uber.org/zap"
)

// allowed are the methods that this user agent really serves.
const allowed = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, REFER, NOTIFY"

// capabilities are the headers of OPTIONS answers (RFC 3261 11.2).
func (s *Server) capabilities(local bool) []Header {
	methods := allowed
	if local {
		methods += ", REGISTER"
	}
	return []Header{
		{"Allow", methods},
		{"Accept", "application/sdp, multipart/mixed, application/dtmf-relay, application/dtmf, message/sipfrag"},
		{"Accept-Encoding", "identity"},
		{"Allow-Events", "refer"},
		{"Supported", supported},
	}
}

// supported are the option tags that this user agent understands.
const supported = "norefersub"

// onMessage takes what sipgo parsed, from the reader of the socket or of the
// flow it came by, so that the order of arrival holds. It does not block.
func (s *Server) onMessage(msg gosip.Message, f *flow) {
	defer func() {
		if p := recover(); p != nil {
			s.metrics.dropped("panic")
			s.log.Error("message handler panicked", zap.Any("panic", p), zap.Stack("stack"))
		}
	}()
	switch m := msg.(type) {
	case *gosip.Request:
		s.onRequest(m, f)
	case *gosip.Response:
		s.onResponse(m)
	}
}

func (s *Server) onResponse(m *gosip.Response) {
	r, err := newResponse(m)
	if err != nil {
		s.metrics.dropped("malformed")
		s.log.Debug("malformed response", zap.Error(err))
		return
	}
	t := s.clients.get(clientKey(r.branch, r.method))
	if t == nil {
		s.metrics.dropped("stray")
		return
	}
	t.receive(r)
}

func (s *Server) onRequest(m *gosip.Request, f *flow) {
	r, err := newRequest(m, f)
	if err != nil {
		s.metrics.dropped("malformed")
		s.log.Debug("malformed request", zap.Stringer("source", r.source), zap.Error(err))
		if r.top.host != "" && r.method != string(gosip.ACK) && r.callID != "" {
			s.reply(r, 400, Header{"Warning", "399 ivrbridge " + quote(plain(err.Error(), 64))})
		}
		return
	}
	r.trunk = s.admission.trunk(r.source.Addr())
	key := r.txKey(r.method)
	tx := s.servers.get(key)
	switch {
	case r.method == string(gosip.ACK):
		s.metrics.requested(r.method, "taken")
		s.onAck(r, tx)
	case tx != nil && tx.req.method == r.method:
		s.metrics.requested(r.method, "repeated")
		if err := tx.tx.Receive(m); err != nil {
			s.log.Debug("repeated request", zap.Error(err))
		}
	case r.method == string(gosip.CANCEL):
		s.onCancel(r)
	case r.toTag != "":
		s.inDialog(r)
	case r.trunk == nil:
		s.metrics.dropped("source")
	default:
		s.outOfDialog(r)
	}
}

// refuse answers a request without state and counts it.
func (s *Server) refuse(r *request, code int, extra ...Header) {
	s.metrics.requested(r.method, "refused")
	s.reply(r, code, extra...)
}

func (s *Server) onAck(r *request, tx *serverTx) {
	if tx != nil && tx.done() {
		tx.mu.Lock()
		final := tx.final
		tx.mu.Unlock()
		if final >= 300 {
			// sipgo hands it on from a goroutine that ends with the transaction,
			// T4 later; to read it here could block the socket's reader.
			_ = tx.tx.Receive(r.msg)
			return
		}
	}
	if c := s.dialogs.find(r); c != nil {
		c.onAck(r)
	}
}

// onCancel implements RFC 3261 9.2. The answer carries the tag that the
// answers to the INVITE have.
func (s *Server) onCancel(r *request) {
	tx := s.servers.get(r.txKey(string(gosip.INVITE)))
	if tx == nil {
		if r.trunk == nil {
			s.metrics.dropped("source")
			return
		}
		s.refuse(r, 481)
		return
	}
	s.metrics.requested(r.method, "taken")
	// Without state: sipgo would keep a transaction of a CANCEL for ever, and a
	// repetition is answered alike.
	s.replyAs(r, tx.tag, 200)
	tx.mu.Lock()
	cancel := tx.cancel
	tx.mu.Unlock()
	if cancel != nil && !tx.done() {
		s.apart(r, tx, func() { cancel(r) })
	}
}

// apart does what answers a request, on behalf of another that came after it. If
// the two came by different connections that is done in a goroutine: the reader
// of one connection does not wait for who does not read from another.
func (s *Server) apart(r *request, tx *serverTx, f func()) {
	if r.transport == tx.req.transport && r.flow == tx.req.flow {
		f()
		return
	}
	s.spawn(f, nil)
}

func (s *Server) inDialog(r *request) {
	c := s.dialogs.find(r)
	if c == nil {
		if r.trunk == nil {
			s.metrics.dropped("source")
			return
		}
		if !knownMethod(r.method) {
			s.refuse(r, 405, Header{"Allow", allowed})
			return
		}
		s.refuse(r, 481)
		return
	}
	c.receive(r)
}

func knownMethod(m string) bool {
	return slices.Contains(strings.Split(allowed, ", "), m)
}

// outOfDialog serves requests that belong to no call yet. All but an accepted
// INVITE are answered without state, which costs a flood nothing to remember.
func (s *Server) outOfDialog(r *request) {
	local := r.trunk.Local || r.transport.webSocket() // Carriers do not come by WebSocket; phones register.
	if !knownMethod(r.method) && (r.method != string(gosip.REGISTER) || !local) {
		h := s.capabilities(local)[0]
		s.refuse(r, 405, h)
		return
	}
	if e, extra := s.inspect(r); e != 0 {
		s.refuse(r, e, extra...)
		return
	}
	switch gosip.RequestMethod(r.method) {
	case gosip.INVITE:
		s.onInvite(r)
	case gosip.OPTIONS:
		if s.draining.Load() || s.full() {
			s.refuse(r, 503, busyHeaders()...)
			return
		}
		s.metrics.requested(r.method, "taken")
		s.reply(r, 200, s.capabilities(local)...)
	case gosip.REGISTER:
		s.metrics.requested(r.method, "taken")
		s.onRegister(r)
	case gosip.REFER:
		s.refuse(r, 403)
	default:
		s.refuse(r, 481)
	}
}

// inspect applies RFC 3261 8.2.2 to a request; zero: it may be served.
func (s *Server) inspect(r *request) (code int, extra []Header) {
	if r.method == string(gosip.INVITE) && r.toTag == "" {
		if r.maxForwards == 0 {
			return 483, nil
		}
		if s.servers.mergedInto(r) {
			return 482, nil
		}
	}
	if tags := unsupportedTags(r); tags != "" {
		return 420, []Header{{"Unsupported", tags}}
	}
	return s.inspectBody(r)
}

func unsupportedTags(r *request) string {
	var unknown []string
	for _, tag := range listed(r.headers, "Require") {
		if !strings.EqualFold(tag, supported) && isToken(tag) {
			unknown = append(unknown, tag)
		}
	}
	return strings.Join(unknown, ", ")
}

// inspectBody applies RFC 3261 8.2.3 to methods that may carry a session
// description.
func (s *Server) inspectBody(r *request) (code int, extra []Header) {
	if r.method != string(gosip.INVITE) && r.method != string(gosip.UPDATE) {
		return 0, nil
	}
	for _, e := range listed(r.headers, "Content-Encoding") {
		if !strings.EqualFold(e, "identity") {
			return 415, []Header{{"Accept-Encoding", "identity"}}
		}
	}
	if _, err := sessionOf(r.headers, r.body); err != nil {
		return 415, []Header{{"Accept", "application/sdp, multipart/mixed"}}
	}
	if accepts := listed(r.headers, "Accept"); len(accepts) > 0 && !acceptsSDP(accepts) {
		return 406, nil
	}
	return 0, nil
}

func acceptsSDP(ranges []string) bool {
	for _, a := range ranges {
		media, _, _ := strings.Cut(a, ";")
		switch strings.ToLower(strings.TrimSpace(media)) {
		case "application/sdp", "application/*", "*/*":
			return true
		}
	}
	return false
}
