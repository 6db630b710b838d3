package media

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media/vad"
)

type tapFunc func(at int64, rx, tx []int16)

func (f tapFunc) Frame(at int64, rx, tx []int16) { f(at, rx, tx) }

func TestPanicEndsOneLegOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		other, far, events := s.pair(t, nil)
		third := s.third(t)
		time.Sleep(100 * time.Millisecond)
		s.leg.Play(Cue{Seq: 1, Clip: ramp(time.Minute)})
		s.leg.Attach(tapFunc(func(int64, []int16, []int16) { panic("tap at fault") }))
		time.Sleep(100 * time.Millisecond)
		crashed := s.events.of(Crashed)
		require.Len(t, crashed, 1)
		require.ErrorContains(t, crashed[0].Err, "tap at fault")
		require.Len(t, s.events.of(PlayEnd), 1)
		require.True(t, s.leg.Stats().Closed)
		s.peer.got()
		far.got()
		time.Sleep(time.Second)
		require.Empty(t, s.peer.got())
		require.Len(t, far.got(), 50, "the others go on")
		require.Empty(t, events.of(Crashed))
		require.False(t, third.Stats().Closed)
		require.Equal(t, uint64(1), s.engine.meter.panics.Load())
		other.Close()
	})
}

// third adds a leg whose events panic at once when it ends.
func (s *stage) third(t *testing.T) *Leg {
	t.Helper()
	l, err := s.engine.NewLeg(LegConfig{Events: faulty{}})
	require.NoError(t, err)
	l.Play(Cue{Seq: 1, Clip: ramp(0)})
	return l
}

type faulty struct{}

func (faulty) Post(Event) bool { panic("events at fault") }

func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		s.leg.Play(Cue{Seq: 1, Clip: ramp(time.Minute)})
		s.leg.Queue(Cue{Seq: 2, Clip: ramp(time.Minute)})
		time.Sleep(time.Second)
		s.engine.Close()
		s.engine.Close()
		require.Len(t, s.events.of(PlayEnd), 2)
		require.True(t, s.leg.Stats().Closed)
		_, err := s.engine.NewLeg(LegConfig{})
		require.ErrorIs(t, err, ErrClosed)
		s.leg.Close()
		s.leg.Stop()
		s.leg.Apply(s.params())
		s.leg.Attach(&recorder{})()
	})
}

func TestLegsSpreadOverSlotsAndShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		for range 15 {
			_, err := s.engine.NewLeg(LegConfig{})
			require.NoError(t, err)
		}
		for _, shard := range s.engine.shards {
			for i := range shard.load {
				require.Equal(t, int32(2), shard.load[i].Load())
			}
		}
	})
}

func TestWheelSkipsTimeThatNobodyUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		time.Sleep(100 * time.Millisecond)
		stall := true
		s.leg.Attach(tapFunc(func(int64, []int16, []int16) {
			if stall {
				stall = false
				time.Sleep(2 * time.Second) // as a machine that is suspended
			}
		}))
		time.Sleep(3 * time.Second)
		got := s.peer.got()
		gaps := 0
		for i := 1; i < len(got); i++ {
			require.Equal(t, got[i-1].seq+1, got[i].seq)
			if d := got[i].at.Sub(got[i-1].at); d > 20*time.Millisecond {
				gaps++
				require.Greater(t, got[i].ts-got[i-1].ts, uint32(14000))
			}
		}
		require.Equal(t, 1, gaps)
		require.Less(t, len(got), 70, "no burst after it")
		last := got[len(got)-1]
		require.InDelta(t, float64(last.at.Sub(got[0].at)/(125*time.Microsecond)), float64(last.ts-got[0].ts), 900)
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewPedanticRegistry()
		n := NewMemoryNetwork()
		ports := MemoryPorts(n, ourIP, 20000, 20099, 0)
		e := NewEngine(EngineConfig{Shards: 1, Ports: ports, Metrics: registry})
		defer e.Close()
		l, err := e.NewLeg(LegConfig{Events: &journal{}})
		require.NoError(t, err)
		p := newPeer(t, n, netip.AddrPortFrom(farIP, 4000))
		p.to = netip.AddrPortFrom(ourIP, l.LocalPort())
		l.Apply(Params{Remote: p.at, Accept: [2]int16{0, 8}, Event: 101, HasEvent: true, Send: true, Recv: true})
		p.talk(50, sound20)
		p.press(1)
		require.NoError(t, p.port.Send([]byte("junk"), p.to))
		p.raw(99, false, 0, sound20)
		time.Sleep(50 * time.Millisecond)
		got := gather(t, registry)
		for name, want := range map[string]float64{
			"packets_total{dir=in,kind=audio}": 50, "packets_total{dir=in,kind=event}": 8, "packets_total{dir=in,kind=rtcp}": 0,
			"packets_total{dir=out,kind=audio}": 60, "packets_total{dir=out,kind=event}": 0, "packets_total{dir=out,kind=rtcp}": 0,
			"rejected_total{reason=malformed}": 1, "rejected_total{reason=payload_type}": 1, "rejected_total{reason=source}": 0,
			"lost_total{}": 0, "late_total{}": 0, "ports_used{}": 1, "send_interval_seconds{}": 59,
		} {
			value, ok := got["ivrbridge_rtp_"+name]
			require.True(t, ok, name)
			require.Equal(t, want, value, name) //nolint:testifylint // whole numbers
		}
		e.Close()
		require.Empty(t, gather(t, registry))
	})
}

