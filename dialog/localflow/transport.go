package localflow

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// errAborted is what a client sees of a connection that a fault broke.
var errAborted = errors.New("localflow: connection reset by a fault")

// Transport returns a way to the server without sockets, for programs that hold
// both ends and for tests under virtual time. A request's host does not matter.
func (s *Server) Transport() http.RoundTripper { return transport{s} }

type transport struct{ server *Server }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	var body []byte
	if req.Body != nil {
		b, err := io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err != nil {
			return nil, err
		}
		body = b
	}
	ctx, gone := context.WithCancel(ctx)
	in := req.Clone(ctx)
	in.Body = io.NopCloser(bytes.NewReader(body))
	in.Header.Set("Content-Length", strconv.Itoa(len(body)))
	w := &recorder{header: make(http.Header), ready: make(chan struct{}), body: answerBody{more: make(chan struct{}, 1), ctx: ctx, gone: gone}}
	go w.serve(t.server, in)
	select {
	case <-w.ready:
	case <-ctx.Done():
		gone()
		return nil, context.Cause(ctx)
	}
	if w.status == 0 {
		gone()
		return nil, errAborted
	}
	return &http.Response{
		Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: w.sent,
		Body: &w.body, ContentLength: -1, Request: req,
	}, nil
}

// recorder takes the answer. It belongs to the serving goroutine; the client has
// the status and the headers sent once ready is closed, and the body.
type recorder struct {
	header http.Header
	sent   http.Header
	status int
	body   answerBody
	ready  chan struct{}
	once   sync.Once
}

func (w *recorder) serve(s *Server, req *http.Request) {
	defer w.once.Do(func() { close(w.ready) }) // where nothing was answered
	defer func() { w.body.end(recover() != nil) }()
	s.ServeHTTP(w, req)
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.ready)
	})
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.write(b), nil
}

// Flush implements http.Flusher: what was written is on its way already.
func (w *recorder) Flush() {}

// answerBody is read as it is written. It ends in an error when the connection
// broke.
type answerBody struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	ended  bool
	broken bool
	more   chan struct{}   // of one; rung when there is something new
	ctx    context.Context //nolint:containedctx // that of the request, as net/http has it
	gone   context.CancelFunc
}

func (b *answerBody) write(p []byte) int {
	b.mu.Lock()
	n, _ := b.buf.Write(p) // a buffer does not fail
	b.mu.Unlock()
	b.ring()
	return n
}

func (b *answerBody) end(broken bool) {
	b.mu.Lock()
	b.ended, b.broken = true, broken
	b.mu.Unlock()
	b.ring()
}

func (b *answerBody) ring() {
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// Read implements io.Reader. It waits for more of an answer that goes on.
func (b *answerBody) Read(p []byte) (int, error) {
	for {
		b.mu.Lock()
		n, err := b.buf.Read(p)
		ended, broken := b.ended, b.broken
		b.mu.Unlock()
		switch {
		case n > 0 || len(p) == 0:
			return n, nil
		case ended && broken:
			return 0, io.ErrUnexpectedEOF
		case ended:
			return 0, err
		}
		select {
		case <-b.more:
		case <-b.ctx.Done():
			return 0, context.Cause(b.ctx)
		}
	}
}

// Close implements io.Closer: the server learns that nobody reads on.
func (b *answerBody) Close() error {
	b.gone()
	return nil
}
