package sip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	gosip "github.com/emiago/sipgo/sip"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ivrbridge/ivrbridge/internal/obs"
)

// Config is what a Server is made of. Log and Handler are needed.
type Config struct {
	Handler Handler
	Log     *zap.Logger
	Trunks  []Trunk
	// UserAgent goes into User-Agent and Server headers; empty: ivrbridge.
	UserAgent string
	// Advertise returns the address in our Via and Contact as the peer should
	// see it. Nil, or the zero address from it, stands for the source address
	// of the route to the peer.
	Advertise func(peer netip.Addr) netip.Addr
	// MaxCalls returns the greatest number of inbound calls; nil or zero: no
	// limit. It is asked for each INVITE.
	MaxCalls func() int
	// T1 is the round-trip estimate of RFC 3261 17.1.1.1; zero: 500 ms. sipgo
	// keeps its timers per process, so servers that run at the same time must
	// agree.
	T1 time.Duration
	// Metrics takes the counters; nil: they are not exported.
	Metrics prometheus.Registerer
	// Resolver looks up host names; nil: the system's.
	Resolver Resolver
	// Origins are the sites, such as https://shop.example.com, whose pages may
	// open a WebSocket here, besides the host that the WebSocket itself is at.
	// SetOrigins replaces them.
	Origins []string
}

// A Resolver looks up names. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// A Server is a SIP user agent. It takes calls on its listeners and places
// calls through them. Its methods are safe for concurrent use.
type Server struct {
	config     Config
	log        *zap.Logger
	metrics    *metrics
	resolver   Resolver
	t1, t2     time.Duration
	parser     *gosip.Parser
	transports *gosip.TransportLayer
	slog       *slog.Logger
	admission  admission
	flows      flows
	origins    atomic.Pointer[map[string]bool]
	draining   atomic.Bool
	live       atomic.Int64 // inbound calls that hold a place
	wg         sync.WaitGroup
	ctx        context.Context // ends when the server is down
	cancel     context.CancelCauseFunc

	mu        sync.Mutex
	packets   []*packetSocket
	listeners []listener
	sources   map[netip.Addr]netip.Addr
	calls     map[*Call]struct{}
	changed   chan struct{} // closed and replaced when a call leaves or a listener is up
	cancels   int           // INVITEs that are being given up
	up        int           // listeners that have been up
	closed    bool

	dialogs dialogTable
	servers serverTable
	clients clientTable
}

// A listener is one that Serve runs on.
type listener struct {
	net.Listener
	transport Transport
}

// clock guards sipgo's timers, which belong to the process.
var clock struct {
	sync.Mutex
	users int
}

// lease sets sipgo's process-wide settings for the first server and refuses a
// different T1 while another one runs.
func lease(t1 time.Duration) error {
	clock.Lock()
	defer clock.Unlock()
	if t1 == 0 {
		t1 = 500 * time.Millisecond
	}
	if clock.users > 0 && t1 != gosip.T1 {
		return fmt.Errorf("T1 of %v while a server runs with %v: %w", t1, gosip.T1, ErrInvalid)
	}
	if clock.users == 0 {
		if t1 != gosip.T1 {
			gosip.SetTimers(t1, 8*t1, 10*t1)
		}
		if gosip.UDPMTUSize != 1<<16 {
			gosip.UDPMTUSize = 1 << 16 // Else sipgo drops what is longer than 1,300 bytes, responses too.
			gosip.SetDefaultLogger(slog.New(slog.DiscardHandler))
		}
	}
	clock.users++
	return nil
}

func unlease() {
	clock.Lock()
	defer clock.Unlock()
	clock.users--
}

