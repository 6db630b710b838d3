package media

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ivrbridge/ivrbridge/media/vad"
)

// BenchmarkSlot is one turn of one leg over memory ports: a packet out and a
// packet in, as far as somebody listens.
func BenchmarkSlot(b *testing.B) {
	for _, c := range []struct {
		name string
		leg  LegConfig
		tap  bool
		keys bool // in the sound
	}{
		{name: "send and receive"},
		{name: "with decoding for a tap", tap: true},
		{name: "with speech detection", leg: LegConfig{VAD: vad.Default()}},
		{name: "with keys in the sound", keys: true},
	} {
		b.Run(c.name, func(b *testing.B) {
			visit, done := handServed(b, c.leg, c.tap, !c.keys)
			defer done()
			b.ReportAllocs()
			for b.Loop() {
				visit()
			}
		})
	}
}

// BenchmarkPort is one packet through a real socket.
func BenchmarkPort(b *testing.B) {
	home := netip.MustParseAddr("127.0.0.1")
	ports := UDPPorts(home, 32000, 32099, 0)
	a, ar, err := ports.Open()
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	defer ar.Close()
	packet, buf, to := make([]byte, 172), make([]byte, 2048), netip.AddrPortFrom(home, ar.LocalPort())
	b.Run("send and receive", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := a.Send(packet, to); err != nil {
				b.Fatal(err)
			}
			if _, _, err := ar.Recv(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("receive nothing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = ar.Recv(buf)
		}
	})
}

// BenchmarkPacing runs legs on real sockets for two seconds and reports how
// far the intervals between a leg's packets are from 20 ms, as its far end
// sees them by the kernel's clock.
func BenchmarkPacing(b *testing.B) {
	for _, n := range []int{10, 200} {
		b.Run(fmt.Sprintf("%d legs", n), func(b *testing.B) {
			for b.Loop() {
				pace(b, n, 2*time.Second)
			}
		})
	}
}

func pace(b *testing.B, n int, d time.Duration) {
	b.Helper()
	home := netip.MustParseAddr("127.0.0.1")
	ports := UDPPorts(home, 33000, 34999, 0)
	e := NewEngine(EngineConfig{Ports: ports})
	defer e.Close()
	far := UDPPorts(home, 35000, 36999, 0)
	clip := ramp(time.Second)
	type end struct {
		port, rtcp Port
		last       time.Time
	}
	ends := make([]*end, n)
	for i := range ends {
		l, err := e.NewLeg(LegConfig{})
		if err != nil {
			b.Fatal(err)
		}
		rtp, rtcp, err := far.Open()
		if err != nil {
			b.Fatal(err)
		}
		ends[i] = &end{port: rtp, rtcp: rtcp}
		l.Apply(Params{Remote: netip.AddrPortFrom(home, rtp.LocalPort()), Accept: [2]int16{0, 8}, Send: true, Recv: true})
		l.Play(Cue{Clip: clip, Loop: true})
	}
	var late []time.Duration
	var reader sync.WaitGroup
	reader.Go(func() {
		buf := make([]byte, 2048)
		for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
			for _, e := range ends {
				for {
					if _, _, err := e.port.Recv(buf); err != nil {
						break
					}
					at, _ := e.port.(stamper).Stamp()
					if !e.last.IsZero() {
						off := at.Sub(e.last) - 20*time.Millisecond
						late = append(late, max(off, -off))
					}
					e.last = at
				}
			}
		}
	})
	reader.Wait()
	for _, e := range ends {
		_ = e.port.Close()
		_ = e.rtcp.Close()
	}
	slices.Sort(late)
	if len(late) > 0 {
		b.ReportMetric(float64(late[len(late)*99/100].Microseconds())/1000, "p99-ms")
		b.ReportMetric(float64(late[len(late)-1].Microseconds())/1000, "max-ms")
		b.ReportMetric(float64(len(late))/d.Seconds()/float64(n), "packets/s")
	}
}
