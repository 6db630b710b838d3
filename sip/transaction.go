package sip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	gosip "github.com/emiago/sipgo/sip"
	"go.uber.org/zap"
)

// A serverTx is a request of the far end that is being answered.
type serverTx struct {
	key    string
	req    *request
	tx     *gosip.ServerTx
	server *Server
	merge  string // key in the table of merged requests, empty: none

	tag string // of To in the answers

	mu     sync.Mutex
	final  int            // the code of the final response, zero: none yet
	cancel func(*request) // what a CANCEL does; nil: nothing
}

// serverTable holds the server transactions by key.
type serverTable struct {
	mu     sync.Mutex
	txs    map[string]*serverTx
	merged map[string]string // mergeKey to key, for INVITEs without To tag
}

func (t *serverTable) get(key string) *serverTx {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.txs[key]
}

func (t *serverTable) mergedInto(r *request) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	key, ok := t.merged[r.mergeKey()]
	return ok && key != r.txKey(r.method)
}

func (t *serverTable) put(tx *serverTx) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.txs == nil {
		t.txs, t.merged = make(map[string]*serverTx), make(map[string]string)
	}
	t.txs[tx.key] = tx
	if tx.req.toTag == "" {
		tx.merge = tx.req.mergeKey()
		t.merged[tx.merge] = tx.key
	}
}

func (t *serverTable) drop(tx *serverTx) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.txs[tx.key] != tx {
		return false
	}
	delete(t.txs, tx.key)
	if tx.merge != "" {
		delete(t.merged, tx.merge)
	}
	return true
}

func (t *serverTable) terminate() {
	t.mu.Lock()
	all := make([]*serverTx, 0, len(t.txs))
	for _, tx := range t.txs {
		all = append(all, tx)
	}
	t.mu.Unlock()
	for _, tx := range all {
		tx.tx.Terminate()
	}
}

// cut ends the transactions of requests that came by a flow which is gone.
func (t *serverTable) cut(f *flow) {
	t.mu.Lock()
	var gone []*serverTx
	for _, tx := range t.txs {
		if tx.req.flow == f {
			gone = append(gone, tx)
		}
	}
	t.mu.Unlock()
	for _, tx := range gone {
		tx.tx.Terminate()
	}
}

// begin makes a server transaction of a request.
func (s *Server) begin(r *request, tag string) (*serverTx, error) {
	w, err := s.replyWire(r)
	if err != nil {
		return nil, err
	}
	t := &serverTx{key: r.txKey(r.method), req: r, server: s, tag: tag}
	t.tx = gosip.NewServerTx(t.key, r.msg, w, s.slog)
	if err := t.tx.Init(); err != nil {
		_, _ = w.TryClose()
		return nil, fmt.Errorf("begin transaction: %w", err)
	}
	s.servers.put(t)
	s.metrics.transaction.Inc()
	t.tx.OnTerminate(func(string, error) {
		if s.servers.drop(t) {
			s.metrics.transaction.Dec()
		}
	})
	return t, nil
}

// respond sends a provisional or the final response; a second final one is
// ErrState.
func (t *serverTx) respond(code int, reason string, extra ...Header) (*gosip.Response, error) {
	return t.respondBody(code, reason, "", nil, extra...)
}

func (t *serverTx) respondBody(code int, reason, contentType string, body []byte, extra ...Header) (*gosip.Response, error) {
	res := t.req.respond(code, reason, t.tag, append(extra, t.server.serverHeader())...)
	if contentType != "" {
		appendHeader(res, "Content-Type", contentType)
	}
	res.SetBody(body)
	t.mu.Lock()
	if t.final != 0 {
		t.mu.Unlock()
		return nil, fmt.Errorf("answer with %d after %d: %w", code, t.final, ErrState)
	}
	if code >= 200 {
		t.final = code
		t.cancel = nil // It comes too late, and the call is not to live as long as the transaction.
	}
	t.mu.Unlock()
	if err := t.tx.Respond(res); err != nil && !errors.Is(err, gosip.ErrTransactionTerminated) {
		return res, fmt.Errorf("send %d: %w", code, err)
	}
	return res, nil
}

// refuse sends the failure that an error asks for.
func (t *serverTx) refuse(e *StatusError) {
	var extra []Header
	if e.Warning != "" {
		extra = append(extra, Header{"Warning", "399 ivrbridge " + quote(plain(e.Warning, 128))})
	}
	if e.RetryAfter > 0 {
		extra = append(extra, retryHeader(e.RetryAfter))
	}
	if _, err := t.respond(e.Code, e.Reason, extra...); err != nil {
		t.server.log.Debug("refusal not sent", zap.Error(err))
	}
}

func (t *serverTx) done() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.final != 0
}

// accepted reports whether the final response was a 2xx.
func (t *serverTx) accepted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.final >= 200 && t.final < 300
}

// A clientTx is a request of ours that is being answered.
type clientTx struct {
	key    string
	method string
	tx     *gosip.ClientTx
	wire   *wire
	req    *gosip.Request
	to     route
	// on takes each response, and gone the end without a final one. They are
	// called in order, from the reader of the connection, and must not block.
	on   func(*response)
	gone func(error)

	mu    sync.Mutex
	final bool
	cut   bool // its flow is gone
}

