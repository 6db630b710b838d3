package sip

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

// memNet is a network of datagrams without loss or delay, unless drop says so.
type memNet struct {
	mu    sync.Mutex
	conns map[netip.AddrPort]*memConn
	drop  func(from, to netip.AddrPort, data string) bool
}

func newMemNet() *memNet { return &memNet{conns: make(map[netip.AddrPort]*memConn)} }

type datagram struct {
	data []byte
	from netip.AddrPort
}

// memConn is one end of a memNet.
type memConn struct {
	net    *memNet
	local  netip.AddrPort
	in     chan datagram
	closed chan struct{}
	once   sync.Once
}

func (n *memNet) listen(addr string) *memConn {
	c := &memConn{net: n, local: netip.MustParseAddrPort(addr), in: make(chan datagram, 4096), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[c.local] = c
	return c
}

func (c *memConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-c.in:
		return copy(b, d.data), net.UDPAddrFromAddrPort(d.from), nil
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

func (c *memConn) WriteTo(b []byte, a net.Addr) (int, error) {
	to := udpSource(a)
	c.net.mu.Lock()
	peer, drop := c.net.conns[to], c.net.drop
	c.net.mu.Unlock()
	if drop != nil && drop(c.local, to, string(b)) || peer == nil {
		return len(b), nil
	}
	select {
	case peer.in <- datagram{append([]byte(nil), b...), c.local}:
	default:
	}
	return len(b), nil
}

func (c *memConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *memConn) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(c.local) }
func (c *memConn) SetDeadline(time.Time) error      { return nil }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

// testTrunks admits 10.0.0.0/8 and loopback.
func testTrunks() []Trunk {
	return []Trunk{{Name: "local", Local: true, Peers: []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"),
	}}}
}

// fakeMedia is a Negotiator that remembers what it was asked.
type fakeMedia struct {
	mu       sync.Mutex
	sdp      string
	err      error
	offers   int
	answered []string
	accepted []string
	hook     func(ctx context.Context, what string) error
}

const anySDP = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"

func newMedia() *fakeMedia { return &fakeMedia{sdp: anySDP} }

func (m *fakeMedia) run(ctx context.Context, what string) error {
	m.mu.Lock()
	hook, err := m.hook, m.err
	m.mu.Unlock()
	if hook != nil {
		return hook(ctx, what)
	}
	return err
}

func (m *fakeMedia) Offer(ctx context.Context) ([]byte, error) {
	if err := m.run(ctx, "offer"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.offers++
	return []byte(m.sdp), nil
}

func (m *fakeMedia) Answer(ctx context.Context, offer []byte) ([]byte, error) {
	if err := m.run(ctx, "answer"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answered = append(m.answered, string(offer))
	return []byte(m.sdp), nil
}

func (m *fakeMedia) Accept(ctx context.Context, answer []byte) error {
	if err := m.run(ctx, "accept"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accepted = append(m.accepted, string(answer))
	return nil
}

func (m *fakeMedia) seen() (answered, accepted []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.answered...), append([]string(nil), m.accepted...)
}

// rig is a server under test on a memory network.
type rig struct {
	t      *testing.T
	net    *memNet
	server *Server
	calls  chan *Call
	reg    *prometheus.Registry
}

// testLog keeps the output of a passing test short.
func testLog(t *testing.T) *zap.Logger {
	t.Helper()
	return zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
}

// newRig starts a server at 10.0.0.1:5060. With a nil handler, calls are given
// to rig.calls and stay up until they end.
func newRig(t *testing.T, h Handler, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, net: newMemNet(), calls: make(chan *Call, 64), reg: prometheus.NewRegistry()}
	if h == nil {
		h = HandlerFunc(func(ctx context.Context, c *Call) {
			r.calls <- c
			<-ctx.Done()
		})
	}
	r.server = r.start(h, "10.0.0.1:5060", change...)
	return r
}

// start runs a server and shuts it down at the end of the test.
func (r *rig) start(h Handler, addr string, change ...func(*Config)) *Server {
	r.t.Helper()
	config := Config{Handler: h, Log: testLog(r.t), Trunks: testTrunks(), Metrics: r.reg}
	for _, f := range change {
		f(&config)
	}
	s, err := NewServer(config)
	require.NoError(r.t, err)
	done := make(chan error, 1)
	conn := r.net.listen(addr)
	go func() { done <- s.ServePacket(context.Background(), conn) }()
	r.t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
		require.NoError(r.t, <-done)
		require.Zero(r.t, s.Calls())
	})
	synctest.Wait()
	return s
}

