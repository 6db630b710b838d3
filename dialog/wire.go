package dialog

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// connectTimeout bounds name resolution, connection and TLS handshake. A
	// connection that took longer is not tried again in the same turn.
	connectTimeout = 3 * time.Second
	// quickRetry is the most that may have passed for a lost connection attempt
	// to be repeated.
	quickRetry = time.Second
	// shortWait is the longest Retry-After that is waited for within a turn.
	shortWait = 2 * time.Second
	// longestStream bounds a stream that nothing but heartbeats keeps alive.
	longestStream = 5 * time.Minute
	// streamTail is how long a stream whose end was told may take to show it, for
	// its connection to be used again.
	streamTail = 500 * time.Millisecond
)

// errConnect is the cause of a request that got no connection in time.
var errConnect = errors.New("no connection within 3 s")

// wire is the way to one agent's runtime: everything that the generations of
// the API have in common below their requests and answers.
type wire struct {
	conf         Config
	http         *http.Client
	log          *zap.Logger
	environments []string // to try, in this order
	// chosen is the environment that answered last, nil before the first answer.
	chosen atomic.Pointer[string]
}

// request is one call of the API, before it is known which environment it is
// for.
type request struct {
	method      string
	path        string // escaped, below the configured URL
	query       url.Values
	header      http.Header // besides what every request has
	body        []byte
	auth        string // in place of the configured key
	stream      bool   // the answer is a stream of events
	environment string // for TurnInfo alone: see in
	// in puts the environment where this request has it.
	in func(r *request, environment string)
}

// answer is a 2xx answer as it begins to arrive.
type answer struct {
	body        io.Reader
	contentType string
	began       time.Time
	info        *TurnInfo
	log         *zap.Logger
}

// httpClient returns c without redirects, which would repeat a turn elsewhere,
// and without a time-out of its own: the context has it.
func httpClient(c *http.Client) *http.Client {
	if c == nil {
		c = &http.Client{Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout: connectTimeout,
			ForceAttemptHTTP2:   true,
			MaxIdleConns:        512,
			MaxIdleConnsPerHost: 256,
			IdleConnTimeout:     60 * time.Second,
		}}
	}
	own := *c
	own.Timeout = 0
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

// repeat sends r, and once more where the first attempt surely was not executed:
// no connection, 429 with a short Retry-After, 502 or 503 without a body.
func (w *wire) repeat(ctx context.Context, r request, info *TurnInfo, read func(*answer) error) error {
	began := time.Now()
	for again := false; ; again = true {
		te, err := w.attempt(ctx, r, info, read)
		if te == nil {
			return err
		}
		wait, ok := w.retryAfter(te, time.Since(began))
		if again || !ok || ctx.Err() != nil {
			return te
		}
		w.log.Debug("turn is sent again", zap.Int("status", te.Status), zap.Duration("wait", wait), zap.Error(te.Err))
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return te
		}
	}
}

// retryAfter decides whether a failed attempt is repeated, and after what wait.
func (w *wire) retryAfter(te *TurnError, took time.Duration) (time.Duration, bool) {
	if te.Executed != ExecutedNo {
		return 0, false
	}
	switch te.Status {
	case 0:
		return 100 * time.Millisecond, te.Err != nil && te.Message == "" && took < quickRetry && !untrusted(te.Err) && !errors.Is(te.Err, errConnect)
	case http.StatusTooManyRequests:
		return te.RetryAfter, te.RetryAfter > 0 && te.RetryAfter <= shortWait
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return max(min(te.RetryAfter, time.Second), 100*time.Millisecond), true
	}
	return 0, false
}

// attempt sends r once. A nil *TurnError means that the answer was read, or that
// the reader refused it with err.
func (w *wire) attempt(ctx context.Context, r request, info *TurnInfo, read func(*answer) error) (*TurnError, error) {
	began := time.Now()
	info.Attempts++
	info.Status, info.Environment, info.First = 0, r.environment, 0
	defer func() { info.Took = time.Since(began) }()

	ctx, lost := context.WithCancelCause(ctx)
	release := func() { lost(nil) }
	defer func() { release() }()
	limit := time.AfterFunc(w.conf.Timeout, func() { lost(context.DeadlineExceeded) })
	defer limit.Stop()
	link := watch(connectTimeout, func() { lost(errConnect) })
	defer link.stop()
	req, err := w.build(httptrace.WithClientTrace(ctx, link.trace()), r)
	if err != nil {
		return &TurnError{Message: "the request cannot be made", Err: err}, nil
	}
	resp, err := w.http.Do(req)
	link.stop()
	if err != nil {
		te := &TurnError{Err: cause(ctx, err)}
		if !link.unsent(err) {
			te.Executed = ExecutedMaybe
		}
		return te, nil
	}
	info.Status = resp.StatusCode
	info.Remaining = remaining(resp.Header)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer leave(resp.Body)
		return refusal(resp), nil
	}
	if read == nil {
		leave(resp.Body)
		return nil, nil
	}
	body := io.Reader(resp.Body)
	if r.stream {
		body = &lively{r: body, timer: limit, idle: w.conf.Timeout, until: began.Add(longestStream)}
	}
	err = read(&answer{
		body: plainBody(resp, body), contentType: resp.Header.Get("Content-Type"), began: began, info: info, log: w.log,
	})
	why := cause(ctx, err)
	switch {
	case r.stream && err == nil:
		release = func() {}
		go linger(resp.Body, lost)
	case r.stream:
		lost(nil) // what is left of it may never come
		_ = resp.Body.Close()
	default:
		leave(resp.Body)
	}
	if err == nil || isEach(err) {
		return nil, err
	}
	return &TurnError{Status: resp.StatusCode, Message: err.Error(), Executed: ExecutedMaybe, Err: why}, nil
}

