package sip

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
)

// pipeListener takes connections without a network, so that they live in
// virtual time.
type pipeListener struct {
	addr  netip.AddrPort
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener(addr string) *pipeListener {
	return &pipeListener{addr: netip.MustParseAddrPort(addr), conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// pipeConn is one end of a pipe with addresses.
type pipeConn struct {
	net.Conn
	local, remote netip.AddrPort
}

func (c pipeConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c pipeConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// dial connects from an address.
func (l *pipeListener) dial(from string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	at := netip.MustParseAddrPort(from)
	select {
	case l.conns <- pipeConn{theirs, l.addr, at}:
		return pipeConn{ours, at, l.addr}, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// webRig is a rig that WebSockets are served on, at 10.0.0.1:5066.
type webRig struct {
	*rig
	listener *pipeListener
}

func newWebRig(t *testing.T, transport Transport, change ...func(*Config)) *webRig {
	t.Helper()
	w := &webRig{newRig(t, nil, change...), newPipeListener("10.0.0.1:5066")}
	done := make(chan error, 1)
	go func() { done <- w.server.Serve(context.Background(), w.listener, transport) }()
	t.Cleanup(func() {
		_ = w.listener.Close()
		require.NoError(t, <-done)
	})
	synctest.Wait()
	return w
}

func (w *webRig) dialer(from string) *websocket.Dialer {
	return &websocket.Dialer{
		Subprotocols:   []string{subprotocol},
		NetDialContext: func(context.Context, string, string) (net.Conn, error) { return w.listener.dial(from) },
	}
}

// open opens a WebSocket from an address.
func (w *webRig) open(from string) *websocket.Conn {
	w.t.Helper()
	conn, res, err := w.dialer(from).Dial("ws://10.0.0.1:5066/", nil)
	require.NoError(w.t, err)
	_ = res.Body.Close()
	require.Equal(w.t, subprotocol, conn.Subprotocol())
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// page is a script's end that speaks like a browser. prepare changes the
// WebSocket before it is read.
func (w *webRig) page(from string, prepare ...func(*websocket.Conn)) (*peer, *websocket.Conn) {
	w.t.Helper()
	conn := w.open(from)
	for _, f := range prepare {
		f(conn)
	}
	return newPeer(w.t, &pagePackets{Conn: conn, via: "SIP/2.0/WS df7jal23ls0d.invalid"}, netip.MustParseAddrPort("10.0.0.1:5066")), conn
}

// closing tells when the far end closes a WebSocket, and with which code.
type closing struct {
	code int
	at   time.Time
}

// awaitClose is for page.
func awaitClose() (<-chan closing, func(*websocket.Conn)) {
	closed := make(chan closing, 1)
	return closed, func(conn *websocket.Conn) {
		conn.SetCloseHandler(func(code int, _ string) error {
			closed <- closing{code, time.Now()}
			return nil
		})
	}
}

const pageContact = "<sip:k3j9@df7jal23ls0d.invalid;transport=ws;ob>"

// pagePackets makes packets of the messages of a WebSocket, and names of
// addresses, as browsers do.
type pagePackets struct {
	*websocket.Conn
	via string
	mu  sync.Mutex
}

func (c *pagePackets) ReadFrom(b []byte) (int, net.Addr, error) {
	_, data, err := c.ReadMessage()
	return copy(b, data), c.RemoteAddr(), err
}

func (c *pagePackets) WriteTo(b []byte, _ net.Addr) (int, error) {
	at := c.LocalAddr().String()
	s := strings.Replace(string(b), "SIP/2.0/UDP "+at, c.via, 1)
	s = strings.Replace(s, "<sip:al@"+at+">", pageContact, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(b), c.WriteMessage(websocket.TextMessage, []byte(s))
}

func (c *pagePackets) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// connections returns the number of flows and of places taken.
func (w *webRig) connections() (open, places int) {
	w.server.flows.mu.Lock()
	defer w.server.flows.mu.Unlock()
	return len(w.server.flows.open), w.server.flows.places
}

// ask sends a request for a WebSocket as it is given and leaves.
func (w *webRig) ask(from string, edit func(*http.Request)) (code int, h http.Header) {
	w.t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return w.listener.dial(from) },
	}}
	req, err := http.NewRequest(http.MethodGet, "http://10.0.0.1:5066/", nil)
	require.NoError(w.t, err)
	for name, value := range map[string]string{
		"Connection": "keep-alive, Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "chat, sip",
	} {
		req.Header.Set(name, value)
	}
	edit(req)
	res, err := client.Do(req)
	require.NoError(w.t, err)
	_ = res.Body.Close()
	return res.StatusCode, res.Header
}