// gather returns the metrics as text; of histograms, the count.
func gather(t *testing.T, r prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	require.NoError(t, err)
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			out[fmt.Sprintf("%s{%s}", f.GetName(), strings.Join(labels, ","))] = v
		}
	}
	return out
}

func TestEngineWithoutPorts(t *testing.T) {
	e := NewEngine(EngineConfig{})
	defer e.Close()
	_, err := e.NewLeg(LegConfig{})
	require.ErrorIs(t, err, ErrNoPorts)
}

// dropping refuses all events.
type dropping struct{}

func (dropping) Post(Event) bool { return false }

func TestDroppedEventsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, func(c *LegConfig) { c.Events = dropping{} })
		s.leg.Apply(s.params())
		s.leg.Play(Cue{Clip: ramp(20 * time.Millisecond)})
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, uint64(2), s.engine.meter.eventsDropped.Load())
	})
}

// TestPathDoesNotAllocate serves a leg by hand: sending, receiving, ordering,
// decoding, speech and a tap.
func TestPathDoesNotAllocate(t *testing.T) {
	for _, events := range []bool{true, false} { // keys in the sound are looked for without
		visit, done := handServed(t, LegConfig{VAD: vad.Default()}, true, events)
		require.Zero(t, testing.AllocsPerRun(2000, visit))
		done()
	}
}

// handServed is a leg on a shard that no goroutine runs. Each visit is 20 ms.
func handServed(tb testing.TB, c LegConfig, tap, events bool) (visit, done func()) {
	tb.Helper()
	n := NewMemoryNetwork()
	ports := MemoryPorts(n, ourIP, 20000, 20001, 0)
	e := &Engine{ports: ports, meter: newMeter(ports), epoch: time.Now()}
	rtp, rtcp, err := ports.Open()
	if err != nil {
		tb.Fatal(err)
	}
	s := newShard(e)
	e.log = nopLog()
	l := newLeg(e, c, rtp, rtcp)
	l.home.Store(&place{s, 0})
	s.admit(l)
	s.takeIn()
	far, err := n.Listen(netip.AddrPortFrom(farIP, 4000))
	if err != nil {
		tb.Fatal(err)
	}
	p := &peer{port: far, to: netip.AddrPortFrom(ourIP, l.LocalPort()), ssrc: 1}
	l.Apply(Params{Remote: netip.AddrPortFrom(farIP, 4000), Accept: [2]int16{0, 8}, Event: 101, HasEvent: events, Send: true, Recv: true})
	l.Play(Cue{Seq: 1, Clip: ramp(time.Second), Loop: true})
	if tap {
		l.Attach(tapFunc(func(int64, []int16, []int16) {}))
	}
	clip := ramp(20 * time.Millisecond)
	packet := make([]byte, headerLen, headerLen+160)
	packet[0] = 0x80
	packet = append(packet, bytesOf(clip, 0)...)
	buf := make([]byte, 1500)
	at := e.epoch
	due := time.Duration(0)
	step := func() {
		packet[2], packet[3] = byte(p.seq>>8), byte(p.seq)
		packet[4], packet[5], packet[6], packet[7] = byte(p.ts>>24), byte(p.ts>>16), byte(p.ts>>8), byte(p.ts)
		p.seq++
		p.ts += 160
		_ = far.Send(packet, p.to)
		l.visit(due, at, true)
		l.visit(due+turn/2, at.Add(turn/2), false)
		due += turn
		at = at.Add(turn)
		for {
			if _, _, err := far.Recv(buf); errors.Is(err, ErrWouldBlock) {
				break
			}
		}
	}
	step() // commands allocate
	return step, func() {
		s.end(l, nil)
		e.ends.Wait()
	}
}

// refusing is a network on which each datagram comes back as an ICMP error.
type refusing struct{ Ports }

func (r refusing) Open() (rtp, rtcp Port, err error) {
	rtp, rtcp, err = r.Ports.Open()
	return &refused{Port: rtp}, &refused{Port: rtcp}, err
}

type refused struct {
	Port
	sends, recvs int
}

func (r *refused) Send(p []byte, to netip.AddrPort) error {
	if r.sends++; r.sends%2 == 1 {
		return syscall.ECONNREFUSED
	}
	return r.Port.Send(p, to)
}

