package app

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/guard"
	"github.com/ivrbridge/ivrbridge/internal/line"
	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/vad"
	"github.com/ivrbridge/ivrbridge/sip"
)

// outbound is the trunk that the callers of browsers are handed over by: the
// configured one, else the local networks.
func (a *App) outbound() configs.Trunk {
	if t, ok := a.conf.Trunk(a.conf.RTC.Trunk); ok {
		return t
	}
	return configs.LocalTrunk()
}

// reachedAt is the address that callers of browsers know us by in a directory.
func (a *App) reachedAt(t configs.Trunk) netip.Addr {
	if bound := a.sockets[0].addr.Addr(); !bound.IsUnspecified() {
		return bound
	}
	return a.advertised(t, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
}

// outboundHost is where the numbers of that trunk are called: its registrar, or
// the one address that it has; "" without either.
func outboundHost(t configs.Trunk) string {
	if r, err := sip.ParseAddress(t.Register.Registrar); err == nil && r.Host != "" {
		if r.Port != 0 {
			return net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port)))
		}
		return r.Host
	}
	for _, p := range t.Peers {
		if p.IsSingleIP() {
			return bracketed(p.Addr())
		}
	}
	return ""
}

func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// dialer calls those whom the callers of browsers are handed to.
func (a *App) dialer(ag *agent, log *zap.Logger) line.Dialer {
	return func(ctx context.Context, r call.Referral, progress func(int)) (*line.Line, error) {
		t := a.outbound()
		peer, err := hostOf(ctx, r.URI)
		if err != nil {
			return nil, err
		}
		conf := a.lineConfig(ag, t, log)
		conf.VAD = vad.Config{} // nobody listens to who was called
		sink := &callee{log: log}
		l, err := line.New(conf, sink)
		if err != nil {
			return nil, err
		}
		l.Aim(peer)
		req := sip.InviteRequest{
			To: r.URI, Display: r.Display, Trunk: a.conf.RTC.Trunk, Progress: func(p sip.Progress) { progress(p.Status) },
		}
		if r.UUI != "" {
			req.Headers = append(req.Headers, sip.Header{Name: "User-to-User", Value: r.UUI})
		}
		for name, value := range r.Headers {
			req.Headers = append(req.Headers, sip.Header{Name: name, Value: value})
		}
		slices.SortFunc(req.Headers, func(x, y sip.Header) int { return strings.Compare(x.Name, y.Name) })
		if err := l.Dial(ctx, a.server, req); err != nil {
			return nil, err
		}
		sink.line.Store(l)
		return l, nil
	}
}

// hostOf finds the address of a SIP URI's host, which our own depends on.
func hostOf(ctx context.Context, uri string) (netip.Addr, error) {
	u, err := sip.ParseAddress(uri)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("target: %w", err)
	}
	if addr, err := netip.ParseAddr(strings.Trim(u.Host, "[]")); err == nil {
		return addr, nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Host)
	if err != nil || len(found) == 0 {
		return netip.Addr{}, fmt.Errorf("target: no address of %s: %w", u.Host, err)
	}
	return found[0].Unmap(), nil
}

// A callee is whom a caller was handed to. Nothing of what happens on that line
// matters but its silence: a far end that does not answer any more when asked is
// no longer there.
type callee struct {
	log    *zap.Logger
	line   atomic.Pointer[line.Line]
	asking atomic.Bool
}

// calleeAnswers is what a far end is given to say that it is there.
const calleeAnswers = 5 * time.Second

// Post implements media.Events.
func (c *callee) Post(e media.Event) bool {
	l := c.line.Load()
	if e.Kind != media.Silent || l == nil || c.asking.Swap(true) {
		return true
	}
	go func() {
		defer c.asking.Store(false)
		_ = guard.Run(c.log, "probe", func() { c.ask(l) })
	}()
	return true
}

func (c *callee) ask(l *line.Line) {
	ctx, cancel := context.WithTimeout(l.Context(), calleeAnswers)
	defer cancel()
	if err := l.Alive(ctx); err != nil && l.Context().Err() == nil {
		c.log.Info("called party is gone", zap.Error(err))
		l.Hangup(call.Hangup{Why: "no media", Cause: noMedia})
	}
}

// noMedia is Q.850's word for a fault that may pass.
const noMedia = 41

// Hold implements line.Sink.
func (*callee) Hold(bool) {}
