package sip

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// live is a server on real sockets of a loopback address.
type live struct {
	server *Server
	addr   netip.AddrPort
	calls  chan *Call
}

func startLive(t *testing.T, ip string, change ...func(*Config)) *live {
	t.Helper()
	l := &live{calls: make(chan *Call, 64)}
	config := Config{
		Log: quietLog(),
		Handler: HandlerFunc(func(ctx context.Context, c *Call) {
			l.calls <- c
			_ = c.Accept(ctx, newMedia())
			<-ctx.Done()
		}),
		Trunks: []Trunk{{Name: "local", Local: true, Peers: []netip.Prefix{
			netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
		}}},
	}
	for _, f := range change {
		f(&config)
	}
	s, err := NewServer(config)
	require.NoError(t, err)
	l.server = s
	tcp, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Skipf("no %s here: %v", ip, err)
	}
	l.addr = addrPort(tcp.Addr().String())
	udp, err := net.ListenPacket("udp", l.addr.String())
	require.NoError(t, err)
	done := make(chan error, 2)
	go func() { done <- s.ServePacket(context.Background(), udp) }()
	go func() { done <- s.Serve(context.Background(), tcp, TCP) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
		require.NoError(t, <-done)
		require.NoError(t, <-done)
	})
	require.NoError(t, s.Ready(t.Context(), 2))
	return l
}

func (l *live) uri(t Transport) string {
	return "sip:ivr@" + hostPort(l.addr) + ";transport=" + string(t)
}

func TestCallsOverEachTransport(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "::1"} {
		for _, transport := range []Transport{UDP, TCP} {
			t.Run(ip+" "+string(transport), func(t *testing.T) {
				a, b := startLive(t, ip), startLive(t, ip)
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				c, err := a.server.Invite(ctx, InviteRequest{To: b.uri(transport)}, newMedia())
				require.NoError(t, err)
				theirs := <-b.calls
				require.Equal(t, transport, theirs.Transport())
				require.NoError(t, c.Reoffer(ctx, newMedia()))
				require.NoError(t, theirs.Reoffer(ctx, newMedia()))
				go func() {
					q := <-c.Requests()
					_ = q.Respond(200, "")
				}()
				require.NoError(t, theirs.Info(ctx, "application/dtmf-relay", []byte("Signal=1\r\n")))
				theirs.Hangup(Cause{})
				<-c.Context().Done()
				require.ErrorIs(t, context.Cause(c.Context()), ErrRemoteBye)
			})
		}
	}
}

func TestLongInviteGoesOverTCP(t *testing.T) {
	a, b := startLive(t, "127.0.0.1"), startLive(t, "127.0.0.1")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	long := []Header{{"X-Long", strings.Repeat("a", 1000)}, {"X-Longer", strings.Repeat("b", 1000)}}
	to := "sip:ivr@" + b.addr.String()
	_, err := a.server.Invite(ctx, InviteRequest{To: to, Headers: long}, newMedia())
	require.NoError(t, err)
	require.Equal(t, TCP, (<-b.calls).Transport())
	_, err = a.server.Invite(ctx, InviteRequest{To: to, Headers: long, Transport: UDP}, newMedia())
	require.NoError(t, err)
	require.Equal(t, UDP, (<-b.calls).Transport())
}

// tcpPeer writes and reads messages by hand.
type tcpPeer struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func (l *live) dial(t *testing.T) *tcpPeer {
	t.Helper()
	conn, err := net.Dial("tcp", l.addr.String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	return &tcpPeer{t, conn, bufio.NewReader(conn)}
}

func (p *tcpPeer) recv() text {
	p.t.Helper()
	var b strings.Builder
	length := 0
	for {
		line, err := p.r.ReadString('\n')
		require.NoError(p.t, err)
		b.WriteString(line)
		if n, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			length, err = strconv.Atoi(strings.TrimSpace(n))
			require.NoError(p.t, err)
		}
		if line == "\r\n" {
			break
		}
	}
	body := make([]byte, length)
	_, err := io.ReadFull(p.r, body)
	require.NoError(p.t, err)
	return text{raw: b.String() + string(body)}
}

