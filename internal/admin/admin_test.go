package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ivrbridge/ivrbridge/internal/record"
	"github.com/ivrbridge/ivrbridge/internal/secret"
)

var (
	live = record.NewID(time.UnixMilli(1))
	gone = record.NewID(time.UnixMilli(2))
)

// switchboard is a bridge with one live call.
type switchboard struct {
	calls []Call
	ended []string
	err   error
}

func (s *switchboard) Calls() []Call { return s.calls }

func (s *switchboard) Call(_ context.Context, id string) (Detail, error) {
	if id != live {
		return Detail{}, ErrNoCall
	}
	return Detail{Call: s.calls[0], Live: true, Record: &record.Record{ID: id, Why: "<script>"}, Journal: json.RawMessage(`{"entries":[]}`)}, s.err
}

func (s *switchboard) Hangup(_ context.Context, id, why string) error {
	if id != live {
		return ErrNoCall
	}
	s.ended = append(s.ended, why)
	return s.err
}

func newSwitchboard() *switchboard {
	return &switchboard{calls: []Call{{ID: live, Agent: "pizza", Trunk: "local", Began: time.UnixMilli(1).UTC(), State: "listening"}}}
}

type request struct {
	method, path, host, token, body string
	from                            string // address and port; empty: that of httptest
	header                          map[string]string
}

func do(t *testing.T, h http.Handler, q request) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(q.method, q.path, strings.NewReader(q.body))
	r.Host = "127.0.0.1:8080"
	if q.host != "" {
		r.Host = q.host
	}
	if q.token != "" {
		r.Header.Set("Authorization", q.token)
	}
	for k, v := range q.header {
		r.Header.Set(k, v)
	}
	if q.from != "" {
		r.RemoteAddr = q.from
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHealthAndReadiness(t *testing.T) {
	draining := false
	h := New(Config{Ready: func() error {
		if draining {
			return errors.New("draining")
		}
		return nil
	}})
	require.Equal(t, 200, do(t, h, request{method: "GET", path: "/healthz"}).Code)
	require.Equal(t, 200, do(t, h, request{method: "GET", path: "/readyz"}).Code)
	draining = true
	w := do(t, h, request{method: "GET", path: "/readyz"})
	require.Equal(t, 503, w.Code)
	require.JSONEq(t, `{"status":"not ready","why":"draining"}`, w.Body.String())
	require.Equal(t, "5", w.Header().Get("Retry-After"))
	require.Equal(t, 200, do(t, h, request{method: "GET", path: "/healthz"}).Code, "the process lives while it drains")
	require.Equal(t, 405, do(t, h, request{method: "POST", path: "/healthz"}).Code)
}

func TestMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "ivrbridge_x_total", Help: "X."})
	require.NoError(t, r.Register(c))
	c.Inc()
	w := do(t, New(Config{Gatherer: r}), request{method: "GET", path: "/metrics"})
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Body.String(), "ivrbridge_x_total 1")
	require.Equal(t, 404, do(t, New(Config{}), request{method: "GET", path: "/metrics"}).Code)
}

func TestCalls(t *testing.T) {
	board := newSwitchboard()
	core, logs := observer.New(zapcore.InfoLevel)
	h := New(Config{Calls: board, Loopback: true, Log: zap.New(core)})

	w := do(t, h, request{method: "GET", path: "/api/v1/calls"})
	require.Equal(t, 200, w.Code)
	require.Equal(t, "application/json; charset=utf-8", w.Header().Get("Content-Type"))
	var list struct{ Calls []Call }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &list))
	require.Equal(t, board.calls, list.Calls)

	w = do(t, h, request{method: "GET", path: "/api/v1/calls/" + live})
	require.Equal(t, 200, w.Code)
	var detail Detail
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &detail))
	require.Equal(t, live, detail.Record.ID)
	require.JSONEq(t, `{"entries":[]}`, string(detail.Journal))
	require.NotContains(t, w.Body.String(), "<script>")

	for _, id := range []string{gone, "x", "..%2f..%2fetc%2fpasswd", strings.Repeat("A", 4000)} {
		require.Equal(t, 404, do(t, h, request{method: "GET", path: "/api/v1/calls/" + id}).Code, id)
		require.Equal(t, 404, do(t, h, request{method: "POST", path: "/api/v1/calls/" + id + "/hangup"}).Code, id)
	}

	require.Equal(t, 202, do(t, h, request{method: "POST", path: "/api/v1/calls/" + live + "/hangup"}).Code)
	require.Equal(t, 202, do(t, h, request{method: "POST", path: "/api/v1/calls/" + live + "/hangup", body: `{"why": "test"}`}).Code)
	require.Equal(t, []string{"an operator ended the call", "test"}, board.ended)
	require.Equal(t, 4+2, logs.FilterMessage("admin request").Len(), "every write is in the log")

	board.err = errors.New("secret detail")
	w = do(t, h, request{method: "POST", path: "/api/v1/calls/" + live + "/hangup"})
	require.Equal(t, 500, w.Code)
	require.NotContains(t, w.Body.String(), "secret detail")
	require.Equal(t, 1, logs.FilterMessage("admin request failed").Len())

	board.calls = nil
	require.JSONEq(t, `{"calls":[]}`, do(t, h, request{method: "GET", path: "/api/v1/calls"}).Body.String())
}

