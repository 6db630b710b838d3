package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/dialog/localflow"
	"github.com/ivrbridge/ivrbridge/internal/line"
	"github.com/ivrbridge/ivrbridge/internal/secret"
	"github.com/ivrbridge/ivrbridge/media/vad"
	"github.com/ivrbridge/ivrbridge/sip"
	"github.com/ivrbridge/ivrbridge/tts"
)

// DemoOptions are the demo's settings.
type DemoOptions struct {
	SIP     netip.AddrPort // the next free port is taken where this one is not
	RTP     configs.PortRange
	HTTP    string
	HTTPS   string         // empty: none
	Token   secret.Secret  // of the API, where others than this machine reach it
	RTC     netip.AddrPort // of browsers' media; the next free port is taken where it is not
	Flow    string         // file of a flow; empty: the built-in one
	Busy    bool           // the human refuses calls at first
	Options                // Config is made by the demo
}

// A Demo is a bridge with an agent and a human inside: no account, key or server
// is needed to call it.
type Demo struct {
	*App
	Flow  *localflow.Server
	Human *Human
	human *sip.Server
	at    netip.AddrPort // of the human
	notes []string
}

// ErrFlow says that the file of the demo's flow cannot be used.
var ErrFlow = errors.New("flow")

// demoKey has the form that Voiceflow's keys have; the flow inside takes any.
const demoKey = "VF.DM.000000000000000000000000.demo"

const humanWords = "Hello, this is Anna. You have reached a human being. Well, nearly: I am the end of the demo. Hang up when you like."

// NewDemo builds and starts the demo.
func NewDemo(ctx context.Context, o DemoOptions) (*Demo, error) {
	flow, err := localflow.Demo()
	if err != nil {
		return nil, fmt.Errorf("flow: %w", err)
	}
	if o.Flow != "" {
		if flow, err = localflow.Load(o.Flow); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFlow, err)
		}
	}
	// Conversations of calls that are over are of no use; nobody asks for the
	// requests.
	conversations := localflow.Options{Log: o.Log, Sessions: 2 * configs.Default().SIP.MaxCalls, Kept: -1}
	d := &Demo{Flow: localflow.New(flow, conversations), Human: &Human{log: o.Log.Named("human")}}
	d.Human.SetBusy(o.Busy)
	conf := configs.Default()
	port, err := freePort(ctx, o.SIP)
	if err != nil {
		return nil, err
	}
	conf.SIP.Listen = []configs.Listen{
		{Transport: "udp", Addr: netip.AddrPortFrom(o.SIP.Addr(), port)},
		{Transport: "tcp", Addr: netip.AddrPortFrom(o.SIP.Addr(), port)},
	}
	conf.Media.RTPPorts = o.RTP
	conf.HTTP.Listen, conf.HTTP.HTTPS, conf.HTTP.Token = o.HTTP, o.HTTPS, o.Token
	if web, err := netip.ParseAddrPort(o.HTTP); err == nil {
		port, err := freePort(ctx, web)
		if err != nil {
			return nil, fmt.Errorf("http: %w", err)
		}
		conf.HTTP.Listen = netip.AddrPortFrom(web.Addr(), port).String()
	}
	media, err := freePort(ctx, o.RTC)
	if err != nil {
		return nil, fmt.Errorf("browsers' media: %w", err)
	}
	conf.RTC.Listen = netip.AddrPortFrom(o.RTC.Addr(), media).String()
	agent := configs.DefaultAgent()
	agent.Name, agent.Voiceflow.URL = "demo", "http://127.0.0.1"
	agent.Voiceflow.APIKey = secret.New(demoKey)
	agent.Voiceflow.Environment = "production"
	agent.Dial.Directory = map[string]configs.Strings{"human": {"sip:human@human.invalid"}, boss: {"sip:boss@human.invalid"}}
	d.notes = engines(&agent)
	for _, r := range flow.Remarks() {
		d.notes = append(d.notes, o.Flow+": "+r.String())
	}
	conf.Agents = []configs.Agent{agent}
	conf.Routes = []configs.Route{{Agent: agent.Name}}
	o.Config = &conf
	o.Runtime = d.Flow.Transport()
	o.Directory = func(local netip.Addr) map[string][]string {
		desk := netip.AddrPortFrom(local, d.at.Port()).String()
		return map[string][]string{"human": {"sip:human@" + desk}, boss: {"sip:" + boss + "@" + desk}}
	}
	if o.Routes == nil {
		o.Routes = map[string]http.Handler{}
	}
	o.Routes["/demo/human"] = d.Human
	// The first call may want the human's address before the human is up.
	next, err := freePort(ctx, netip.AddrPortFrom(o.SIP.Addr(), port+2))
	if err != nil {
		return nil, fmt.Errorf("human: %w", err)
	}
	d.at = netip.AddrPortFrom(o.SIP.Addr(), next)
	if d.App, err = New(ctx, o.Options); err != nil {
		return nil, err
	}
	if err = d.Start(ctx); err == nil {
		err = d.startHuman(ctx)
	}
	if err != nil {
		_ = d.Stop(ctx)
		return nil, err
	}
	return d, nil
}

// freePort returns the wanted port or the next that is free on UDP and TCP.
func freePort(ctx context.Context, want netip.AddrPort) (uint16, error) {
	var lc net.ListenConfig
	for n := range 100 {
		addr := netip.AddrPortFrom(want.Addr(), want.Port()+uint16(n)*2)
		u, err := lc.ListenPacket(ctx, family("udp", addr), addr.String())
		if err != nil {
			continue
		}
		port := u.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		t, err := lc.Listen(ctx, family("tcp", addr), netip.AddrPortFrom(want.Addr(), port).String())
		_ = u.Close()
		if err != nil {
			continue
		}
		_ = t.Close()
		return port, nil
	}
	return 0, fmt.Errorf("no free port from %s on", want)
}

