package sip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gosip "github.com/emiago/sipgo/sip"
	"go.uber.org/zap"
)

// Limits of connections, streams and WebSockets together.
const (
	maxConnsPerIP = 64
	maxConns      = 4096
	idleTime      = 2 * time.Minute // without a call that came over the connection
	messageTime   = 32 * time.Second
	writeTime     = 5 * time.Second
)

// errCut says that the connection which a request has to go by is gone. The
// call may live on: its far end has a while to come back.
var errCut = fmt.Errorf("connection is gone: %w", ErrNoResponse)

// A link carries whole messages over one connection. next is called from one
// goroutine, the others from any.
type link interface {
	// next returns a message as it came. With an error, what is returned is
	// the beginning of one that nothing can follow.
	next() ([]byte, error)
	// write sends one message, in bounded time. After an error the link is of
	// no more use.
	write(message []byte) error
	// end closes the connection; why is told to the far end where the
	// transport has words for it.
	end(why error)
}

// A flow is a connection that messages come and go by (RFC 5626 3.1). It is
// what sipgo's transactions take for their connection. It lives until its
// reader ends; transactions do not close it.
type flow struct {
	server    *Server
	transport Transport
	remote    netip.AddrPort
	local     netip.AddrPort
	dialled   bool
	link      link
	release   func() // gives the place among the connections back
	// registered is until when a phone is registered by this flow, in
	// nanoseconds of the Unix epoch.
	registered atomic.Int64

	once sync.Once
	done chan struct{}
}

func (s *Server) newFlow(t Transport, remote, local netip.AddrPort, release func()) *flow {
	return &flow{server: s, transport: t, remote: remote, local: local, release: release, done: make(chan struct{})}
}

// start reads from the flow until it ends.
func (f *flow) start() error {
	f.server.flows.add(f)
	if !f.server.spawn(f.serve, nil) {
		f.end(ErrServerDown)
		return ErrServerDown
	}
	return nil
}

// serve reads messages. What they change is done when it returns: only then
// are calls told that the flow is gone.
func (f *flow) serve() {
	defer f.server.cutOff(f)
	defer f.end(net.ErrClosed)
	for {
		data, err := f.link.next()
		if err != nil {
			f.server.log.Debug("connection over", zap.Stringer("source", f.route()), zap.Error(err))
			f.refuse(data, err)
			f.end(err)
			return
		}
		f.take(data)
	}
}

// take reads one message and hands it on.
func (f *flow) take(data []byte) {
	_, m := f.server.vet(data, nil, f.route(), f.answer)
	if m == nil {
		return
	}
	m.SetTransport(strings.ToUpper(string(f.transport)))
	m.SetSource(f.remote.String())
	f.server.onMessage(m, f)
}

// refuse answers, as far as possible, a message after which nothing can be read.
func (f *flow) refuse(data []byte, why error) {
	bad, ok := errors.AsType[*scanError](why)
	if !ok || len(data) == 0 {
		return
	}
	f.server.metrics.dropped("malformed")
	m, _ := scan(data, f.transport.stream())
	f.server.turnAway(m, bad, f.route(), f.answer)
}

func (f *flow) answer(res *gosip.Response) error { return f.WriteMsg(res) }

func (f *flow) route() route { return route{transport: f.transport, addr: f.remote, flow: f} }

func (f *flow) alive() bool {
	select {
	case <-f.done:
		return false
	default:
		return true
	}
}

// end closes the flow, once.
func (f *flow) end(why error) {
	f.once.Do(func() {
		close(f.done)
		f.server.flows.drop(f)
		f.link.end(why)
		f.release()
	})
}

// busy reports whether a call came by the flow or goes over it.
func (f *flow) busy() bool { return f.server.carries(f) }

// wanted reports whether a phone may expect the flow to stay.
func (f *flow) wanted() bool { return time.Now().UnixNano() < f.registered.Load() || f.busy() }

// LocalAddr implements gosip.Connection.
func (f *flow) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(f.local) }

// WriteMsg implements gosip.Connection.
func (f *flow) WriteMsg(m gosip.Message) error {
	if !f.alive() {
		return f.broken(net.ErrClosed)
	}
	if err := f.link.write([]byte(m.String())); err != nil {
		f.end(err)
		return f.broken(err)
	}
	return nil
}

// broken is the error of a write. Streams can be opened again.
func (f *flow) broken(err error) error {
	if f.transport.webSocket() {
		err = errors.Join(err, errCut)
	}
	return fmt.Errorf("write to %s: %w", f.route(), err)
}

// Ref implements gosip.Connection: nobody counts.
func (f *flow) Ref(int) int { return 1 }

// TryClose implements gosip.Connection: a flow outlives its transactions.
func (f *flow) TryClose() (int, error) { return 1, nil }