func TestBodiesAreBoundedAndStrict(t *testing.T) {
	h := New(Config{Calls: newSwitchboard(), Loopback: true})
	for body, want := range map[string]int{
		"":               202,
		`{"why": 5}`:     400,
		`{"cause": "x"}`: 400,
		`{} {}`:          400,
		`[1`:             400,
		`{"why":"` + strings.Repeat("x", maxBody): 413,
	} {
		w := do(t, h, request{method: "POST", path: "/api/v1/calls/" + live + "/hangup", body: body})
		require.Equal(t, want, w.Code, "%.40s: %s", body, w.Body)
		require.True(t, json.Valid(w.Body.Bytes()))
	}
}

func TestEveryAddressForEveryVisitor(t *testing.T) {
	extra := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	handler := func(token string, loopback bool) http.Handler {
		return New(Config{
			Calls: newSwitchboard(), Gatherer: prometheus.NewRegistry(), Token: secret.New(token), Loopback: loopback, Routes: map[string]http.Handler{"GET /api/v1/extra": extra},
		})
	}
	handlers := map[string]http.Handler{
		"loopback": handler("", true), "loopback with token": handler("0123456789abcdef", true),
		"public with token": handler("0123456789abcdef", false), "public without token": handler("", false),
	}
	visitors := map[string]request{
		"nobody": {}, "wrong": {token: "Bearer wrong"}, "empty": {token: "Bearer "}, "basic": {token: "Basic 0123456789abcdef"},
		"right": {token: "bearer 0123456789abcdef"}, "rebinding": {host: "evil.example.com"},
	}
	open := []request{{method: "GET", path: "/healthz"}, {method: "GET", path: "/readyz"}, {method: "GET", path: "/metrics"}}
	guarded := []request{
		{method: "GET", path: "/api/v1/calls"},
		{method: "GET", path: "/api/v1/calls/" + live},
		{method: "POST", path: "/api/v1/calls/" + live + "/hangup"},
		{method: "GET", path: "/api/v1/extra"},
		{method: "GET", path: "/api/v1/nothing"},
		{method: "DELETE", path: "/api/v1/nothing"},
	}
	for listener, h := range handlers {
		for name, visitor := range visitors {
			for _, q := range open {
				q.host, q.token = visitor.host, visitor.token
				require.Equal(t, 200, do(t, h, q).Code, "%s %s %s", listener, name, q.path)
			}
			refusal := 0
			switch {
			case listener == "public without token":
				refusal = 403
			case strings.HasSuffix(listener, "with token") && name != "right":
				refusal = 401
			case listener == "loopback" && name == "rebinding":
				refusal = 403
			}
			for _, q := range guarded {
				q.host, q.token = visitor.host, visitor.token
				w := do(t, h, q)
				if refusal != 0 {
					require.Equal(t, refusal, w.Code, "%s %s %s", listener, name, q.path)
					require.NotContains(t, w.Body.String(), live)
					continue
				}
				require.NotContains(t, []int{401, 403}, w.Code, "%s %s %s", listener, name, q.path)
			}
		}
	}
	require.Equal(t, `Bearer realm="ivrbridge"`, do(t, handlers["public with token"], guarded[0]).Header().Get("WWW-Authenticate"))
}

func TestOtherSitesPagesCannotWrite(t *testing.T) {
	board := newSwitchboard()
	h := New(Config{Calls: board, Loopback: true})
	path := "/api/v1/calls/" + live + "/hangup"
	for _, header := range []map[string]string{
		{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example.com"}, {"Origin": "null"},
	} {
		require.Equal(t, 403, do(t, h, request{method: "POST", path: path, header: header}).Code, header)
	}
	require.Empty(t, board.ended)
	require.Equal(t, 202, do(t, h, request{method: "POST", path: path, header: map[string]string{"Origin": "http://127.0.0.1:8080"}}).Code)
}

func TestHeadersThatKeepPagesSafe(t *testing.T) {
	h := do(t, New(Config{}), request{method: "GET", path: "/healthz"}).Header()
	require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
	require.Equal(t, "DENY", h.Get("X-Frame-Options"))
	require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'self'")
	require.Equal(t, "no-store", h.Get("Cache-Control"))
}

func TestSlowClientsAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		l := &oneConn{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		l.conns <- far
		s := NewServer(New(Config{}), nil)
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Serve(l) }()
		_, err := near.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n"))
		require.NoError(t, err)
		began := time.Now()
		_, err = io.Copy(io.Discard, near)
		require.NoError(t, err)
		require.InDelta(t, 5, time.Since(began).Seconds(), 0.01, "the head of a request has 5 s")
		require.NoError(t, s.Close())
		<-done
	})
}

// oneConn is a listener for a connection that exists.
type oneConn struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

func TestServerLogsThroughZap(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	s := NewServer(http.NotFoundHandler(), zap.New(core))
	s.ErrorLog.Print("broken")
	require.Equal(t, 1, logs.FilterMessage("broken").Len())
	require.False(t, bytes.Contains([]byte(logs.All()[0].Message), []byte("\n")))
}