// peer is a script's end: it sends text and reads messages.
type peer struct {
	t    *testing.T
	conn net.PacketConn
	to   netip.AddrPort
	at   netip.AddrPort
	in   chan text
	n    int
}

// text is a message as it came, with its time.
type text struct {
	raw string
	at  time.Time
}

func (m text) start() string { s, _, _ := strings.Cut(m.raw, "\r\n"); return s }

// code is the status, zero for a request.
func (m text) code() int {
	if rest, ok := strings.CutPrefix(m.raw, "SIP/2.0 "); ok {
		n, _ := strconv.Atoi(rest[:3])
		return n
	}
	return 0
}

func (m text) method() string { s, _, _ := strings.Cut(m.raw, " "); return s }

func (m text) header(name string) string {
	if vs := m.headers(name); len(vs) > 0 {
		return vs[0]
	}
	return ""
}

func (m text) headers(name string) []string {
	var vs []string
	head, _, _ := strings.Cut(m.raw, "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		n, v, ok := strings.Cut(line, ":")
		if ok && strings.EqualFold(n, name) {
			vs = append(vs, strings.TrimSpace(v))
		}
	}
	return vs
}

func (m text) body() string { _, b, _ := strings.Cut(m.raw, "\r\n\r\n"); return b }

func (m text) toTag() string {
	_, tag, _ := strings.Cut(m.header("To"), ";tag=")
	return tag
}

func (r *rig) peer(addr string) *peer {
	return newPeer(r.t, r.net.listen(addr), netip.MustParseAddrPort("10.0.0.1:5060"))
}