// engines chooses the best of what is installed and says what is missing.
func engines(a *configs.Agent) []string {
	var notes []string
	if voice := LocalVoice(); voice != "" {
		a.TTS = configs.NewAdapter(voice, nil)
	} else {
		a.TTS = configs.NewAdapter("recorded", nil)
		notes = append(notes, "no speech engine is installed: recorded prompts only (install flite)")
	}
	if recogniser := LocalRecogniser(); recogniser != "" {
		a.ASR = configs.NewAdapter(recogniser, nil)
	} else {
		a.ASR = configs.NewAdapter(configs.None, nil)
		notes = append(notes, "no recogniser is installed: keys only (install pocketsphinx and pocketsphinx-en-us, and keep ivrbridge-worker beside ivrbridge)")
	}
	return notes
}

// startHuman opens the second user agent.
func (d *Demo) startHuman(ctx context.Context) error {
	ag := d.agents["demo"]
	render, cancel := context.WithTimeout(ctx, renderLimit)
	defer cancel()
	d.Human.words = ag.voice.Cache.Clip(ctx, ag.voice.Synth, tts.Request{Text: humanWords})
	if err := d.Human.words.Ready(render, longest); err != nil {
		d.log.Warn("human's words not rendered", zap.Error(err))
		d.Human.words = beeps()
	}
	trunk := configs.LocalTrunk()
	d.Human.conf = line.Config{
		Engine: d.engine, Codecs: codecs(d.conf.Media.Codecs), Trusted: trunk.Peers, VAD: vad.Config{}, FirstSilence: 0,
		Advertise: func(peer netip.Addr) netip.Addr { return d.advertised(trunk, peer) }, Log: d.Human.log,
	}
	s, err := sip.NewServer(sip.Config{ //nolint:contextcheck // its calls live as long as it does
		Handler: d.Human, Log: d.Human.log, UserAgent: "ivrbridge-human/" + d.opts.Version,
		Trunks: []sip.Trunk{{Name: trunk.Name, Peers: trunk.Peers, Local: true}},
	})
	if err != nil {
		return fmt.Errorf("human: %w", err)
	}
	d.human = s
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	for _, t := range []string{"udp", "tcp"} {
		sock, err := open(run, configs.Listen{Transport: t, Addr: d.at}, nil)
		if err != nil {
			stop()
			return fmt.Errorf("human: %w", err)
		}
		d.work.Go(func() { _ = sock.serve(run, s) })
	}
	d.later("human", func(ctx context.Context) error {
		stop()
		return s.Shutdown(expired(ctx))
	})
	return nil
}

// Banner says how to call the demo.
func (d *Demo) Banner() string {
	at := d.SIP()[0]
	var b strings.Builder
	say := func(format string, args ...any) { b.WriteString(fmt.Sprintf(format, args...) + "\n") }
	say("\nivrbridge %s demo: an agent, a caller's line, a human and a busy boss in one process\n", d.opts.Version)
	for _, ip := range reachable(at.Addr()) {
		say("  call  sip:demo@%s", netip.AddrPortFrom(ip, at.Port()))
	}
	say("\n  1. Any softphone will do (Linphone, MicroSIP, Zoiper, baresip): no account, or one with any name and password.")
	say("  2. If it insists on an account: domain or registrar %s, transport UDP or TCP, codec PCMU or PCMA.", hostPort(d))
	say("  3. Call the address above. Say \"opening hours\", press 1 for an order (1001 is one), 3 for a human, 4 for the boss.\n")
	if h := d.HTTP(); h != "" {
		say("  health, metrics   http://%s/healthz /metrics", h)
		say("  make her busy     curl -d busy=true http://%s/demo/human", h)
	}
	say("  in a terminal     ivrbridge call --keys 2 sip:demo@%s", netip.AddrPortFrom(reachable(at.Addr())[0], at.Port()))
	for _, n := range d.notes {
		say("  note: %s", n)
	}
	if page := d.Page(); page != "" {
		say("\n  or open the phone in a browser and press Call:  %s", page)
	}
	return b.String() + "\n"
}

func hostPort(d *Demo) string {
	at := d.SIP()[0]
	ips := reachable(at.Addr())
	return netip.AddrPortFrom(ips[len(ips)-1], at.Port()).String()
}

// reachable lists the addresses at which a bound address can be called, loopback
// first.
func reachable(bound netip.Addr) []netip.Addr {
	if !bound.IsUnspecified() {
		return []netip.Addr{bound}
	}
	out := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return out
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast() || p.Addr().Is6() && bound.Is4() {
			continue
		}
		if !slices.Contains(out, p.Addr()) {
			out = append(out, p.Addr())
		}
	}
	return out
}

// Run serves the demo until ctx ends or it was drained.
func (d *Demo) Run(ctx context.Context, drain <-chan os.Signal) error {
	return d.run(ctx, drain, d.Stop)
}

// grace is how long a drained bridge waits for its calls.
const grace = time.Hour

// run waits for the end: ctx ends now, the first signal drains, a second one
// ends now.
func (a *App) run(ctx context.Context, drain <-chan os.Signal, stop func(context.Context) error) error {
	select {
	case <-ctx.Done():
		return stop(ctx)
	case <-drain:
	}
	a.Drain()
	wait, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	go func() {
		select {
		case <-drain:
			cancel()
		case <-wait.Done():
		}
	}()
	a.Idle(wait)
	return stop(ctx)
}
