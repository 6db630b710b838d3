package sip

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync"

	gosip "github.com/emiago/sipgo/sip"
	"go.uber.org/zap"
)

// A packetSocket stands between a PacketConn and sipgo: sources that no trunk
// admits, junk, and what sipgo would drop without an answer end here.
type packetSocket struct {
	net.PacketConn
	server *Server
	local  netip.AddrPort
	buf    []byte // used by ReadFrom only, which sipgo calls from one goroutine
	up     sync.Once
}

func newPacketSocket(s *Server, conn net.PacketConn) *packetSocket {
	return &packetSocket{PacketConn: conn, server: s, local: addrPort(conn.LocalAddr().String()), buf: make([]byte, 1<<16)}
}

// ReadFrom returns the next message that is fit for sipgo's parser.
func (p *packetSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	p.up.Do(p.server.listening)
	for {
		n, addr, err := p.PacketConn.ReadFrom(p.buf)
		if err != nil {
			if isTransient(err) {
				continue
			}
			return 0, nil, err
		}
		source := udpSource(addr)
		if !p.server.admit(source.Addr()) {
			p.server.metrics.dropped("source")
			continue
		}
		if n > maxDatagram {
			p.server.metrics.dropped("size")
			continue
		}
		out, _ := p.server.vet(p.buf[:n], b[:0], route{transport: UDP, addr: source, socket: p.local}, func(res *gosip.Response) error {
			_, err := p.WriteTo([]byte(res.String()), net.UDPAddrFromAddrPort(addrPort(res.Destination())))
			return err
		})
		if out == nil || len(out) > len(b) {
			continue
		}
		return len(out), p.LocalAddr(), nil
	}
}

// isTransient reports errors of one datagram that leave the socket usable,
// such as an ICMP port unreachable.
func isTransient(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && !op.Timeout() && op.Op == "read" && isUnreachable(op.Err)
}

func udpSource(a net.Addr) netip.AddrPort {
	if u, ok := a.(*net.UDPAddr); ok {
		ap := u.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	}
	return addrPort(a.String())
}

// vet scans one message and returns it in the canonical form, appended to b,
// and parsed; nil if there is nothing to pass on. A malformed request is
// answered through reply, without state.
func (s *Server) vet(data, b []byte, from route, reply func(*gosip.Response) error) (out []byte, msg gosip.Message) {
	defer func() {
		if p := recover(); p != nil {
			s.metrics.dropped("panic")
			s.log.Error("message reader panicked", zap.Any("panic", p), zap.Stack("stack"))
			out, msg = nil, nil
		}
	}()
	m, err := scan(data, from.transport.stream())
	if err == nil {
		if from.socket.IsValid() {
			m.headers = append(m.headers, Header{sourceHeader, from.addr.String() + " " + from.socket.String()})
		}
		b = m.bytes(b)
		if msg, err = s.parser.ParseSIP(b); err == nil {
			return b, msg
		}
		err = malformed("%v", err)
	}
	if errors.Is(err, errKeepAlive) {
		return nil, nil
	}
	s.metrics.dropped("malformed")
	s.log.Debug("malformed message", zap.Stringer("source", from), zap.Error(err), zap.Int("bytes", len(data)))
	if bad, ok := errors.AsType[*scanError](err); ok {
		s.turnAway(m, bad, from, reply)
	}
	return nil, nil
}

// turnAway answers a request that cannot be parsed, if it is one at all.
func (s *Server) turnAway(m *raw, bad *scanError, from route, reply func(*gosip.Response) error) {
	if m == nil || m.method == "" || m.method == string(gosip.ACK) || bad.code == 0 {
		return
	}
	if res := refusal(m, bad, from); res != nil {
		s.metrics.responded(m.method, bad.code)
		if err := reply(res); err != nil {
			s.log.Debug("malformed message not answered", zap.Stringer("source", from), zap.Error(err))
		}
	}
}

// refusal builds the answer to a request that cannot be parsed, from those
// headers of it that are there; nil without a Via, which says where it goes.
func refusal(m *raw, bad *scanError, from route) *gosip.Response {
	r := &request{method: m.method, headers: m.headers, source: from.addr, transport: from.transport}
	if err := r.read(); err != nil && r.top.host == "" {
		return nil
	}
	return r.respond(bad.code, "", r.statelessTag(), Header{"Warning", `399 ivrbridge ` + quote(plain(bad.what, 64))})
}

// trimPings drops line ends in front of a message and reports whether there
// was a double CRLF, which wants a single one back (RFC 5626 3.5.1).
func trimPings(b []byte) (rest []byte, ping bool) {
	n := 0
	for n < len(b) && (b[n] == '\r' || b[n] == '\n') {
		n++
	}
	return b[n:], bytes.HasPrefix(b[:n], []byte("\r\n\r\n"))
}
