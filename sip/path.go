package sip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	gosip "github.com/emiago/sipgo/sip"
	"go.uber.org/zap"
)

// A route is where a request goes.
type route struct {
	transport Transport
	addr      netip.AddrPort
	socket    netip.AddrPort // of ours that datagrams leave by; zero: any that fits
	flow      *flow          // that a message came by; nil: none, or any to addr
}

func (r route) String() string { return string(r.transport) + "/" + r.addr.String() }

// A wire is sipgo's connection as one transaction sees it: what leaves is
// checked and counted.
type wire struct {
	gosip.Connection
	server *Server
	back   *request // that is answered by it; nil: requests of ours go by it

	mu   sync.Mutex
	last gosip.Message
	ack  gosip.Message   // the last ACK that sipgo made for a refused INVITE
	late []gosip.Message // wait for a connection to the far end
}

// WriteMsg sends the message, unless a header of it would break out of its
// line.
func (w *wire) WriteMsg(m gosip.Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.server.log.Error("message writer panicked", zap.Any("panic", p), zap.Stack("stack"))
			err = fmt.Errorf("write message: %v", p)
		}
	}()
	if err := checkMessage(m); err != nil {
		w.server.metrics.dropped("unsafe")
		w.server.log.Error("unsafe message not sent", zap.Error(err))
		return err
	}
	w.mu.Lock()
	again := w.last == m
	w.last = m
	if req, ok := m.(*gosip.Request); ok && req.IsAck() {
		w.ack = m
	}
	w.mu.Unlock()
	if again {
		w.server.metrics.repeats.Inc()
	} else if res, ok := m.(*gosip.Response); ok {
		method := ""
		if c := strings.Fields(headerText(res, "CSeq")); len(c) == 2 {
			method = c[1]
		}
		w.server.metrics.responded(method, res.StatusCode)
	}
	err = w.Connection.WriteMsg(m)
	if err != nil && w.back != nil && w.back.transport == TCP {
		return w.callBack(m, err)
	}
	return err
}

