package asr

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	maxMessage   = 1 << 20 // bytes that a service may send at a time
	writeLimit   = 2 * time.Second
	connectLimit = 5 * time.Second
	socketBuffer = 4 << 10
	garbageMost  = 20 // messages in a row that make no sense before a service is given up
)

// ErrClosed is returned by a stream that has ended.
var ErrClosed = errors.New("asr: stream is closed")

// ErrGarbage is why a service is given up that sends what is no answer.
var ErrGarbage = errors.New("asr: service sends messages that make no sense")

// A StatusError is the refusal of a connection by a service.
type StatusError struct {
	Status int    // HTTP status
	Text   string // what the service says about it
}

// Error describes the refusal.
func (e *StatusError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("service answers %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("service answers %d: %s", e.Status, e.Text)
}

// Permanent tells whether the same request will be refused again.
func (e *StatusError) Permanent() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	}
	return e.Status >= 400 && e.Status < 500
}

// A socket is a WebSocket connection that any goroutine may write to and one
// reads from.
type socket struct {
	conn *websocket.Conn
	mu   sync.Mutex
}

// dial connects to address through the same proxy, resolver and certificates as
// client does.
func dial(ctx context.Context, client *http.Client, address string, header http.Header) (*socket, error) {
	d := websocket.Dialer{
		HandshakeTimeout: connectLimit, ReadBufferSize: socketBuffer, WriteBufferSize: socketBuffer,
		Proxy: http.ProxyFromEnvironment,
	}
	if client != nil {
		if t, ok := client.Transport.(*http.Transport); ok {
			d.Proxy, d.NetDialContext = t.Proxy, t.DialContext
			if t.TLSClientConfig != nil {
				d.TLSClientConfig = t.TLSClientConfig.Clone()
				d.TLSClientConfig.NextProtos = nil
			}
		}
	}
	if d.TLSClientConfig == nil {
		d.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	conn, answer, err := d.DialContext(ctx, address, header)
	if answer != nil {
		_ = answer.Body.Close()
	}
	if err != nil {
		if errors.Is(err, websocket.ErrBadHandshake) && answer != nil {
			return nil, fmt.Errorf("connect: %w", &StatusError{Status: answer.StatusCode, Text: answer.Header.Get("dg-error")})
		}
		return nil, fmt.Errorf("connect: %w", err)
	}
	conn.SetReadLimit(maxMessage)
	return &socket{conn: conn}, nil
}

func (s *socket) send(kind int, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return fmt.Errorf("write to service: %w", err)
	}
	if err := s.conn.WriteMessage(kind, b); err != nil {
		return fmt.Errorf("write to service: %w", err)
	}
	return nil
}

func (s *socket) text(message string) error { return s.send(websocket.TextMessage, []byte(message)) }
func (s *socket) sound(b []byte) error      { return s.send(websocket.BinaryMessage, b) }

// read returns the next text message. Others are skipped.
func (s *socket) read() ([]byte, error) {
	for {
		kind, b, err := s.conn.ReadMessage()
		if err != nil {
			return nil, fmt.Errorf("read from service: %w", err)
		}
		if kind == websocket.TextMessage {
			return b, nil
		}
	}
}

// close cuts the connection. Any goroutine may call it, also while others read
// and write.
func (s *socket) close() { _ = s.conn.Close() }

// checkURL says what is wrong with the address of a service.
func checkURL(key, address string, schemes ...string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	for _, s := range schemes {
		if u.Scheme == s && u.Host != "" {
			return nil
		}
	}
	return fmt.Errorf("%s: %q is no address of a service, write %s://host:port", key, address, schemes[0])
}
