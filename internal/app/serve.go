package app

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/line"
	"github.com/ivrbridge/ivrbridge/internal/obs"
	"github.com/ivrbridge/ivrbridge/internal/record"
	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/vad"
	"github.com/ivrbridge/ivrbridge/sip"
)

// Silence of the far end: it is asked whether it is still there.
const (
	firstSilence = 30 * time.Second
	laterSilence = 15 * time.Second
)

// sipConfig is the configuration as package sip wants it.
func (a *App) sipConfig() sip.Config {
	conf := sip.Config{
		Handler: a, Log: a.log.Named("sip"), UserAgent: "ivrbridge/" + a.opts.Version, Metrics: a.opts.Registry,
		MaxCalls: a.room, Origins: a.conf.SIP.Origins, Advertise: func(peer netip.Addr) netip.Addr { return a.external(a.conf.SIP.ExternalIP) },
	}
	for _, t := range a.conf.Trunks {
		conf.Trunks = append(conf.Trunks, sip.Trunk{
			Name: t.Name, Peers: t.Peers, Local: t.Local, Username: t.Auth.Username, Password: t.Auth.Password, Realm: t.Auth.Realm,
		})
	}
	return conf
}

// room is how many calls may be up: no more than there are RTP ports for. Full is
// full before a caller hears it ring.
func (a *App) room() int {
	return max(1, min(a.conf.SIP.MaxCalls, a.calls.len()+a.ports.Free()))
}

// external is the configured advertised address, the zero one for none.
func (a *App) external(ip configs.ExternalIP) netip.Addr { return ip.Addr }

// ServeCall implements sip.Handler: it answers one call and holds its
// conversation.
func (a *App) ServeCall(ctx context.Context, c *sip.Call) {
	began := time.Now()
	trunk, _ := a.conf.Trunk(c.Trunk())
	in := a.info(c, trunk)
	route, _, ok := a.conf.Route(in.Trunk, in.Called, in.Caller)
	name, ag := route.Agent, a.agents[route.Agent]
	log := a.log.With(zap.String("call", in.ID), zap.String("sip_call_id", in.SIPCallID))
	if !ok || ag == nil {
		log.Info("call refused", zap.String("reason", "no route"), zap.String("called", obs.Mask(in.Called)), zap.String("trunk", in.Trunk))
		_ = c.Reject(404, "")
		return
	}
	if limit := ag.conf.Limits.Calls; limit > 0 && a.calls.of(name) >= limit {
		log.Info("call refused", zap.String("reason", "agent is full"), zap.String("agent", name))
		_ = c.Reject(486, "")
		return
	}
	in.Language = ag.conf.Language
	for _, h := range ag.conf.Headers {
		if v := c.Header(h); len(v) > 0 {
			in.Headers[strings.ToLower(h)] = v[0]
		}
	}
	a.converse(ctx, c, ag, trunk, in, log, began)
}

// converse runs the conversation of a call that has an agent.
func (a *App) converse(ctx context.Context, c *sip.Call, ag *agent, trunk configs.Trunk, in call.Info, log *zap.Logger, began time.Time) {
	session, release := a.session.name(ag.conf, in, trunk.TrustedCLI)
	defer release()
	conf := a.callConfig(ag, in, log)
	conf.Session, conf.Variables = session, variables(ag.conf, in, began)
	conf.Targets = a.targets(ag, trunk, a.advertised(trunk, c.Source().Addr()), c.Source().String())
	cc := call.New(conf)
	l, err := line.Inbound(a.lineConfig(ag, trunk, log), cc, c) //nolint:contextcheck // the line lives as long as its call
	if err != nil {
		code := 500
		if errors.Is(err, media.ErrNoPorts) {
			code = 503
		}
		log.Warn("call refused", zap.Int("status", code), zap.Error(err))
		_ = c.Reject(code, "")
		return
	}
	if !a.calls.add(&liveCall{info: in, agent: ag.conf.Name, began: began, call: cc, end: cc.Drain}, ag.conf.Limits.Calls, 0) {
		log.Info("call refused", zap.String("reason", "agent is full"), zap.String("agent", ag.conf.Name))
		_ = c.Reject(486, "")
		return
	}
	defer a.calls.remove(in.ID)
	if err := c.Ring(ctx); err != nil {
		log.Debug("ringing not told", zap.Error(err)) // a call that is over already has a record all the same
	}
	log.Info("call began", zap.String("agent", ag.conf.Name), zap.String("trunk", in.Trunk), zap.String("caller", obs.Mask(in.Caller)),
		zap.String("called", obs.Mask(in.Called)), zap.String("source", in.Source), zap.String("user_agent", c.UserAgent()))
	res := cc.Run(context.WithoutCancel(ctx), l) // the line says when the call is over
	l.Wait()
	a.written(log, res)
}