// callBack sends an answer by a connection to where the request's sender says
// that it listens: the one that the request came by is gone (RFC 3261 18.2.2).
// It does not wait for it: who answers may be the reader of a socket.
func (w *wire) callBack(m gosip.Message, gone error) error {
	to := route{transport: TCP, addr: w.back.sentBy()}
	if !w.server.admit(to.addr.Addr()) {
		return gone
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late = append(w.late, m)
	if len(w.late) == 1 && !w.server.spawn(func() { w.sendLate(to) }, nil) {
		return gone
	}
	return nil
}

// sendLate opens the connection and sends what has gathered, in its order.
func (w *wire) sendLate(to route) {
	f := w.server.flows.to(to)
	var err error
	if f == nil {
		f, err = w.server.dial(w.server.ctx, to)
	}
	for left := true; left; {
		w.mu.Lock()
		m := w.late[0]
		w.mu.Unlock()
		if err == nil {
			err = f.WriteMsg(m)
		}
		w.mu.Lock()
		w.late = w.late[1:]
		left = len(w.late) > 0
		w.mu.Unlock()
	}
	if err != nil {
		w.server.log.Debug("request not answered", zap.Stringer("source", to), zap.Error(err))
	}
}

func headerText(m gosip.Message, name string) string {
	if hs := m.GetHeaders(name); len(hs) > 0 {
		return hs[0].Value()
	}
	return ""
}

// checkMessage is the last look at what leaves: as many lines as were built,
// and no control characters in them.
func checkMessage(m gosip.Message) error {
	var start string
	var headers []gosip.Header
	switch m := m.(type) {
	case *gosip.Request:
		start, headers = m.StartLine(), m.Headers()
	case *gosip.Response:
		start, headers = m.StartLine(), m.Headers()
	default:
		return fmt.Errorf("message of unknown kind: %w", ErrInvalid)
	}
	if hasControl(start) {
		return fmt.Errorf("start line: %w", ErrInvalid)
	}
	for _, h := range headers {
		if !isToken(h.Name()) || hasControl(h.Value()) {
			return fmt.Errorf("header %q: %w", plain(h.Name(), 32), ErrInvalid)
		}
	}
	head, _, _ := strings.Cut(m.String(), "\r\n\r\n")
	if lines := strings.Count(head, "\r\n"); lines != len(headers) {
		return fmt.Errorf("%d header lines of %d built: %w", lines, len(headers), ErrInvalid)
	}
	return nil
}

// replyWire finds the way back to where a request came from.
func (s *Server) replyWire(r *request) (*wire, error) {
	if r.transport.reliable() {
		f := s.flows.to(r.path())
		if f == nil {
			return nil, fmt.Errorf("way back to %s: %w", r.source, errCut)
		}
		return &wire{Connection: f, server: s, back: r}, nil
	}
	key := r.source.String()
	s.mu.Lock()
	if p := s.socketFor(r.path()); p != nil {
		key = p.LocalAddr().String()
	}
	s.mu.Unlock()
	conn, err := s.transports.GetConnection(string(r.transport), key)
	if err != nil {
		return nil, fmt.Errorf("way back to %s: %w", r.source, err)
	}
	return &wire{Connection: conn, server: s}, nil
}

// reply answers without state (RFC 3261 8.2.7).
func (s *Server) reply(r *request, code int, extra ...Header) {
	s.replyAs(r, r.statelessTag(), code, extra...)
}

// replyAs is reply with a tag for To.
func (s *Server) replyAs(r *request, tag string, code int, extra ...Header) {
	w, err := s.replyWire(r)
	if err != nil {
		s.log.Debug("request not answered", zap.Error(err))
		return
	}
	defer func() { _, _ = w.TryClose() }()
	if err := w.WriteMsg(r.respond(code, "", tag, append(extra, s.serverHeader())...)); err != nil {
		s.log.Debug("request not answered", zap.Error(err))
	}
}

func (s *Server) serverHeader() Header { return Header{"Server", s.config.UserAgent} }

// requestWire opens or finds the connection for a request.
func (s *Server) requestWire(ctx context.Context, to route) (*wire, error) {
	var conn gosip.Connection
	var err error
	switch to.transport {
	case UDP:
		s.mu.Lock()
		sock := s.socketFor(to)
		s.mu.Unlock()
		if sock == nil {
			return nil, fmt.Errorf("no UDP listener for %s: %w", to.addr, ErrTransport)
		}
		conn, err = s.transports.GetConnection("udp", sock.LocalAddr().String())
	case TCP, WS, WSS:
		f := s.flows.to(to)
		switch {
		case f != nil:
		case to.transport != TCP:
			err = errCut // Browsers cannot be called (RFC 7118 5.1).
		default:
			f, err = s.dial(ctx, to)
		}
		conn = f
	default:
		return nil, fmt.Errorf("%s: %w", to.transport, ErrTransport)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", to, err)
	}
	return &wire{Connection: conn, server: s}, nil
}

// socketFor chooses the socket for a route, with s.mu held; nil: none fits.
func (s *Server) socketFor(to route) *packetSocket {
	var fits *packetSocket
	for _, p := range s.packets {
		local := p.local.Addr()
		switch {
		case p.local == to.socket:
			return p
		case fits == nil && (local.Is4() == to.addr.Addr().Is4() || local.IsUnspecified() && local.Is6()):
			fits = p
		}
	}
	return fits
}

// self is our address as the far end of a route should see it.
func (s *Server) self(t *Trunk, to route) netip.AddrPort {
	s.mu.Lock()
	var local netip.AddrPort
	if to.transport == UDP {
		if p := s.socketFor(to); p != nil {
			local = p.local
		}
	} else if to.flow != nil && !to.flow.dialled {
		local = to.flow.local
	} else if i := slices.IndexFunc(s.listeners, func(l listener) bool { return l.transport == to.transport }); i >= 0 {
		local = addrPort(s.listeners[i].Addr().String())
	}
	s.mu.Unlock()
	port := local.Port()
	if t != nil && t.Advertise.IsValid() {
		return netip.AddrPortFrom(t.Advertise, port)
	}
	if s.config.Advertise != nil {
		if a := s.config.Advertise(to.addr.Addr()); a.IsValid() {
			return netip.AddrPortFrom(a.Unmap(), port)
		}
	}
	if a := local.Addr(); a.IsValid() && !a.IsUnspecified() {
		return local
	}
	return netip.AddrPortFrom(s.sourceFor(to.addr.Addr()), port)
}

// sourceFor asks the routing table which address of ours leads to the peer.
func (s *Server) sourceFor(peer netip.Addr) netip.Addr {
	s.mu.Lock()
	a, ok := s.sources[peer]
	s.mu.Unlock()
	if ok {
		return a
	}
	a = netip.IPv4Unspecified()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(peer, 9))) // Nothing is sent.
	if err == nil {
		a = addrPort(conn.LocalAddr().String()).Addr()
		_ = conn.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sources) >= 1024 {
		clear(s.sources)
	}
	if err == nil {
		s.sources[peer] = a
	}
	return a
}