// NewServer returns a server that is not listening yet. Shutdown releases it.
func NewServer(c Config) (*Server, error) {
	if c.Handler == nil || c.Log == nil {
		return nil, fmt.Errorf("server without handler or log: %w", ErrInvalid)
	}
	if c.UserAgent == "" {
		c.UserAgent = "ivrbridge"
	}
	if hasControl(c.UserAgent) {
		return nil, fmt.Errorf("user agent name: %w", ErrInvalid)
	}
	s := &Server{
		config: c, log: c.Log, resolver: c.Resolver,
		sources: make(map[netip.Addr]netip.Addr), calls: make(map[*Call]struct{}), changed: make(chan struct{}),
	}
	if s.resolver == nil {
		s.resolver = net.DefaultResolver
	}
	if err := s.admission.set(c.Trunks); err != nil {
		return nil, err
	}
	if err := s.SetOrigins(c.Origins); err != nil {
		return nil, err
	}
	var err error
	if s.metrics, err = newMetrics(c.Metrics); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if err := lease(c.T1); err != nil {
		return nil, err
	}
	s.t1, s.t2 = gosip.T1, gosip.T2
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.slog = obs.Slog(zap.New(quiet{c.Log.Core()}))
	// Headers stay as they came until this package reads them; only the length
	// matters to sipgo's framing.
	s.parser = gosip.NewParser(gosip.WithHeadersParsers(map[string]gosip.HeaderParser{
		"content-length": gosip.DefaultHeadersParser()["content-length"],
	}))
	s.transports = gosip.NewTransportLayer(net.DefaultResolver, s.parser, nil, gosip.WithTransportLayerLogger(s.slog))
	s.transports.OnMessage(func(m gosip.Message) { s.onMessage(m, nil) })
	return s, nil
}

// quiet lets sipgo's log through as debug entries only: it logs messages whole
// when they do not parse.
type quiet struct{ zapcore.Core }

// Enabled implements zapcore.Core.
func (q quiet) Enabled(zapcore.Level) bool { return q.Core.Enabled(zapcore.DebugLevel) }

// Check implements zapcore.Core.
func (q quiet) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	e.Level = zapcore.DebugLevel
	return q.Core.Check(e, ce)
}

// SetTrunks replaces the trunks. Calls keep the trunk they began with.
func (s *Server) SetTrunks(trunks []Trunk) error { return s.admission.set(trunks) }

// ServePacket answers on conn, over UDP or over what a test passes, until ctx
// ends or the server is shut down, and closes conn. It returns nil in these
// cases.
func (s *Server) ServePacket(ctx context.Context, conn net.PacketConn) error {
	p := newPacketSocket(s, conn)
	if !p.local.IsValid() {
		_ = conn.Close()
		return fmt.Errorf("listen on %s: no IP address and port: %w", conn.LocalAddr(), ErrTransport)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = conn.Close()
		return ErrServerDown
	}
	s.packets = append(s.packets, p)
	s.mu.Unlock()
	s.log.Info("sip listener up", zap.String("transport", "udp"), zap.Stringer("addr", p.local))
	return s.serve(ctx, conn, func() error { return s.transports.ServeUDP(p) }, func() {
		s.packets = slices.DeleteFunc(s.packets, func(x *packetSocket) bool { return x == p })
	})
}

// Serve accepts connections from l until ctx ends or the server is shut down,
// and closes l. The transport is TCP, WS, or WSS, for which l has TLS in it
// already; ErrTransport tells of others. A WebSocket may be asked for at any
// path of l (RFC 7118 4).
func (s *Server) Serve(ctx context.Context, l net.Listener, t Transport) error {
	g := &gate{Listener: l, server: s}
	var run func() error
	switch {
	case t == TCP:
		run = func() error { return s.serveStreams(g, t) }
	case t.webSocket():
		run = func() error { return s.serveUpgrades(g, t) }
	default:
		_ = l.Close()
		return fmt.Errorf("serve %s: %w", t, ErrTransport)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = l.Close()
		return ErrServerDown
	}
	s.listeners = append(s.listeners, listener{l, t})
	s.mu.Unlock()
	s.log.Info("sip listener up", zap.String("transport", string(t)), zap.Stringer("addr", l.Addr()))
	return s.serve(ctx, l, run, func() {
		s.listeners = slices.DeleteFunc(s.listeners, func(x listener) bool { return x.Listener == l })
	})
}

