package sip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A gate accepts connections of admitted sources for which there is a place.
type gate struct {
	net.Listener
	server *Server
	up     sync.Once
}

// Accept closes connections from elsewhere without a byte.
func (g *gate) Accept() (net.Conn, error) {
	g.up.Do(g.server.listening)
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := addrPort(conn.RemoteAddr().String())
		if !g.server.admit(source.Addr()) {
			g.server.metrics.dropped("source")
			_ = conn.Close()
			continue
		}
		release := g.server.flows.place(source.Addr())
		if release == nil {
			g.server.metrics.dropped("connections")
			_ = conn.Close()
			continue
		}
		return &placedConn{Conn: conn, source: source, release: release}, nil
	}
}

// A placedConn gives its place back when it is closed.
type placedConn struct {
	net.Conn
	source  netip.AddrPort
	release func()
}

// Close implements net.Conn.
func (c *placedConn) Close() error {
	err := c.Conn.Close()
	c.release()
	return err
}

// serveStreams takes the connections of a listener.
func (s *Server) serveStreams(g *gate, t Transport) error {
	for {
		conn, err := g.Accept()
		if err != nil {
			return err
		}
		f := s.newFlow(t, addrPort(conn.RemoteAddr().String()), addrPort(conn.LocalAddr().String()), func() {})
		f.link = newStream(conn, f.busy)
		if err := f.start(); err != nil {
			return err
		}
	}
}

// dial opens a connection.
func (s *Server) dial(ctx context.Context, to route) (*flow, error) {
	release := s.flows.place(to.addr.Addr())
	if release == nil {
		return nil, fmt.Errorf("too many connections to %s: %w", to.addr.Addr(), ErrTransport)
	}
	conn, err := (&net.Dialer{Timeout: writeTime}).DialContext(ctx, "tcp", to.addr.String())
	if err != nil {
		release()
		return nil, err
	}
	f := s.newFlow(to.transport, to.addr, addrPort(conn.LocalAddr().String()), release)
	f.dialled = true
	f.link = newStream(conn, f.busy)
	if err := f.start(); err != nil {
		return nil, err
	}
	return f, nil
}

// A stream frames messages by their Content-Length (RFC 3261 18.3), whatever
// the sender's segments look like.
type stream struct {
	conn net.Conn
	busy func() bool // a call uses the connection

	// Used by next only.
	in    []byte
	chunk []byte
	begun bool // a message has begun to arrive; its deadline stands
}

func newStream(conn net.Conn, busy func() bool) *stream {
	return &stream{conn: conn, busy: busy, chunk: make([]byte, 4096)}
}

// end implements link.
func (c *stream) end(error) { _ = c.conn.Close() }

// write implements link. It bounds the time that a reader who does not read can
// cost.
func (c *stream) write(b []byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	_, err := c.conn.Write(b)
	return err
}

// next implements link.
func (c *stream) next() ([]byte, error) {
	for {
		rest, ping := trimPings(c.in)
		if ping {
			if err := c.write([]byte("\r\n")); err != nil {
				return nil, err
			}
		}
		if halfPing := len(c.in) > 0 && len(rest) == 0 && !ping && len(c.in) < 4; !halfPing {
			c.in = rest
			size, err := frame(c.in)
			if err != nil {
				return c.in, err
			}
			if size > 0 {
				message := c.in[:size:size]
				c.in = append([]byte(nil), c.in[size:]...)
				c.begun = false
				return message, nil
			}
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads from the connection. A silent connection may stay as long as it
// carries a call; a message that has begun must end in time.
func (c *stream) fill() error {
	if !c.begun {
		wait := idleTime
		if rest, _ := trimPings(c.in); len(rest) > 0 { // A line end alone keeps alive, too.
			wait, c.begun = messageTime, true
		}
		if err := c.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return err
		}
	}
	n, err := c.conn.Read(c.chunk)
	c.in = append(c.in, c.chunk[:n]...)
	if n > 0 {
		return nil
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		if !c.begun && c.busy() {
			return nil
		}
		return err
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
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
			return 0, errTooLong()
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
		return 0, errTooLong()
	case total > len(b):
		return 0, nil
	}
	return total, nil
}

func errTooLong() *scanError {
	return &scanError{code: 513, what: fmt.Sprintf("message is longer than %d bytes", maxStream)}
}