func newPeer(t *testing.T, conn net.PacketConn, to netip.AddrPort) *peer {
	t.Helper()
	p := &peer{t: t, conn: conn, to: to, at: addrPort(conn.LocalAddr().String()), in: make(chan text, 4096)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			p.in <- text{string(b[:n]), time.Now()}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return p
}

func (p *peer) send(s string) {
	p.t.Helper()
	_, err := p.conn.WriteTo([]byte(s), net.UDPAddrFromAddrPort(p.to))
	require.NoError(p.t, err)
}

// recv waits for the next message.
func (p *peer) recv() text {
	p.t.Helper()
	select {
	case m := <-p.in:
		return m
	case <-time.After(2 * time.Minute):
		require.FailNow(p.t, "no message")
		return text{}
	}
}

// expect reads messages until one has the status or method; others fail unless
// they are provisional.
func (p *peer) expect(what string) text {
	p.t.Helper()
	for {
		m := p.recv()
		got := m.method()
		if m.code() != 0 {
			got = strconv.Itoa(m.code())
		}
		if got == what {
			return m
		}
		require.Less(p.t, m.code(), 200, "got %s instead of %s", m.raw, what)
		require.NotZero(p.t, m.code(), "got %s instead of %s", m.raw, what)
	}
}

// silent fails if something arrives within d.
func (p *peer) silent(d time.Duration) {
	p.t.Helper()
	select {
	case m := <-p.in:
		require.Fail(p.t, "unexpected message", m.raw)
	case <-time.After(d):
	}
}

// leg is a dialog of a script.
type leg struct {
	p      *peer
	callID string
	tag    string // ours
	remote string // theirs
	seq    int
	uri    string
	branch string // of the last request
}

func (p *peer) leg() *leg {
	p.n++
	return &leg{
		p: p, callID: fmt.Sprintf("c%d-%s", p.n, token()), tag: fmt.Sprintf("t%d", p.n), uri: "sip:ivr@10.0.0.1",
	}
}

// req writes a request of the leg; extra are whole header lines.
func (l *leg) req(method, body string, extra ...string) string {
	if method != "ACK" && method != "CANCEL" {
		l.seq++
		l.branch = cookie + token()
	}
	to := "<" + l.uri + ">"
	if l.remote != "" {
		to += ";tag=" + l.remote
	}
	branch := l.branch
	if method == "ACK" {
		branch = cookie + token()
	}
	lines := []string{
		method + " " + l.uri + " SIP/2.0",
		"Via: SIP/2.0/UDP " + l.p.at.String() + ";branch=" + branch,
		"Max-Forwards: 70",
		"From: \"Al\" <sip:al@" + l.p.at.Addr().String() + ">;tag=" + l.tag,
		"To: " + to,
		"Call-ID: " + l.callID,
		fmt.Sprintf("CSeq: %d %s", l.seq, method),
		"Contact: <sip:al@" + l.p.at.String() + ">",
	}
	lines = append(lines, extra...)
	if body != "" && !strings.Contains(strings.Join(extra, "\n"), "Content-Type") {
		lines = append(lines, "Content-Type: application/sdp")
	}
	lines = append(lines, "Content-Length: "+strconv.Itoa(len(body)))
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

// answer writes a response to a request that the peer received.
func answer(req text, code int, reason, tag, body string, extra ...string) string {
	lines := []string{fmt.Sprintf("SIP/2.0 %d %s", code, reason)}
	for _, n := range []string{"Via", "Record-Route", "From", "To", "Call-ID", "CSeq"} {
		for _, v := range req.headers(n) {
			if n == "To" && tag != "" && !strings.Contains(v, ";tag=") {
				v += ";tag=" + tag
			}
			lines = append(lines, n+": "+v)
		}
	}
	lines = append(lines, extra...)
	if body != "" && !strings.Contains(strings.Join(extra, "\n"), "Content-Type") {
		lines = append(lines, "Content-Type: application/sdp")
	}
	lines = append(lines, "Content-Length: "+strconv.Itoa(len(body)))
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

// answerCall goes through INVITE, 200, and ACK.
func (r *rig) answerCall(p *peer, m Negotiator) (*leg, *Call) {
	r.t.Helper()
	l := p.leg()
	p.send(l.req("INVITE", anySDP))
	c := <-r.calls
	require.NoError(r.t, c.Accept(context.Background(), m))
	ok := p.expect("200")
	l.remote = ok.toTag()
	p.send(l.req("ACK", ""))
	synctest.Wait()
	return l, c
}

func quietLog() *zap.Logger { return zap.NewNop() }

// clean fails if the server remembers anything of finished calls.
func (r *rig) clean() {
	r.t.Helper()
	synctest.Wait()
	s := r.server
	require.Zero(r.t, s.Calls())
	require.Zero(r.t, s.dialogs.len())
	require.Zero(r.t, s.live.Load())
	s.servers.mu.Lock()
	var left []string
	for _, tx := range s.servers.txs {
		left = append(left, tx.req.method)
	}
	merged := len(s.servers.merged)
	s.servers.mu.Unlock()
	require.Empty(r.t, left)
	require.Zero(r.t, merged)
	s.clients.mu.Lock()
	left = slices.Collect(maps.Keys(s.clients.txs))
	s.clients.mu.Unlock()
	require.Empty(r.t, left)
	s.admission.mu.Lock()
	require.Empty(r.t, s.admission.guests)
	s.admission.mu.Unlock()
}

func trunkOf(name, prefix string) Trunk {
	return Trunk{Name: name, Peers: []netip.Prefix{netip.MustParsePrefix(prefix)}}
}

// counted adds up a counter over its labels.
func (r *rig) counted(name string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	require.NoError(r.t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