func overTCP(p *tcpPeer) *leg {
	l := (&peer{at: addrPort(p.conn.LocalAddr().String())}).leg()
	return l
}

func (l *leg) tcp(body string) string {
	return strings.Replace(l.req("OPTIONS", body), "SIP/2.0/UDP", "SIP/2.0/TCP", 1)
}

func TestStreamFraming(t *testing.T) {
	s := startLive(t, "127.0.0.1")
	p := s.dial(t)
	l := overTCP(p)
	// Byte by byte, with line ends between messages, and several in one write.
	for _, c := range []byte("\r\n" + l.tcp("")) {
		_, err := p.conn.Write([]byte{c})
		require.NoError(t, err)
	}
	require.Equal(t, 200, p.recv().code())
	_, err := p.conn.Write([]byte(l.tcp("") + "\r\n" + l.tcp("x") + l.tcp("")))
	require.NoError(t, err)
	for range 3 {
		require.Equal(t, 200, p.recv().code())
	}
	_, err = p.conn.Write([]byte("\r\n\r\n"))
	require.NoError(t, err)
	pong := make([]byte, 2)
	_, err = io.ReadFull(p.r, pong)
	require.NoError(t, err)
	require.Equal(t, "\r\n", string(pong))
	// One that cannot be parsed, but whose end is known, is answered and passed.
	_, err = p.conn.Write([]byte(strings.Replace(l.tcp(""), "CSeq: ", "CSeq: x", 1) + l.tcp("")))
	require.NoError(t, err)
	require.Equal(t, 400, p.recv().code())
	require.Equal(t, 200, p.recv().code())
	// One without a length ends the connection, after an answer.
	_, err = p.conn.Write([]byte(strings.Replace(l.tcp(""), "Content-Length: 0\r\n", "", 1)))
	require.NoError(t, err)
	require.Equal(t, 400, p.recv().code())
	_, err = p.r.ReadByte()
	require.ErrorIs(t, err, io.EOF)
}

// TestAnswerAfterTheConnection sends the answer of an INVITE whose connection is
// gone to where its Via says that the caller listens (RFC 3261 18.2.2).
func TestAnswerAfterTheConnection(t *testing.T) {
	calls, answer := make(chan *Call, 1), make(chan struct{})
	s := startLive(t, "127.0.0.1", func(c *Config) {
		c.Handler = HandlerFunc(func(ctx context.Context, c *Call) {
			calls <- c
			<-answer
			_ = c.Accept(ctx, newMedia())
			<-ctx.Done()
		})
	})
	listens, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listens.Close() }()
	p := s.dial(t)
	l := (&peer{at: addrPort(listens.Addr().String())}).leg()
	_, err = p.conn.Write([]byte(strings.Replace(l.req("INVITE", anySDP), "SIP/2.0/UDP", "SIP/2.0/TCP", 1)))
	require.NoError(t, err)
	require.Equal(t, 100, p.recv().code())
	c := <-calls
	require.NoError(t, p.conn.Close())
	require.Eventually(t, func() bool { return s.server.flows.to(route{transport: TCP, addr: c.Source()}) == nil }, 10*time.Second, time.Millisecond)
	close(answer)
	conn, err := listens.Accept()
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	again := &tcpPeer{t, conn, bufio.NewReader(conn)}
	require.Equal(t, 200, again.recv().code())
}

