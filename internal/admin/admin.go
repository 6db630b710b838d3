// Package admin serves operators over HTTP: health, metrics and the API.
//
// It shows calls and passes wishes on; what a call is and how it is ended it
// learns through [Calls]. Health and metrics are open to everybody who reaches
// the listener, everything else is guarded: by a bearer token, or without one by
// being reached at loopback.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/record"
	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// ErrNoCall is returned by Calls for an id that no live call has.
var ErrNoCall = errors.New("admin: no such call")

// Calls is what the API shows and steers. Its methods are called from many
// goroutines at once.
type Calls interface {
	// Calls returns the live calls, the oldest first.
	Calls() []Call
	// Call returns one call, live or ended; ErrNoCall when there is none.
	Call(ctx context.Context, id string) (Detail, error)
	// Hangup asks a live call to end and does not wait for it; ErrNoCall when
	// there is none.
	Hangup(ctx context.Context, id, why string) error
}

// A Call is a live call in a list.
type Call struct {
	ID        string    `json:"id"`
	Agent     string    `json:"agent"`
	Trunk     string    `json:"trunk"`
	Direction string    `json:"direction"` // inbound, outbound
	From      string    `json:"from"`
	To        string    `json:"to"`
	State     string    `json:"state"`
	Began     time.Time `json:"began"`
	Answered  time.Time `json:"answered,omitzero"`
	Turns     int       `json:"turns"`
	OnHold    bool      `json:"on_hold,omitempty"`
	Bridged   bool      `json:"bridged,omitempty"`
}

// A Detail is all that is known of one call.
type Detail struct {
	Call    Call            `json:"call"`
	Live    bool            `json:"live"`
	Record  *record.Record  `json:"record,omitempty"`  // so far, or final
	Journal json.RawMessage `json:"journal,omitempty"` // as the call keeps it
}

// Config is what the handler needs.
type Config struct {
	Ready    func() error        // why no calls are taken; nil: they always are
	Gatherer prometheus.Gatherer // nil: no metrics
	Calls    Calls               // nil: no API of calls
	// Routes are further handlers by their pattern, as http.ServeMux takes it with
	// a method, such as those of the console. They are guarded like the API.
	Routes map[string]http.Handler
	Token  secret.Secret // bearer token of the API
	// Loopback says that the plain listener is reached from this machine alone: no
	// token is needed there, and neither when another listener is reached at a
	// loopback address.
	Loopback bool

	Phone     Phone                      // nil: no browser calls
	Origins   func() map[string][]string // sites whose pages may call an agent, by its name; asked with each request and not changed; nil: none
	Proxies   []netip.Prefix             // whose X-Forwarded headers count
	PublicURL string                     // how browsers reach us; empty: as they say
	HTTPS     string                     // host:port of the https listener; empty: none
	// Trusted reports whether browsers trust the certificate of the https listener
	// without being told: they may be told to come by https alone. nil: they do not.
	Trusted func() bool
	Metrics prometheus.Registerer // nil: none
	Log     *zap.Logger           // nil: none
}

const (
	maxBody   = 1 << 20
	maxHeader = 32 << 10
)

type server struct {
	Config
	guard   *guard
	front   *front
	tokens  *tokens
	limits  limits
	streams *streams
	metrics metrics
}

// New returns the handler of all addresses. It is safe for concurrent
// use, by several servers too.
func New(c Config) http.Handler { return newServer(c).handler() }

func newServer(c Config) *server {
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Ready == nil {
		c.Ready = func() error { return nil }
	}
	if c.Trusted == nil {
		c.Trusted = func() bool { return false }
	}
	f := newFront(c.Proxies, c.PublicURL)
	m := newMetrics(c.Metrics, c.Log)
	return &server{
		Config: c, guard: newGuard(c.Token, c.Loopback, f), front: f, tokens: newTokens(), limits: newLimits(),
		streams: newStreams(m.streams), metrics: m,
	}
}

func (s *server) handler() http.Handler {
	c := s.Config
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /readyz", s.ready)
	if c.Gatherer != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(c.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	}
	if c.Calls != nil {
		s.guarded(mux, "GET /api/v1/calls", http.HandlerFunc(s.list))
		s.guarded(mux, "GET /api/v1/calls/{id}", http.HandlerFunc(s.call))
		s.guarded(mux, "POST /api/v1/calls/{id}/hangup", http.HandlerFunc(s.hangup))
	}
	for method, h := range map[string]handler{"GET": s.signedIn, "POST": s.signIn, "DELETE": s.signOut} {
		mux.HandleFunc(method+" /api/v1/session", s.browser(h))
	}
	if c.Phone != nil {
		s.phone(mux)
		pages(mux)
	}
	for pattern, h := range c.Routes {
		s.guarded(mux, pattern, h)
	}
	// Unknown addresses below /api are guarded too: what exists is no one's
	// business without a token.
	s.guarded(mux, "/api/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusNotFound, "there is nothing at this address")
	}))
	return s.around(mux)
}