// leave closes a body that was read, so that the connection can be used again.
func leave(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 4<<10)
	_ = body.Close()
}

// linger is leave for a stream, whose end was told before it shows.
func linger(body io.ReadCloser, lost context.CancelCauseFunc) {
	t := time.AfterFunc(streamTail, func() { lost(nil) })
	leave(body)
	t.Stop()
	lost(nil)
}

// lively puts a time-out off as long as something comes: a heartbeat says that
// the runtime works on the turn.
type lively struct {
	r     io.Reader
	timer *time.Timer
	idle  time.Duration
	until time.Time
}

func (l *lively) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	if n > 0 {
		l.timer.Reset(max(0, min(l.idle, time.Until(l.until))))
	}
	return n, err
}

// plainBody takes the compression off a body where the transport has not.
func plainBody(resp *http.Response, body io.Reader) io.Reader {
	if !strings.EqualFold(strings.TrimSpace(resp.Header.Get("Content-Encoding")), "gzip") {
		return body
	}
	return &gunzip{r: body}
}

// gunzip begins to decompress when it is read.
type gunzip struct {
	r io.Reader
	z *gzip.Reader
}

func (g *gunzip) Read(b []byte) (int, error) {
	if g.z == nil {
		z, err := gzip.NewReader(g.r)
		if err != nil {
			return 0, fmt.Errorf("decompress the answer: %w", err)
		}
		g.z = z
	}
	return g.z.Read(b)
}

// link follows one request's way onto the wire. Its hooks run on goroutines of
// the transport. A transport that reports nothing counts as having sent.
type link struct {
	mu       sync.Mutex
	limit    time.Duration
	late     func()
	timer    *time.Timer // nil unless a connection is being waited for
	reported bool        // the transport tells how far it is
	wrote    bool        // the headers went out, the rest may have followed
}

func watch(limit time.Duration, late func()) *link { return &link{limit: limit, late: late} }

func (l *link) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.reported = true
			if l.timer == nil {
				l.timer = time.AfterFunc(l.limit, l.late)
			}
		},
		GotConn: func(httptrace.GotConnInfo) { l.stop() },
		WroteHeaders: func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.wrote = true
		},
	}
}

func (l *link) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// unsent reports whether the far end surely has not seen the request whose
// exchange failed with err.
func (l *link) unsent(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	return l.reported && !l.wrote
}

func (w *wire) build(ctx context.Context, r request) (*http.Request, error) {
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	address := w.conf.URL + r.path
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, address, body)
	if err != nil {
		return nil, err
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	if r.stream {
		req.Header.Set("Accept", "text/event-stream")
		req.Header.Set("Accept-Encoding", "identity") // a compressor keeps words back
	}
	auth := r.auth
	if auth == "" {
		auth = w.conf.authorization()
	}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	maps.Copy(req.Header, r.header)
	return req, nil
}

// refusal makes the error of an answer that is not 2xx.
func refusal(resp *http.Response) *TurnError {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what came is what there is to say
	te := &TurnError{
		Status:     resp.StatusCode,
		Message:    errorText(body),
		RetryAfter: retryAfterOf(resp.Header, time.Now()),
	}
	if te.Message == "" {
		te.Message = http.StatusText(resp.StatusCode)
	}
	switch code := resp.StatusCode; {
	case code == http.StatusRequestTimeout, code == 499:
		te.Executed = ExecutedMaybe // the runtime goes on and saves its state
	case code < 500, code == http.StatusNotImplemented, code == http.StatusHTTPVersionNotSupported:
		te.Executed = ExecutedNo
	case code == http.StatusBadGateway, code == http.StatusServiceUnavailable:
		if len(bytes.TrimSpace(body)) > 0 {
			te.Executed = ExecutedMaybe
		}
	default:
		te.Executed = ExecutedMaybe
	}
	if location := resp.Header.Get("Location"); location != "" && resp.StatusCode/100 == 3 {
		te.Message = "it redirects to " + printableText(location, 120) + ": write that address as url"
	}
	return te
}

// cause prefers why the context ended to how that showed.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// untrusted reports whether the far end's certificate was refused, which no
// second attempt changes.
func untrusted(err error) bool {
	var ve *tls.CertificateVerificationError
	var he x509.HostnameError
	var ae x509.UnknownAuthorityError
	return errors.As(err, &ve) || errors.As(err, &he) || errors.As(err, &ae)
}

func remaining(h http.Header) int {
	n, err := strconv.Atoi(h.Get("X-RateLimit-Remaining"))
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// retryAfterOf reads Retry-After in seconds or as a date, else the time at which
// the rate's window ends. At most an hour.
func retryAfterOf(h http.Header, now time.Time) time.Duration {
	var wait time.Duration
	after := strings.TrimSpace(h.Get("Retry-After"))
	if f, err := strconv.ParseFloat(after, 64); err == nil && f > 0 {
		wait = time.Duration(min(f, 3600) * float64(time.Second))
	} else if at, err := http.ParseTime(after); err == nil {
		wait = at.Sub(now)
	} else if at, err := time.Parse(time.RFC3339, h.Get("X-RateLimit-Reset")); err == nil && h.Get("X-RateLimit-Remaining") == "0" {
		wait = at.Sub(now)
	}
	return max(0, min(wait, time.Hour))
}

// escapeSegment percent-encodes all but the unreserved characters of RFC 3986
// 2.3, so that no server reads + as a space or / as a step.
func escapeSegment(id string) string {
	var b strings.Builder
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// encode is json.Marshal without escaping <, > and &, so that a button's request
// leaves as it came.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