// callConfig is what every call with an agent is made from.
func (a *App) callConfig(ag *agent, in call.Info, log *zap.Logger) call.Config {
	return call.Config{
		Agent: ag.conf.Name, Info: in, Policy: ag.policy, Dialog: ag.dialog, Launch: launchPayload(in),
		Recognizer: ag.recognizer, Voice: ag.voice, InTraces: ag.inTraces, Log: log, Metrics: a.metrics.calls,
	}
}

// written puts a call's result into the log, the record and the metrics.
func (a *App) written(log *zap.Logger, res call.Result) {
	log.Info("call ended", summary(res)...)
	a.metrics.ended(res)
	if a.records != nil {
		rec := recordOf(res)
		if err := a.records.Write(&rec); err != nil {
			log.Error("call record not written", zap.Error(err))
		}
	}
}

func (a *App) lineConfig(ag *agent, t configs.Trunk, log *zap.Logger) line.Config {
	v := vad.Default()
	v.Confirm = ag.conf.BargeIn.MinSpeech
	v.ConfirmWindow = v.Confirm + 100*time.Millisecond
	return line.Config{
		Engine: a.engine, Codecs: codecs(a.conf.Media.Codecs), Advertise: func(peer netip.Addr) netip.Addr { return a.advertised(t, peer) },
		RTC: a.rtc, Media: t.Media, Trusted: append(append([]netip.Prefix{}, t.Peers...), t.Challenge...), VAD: v,
		FirstSilence: firstSilence, Silence: laterSilence, Log: log,
	}
}

// advertised is the address for our SDP as a peer on trunk t should see it.
func (a *App) advertised(t configs.Trunk, peer netip.Addr) netip.Addr {
	for _, ip := range []netip.Addr{a.external(t.ExternalIP), a.external(a.conf.SIP.ExternalIP)} {
		if ip.IsValid() {
			return ip
		}
	}
	if bound := bindTo(a.conf.SIP.Listen); !bound.IsUnspecified() {
		return bound
	}
	return source(peer)
}

// info reads what the INVITE tells of the caller.
func (a *App) info(c *sip.Call, t configs.Trunk) call.Info {
	from, called := c.From(), c.RequestURI().User
	in := call.Info{
		ID: record.NewID(time.Now()), SIPCallID: c.CallID(), Trunk: c.Trunk(), Direction: c.Direction().String(),
		Name: from.Display, Called: e164(called, t.Region), Source: c.Source().String(), Headers: map[string]string{},
	}
	if ids := c.Header("P-Asserted-Identity"); len(ids) > 0 {
		if id, err := sip.ParseAddress(ids[0]); err == nil && id.User != "" {
			from = id
		}
	}
	if strings.EqualFold(from.User, "anonymous") || strings.EqualFold(from.Host, "anonymous.invalid") || hides(c.Header("Privacy")) {
		in.Anonymous, in.Name = true, ""
	} else {
		in.Caller = e164(from.User, t.Region)
	}
	if d := c.Header("Diversion"); len(d) > 0 {
		if to, err := sip.ParseAddress(d[0]); err == nil {
			in.Diverted = e164(to.User, t.Region)
		}
	}
	if u := c.Header("User-to-User"); len(u) > 0 {
		in.UUI = u[0]
	}
	return in
}

// hides reports whether the caller asked for privacy (RFC 3323, RFC 3325).
func hides(privacy []string) bool {
	for _, v := range privacy {
		for _, p := range strings.FieldsFunc(strings.ToLower(v), func(r rune) bool { return r == ';' || r == ',' || r == ' ' }) {
			if p == "id" || p == "user" || p == "header" {
				return true
			}
		}
	}
	return false
}
