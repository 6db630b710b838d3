package localflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const maxBody = 1 << 20 // as the runtime's own limit

// Options are a server's settings. The zero value is ready for use.
type Options struct {
	// Log may be nil.
	Log *zap.Logger
	// Sessions bounds how many conversations are kept; the one unused for the
	// longest goes first. 0: 10,000.
	Sessions int
	// Age is how long an unused conversation is kept. 0: 24 h.
	Age time.Duration
	// Kept bounds how many requests are recorded, the newest. 0: 1,000; negative:
	// none.
	Kept int
	// RatePerMinute refuses further requests of a key with 429. 0: no limit.
	RatePerMinute int
}

// A Server answers all generations of Voiceflow's API over HTTP for one flow. It is an http.Handler
// and safe for concurrent use. Like the runtime it has no lock on a conversation:
// of two turns at once, the one that finishes last wins.
type Server struct {
	opts   Options
	log    *zap.Logger
	pick   func(n int) int // chance, for steps that take a path at random
	closed chan struct{}

	mu       sync.Mutex
	flow     *Flow
	sessions *sessions
	faults   []countedFault
	requests []Request
	number   int // of requests, for their ids
	rates    map[string]*rate
	close    sync.Once
}

// A Request is one that the server got, as tests look at it. The key is not kept.
type Request struct {
	At          time.Time
	Method      string
	Path        string // escaped, without the query
	User        string
	Turn        int // number of the session's interact requests so far; 0 for others
	Environment string
	SessionID   string
	Action      string          // type of the action; empty for the null request
	Body        json.RawMessage // whole
	Header      http.Header     // without Authorization
	Status      int
	Traces      []string // types of the traces sent
}

// New returns a server of f.
func New(f *Flow, o Options) *Server {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Sessions <= 0 {
		o.Sessions = 10000
	}
	if o.Age <= 0 {
		o.Age = 24 * time.Hour
	}
	if o.Kept == 0 {
		o.Kept = 1000
	}
	s := &Server{
		opts: o, log: o.Log, pick: rand.IntN, closed: make(chan struct{}), flow: f,
		sessions: newSessions(o.Sessions, o.Age), rates: make(map[string]*rate),
	}
	s.SetFaults(f.faults...)
	return s
}

// Close ends the waits of slow turns. It may be called more than once.
func (s *Server) Close() error {
	s.close.Do(func() { close(s.closed) })
	return nil
}

// SetFlow replaces the flow and its faults; conversations stand where they were,
// as far as the new flow has their steps.
func (s *Server) SetFlow(f *Flow) {
	s.mu.Lock()
	s.flow = f
	s.mu.Unlock()
	s.SetFaults(f.faults...)
}

// Requests returns the recorded requests, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// call is one request on its way through the server.
type call struct {
	w     http.ResponseWriter
	req   *http.Request
	flow  *Flow
	id    int
	user  string
	body  []byte
	noted Request
	kept  bool // it is recorded
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	s.number++
	c := &call{w: w, req: req, flow: s.flow, id: s.number}
	s.mu.Unlock()
	c.noted = Request{
		At: time.Now(), Method: req.Method, Path: req.URL.EscapedPath(),
		Environment: req.Header.Get("versionID"), SessionID: req.Header.Get("sessionID"), Header: req.Header.Clone(),
	}
	c.noted.Header.Del("Authorization")
	defer s.note(c)
	if !c.read() {
		return
	}
	to := s.route(c)
	if to == nil {
		c.page(http.StatusNotFound, fmt.Sprintf("Cannot %s %s", req.Method, req.URL.EscapedPath()))
		return
	}
	if to.admit(c) {
		to.serve(c)
	}
}

// note records a request, once.
func (s *Server) note(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opts.Kept < 0 || c.kept {
		return
	}
	c.kept = true
	if len(s.requests) >= s.opts.Kept {
		s.requests = slices.Delete(s.requests, 0, len(s.requests)-s.opts.Kept+1)
	}
	s.requests = append(s.requests, c.noted)
}

func (c *call) read() bool {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.req.Body, maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		c.fail(http.StatusRequestEntityTooLarge, map[string]any{"name": "PayloadTooLargeError", "message": "request entity too large"})
		return false
	}
	if err != nil {
		c.fail(http.StatusBadRequest, map[string]any{"name": "BadRequestError", "message": "request aborted"})
		return false
	}
	c.body = body
	if json.Valid(body) {
		c.noted.Body = slices.Clone(body)
	}
	return true
}

// admit checks key, version and rate.
func (s *Server) admit(c *call) bool {
	key, version := c.req.Header.Get("Authorization"), c.req.Header.Get("versionID")
	switch {
	case key == "" && version == "":
		c.verror("Missing versionID in request")
		return false
	case key == "":
		c.coded(http.StatusUnauthorized, "Auth Key Required")
		return false
	case len(c.flow.keys) > 0 && !slices.Contains(c.flow.keys, key):
		c.verror("Cannot resolve version alias")
		return false
	}
	if !s.permit(c, key) {
		return false
	}
	if version == "" {
		version = "development"
	}
	if c.flow.answersIn(version) {
		return true
	}
	if version == "production" {
		c.verror("Voiceflow project was not published to production")
	} else {
		c.verror("Cannot resolve version alias")
	}
	return false
}

// rate counts the requests of a key in the current minute.
type rate struct {
	until time.Time
	count int
}

func (s *Server) permit(c *call, key string) bool {
	limit := s.opts.RatePerMinute
	if limit <= 0 {
		return true
	}
	s.mu.Lock()
	now := time.Now()
	r := s.rates[key]
	if r == nil || !now.Before(r.until) {
		if len(s.rates) > 1000 {
			clear(s.rates)
		}
		r = &rate{until: now.Add(time.Minute)}
		s.rates[key] = r
	}
	r.count++
	count, until := r.count, r.until
	s.mu.Unlock()
	h := c.w.Header()
	h.Set("X-RateLimit-Limit", strconv.Itoa(limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(max(0, limit-count)))
	h.Set("X-RateLimit-Reset", until.UTC().Format(time.RFC3339Nano))
	if count <= limit {
		return true
	}
	h.Set("Retry-After", strconv.Itoa(int(until.Sub(now).Seconds())+1))
	c.coded(http.StatusTooManyRequests, "Too Many Requests")
	return false
}

// page is an answer of the layer before the runtime.
func (c *call) page(status int, text string) {
	c.noted.Status = status
	c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	c.w.WriteHeader(status)
	escaped := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
	//nolint:gosec // the text is escaped, and the reader is a program
	_, _ = fmt.Fprintf(c.w, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Error</title>\n</head>\n<body>\n<pre>%s</pre>\n</body>\n</html>\n", escaped)
}

func (c *call) json(status int, v any) {
	c.noted.Status = status
	c.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(encode(v)) // the client may have gone
}

func (c *call) fail(status int, body map[string]any) {
	body["requestID"] = strconv.Itoa(c.id)
	c.json(status, body)
}

func (c *call) verror(message string) {
	c.fail(http.StatusBadRequest, map[string]any{"name": "verror", "message": message})
}

func (c *call) field(name, message string) {
	c.json(http.StatusBadRequest, map[string]any{"errors": map[string]any{name: map[string]any{"message": message}}})
}

// coded is the shape of errors that have a code.
func (c *call) coded(status int, data string) {
	now := time.Now()
	c.json(status, map[string]any{
		"code": status, "status": http.StatusText(status), "data": data,
		"dateTime": now.UTC().Format("2006-01-02T15:04:05.000Z"), "timestamp": now.UnixMilli(),
	})
}