// resolve finds where a URI leads (RFC 3263, with A, AAAA, and SRV records).
// An empty transport is taken from the URI or is UDP.
func (s *Server) resolve(ctx context.Context, u *gosip.Uri, t Transport) ([]route, error) {
	if p, ok := uriParam(u, "transport"); ok && t == "" {
		t = Transport(strings.ToLower(p))
	}
	if u.Scheme == "sips" {
		return nil, fmt.Errorf("sips: %w", ErrTransport)
	}
	if u.Scheme != "sip" {
		return nil, fmt.Errorf("a %s URI leads nowhere without a proxy: %w", u.Scheme, ErrTransport)
	}
	explicit := t != ""
	if !explicit {
		t = UDP
		s.mu.Lock()
		if len(s.packets) == 0 {
			t = TCP
		}
		s.mu.Unlock()
	}
	if t != UDP && t != TCP {
		return nil, fmt.Errorf("%s: %w", t, ErrTransport)
	}
	host := strings.Trim(u.Host, "[]")
	if m, ok := uriParam(u, "maddr"); ok && validHost(m) {
		host = strings.Trim(m, "[]")
	}
	port := uint16(u.Port)
	if ip, err := netip.ParseAddr(host); err == nil {
		if port == 0 {
			port = 5060
		}
		return []route{{transport: t, addr: netip.AddrPortFrom(ip.Unmap(), port)}}, nil
	}
	if name := strings.ToLower(strings.TrimSuffix(host, ".")); name == "invalid" || strings.HasSuffix(name, ".invalid") {
		return nil, fmt.Errorf("%s is no name of a host: %w", host, ErrNoResponse) // RFC 6761 6.4: browsers call themselves so.
	}
	return s.lookup(ctx, host, port, t)
}

func (s *Server) lookup(ctx context.Context, host string, port uint16, t Transport) ([]route, error) {
	type target struct {
		host string
		port uint16
	}
	targets := []target{{host, port}}
	if port == 0 {
		targets[0].port = 5060
		if _, records, err := s.resolver.LookupSRV(ctx, "sip", string(t), host); err == nil && len(records) > 0 {
			targets = targets[:0]
			for _, r := range records {
				targets = append(targets, target{strings.TrimSuffix(r.Target, "."), r.Port})
			}
		}
	}
	var routes []route
	var errs []error
	for _, target := range targets {
		ips, err := s.resolver.LookupNetIP(ctx, "ip", target.host)
		if err != nil {
			errs = append(errs, err)
		}
		for _, ip := range ips {
			routes = append(routes, route{transport: t, addr: netip.AddrPortFrom(ip.Unmap(), target.port)})
		}
	}
	if len(routes) == 0 {
		return nil, fmt.Errorf("look up %s: %w", host, errors.Join(append(errs, ErrNoResponse)...))
	}
	return routes, nil
}

func uriParam(u *gosip.Uri, name string) (string, bool) {
	for _, p := range u.UriParams {
		if strings.EqualFold(p.K, name) {
			return p.V, true
		}
	}
	return "", false
}

// hostPort writes our sent-by or Contact address.
func hostPort(a netip.AddrPort) string {
	if a.Port() == 0 {
		return uriHost(a.Addr())
	}
	return uriHost(a.Addr()) + ":" + strconv.Itoa(int(a.Port()))
}
