package line_test

import (
	"context"
	"math"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/line"
	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/media/sdp"
	"github.com/ivrbridge/ivrbridge/sip"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = netip.MustParseAddr("127.0.0.1")

// A party is one user agent with media of its own.
type party struct {
	t      *testing.T
	server *sip.Server
	engine *media.Engine
	addr   netip.AddrPort
	log    *zap.Logger
	calls  chan *line.Line // those that came, answered
	codecs []sdp.Codec
}

func newParty(t *testing.T, lo uint16, codecs ...sdp.Codec) *party {
	t.Helper()
	log := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	p := &party{t: t, log: log, calls: make(chan *line.Line, 4), codecs: codecs}
	p.engine = media.NewEngine(media.EngineConfig{Shards: 2, Ports: media.UDPPorts(loopback, lo, lo+99, time.Millisecond), Log: log})
	var err error
	p.server, err = sip.NewServer(sip.Config{
		Handler: p, Log: log, Trunks: []sip.Trunk{{Name: "loop", Peers: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}},
	})
	require.NoError(t, err)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	p.addr = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	var work sync.WaitGroup
	work.Go(func() { _ = p.server.ServePacket(context.Background(), conn) })
	require.NoError(t, p.server.Ready(t.Context(), 1))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = p.server.Shutdown(ctx)
		p.engine.Close()
		work.Wait()
	})
	return p
}

func (p *party) conf() line.Config {
	return line.Config{
		Engine: p.engine, Codecs: p.codecs, Advertise: func(netip.Addr) netip.Addr { return loopback },
		Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Log: p.log,
	}
}

// ServeCall answers and hands the line over.
func (p *party) ServeCall(ctx context.Context, c *sip.Call) {
	l, err := line.Inbound(p.conf(), newSink(), c)
	if err != nil {
		_ = c.Reject(503, "")
		return
	}
	if err := l.Answer(ctx); err == nil {
		p.calls <- l
	}
	<-l.Context().Done()
	l.Wait()
}

// dial calls another party and returns both ends.
func (p *party) dial(to *party, change func(*sip.InviteRequest)) (ours, theirs *line.Line, heard *sink) {
	p.t.Helper()
	s := newSink()
	r := sip.InviteRequest{To: "sip:x@" + to.addr.String()}
	if change != nil {
		change(&r)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	ours, err := line.Dial(ctx, p.server, p.conf(), s, r)
	require.NoError(p.t, err)
	select {
	case theirs = <-to.calls:
	case <-ctx.Done():
		p.t.Fatal("the call did not arrive")
	}
	return ours, theirs, s
}

// A sink notes holds.
type sink struct {
	mu    sync.Mutex
	holds []bool
}

func newSink() *sink { return &sink{} }

func (*sink) Post(media.Event) bool { return true }

func (s *sink) Hold(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds = append(s.holds, on)
}

func (s *sink) held() []bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]bool{}, s.holds...)
}

// An ear finds a tone's frequency in what is received.
type ear struct {
	mu   sync.Mutex
	last []int16
}

func (e *ear) Frame(_ int64, rx, _ []int16) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last = append(e.last, rx...)
	if n := len(e.last) - 1600; n > 0 {
		e.last = append(e.last[:0], e.last[n:]...)
	}
}

func (e *ear) hears(hz float64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.last) < 1600 || pcm.Level(e.last) < -30 {
		return false
	}
	var re, im, all float64
	for i, x := range e.last {
		a := 2 * math.Pi * hz * float64(i) / pcm.Rate
		re += float64(x) * math.Cos(a)
		im += float64(x) * math.Sin(a)
		all += float64(x) * float64(x)
	}
	return 2*(re*re+im*im)/float64(len(e.last)) > .8*all
}

func tone(hz float64) *pcm.Clip {
	out := make([]int16, pcm.Rate)
	for i := range out {
		out[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(i)/pcm.Rate))
	}
	c := pcm.NewClip(pcm.Mu)
	_ = c.Append(out)
	c.Close(nil)
	return c
}

// hears plays a tone at one end and waits until the other has it.
func hears(t *testing.T, from, to *line.Line, hz float64) {
	t.Helper()
	e := &ear{}
	detach := to.Attach(e)
	defer detach()
	from.Play(media.Cue{Seq: 1, Clip: tone(hz), Loop: true})
	defer from.Stop()
	require.Eventually(t, func() bool { return e.hears(hz) }, 10*time.Second, 10*time.Millisecond)
}

func both(t *testing.T, a, b *line.Line) {
	t.Helper()
	hears(t, a, b, 500)
	hears(t, b, a, 700)
}

func end(lines ...*line.Line) {
	for _, l := range lines {
		l.Hangup(call.Hangup{Why: "test over"})
		l.Wait()
	}
}

func TestOfferAndDelayedOffer(t *testing.T) {
	for name, late := range map[string]bool{"offer": false, "delayed": true} {
		t.Run(name, func(t *testing.T) {
			a, b := newParty(t, 21000), newParty(t, 21100)
			ours, theirs, _ := a.dial(b, func(r *sip.InviteRequest) { r.LateOffer = late })
			both(t, ours, theirs)
			end(ours, theirs)
		})
	}
}

func TestReinviteInEachDirection(t *testing.T) {
	a, b := newParty(t, 21200), newParty(t, 21300)
	ours, theirs, heard := a.dial(b, nil)
	both(t, ours, theirs)
	require.NoError(t, theirs.Hold(t.Context(), true))
	require.Eventually(t, func() bool { return len(heard.held()) == 1 }, 5*time.Second, time.Millisecond)
	require.NoError(t, theirs.Hold(t.Context(), false))
	require.Eventually(t, func() bool { return len(heard.held()) == 2 }, 5*time.Second, time.Millisecond)
	require.Equal(t, []bool{true, false}, heard.held())
	both(t, ours, theirs)
	require.NoError(t, ours.Hold(t.Context(), true))
	require.NoError(t, ours.Hold(t.Context(), false))
	both(t, ours, theirs)
	end(ours, theirs)
}

func TestSecondLegIsJoinedToTheFirst(t *testing.T) {
	for _, c := range []struct {
		name   string
		codecs []sdp.Codec
	}{{"same codec", []sdp.Codec{sdp.PCMU}}, {"other codec", []sdp.Codec{sdp.PCMA}}} {
		t.Run(c.name, func(t *testing.T) {
			caller, bridge, agent := newParty(t, 21400, sdp.PCMU), newParty(t, 21500), newParty(t, 21600, c.codecs...)
			phone, first, _ := caller.dial(bridge, nil)
			second, desk, _ := bridge.dial(agent, nil)
			stop := media.Join(first.Leg(), second.Leg())
			both(t, phone, desk)
			stop()
			hears(t, first, phone, 900)
			end(phone, second)
			first.Wait()
			desk.Wait()
		})
	}
}

func TestLoopbackMediaIsRefusedToStrangers(t *testing.T) {
	a, b := newParty(t, 21700), newParty(t, 21800)
	conf := a.conf()
	conf.Trusted = nil
	conf.Codecs = nil
	s := newSink()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := line.Dial(ctx, a.server, conf, s, sip.InviteRequest{To: "sip:x@" + b.addr.String()})
	require.Error(t, err, "our own offer's answer names an address that is not allowed")
	require.Eventually(t, func() bool { return a.server.Calls()+b.server.Calls() == 0 }, 5*time.Second, time.Millisecond)
}
