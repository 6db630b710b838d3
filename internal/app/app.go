// Package app wires the program together and owns its life cycle. It is the only
// package that imports everything.
package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/internal/fetch"
	"github.com/ivrbridge/ivrbridge/internal/guard"
	"github.com/ivrbridge/ivrbridge/internal/record"
	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/media/rtc"
	"github.com/ivrbridge/ivrbridge/sip"
	"github.com/ivrbridge/ivrbridge/tts"
)

const (
	cacheBytes = 64 << 20
	quarantine = 30 * time.Second
	stopLimit  = 10 * time.Second
)

// Options are what an App is made from.
type Options struct {
	Config   *configs.Config
	Version  string
	Log      *zap.Logger
	Registry *prometheus.Registry
	// Quarantine is how long a closed RTP port stays bound; 0: 30 s.
	Quarantine time.Duration
	// Records is the file that call records are appended to; empty: the log only.
	// RecordsOptional goes on without them when it cannot be written.
	Records         string
	RecordsOptional bool
	// Routes are added to the HTTP listener, such as the demo's.
	Routes map[string]http.Handler
	// Runtime reaches the agents in place of the network; nil: the network.
	Runtime http.RoundTripper
	// Directory adds hand-over targets that depend on the address that the caller
	// knows us by; nil: none.
	Directory func(local netip.Addr) map[string][]string
}

// An App is the running bridge.
type App struct {
	opts    Options
	conf    *configs.Config
	log     *zap.Logger
	engine  *media.Engine
	ports   *media.PortRange
	server  *sip.Server
	agents  map[string]*agent
	records *record.File
	metrics *metrics
	calls   calls
	session sessions
	paces   paces
	guards  *guard.Group // breakers of recognisers and voices
	own     ownNames
	sockets []socket
	rtc     *rtc.API     // nil: no browser calls
	phones  *phones      // nil: no browser calls
	web     net.Listener // of plain HTTP; nil: none
	secure  net.Listener // of https; nil: none
	work    sync.WaitGroup
	cleanup []named
	cancel  context.CancelFunc

	background context.Context //nolint:containedctx // of what goes on until Stop

	// deadline is when running calls are told to end; closed once draining.
	draining chan struct{}
	drain    sync.Once
}

// named is one step of the way down, in the reverse order of the way up.
type named struct {
	name string
	stop func(context.Context) error
}

// New builds everything that can fail without a socket.
func New(ctx context.Context, o Options) (*App, error) {
	if missing := Unavailable(o.Config); len(missing) > 0 {
		return nil, fmt.Errorf("the configuration asks for more than this version can do:\n%s", strings.Join(missing, "\n"))
	}
	a := &App{opts: o, conf: o.Config, log: o.Log, agents: map[string]*agent{}, draining: make(chan struct{})}
	a.background, a.cancel = context.WithCancel(context.WithoutCancel(ctx))
	a.later("background", func(context.Context) error { a.work.Wait(); return nil })
	a.guards = guard.NewGroup(guard.DefaultRules(), o.Log, nil)
	m, err := newMetrics(o.Registry, a)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	a.metrics = m
	cache := tts.NewCache(cacheBytes, pcm.Mu)
	a.later("prompt cache", func(context.Context) error { cache.Close(); return nil })
	fetcher := fetch.New(fetch.Config{AllowPrivate: o.Config.Media.Fetch.AllowPrivate, AllowHTTP: o.Config.Media.Fetch.AllowHTTP})
	deps := registry.Deps{Log: o.Log, HTTP: httpClient()}
	for _, conf := range o.Config.Agents {
		ag, err := a.openAgent(ctx, conf, cache, fetcher, deps)
		if err != nil {
			return nil, errors.Join(err, a.down(ctx))
		}
		a.agents[conf.Name] = ag
	}
	if o.Records != "" {
		w, err := record.OpenFile(record.FileConfig{Path: o.Records, Log: o.Log})
		switch {
		case err == nil:
			a.records = w
			a.later("call records", w.Close)
		case o.RecordsOptional:
			o.Log.Warn("no call records are kept", zap.Error(err))
		default:
			return nil, errors.Join(fmt.Errorf("call records: %w", err), a.down(ctx))
		}
	}
	return a, nil
}

// httpClient is shared by all adapters. Its idle connections go before those of
// Voiceflow's runtime do, which is after 76 s.
func httpClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64
	t.IdleConnTimeout = 60 * time.Second
	return &http.Client{Transport: t}
}

func (a *App) later(name string, stop func(context.Context) error) {
	a.cleanup = append(a.cleanup, named{name, stop})
}