type clientTable struct {
	mu  sync.Mutex
	txs map[string]*clientTx
}

func (t *clientTable) get(key string) *clientTx {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.txs[key]
}

func (t *clientTable) put(tx *clientTx) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.txs == nil {
		t.txs = make(map[string]*clientTx)
	}
	t.txs[tx.key] = tx
}

func (t *clientTable) drop(tx *clientTx) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.txs[tx.key] != tx {
		return false
	}
	delete(t.txs, tx.key)
	return true
}

func (t *clientTable) terminate() {
	t.mu.Lock()
	all := make([]*clientTx, 0, len(t.txs))
	for _, tx := range t.txs {
		all = append(all, tx)
	}
	t.mu.Unlock()
	for _, tx := range all {
		tx.tx.Terminate()
	}
}

// cut ends the transactions of requests that went by a flow which is gone.
func (t *clientTable) cut(f *flow) {
	t.mu.Lock()
	var gone []*clientTx
	for _, tx := range t.txs {
		if tx.wire.Connection == f {
			gone = append(gone, tx)
		}
	}
	t.mu.Unlock()
	for _, tx := range gone {
		tx.mu.Lock()
		tx.cut = true
		tx.mu.Unlock()
		tx.tx.Terminate()
	}
}

func clientKey(branch, method string) string { return branch + "|" + method }

// send begins a client transaction.
func (s *Server) send(ctx context.Context, req *gosip.Request, to route, on func(*response), gone func(error)) (*clientTx, error) {
	w, err := s.requestWire(ctx, to)
	if err != nil {
		return nil, err
	}
	req.SetTransport(strings.ToUpper(string(to.transport)))
	req.SetDestination(to.addr.String())
	top, err := parseHop(headerText(req, "Via"))
	if err != nil {
		_, _ = w.TryClose()
		return nil, err
	}
	t := &clientTx{
		key: clientKey(top.branch(), string(req.Method)), method: string(req.Method), req: req, wire: w, to: to, on: on, gone: gone,
	}
	t.tx = gosip.NewClientTx(t.key, req, w, s.slog)
	s.clients.put(t)
	s.metrics.transaction.Inc()
	t.tx.OnTerminate(func(string, error) {
		if s.clients.drop(t) {
			s.metrics.transaction.Dec()
		}
	})
	if err := t.tx.Init(); err != nil {
		t.tx.Terminate()
		return nil, fmt.Errorf("send %s to %s: %w", req.Method, to, errors.Join(err, ErrNoResponse))
	}
	if !s.spawn(t.drain, nil) {
		t.tx.Terminate()
		return nil, ErrServerDown
	}
	return t, nil
}

// drain reads what sipgo passes up, which would block otherwise: the responses
// were taken before. It tells of an end without a final response.
func (t *clientTx) drain() {
	for {
		select {
		case res := <-t.tx.Responses():
			if !res.IsProvisional() {
				return
			}
		case <-t.tx.Done():
			t.mu.Lock()
			final, cut := t.final, t.cut
			t.mu.Unlock()
			if !final && t.gone != nil {
				err := t.tx.Err()
				switch {
				case cut:
					err = errCut
				case err == nil:
					err = gosip.ErrTransactionTerminated
				}
				t.gone(fmt.Errorf("%s to %s: %w", t.method, t.to, errors.Join(err, ErrNoResponse)))
			}
			return
		}
	}
}

// receive takes a response from the reader of its connection.
func (t *clientTx) receive(r *response) {
	t.mu.Lock()
	again := t.final
	t.final = t.final || r.code >= 200
	t.mu.Unlock()
	invite := t.method == string(gosip.INVITE)
	if again {
		switch {
		case !invite || r.code < 200:
		case r.code < 300:
			t.on(r) // Another fork, or the ACK was lost.
		default:
			t.repeatAck()
		}
		return
	}
	t.tx.Receive(r.msg)
	if r.code >= 200 && !invite {
		t.tx.Terminate()
	}
	t.on(r)
}

// repeatAck sends the ACK of a refused INVITE again. sipgo would do so only
// after T2, and block its reader until then.
func (t *clientTx) repeatAck() {
	t.wire.mu.Lock()
	ack := t.wire.ack
	t.wire.mu.Unlock()
	if ack != nil {
		_ = t.wire.WriteMsg(ack)
	}
}

// write sends a request that has no transaction: the ACK of a 2xx.
func (s *Server) write(ctx context.Context, req *gosip.Request, to route) error {
	w, err := s.requestWire(ctx, to)
	if err != nil {
		return err
	}
	defer func() { _, _ = w.TryClose() }()
	req.SetTransport(strings.ToUpper(string(to.transport)))
	req.SetDestination(to.addr.String())
	return w.WriteMsg(req)
}

// trusted reports whether an address is one of the trunk's own.
func (t *Trunk) trusted(ip netip.Addr) bool {
	if t == nil {
		return false
	}
	for _, p := range t.Peers {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
