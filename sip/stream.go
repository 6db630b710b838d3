package sip

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	gosip "github.com/emiago/sipgo/sip"
	"go.uber.org/zap"
)

// Limits of connections.
const (
	maxConnsPerIP = 64
	maxConns      = 4096
	idleTime      = 2 * time.Minute // without a call that came over the connection
	messageTime   = 32 * time.Second
	writeTime     = 5 * time.Second
)

// A streamListener hands connections of admitted sources to sipgo.
type streamListener struct {
	net.Listener
	server *Server
	up     sync.Once
}

// Accept closes connections from elsewhere without a byte.
func (l *streamListener) Accept() (net.Conn, error) {
	l.up.Do(l.server.listening)
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := addrPort(conn.RemoteAddr().String())
		if !l.server.admit(source.Addr()) {
			l.server.metrics.dropped("source")
			_ = conn.Close()
			continue
		}
		sc := newStreamConn(l.server, conn, source)
		if !l.server.streams.add(sc) {
			l.server.metrics.dropped("connections")
			_ = conn.Close()
			continue
		}
		return sc, nil
	}
}

// A dialListener hands connections that we opened to sipgo as if they had been
// accepted, so that they are framed and pooled alike.
type dialListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newDialListener() *dialListener {
	return &dialListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *dialListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *dialListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *dialListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero, Port: 0} }

// streams are the open connections.
type streams struct {
	mu    sync.Mutex
	conns map[*streamConn]struct{}
	perIP map[netip.Addr]int
	wg    sync.WaitGroup
}

func (t *streams) add(c *streamConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns == nil {
		t.conns, t.perIP = make(map[*streamConn]struct{}), make(map[netip.Addr]int)
	}
	if ip := c.remote.Addr(); len(t.conns) >= maxConns || t.perIP[ip] >= maxConnsPerIP {
		return false
	}
	t.conns[c] = struct{}{}
	t.perIP[c.remote.Addr()]++
	t.wg.Add(1)
	return true
}

func (t *streams) drop(c *streamConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.conns[c]; !ok {
		return
	}
	delete(t.conns, c)
	if t.perIP[c.remote.Addr()]--; t.perIP[c.remote.Addr()] == 0 {
		delete(t.perIP, c.remote.Addr())
	}
	t.wg.Done()
}

func (t *streams) closeAll() {
	t.mu.Lock()
	all := make([]*streamConn, 0, len(t.conns))
	for c := range t.conns {
		all = append(all, c)
	}
	t.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
	t.wg.Wait()
}

// A streamConn frames messages, so that sipgo reads each one whole, whatever
// the sender's segments look like.
type streamConn struct {
	net.Conn
	server *Server
	remote netip.AddrPort

	// Used by Read only, which sipgo calls from one goroutine.
	in    []byte
	out   []byte
	chunk []byte
	begun bool // a message has begun to arrive; its deadline stands
}

func newStreamConn(s *Server, conn net.Conn, remote netip.AddrPort) *streamConn {
	return &streamConn{Conn: conn, server: s, remote: remote, chunk: make([]byte, 4096)}
}

// Close closes the connection and forgets it.
func (c *streamConn) Close() error {
	err := c.Conn.Close()
	c.server.streams.drop(c)
	return err
}

// Write bounds the time that a reader who does not read can cost.
func (c *streamConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if err != nil {
		_ = c.Close() // Half a message may be out: nothing can follow it.
	}
	return n, err
}

// Read returns messages in the canonical form, at most one a call.
func (c *streamConn) Read(b []byte) (int, error) {
	for len(c.out) == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	if len(c.out) > len(b) {
		return 0, io.ErrShortBuffer
	}
	n := copy(b, c.out)
	c.out = nil
	return n, nil
}

// next takes one message from the buffer or reads more.
func (c *streamConn) next() error {
	rest, ping := trimPings(c.in)
	if ping {
		if _, err := c.Write([]byte("\r\n")); err != nil {
			return err
		}
	}
	if len(c.in) > 0 && len(rest) == 0 && !ping && len(c.in) < 4 {
		return c.fill() // Half a ping.
	}
	c.in = rest
	size, err := frame(c.in)
	if err != nil {
		c.refuse(err)
		return io.EOF
	}
	if size == 0 {
		return c.fill()
	}
	message := c.in[:size]
	c.out = c.server.vet(message, nil, route{transport: TCP, addr: c.remote}, func(res *gosip.Response) error {
		_, err := c.Write([]byte(res.String()))
		return err
	})
	c.in = append(c.in[:0:0], c.in[size:]...)
	c.begun = false
	return nil
}

// fill reads from the connection. A silent connection may stay as long as it
// carries a call; a message that has begun must end in time.
func (c *streamConn) fill() error {
	if len(c.in) == 0 || !c.begun {
		wait := idleTime
		if len(c.in) > 0 {
			wait, c.begun = messageTime, true
		}
		if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return err
		}
	}
	n, err := c.Conn.Read(c.chunk)
	c.in = append(c.in, c.chunk[:n]...)
	if n > 0 {
		return nil
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		if !c.begun && c.server.carries(c.remote) {
			return nil
		}
		return io.EOF
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return io.EOF
}

// refuse answers, as far as possible, a message after which the stream cannot
// be read on.
func (c *streamConn) refuse(err error) {
	c.server.log.Debug("stream closed", zap.Stringer("source", c.remote), zap.Error(err))
	_ = c.server.vet(c.in, nil, route{transport: TCP, addr: c.remote}, func(res *gosip.Response) error {
		_, err := c.Write([]byte(res.String()))
		return err
	})
}

// frame returns the length of the message at the start of b, zero if it is not
// yet all there. An error says that its end cannot be known.
func frame(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	head, body, found := cutHead(b)
	if !found {
		if len(b) > maxStream {
			return 0, malformed("message is longer than %d bytes", maxStream)
		}
		return 0, nil
	}
	length := -1
	for _, line := range headLines(head)[1:] {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || longName(strings.TrimRight(string(name), " \t")) != "Content-Length" {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(value)), 10, 31)
		if err != nil || length >= 0 && int(n) != length {
			return 0, malformed("Content-Length")
		}
		length = int(n)
	}
	total := len(b) - len(body) + length
	switch {
	case length < 0:
		return 0, malformed("no Content-Length")
	case total > maxStream:
		return 0, malformed("message is longer than %d bytes", maxStream)
	case total > len(b):
		return 0, nil
	}
	return total, nil
}

// dial opens a TCP connection and hands it to sipgo.
func (s *Server) dial(conn net.Conn) (gosip.Connection, error) {
	sc := newStreamConn(s, conn, addrPort(conn.RemoteAddr().String()))
	if !s.streams.add(sc) {
		_ = conn.Close()
		return nil, fmt.Errorf("too many connections to %s: %w", sc.remote, ErrTransport)
	}
	accepted := make(chan struct{})
	select {
	case s.dialled.conns <- &notifyConn{streamConn: sc, pooled: accepted}:
	case <-s.dialled.done:
		_ = sc.Close()
		return nil, ErrServerDown
	}
	select {
	case <-accepted:
	case <-s.dialled.done:
		return nil, ErrServerDown
	}
	return s.transports.GetConnection("tcp", conn.RemoteAddr().String())
}

// A notifyConn tells when sipgo begins to read, which it does once the
// connection is in its pool.
type notifyConn struct {
	*streamConn
	once   sync.Once
	pooled chan struct{}
}

// Read implements net.Conn.
func (c *notifyConn) Read(b []byte) (int, error) {
	c.once.Do(func() { close(c.pooled) })
	return c.streamConn.Read(b)
}
