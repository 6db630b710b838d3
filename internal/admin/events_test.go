package admin

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// wires is a listener whose connections live in memory.
type wires struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (w *wires) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}
func (w *wires) Close() error   { close(w.closed); return nil }
func (w *wires) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// serve runs the real server, with its deadlines, and returns a dialler.
func serve(t *testing.T, h http.Handler) (dial func() net.Conn) {
	t.Helper()
	w := &wires{conns: make(chan net.Conn), closed: make(chan struct{})}
	s := NewServer(h, nil)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(w) }()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		<-done
	})
	return func() net.Conn {
		near, far := net.Pipe()
		w.conns <- far
		t.Cleanup(func() { _ = near.Close() })
		return near
	}
}

// A reader is a browser that follows a call.
type reader struct {
	t     *testing.T
	lines *bufio.Reader
	res   *http.Response
}

func follow(t *testing.T, c net.Conn, session string, after uint64) *reader {
	t.Helper()
	q := "GET /api/v1/rtc/" + session + "/events HTTP/1.1\r\nHost: localhost\r\n"
	if after > 0 {
		q += "Last-Event-ID: " + strconv.FormatUint(after, 10) + "\r\n"
	}
	_, err := io.WriteString(c, q+"\r\n")
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil) //nolint:bodyclose // it ends with its connection
	require.NoError(t, err)
	return &reader{t, bufio.NewReader(res.Body), res}
}

// next returns the next event, or comment, without its empty line.
func (r *reader) next() string {
	r.t.Helper()
	var out []string
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			return err.Error()
		}
		if line = strings.TrimSuffix(line, "\n"); line == "" {
			return strings.Join(out, "\n")
		}
		out = append(out, line)
	}
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		phone, reg := newExchange(), prometheus.NewRegistry()
		dial := serve(t, New(Config{Phone: phone, Metrics: reg}))
		session, c := phone.begin("")
		c.feed.Publish("state", map[string]string{"state": "connecting"})
		r := follow(t, dial(), session, 0)
		require.Equal(t, 200, r.res.StatusCode)
		require.Equal(t, "text/event-stream; charset=utf-8", r.res.Header.Get("Content-Type"))
		require.Equal(t, "no-store", r.res.Header.Get("Cache-Control"))
		require.Equal(t, "retry: 1000", r.next())
		require.Equal(t, "id: 1\nevent: state\ndata: {\"state\":\"connecting\"}", r.next())
		require.Equal(t, map[string]float64{"": 1}, shown(t, reg, "ivrbridge_http_event_streams"))

		// Ten minutes are longer than every deadline of the server.
		began := time.Now()
		for i := range 40 {
			require.Equal(t, ": here", r.next())
			require.Equal(t, time.Duration(i+1)*heartbeat, time.Since(began))
		}
		c.feed.Publish("note", map[string]string{"text": "at once"})
		require.Equal(t, "id: 2\nevent: note\ndata: {\"text\":\"at once\"}", r.next())
		require.Equal(t, 40*heartbeat, time.Since(began))
		c.feed.Publish("state", map[string]string{"state": "up"})
		c.feed.Publish("state", map[string]string{"state": "ended", "why": "you hung up"})
		c.feed.Publish("note", 1)
		require.Contains(t, r.next(), "up")
		require.Equal(t, "id: 4\nevent: state\ndata: {\"state\":\"ended\",\"why\":\"you hung up\"}", r.next())
		require.Equal(t, "EOF", r.next(), "nothing comes after the end")
		synctest.Wait()
		require.Equal(t, map[string]float64{"": 0}, shown(t, reg, "ivrbridge_http_event_streams"))
	})
}

// The streams of HTTP/2 have deadlines of their own.
func TestEventsOverHTTP2(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate
	config, pool := certified.TLS.Clone(), x509.NewCertPool()
	pool.AddCert(certified.Certificate())
	config.NextProtos = []string{"h2", "http/1.1"}
	certified.Close()
	synctest.Test(t, func(t *testing.T) {
		phone := newExchange()
		w := &wires{conns: make(chan net.Conn), closed: make(chan struct{})}
		s := NewServer(New(Config{Phone: phone}), nil)
		s.TLSConfig = config
		done := make(chan struct{})
		go func() { defer close(done); _ = s.ServeTLS(w, "", "") }()
		transport := &http.Transport{
			ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "example.com", Time: func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }},
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				w.conns <- far
				return near, nil
			},
		}
		session, c := phone.begin("")
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.com/api/v1/rtc/"+session+"/events", nil)
		require.NoError(t, err)
		res, err := transport.RoundTrip(q)
		require.NoError(t, err)
		require.Equal(t, "HTTP/2.0", res.Proto)
		r := &reader{t, bufio.NewReader(res.Body), res}
		require.Equal(t, "retry: 1000", r.next())
		for range 40 {
			require.Equal(t, ": here", r.next())
		}
		c.feed.Publish("state", map[string]string{"state": "ended"})
		require.Contains(t, r.next(), "ended")
		require.Equal(t, "EOF", r.next())
		require.NoError(t, res.Body.Close())
		transport.CloseIdleConnections()
		require.NoError(t, s.Close())
		<-done
	})
}

func TestEventsAreResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		phone := newExchange()
		dial := serve(t, New(Config{Phone: phone}))
		session, c := phone.begin("")
		for i := range 1200 {
			c.feed.Publish("note", i)
		}
		for after, first := range map[uint64]int{0: 201, 5: 201, 200: 201, 201: 202, 1199: 1200, 99999: 201} {
			r := follow(t, dial(), session, after)
			require.Equal(t, "retry: 1000", r.next())
			for n := first; n <= 1200; n++ {
				require.Equal(t, fmt.Sprintf("id: %d\nevent: note\ndata: %d", n, n-1), r.next())
			}
		}
		c.feed.Close()
		w := do(t, New(Config{Phone: phone}), request{method: "GET", path: "/api/v1/rtc/" + session + "/events"}.with("Last-Event-ID", "1200"))
		require.Equal(t, 204, w.Code, "the browser need not come again")
		w = do(t, New(Config{Phone: phone}), request{method: "GET", path: "/api/v1/rtc/" + session + "/events"}.with("Last-Event-ID", "x"))
		require.Equal(t, 200, w.Code)
		require.True(t, strings.HasPrefix(w.Body.String(), "retry: 1000\n\nid: 201\n"))
	})
}

func TestSlowReaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		phone, reg := newExchange(), prometheus.NewRegistry()
		dial := serve(t, New(Config{Phone: phone, Metrics: reg}))
		session, c := phone.begin("")
		slow, quick := dial(), follow(t, dial(), session, 0)
		_, err := io.WriteString(slow, "GET /api/v1/rtc/"+session+"/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(t, err)
		require.Equal(t, "retry: 1000", quick.next())
		synctest.Wait()
		require.Equal(t, map[string]float64{"": 2}, shown(t, reg, "ivrbridge_http_event_streams"))
		for i := range 100 {
			c.feed.Publish("note", i)
			require.Contains(t, quick.next(), "event: note", "others do not wait for him")
		}
		time.Sleep(slowReader)
		synctest.Wait()
		require.Equal(t, map[string]float64{"": 1}, shown(t, reg, "ivrbridge_http_event_streams"))
	})
}

func TestWatcherWhoGoesIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		phone, reg := newExchange(), prometheus.NewRegistry()
		dial := serve(t, New(Config{Phone: phone, Metrics: reg}))
		session, _ := phone.begin("")
		conn := dial()
		require.Equal(t, "retry: 1000", follow(t, conn, session, 0).next())
		require.NoError(t, conn.Close())
		synctest.Wait()
		require.Equal(t, map[string]float64{"": 0}, shown(t, reg, "ivrbridge_http_event_streams"))
	})
}

func TestWatchersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		phone := newExchange()
		s := newServer(Config{Phone: phone})
		dial := serve(t, s.handler())
		session, c := phone.begin("")
		var all []net.Conn
		for range streamsOfCall {
			all = append(all, dial())
			require.Equal(t, 200, follow(t, all[len(all)-1], session, 0).res.StatusCode)
		}
		r := follow(t, dial(), session, 0)
		require.Equal(t, 429, r.res.StatusCode)
		require.Equal(t, "15", r.res.Header.Get("Retry-After"))
		require.NoError(t, all[0].Close())
		synctest.Wait()
		require.Equal(t, 200, follow(t, dial(), session, 0).res.StatusCode)

		s.streams.mu.Lock()
		s.streams.all += maxStreams - streamsOfCall // those of other calls
		s.streams.mu.Unlock()
		another, _ := phone.begin("")
		require.Equal(t, 503, follow(t, dial(), another, 0).res.StatusCode)
		c.feed.Close()
		synctest.Wait()
		require.Empty(t, s.streams.ofCall)
		require.Equal(t, 200, follow(t, dial(), another, 0).res.StatusCode)
	})
}

func TestEventsOfHEAD(t *testing.T) {
	phone := newExchange()
	session, _ := phone.begin("")
	w := do(t, New(Config{Phone: phone}), request{method: "HEAD", path: "/api/v1/rtc/" + session + "/events"})
	require.Equal(t, 200, w.Code)
	require.Empty(t, w.Body.String())
}