// NewServer returns a server with bounds on everything that a client could make
// last. Handlers that stream move their own deadlines.
func NewServer(h http.Handler, log *zap.Logger) *http.Server {
	if log == nil {
		log = zap.NewNop()
	}
	out, err := zap.NewStdLogAt(log, zap.WarnLevel)
	if err != nil {
		out = zap.NewStdLog(log) // the level is known
	}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          out,
	}
}

// around adds what holds for every address: no scripts from elsewhere, no
// writes by other sites' pages, no large bodies.
func (s *server) around(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.metrics.refused.WithLabelValues(CodeOrigin).Inc()
		answer(w, http.StatusForbidden, map[string]string{"error": "requests of other sites' pages are not taken", "code": CodeOrigin})
	}))
	// Calls are asked for by pages of other sites too, their handlers look at the
	// origin themselves.
	crossOrigin.AddInsecureBypassPattern("/api/v1/rtc")
	crossOrigin.AddInsecureBypassPattern("/api/v1/rtc/")
	protected := crossOrigin.Handler(http.MaxBytesHandler(next, maxBody))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("Cache-Control", "no-store")
		if r.TLS != nil && s.Trusted() && !localName(r.Host) {
			h.Set("Strict-Transport-Security", "max-age=15552000")
		}
		protected.ServeHTTP(w, r)
	})
}

func (s *server) guarded(mux *http.ServeMux, pattern string, h http.Handler) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if status, why := s.guard.judge(r); status != 0 {
			if status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="ivrbridge"`)
			}
			s.Log.Warn("admin request refused", zap.Int("status", status), zap.String("peer", peer(r)), zap.String("path", r.URL.Path))
			s.metrics.refused.WithLabelValues(CodeSignin).Inc()
			answer(w, status, map[string]string{"error": why, "code": CodeSignin})
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			s.Log.Info("admin request", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.String("peer", peer(r)))
		}
		h.ServeHTTP(w, r)
	})
}

func (s *server) health(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	if err := s.Ready(); err != nil {
		w.Header().Set("Retry-After", "5")
		answer(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "why": err.Error()})
		return
	}
	answer(w, http.StatusOK, map[string]string{"status": "ready"})
}

func (s *server) list(w http.ResponseWriter, _ *http.Request) {
	calls := s.Calls.Calls()
	if calls == nil {
		calls = []Call{}
	}
	answer(w, http.StatusOK, map[string]any{"calls": calls})
}

func (s *server) call(w http.ResponseWriter, r *http.Request) {
	id, ok := callID(w, r)
	if !ok {
		return
	}
	detail, err := s.Calls.Call(r.Context(), id)
	if err != nil {
		s.failed(w, "show call", err)
		return
	}
	answer(w, http.StatusOK, detail)
}

func (s *server) hangup(w http.ResponseWriter, r *http.Request) {
	id, ok := callID(w, r)
	if !ok {
		return
	}
	var wish struct {
		Why string `json:"why"`
	}
	if !body(w, r, &wish) {
		return
	}
	if wish.Why == "" {
		wish.Why = "an operator ended the call"
	}
	if err := s.Calls.Hangup(r.Context(), id, wish.Why); err != nil {
		s.failed(w, "hang up", err)
		return
	}
	answer(w, http.StatusAccepted, map[string]string{"status": "ending"})
}

func (s *server) failed(w http.ResponseWriter, what string, err error) {
	if errors.Is(err, ErrNoCall) {
		fail(w, http.StatusNotFound, "there is no such call")
		return
	}
	s.Log.Error("admin request failed", zap.String("what", what), zap.Error(err))
	fail(w, http.StatusInternalServerError, what+" did not work, the log says why")
}

// callID returns the id in the address when it has the form of one.
func callID(w http.ResponseWriter, r *http.Request) (string, bool) {
	id := r.PathValue("id")
	if !record.ValidID(id) {
		fail(w, http.StatusNotFound, "there is no such call")
		return "", false
	}
	return id, true
}

// body decodes an optional JSON object and refuses unknown keys.
func body(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if errors.Is(err, io.EOF) {
		return true
	}
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one value")
		}
	}
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", large.Limit))
		return false
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "the body is no such JSON object: "+strings.TrimPrefix(err.Error(), "json: "))
		return false
	}
	return true
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client has gone
}

func fail(w http.ResponseWriter, status int, why string) {
	answer(w, status, map[string]string{"error": why})
}

func peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