// Start opens the sockets and takes calls.
func (a *App) Start(ctx context.Context) error {
	bind := bindTo(a.conf.SIP.Listen)
	wait := a.opts.Quarantine
	if wait == 0 {
		wait = quarantine
	}
	a.ports = media.UDPPorts(bind, a.conf.Media.RTPPorts.Low, a.conf.Media.RTPPorts.High, wait)
	a.engine = media.NewEngine(media.EngineConfig{Ports: a.ports, Log: a.log, Metrics: a.opts.Registry})
	a.later("media engine", func(context.Context) error {
		a.engine.Close()
		return a.ports.Close()
	})
	server, err := sip.NewServer(a.sipConfig()) //nolint:contextcheck // its calls live as long as it does
	if err != nil {
		return fmt.Errorf("sip: %w", err)
	}
	a.server = server
	if err := a.listen(a.background); err != nil { //nolint:contextcheck // until Stop
		return err
	}
	if err := a.server.Ready(ctx, len(a.sockets)); err != nil {
		return fmt.Errorf("sip: %w", err)
	}
	if err := a.openRTC(ctx); err != nil {
		return err
	}
	if err := a.serveHTTP(); err != nil {
		return err
	}
	if page := a.Page(); page != "" {
		a.log.Info("phone in the browser", zap.String("url", page))
	}
	return nil
}

// listen opens the configured SIP sockets.
func (a *App) listen(ctx context.Context) error {
	for _, l := range a.conf.SIP.Listen {
		s, err := open(ctx, l, a.sipCertificate)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", l, err)
		}
		a.sockets = append(a.sockets, s)
		for _, ip := range reachable(s.addr.Addr()) {
			a.own.addresses = append(a.own.addresses, netip.AddrPortFrom(ip, s.addr.Port()).String())
		}
		a.work.Go(func() {
			if err := s.serve(ctx, a.server); err != nil && ctx.Err() == nil {
				a.log.Error("sip socket ended", zap.Stringer("socket", l), zap.Error(err))
			}
		})
		a.log.Info("sip socket open", zap.String("socket", l.Transport+"://"+s.addr.String()))
	}
	return nil
}

// SIP returns the addresses of the SIP sockets, in the order of the
// configuration.
func (a *App) SIP() []netip.AddrPort {
	out := make([]netip.AddrPort, len(a.sockets))
	for i, s := range a.sockets {
		out[i] = s.addr
	}
	return out
}

// HTTP returns the address of the HTTP listener, "" without one.
func (a *App) HTTP() string {
	if a.web == nil {
		return ""
	}
	return a.web.Addr().String()
}

// Drain takes no further calls; running ones go on.
func (a *App) Drain() {
	a.drain.Do(func() {
		close(a.draining)
		a.log.Info("draining", zap.Int("calls", a.calls.len()))
		if a.server != nil {
			a.server.Drain()
		}
	})
}

// Idle returns when no call is left or ctx ends.
func (a *App) Idle(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for a.calls.len() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Why no call is taken.
var (
	errDraining = errors.New("draining")
	errFull     = errors.New("full")
)

// ready says why no call is taken, nil when calls are.
func (a *App) ready() error {
	select {
	case <-a.draining:
		return errDraining
	default:
	}
	if a.calls.len() >= a.conf.SIP.MaxCalls || a.ports != nil && a.ports.Free() == 0 {
		return errFull
	}
	return nil
}

// readyForBrowsers is ready without RTP ports, which a browser's call does not
// take.
func (a *App) readyForBrowsers() error {
	if err := a.ready(); errors.Is(err, errDraining) || a.calls.len() >= a.conf.SIP.MaxCalls {
		return err
	}
	return nil
}

// Stop ends what still runs and releases everything, whether ctx has ended or
// not. It is idempotent.
func (a *App) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	a.Drain()
	if a.phones != nil {
		a.phones.close()
	}
	if a.server != nil {
		if err := a.server.Shutdown(expired(ctx)); err != nil && !errors.Is(err, context.Canceled) {
			a.log.Warn("sip not closed cleanly", zap.Error(err))
		}
		a.server = nil
	}
	a.Idle(ctx)
	return a.down(ctx)
}

// expired is a context that has ended: calls are not waited for.
func expired(ctx context.Context) context.Context {
	c, cancel := context.WithCancel(ctx)
	cancel()
	return c
}

func (a *App) down(ctx context.Context) error {
	a.cancel()
	var errs []error
	for _, step := range slices.Backward(a.cleanup) {
		if err := step.stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", step.name, err))
		}
	}
	a.cleanup = nil
	return errors.Join(errs...)
}
