package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"

	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/media/sdp"
	"github.com/ivrbridge/ivrbridge/sip"
)

// A socket is one place that SIP arrives at.
type socket struct {
	addr  netip.AddrPort
	serve func(context.Context, *sip.Server) error
}

// receiveBuffer holds the requests of a burst of about two thousand calls: the
// usual size is full at a hundred.
const receiveBuffer = 4 << 20

// secure gives the certificate of a wss:// socket when there is one.
func open(ctx context.Context, l configs.Listen, secure func() (*tls.Config, error)) (socket, error) {
	var lc net.ListenConfig
	switch l.Transport {
	case "udp":
		conn, err := lc.ListenPacket(ctx, family("udp", l.Addr), l.Addr.String())
		if err != nil {
			return socket{}, err
		}
		// What does not fit is lost and comes again after half a second. The system
		// gives no more than net.core.rmem_max.
		if u, ok := conn.(*net.UDPConn); ok {
			_ = u.SetReadBuffer(receiveBuffer)
		}
		return socket{
			addr:  conn.LocalAddr().(*net.UDPAddr).AddrPort(),
			serve: func(ctx context.Context, s *sip.Server) error { return s.ServePacket(ctx, conn) },
		}, nil
	case "tcp", "ws", "wss":
		tcp, err := lc.Listen(ctx, family("tcp", l.Addr), l.Addr.String())
		if err != nil {
			return socket{}, err
		}
		how := map[string]sip.Transport{"tcp": sip.TCP, "ws": sip.WS, "wss": sip.WSS}[l.Transport]
		over := tcp
		if l.Transport == "wss" {
			conf, err := secure()
			if err != nil {
				_ = tcp.Close()
				return socket{}, fmt.Errorf("certificate: %w", err)
			}
			conf.NextProtos = []string{"http/1.1"} // WebSockets are opened by HTTP/1.1
			over = tls.NewListener(tcp, conf)
		}
		return socket{
			addr:  tcp.Addr().(*net.TCPAddr).AddrPort(),
			serve: func(ctx context.Context, s *sip.Server) error { return s.Serve(ctx, over, how) },
		}, nil
	}
	return socket{}, fmt.Errorf("transport %s is not available yet, write udp, tcp, ws or wss", l.Transport)
}

// bindTo is the address for RTP: that of the SIP sockets where they agree, else
// every address of the families that they have.
func bindTo(all []configs.Listen) netip.Addr {
	first := all[0].Addr.Addr()
	same, six := true, false
	for _, l := range all {
		same = same && l.Addr.Addr() == first
		six = six || l.Addr.Addr().Is6()
	}
	switch {
	case same:
		return first
	case six:
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// family keeps an IPv4 address from being taken for every address of both
// families.
func family(network string, addr netip.AddrPort) string {
	if addr.Addr().Is4() {
		return network + "4"
	}
	return network
}

// source is the address that a packet to peer leaves from, the advertised one
// where nothing else is configured.
func source(peer netip.Addr) netip.Addr {
	conn, err := net.Dial("udp", netip.AddrPortFrom(peer, 9).String()) //nolint:noctx // a UDP dial sends nothing
	if err != nil {
		return netip.Addr{}
	}
	defer func() { _ = conn.Close() }()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

func codecs(names []string) []sdp.Codec {
	var out []sdp.Codec
	for _, n := range names {
		if n == "PCMA" {
			out = append(out, sdp.PCMA)
			continue
		}
		out = append(out, sdp.PCMU)
	}
	return out
}
