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
	in := req.Clone(ctx)
	in.Body = io.NopCloser(bytes.NewReader(body))
	in.Header.Set("Content-Length", strconv.Itoa(len(body)))
	w := &recorder{header: make(http.Header), ready: make(chan struct{})}
	go w.serve(t.server, in)
	select {
	case <-w.ready:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if w.status == 0 {
		return nil, errAborted
	}
	return &http.Response{
		Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: w.header,
		Body: io.NopCloser(&w.body), ContentLength: -1, Request: req,
	}, nil
}

// recorder takes the answer. It belongs to the serving goroutine until ready is
// closed, then to the client.
type recorder struct {
	header http.Header
	status int
	body   answerBody
	ready  chan struct{}
	once   sync.Once
}

func (w *recorder) serve(s *Server, req *http.Request) {
	defer close(w.ready)
	defer func() {
		if v := recover(); v != nil {
			w.body.broken = true
		}
	}()
	s.ServeHTTP(w, req)
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	w.once.Do(func() { w.status, w.header = status, w.header.Clone() })
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// answerBody ends in an error when the connection broke.
type answerBody struct {
	bytes.Buffer
	broken bool
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.Buffer.Read(p)
	if b.broken && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