// Close implements gosip.Connection.
func (f *flow) Close() error {
	f.end(net.ErrClosed)
	return nil
}

// flows are the open connections.
type flows struct {
	mu     sync.Mutex
	open   map[*flow]struct{}
	byPeer map[flowPeer]*flow
	places int // of the open ones and of those that are being upgraded
	perIP  map[netip.Addr]int
}

type flowPeer struct {
	transport Transport
	addr      netip.AddrPort
}

// place takes a place for a connection from an address; nil: there is none.
// What it returns gives the place back, once.
func (t *flows) place(ip netip.Addr) (release func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.places >= maxConns || t.perIP[ip] >= maxConnsPerIP {
		return nil
	}
	if t.perIP == nil {
		t.perIP = make(map[netip.Addr]int)
	}
	t.places++
	t.perIP[ip]++
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.places--
		if t.perIP[ip]--; t.perIP[ip] == 0 {
			delete(t.perIP, ip)
		}
	})
}

func (t *flows) add(f *flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open, t.byPeer = make(map[*flow]struct{}), make(map[flowPeer]*flow)
	}
	t.open[f] = struct{}{}
	t.byPeer[flowPeer{f.transport, f.remote}] = f
	f.server.metrics.connections.WithLabelValues(string(f.transport)).Inc()
}

func (t *flows) drop(f *flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.open[f]; !ok {
		return
	}
	delete(t.open, f)
	if key := (flowPeer{f.transport, f.remote}); t.byPeer[key] == f {
		delete(t.byPeer, key)
	}
	f.server.metrics.connections.WithLabelValues(string(f.transport)).Dec()
}

// to returns the open flow of a route, nil if there is none. A WebSocket is
// nobody's but the one that the route names: behind a proxy, addresses tell
// them not apart.
func (t *flows) to(r route) *flow {
	if r.flow != nil && r.flow.alive() {
		return r.flow
	}
	if r.transport.webSocket() {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byPeer[flowPeer{r.transport, r.addr}]
}

// closeAll ends all flows and returns when they are closed.
func (t *flows) closeAll(why error) {
	t.mu.Lock()
	var wg sync.WaitGroup
	for f := range t.open {
		wg.Go(func() { f.end(why) })
	}
	t.mu.Unlock()
	wg.Wait()
}

// carries reports whether a live call uses the flow.
func (s *Server) carries(f *flow) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.calls {
		if c.uses(f) {
			return true
		}
	}
	return false
}

// cutOff tells transactions and calls that their flow is gone. Only what comes
// over a WebSocket cannot be reached another way (RFC 7118 5.1); the streams'
// peers can be called back.
func (s *Server) cutOff(f *flow) {
	if !f.transport.webSocket() {
		return
	}
	s.mu.Lock()
	var calls []*Call
	for c := range s.calls {
		if c.uses(f) {
			calls = append(calls, c)
		}
	}
	s.mu.Unlock()
	for _, c := range calls {
		c.cutOff(f)
	}
	s.clients.cut(f)
	s.servers.cut(f)
}

// cutOff ends a call that is not answered: nobody can be told that it is. An
// answered one is given the time of a transaction to be heard by another flow.
func (c *Call) cutOff(f *flow) {
	c.mu.Lock()
	early := c.phase == ringing && c.direction == Inbound
	c.mu.Unlock()
	if early && c.refuse(&StatusError{Code: 480}, ErrDialogGone, Reason{}) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == over {
		return
	}
	c.log.Info("connection of the call is gone", zap.Stringer("source", f.route()))
	c.orphan = c.server.after(64*c.server.t1, func() {
		c.mu.Lock()
		lost := c.dialog.last.flow == f
		c.mu.Unlock()
		if lost {
			c.bringDown(Cause{Reason: Reason{Protocol: "SIP", Cause: 408, Text: "connection lost"}}, ErrDialogGone, false)
		}
	})
}

// uses reports whether the call's requests go over the flow.
func (c *Call) uses(f *flow) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.dialog.last
	return last.flow == f || last.flow == nil && last.transport == f.transport && last.addr == f.remote
}

// resume moves the calls of a phone to the flow by which it registers anew
// (RFC 5626 4.2): a page whose network changed keeps its contact.
func (s *Server) resume(r *request, contact *gosip.Uri) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.calls {
		c.resume(r, contact)
	}
}

func (c *Call) resume(r *request, contact *gosip.Uri) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := &c.dialog
	if c.phase != up || !r.transport.webSocket() || !d.last.transport.webSocket() || d.last.flow == r.flow || d.target == nil ||
		c.trunk == nil || c.trunk.Name != r.trunk.Name {
		return
	}
	if contact.User != "" && d.target.User == contact.User && d.target.Host == contact.Host && d.target.Port == contact.Port {
		d.last = r.path()
		c.log.Info("call goes on over another connection", zap.Stringer("source", d.last))
	}
}