// serve runs one listener; forget is called with s.mu held.
func (s *Server) serve(ctx context.Context, c io.Closer, run func() error, forget func()) error {
	s.wg.Add(1)
	defer s.wg.Done()
	stop := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-ctx.Done():
		case <-s.ctx.Done():
		case <-stop:
		}
		_ = c.Close()
	}()
	err := run()
	ended := ctx.Err() != nil || s.ctx.Err() != nil
	close(stop)
	<-watched
	s.mu.Lock()
	forget()
	s.mu.Unlock()
	if ended || err == nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

// Ready waits until so many listeners are up: before, Invite has nothing to send
// from.
func (s *Server) Ready(ctx context.Context, listeners int) error {
	for {
		s.mu.Lock()
		n, changed := s.up, s.changed
		s.mu.Unlock()
		if n >= listeners {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ctx.Done():
			return ErrServerDown
		}
	}
}

// listening counts a listener that takes messages from now on.
func (s *Server) listening() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up++
	close(s.changed)
	s.changed = make(chan struct{})
}

// Calls returns the number of calls that are not over.
func (s *Server) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

// Drain refuses new calls with 503 and Retry-After, and OPTIONS with 503, from
// now on. Running calls go on.
func (s *Server) Drain() { s.draining.Store(true) }

// Shutdown drains, waits for the calls until ctx ends, hangs up those that are
// left, and closes the listeners and connections. It returns the error of ctx
// if calls had to be hung up.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Drain()
	err := s.await(ctx, false)
	if err != nil {
		s.mu.Lock()
		left := make([]*Call, 0, len(s.calls))
		for c := range s.calls {
			left = append(left, c)
		}
		s.mu.Unlock()
		for _, c := range left {
			c.hangup(Cause{Status: 503, Reason: Reason{Protocol: "SIP", Cause: 503, Text: "server shut down"}}, ErrServerDown)
		}
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 4*s.t1)
	defer cancel()
	_ = s.await(grace, true) // For the answers to our BYEs.
	s.close()
	return err
}

// await returns when no call is left and, if byes is true, no BYE and no CANCEL
// of ours is unanswered.
func (s *Server) await(ctx context.Context, byes bool) error {
	for {
		s.mu.Lock()
		n, cancels, changed := len(s.calls), s.cancels, s.changed
		s.mu.Unlock()
		if n == 0 && (!byes || cancels == 0 && s.dialogs.len() == 0) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("shut down with %d calls: %w", n, ctx.Err())
		}
	}
}

func (s *Server) close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.wg.Wait()
		return
	}
	s.closed = true
	s.mu.Unlock()
	s.cancel(ErrServerDown)
	s.clients.terminate()
	s.servers.terminate()
	s.flows.closeAll(ErrServerDown)
	_ = s.transports.Close()
	s.wg.Wait()
	unlease()
}

// spawn runs f in a goroutine that Shutdown waits for. A panic is logged and
// given to failed. It returns false, and runs nothing, once the server is down.
func (s *Server) spawn(f func(), failed func(p any)) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	s.wg.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.wg.Done()
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("goroutine of a call panicked", zap.Any("panic", p), zap.Stack("stack"))
				if failed != nil {
					failed(p)
				}
			}
		}()
		f()
	}()
	return true
}

// leave runs f, which gives up an INVITE, in a goroutine that Shutdown gives time
// to: what rings at the far end must not ring on.
func (s *Server) leave(f func()) {
	s.mu.Lock()
	s.cancels++
	s.mu.Unlock()
	done := func() {
		s.mu.Lock()
		s.cancels--
		s.mu.Unlock()
		s.notify()
	}
	if !s.spawn(func() { defer done(); f() }, nil) {
		done()
	}
}

// after runs f on a timer. A panic in it is logged.
func (s *Server) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() {
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("timer of a call panicked", zap.Any("panic", p), zap.Stack("stack"))
			}
		}()
		f()
	})
}

func (s *Server) enter(c *Call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.calls[c] = struct{}{}
	s.metrics.calls.WithLabelValues(c.direction.String()).Inc()
	return true
}

func (s *Server) left(c *Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.calls[c]; !ok {
		return
	}
	delete(s.calls, c)
	s.metrics.calls.WithLabelValues(c.direction.String()).Dec()
	close(s.changed)
	s.changed = make(chan struct{})
}

// notify wakes Shutdown when a dialog has gone.
func (s *Server) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}