func (r *refused) Recv(p []byte) (int, netip.AddrPort, error) {
	if r.recvs++; r.recvs%2 == 1 {
		return 0, netip.AddrPort{}, syscall.ECONNREFUSED
	}
	return r.Port.Recv(p)
}

func TestICMPErrorsAreCountedAndIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewMemoryNetwork()
		e := NewEngine(EngineConfig{Shards: 1, Ports: refusing{MemoryPorts(n, ourIP, 20000, 20001, 0)}})
		defer e.Close()
		l, err := e.NewLeg(LegConfig{})
		require.NoError(t, err)
		p := newPeer(t, n, netip.AddrPortFrom(farIP, 4000))
		p.to = netip.AddrPortFrom(ourIP, l.LocalPort())
		l.Apply(Params{Remote: p.at, Accept: [2]int16{0, 8}, Send: true, Recv: true})
		time.Sleep(time.Millisecond)
		p.talk(100, sound20)
		got := p.got()
		require.Len(t, got, 100)
		for i := 1; i < len(got); i++ {
			require.Equal(t, got[i-1].seq+1, got[i].seq)
		}
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, uint64(100), l.Stats().Received)
		require.Greater(t, l.Stats().SendErrors, uint64(100))
	})
}

// TestRealSockets lets two engines talk over loopback.
func TestRealSockets(t *testing.T) {
	home := netip.MustParseAddr("127.0.0.1")
	ports := UDPPorts(home, 30000, 30099, 50*time.Millisecond)
	e := NewEngine(EngineConfig{Ports: ports})
	done := make(chan Event, 64)
	take := tell(func(ev Event) bool {
		select {
		case done <- ev:
			return true
		default:
			return false
		}
	})
	a, err := e.NewLeg(LegConfig{Events: take})
	require.NoError(t, err)
	b, err := e.NewLeg(LegConfig{Events: take})
	require.NoError(t, err)
	at := func(l *Leg) Params {
		return Params{
			Remote: netip.AddrPortFrom(home, l.LocalPort()), RTCP: netip.AddrPortFrom(home, l.LocalPort()+1),
			Accept: [2]int16{0, 8}, Event: 101, HasEvent: true, Send: true, Recv: true,
		}
	}
	a.Apply(at(b))
	b.Apply(at(a))
	a.Play(Cue{Seq: 1, Clip: ramp(100 * time.Millisecond)})
	b.SendDigits(2, "4", DigitsAuto)
	want := map[Kind]int{PlayEnd: 1, Digit: 1, DigitsSent: 1, Latched: 2}
	timeout := time.After(20 * time.Second)
	for len(want) > 0 {
		select {
		case ev := <-done:
			if want[ev.Kind]--; want[ev.Kind] <= 0 {
				delete(want, ev.Kind)
			}
		case <-timeout:
			require.Failf(t, "events are missing", "%v", want)
		}
	}
	e.Close()
	require.Zero(t, a.Stats().Rejected)
	require.NoError(t, ports.Close())
	require.Equal(t, 50, ports.Free())
}

type tell func(Event) bool

func (f tell) Post(e Event) bool { return f(e) }

// TestLegsStaySmall keeps the promise of 64 kB a call.
func TestLegsStaySmall(t *testing.T) {
	require.Less(t, unsafe.Sizeof(Leg{}), uintptr(40<<10))
}

func TestLegOverGivenPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewMemoryNetwork()
		e := NewEngine(EngineConfig{Shards: 1})
		rtp, err := n.Listen(netip.AddrPortFrom(ourIP, 20000))
		require.NoError(t, err)
		rtcp, err := n.Listen(netip.AddrPortFrom(ourIP, 20001))
		require.NoError(t, err)
		l, err := e.NewLegOver(LegConfig{SSRC: 0xCAFE}, rtp, rtcp)
		require.NoError(t, err)
		require.Len(t, l.CNAME(), 16)
		far := newPeer(t, n, netip.AddrPortFrom(farIP, 4000))
		l.Apply(Params{Remote: far.at, Accept: [2]int16{0, 8}, Send: true, Recv: true})
		time.Sleep(100 * time.Millisecond)
		got := far.got()
		require.NotEmpty(t, got)
		require.EqualValues(t, 0xCAFE, got[0].ssrc)
		l.Close()
		time.Sleep(100 * time.Millisecond)
		rtp, err = n.Listen(netip.AddrPortFrom(ourIP, 20000))
		require.NoError(t, err, "the leg has closed it")

		e.Close()
		rtcp, err = n.Listen(netip.AddrPortFrom(ourIP, 20001))
		require.NoError(t, err)
		_, err = e.NewLegOver(LegConfig{}, rtp, rtcp)
		require.ErrorIs(t, err, ErrClosed)
		_, err = n.Listen(netip.AddrPortFrom(ourIP, 20000))
		require.NoError(t, err, "closed at once")
	})
}