// TestCancelByAnotherConnection answers a CANCEL where it came from and the INVITE
// where that came from.
func TestCancelByAnotherConnection(t *testing.T) {
	for _, by := range []Transport{TCP, UDP} {
		t.Run(string(by), func(t *testing.T) {
			s := startLive(t, "127.0.0.1", func(c *Config) {
				c.Handler = HandlerFunc(func(ctx context.Context, _ *Call) { <-ctx.Done() })
			})
			p := s.dial(t)
			invite := strings.Replace(overTCP(p).req("INVITE", anySDP), "SIP/2.0/UDP", "SIP/2.0/TCP", 1)
			_, err := p.conn.Write([]byte(invite))
			require.NoError(t, err)
			require.Equal(t, 100, p.recv().code())
			cancel, _, _ := strings.Cut(strings.ReplaceAll(invite, "INVITE", "CANCEL"), "Content-")
			conn, err := net.Dial(string(by), s.addr.String())
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
			_, err = conn.Write([]byte(cancel + "Content-Length: 0\r\n\r\n"))
			require.NoError(t, err)
			if by == TCP {
				require.Equal(t, 200, (&tcpPeer{t, conn, bufio.NewReader(conn)}).recv().code())
			}
			require.Equal(t, 487, p.recv().code())
		})
	}
}

func TestSilentConnectionsBlockNobody(t *testing.T) {
	s := startLive(t, "127.0.0.1")
	for range maxConnsPerIP - 1 {
		p := s.dial(t)
		_, err := p.conn.Write([]byte("INVITE sip:a@b"))
		require.NoError(t, err)
	}
	p := s.dial(t)
	_, err := p.conn.Write([]byte(overTCP(p).tcp("")))
	require.NoError(t, err)
	require.Equal(t, 200, p.recv().code())
	// The limit for one address.
	extra := s.dial(t)
	_, err = extra.r.ReadByte()
	require.Error(t, err)
}

func TestStrangersConnectionIsClosed(t *testing.T) {
	s := startLive(t, "127.0.0.1", func(c *Config) { c.Trunks = []Trunk{trunkOf("far", "192.0.2.0/24")} })
	p := s.dial(t)
	_, err := p.r.ReadByte()
	require.Error(t, err)
}

func TestReaderThatDoesNotRead(t *testing.T) {
	s := startLive(t, "127.0.0.1")
	slow := s.dial(t)
	require.NoError(t, slow.conn.(*net.TCPConn).SetReadBuffer(4096))
	go func() {
		l := overTCP(slow)
		for {
			if _, err := slow.conn.Write([]byte(l.tcp(""))); err != nil {
				return
			}
		}
	}()
	p := s.dial(t)
	l := overTCP(p)
	for range 20 {
		_, err := p.conn.Write([]byte(l.tcp("")))
		require.NoError(t, err)
		require.Equal(t, 200, p.recv().code())
	}
	_ = slow.conn.Close()
}

func TestServeRefusesOtherTransports(t *testing.T) {
	s := startLive(t, "127.0.0.1")
	for _, tr := range []Transport{TLS, UDP} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.ErrorIs(t, s.server.Serve(context.Background(), l, tr), ErrTransport)
	}
	_, err := s.server.Invite(context.Background(), InviteRequest{To: "sips:a@127.0.0.1"}, newMedia())
	require.ErrorIs(t, err, ErrTransport)
	_, err = s.server.Invite(context.Background(), InviteRequest{To: "sip:a@127.0.0.1;transport=ws"}, newMedia())
	require.ErrorIs(t, err, ErrTransport)
}

func TestPortThatNobodyListensOn(t *testing.T) {
	s := startLive(t, "127.0.0.1")
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	_, err = s.server.Invite(context.Background(), InviteRequest{To: "sip:a@" + gone.Addr().String() + ";transport=tcp"}, newMedia())
	require.Error(t, err)
	// An ICMP error leaves the UDP socket in use.
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = s.server.Invite(ctx, InviteRequest{To: "sip:a@" + gone.Addr().String()}, newMedia())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = s.server.Invite(context.Background(), InviteRequest{To: "sip:a@" + s.addr.String()}, newMedia())
	require.NoError(t, err) // To ourselves.
}
