//go:build unix

package rtc

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// BenchmarkPeer is what a call of 50 packets a second in each direction costs,
// over a UDP port of its own and as a browser's: processor time of a second of
// it, all parts and the kernel included, and allocations per packet. The far end
// sends what was encrypted before and reads nothing, so that its side of both is
// one system call per packet.
func BenchmarkPeer(b *testing.B) {
	const calls, length = 20, 2 * time.Second
	var udp float64
	b.Run(fmt.Sprintf("udp leg x %d", calls), func(b *testing.B) {
		for b.Loop() {
			udp = benchUDP(b, calls, length)
		}
	})
	b.Run(fmt.Sprintf("browser x %d", calls), func(b *testing.B) {
		var rtc float64
		for b.Loop() {
			rtc = benchBrowsers(b, calls, length)
		}
		if udp > 0 {
			b.ReportMetric(rtc/udp, "x-udp")
		}
	})
}

// A source sends recorded packets from a socket.
type source struct {
	conn    net.PacketConn
	to      net.Addr
	packets [][]byte
}

func benchUDP(b *testing.B, calls int, d time.Duration) float64 {
	b.Helper()
	s := set(b, nil)
	clip := tone()
	all := make([]source, calls)
	for i := range all {
		conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
		require.NoError(b, err)
		defer conn.Close()
		leg, err := s.engine.NewLeg(media.LegConfig{})
		require.NoError(b, err)
		leg.Apply(media.Params{Remote: conn.LocalAddr().(*net.UDPAddr).AddrPort(), Accept: [2]int16{0, 8}, Send: true, Recv: true})
		leg.Play(media.Cue{Clip: clip, Loop: true})
		defer leg.Attach(&ear{})()
		all[i] = source{conn: conn, to: net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), leg.LocalPort()))}
		for n := range int(d / (20 * time.Millisecond)) {
			p := make([]byte, 172)
			p[0], p[3], p[2] = 0x80, byte(n), byte(n>>8)
			p[6], p[7] = byte(n*160>>8), byte(n*160)
			all[i].packets = append(all[i].packets, p)
		}
	}
	return replay(b, all)
}

func benchBrowsers(b *testing.B, calls int, d time.Duration) float64 {
	b.Helper()
	s := set(b, func(c *Config) { c.Vanish = time.Minute })
	clip := tone()
	all := make([]source, calls)
	var peers []*Peer
	for i := range all {
		p := s.peer(media.LegConfig{})
		page, w := wired(b)
		page.call(p)
		w.freeze()
		coded := make([]byte, 160)
		for n := range int(d / (20 * time.Millisecond)) {
			page.packet(uint8(pcm.Mu), false, uint32(n*160), coded)
		}
		all[i] = source{conn: w.PacketConn, to: s.udp.LocalAddr(), packets: w.recorded()}
		require.Len(b, all[i].packets, int(d/(20*time.Millisecond)))
		p.Leg().Play(media.Cue{Clip: clip, Loop: true})
		defer p.Leg().Attach(&ear{})()
		peers = append(peers, p)
	}
	cost := replay(b, all)
	for i, p := range peers {
		until(b, "packets came", func() bool { return p.Leg().Stats().Received >= uint64(len(all[i].packets)) })
	}
	return cost
}

// replay sends everything at its time and returns the processor time of a call's
// second in microseconds.
func replay(b *testing.B, all []source) float64 {
	b.Helper()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, used := time.Now(), processorTime(b)
	for n := range all[0].packets {
		time.Sleep(time.Until(began.Add(time.Duration(n) * 20 * time.Millisecond)))
		for _, s := range all {
			_, _ = s.conn.WriteTo(s.packets[n], s.to)
		}
	}
	took, cost := time.Since(began), processorTime(b)-used
	runtime.ReadMemStats(&after)
	packets := float64(2 * len(all) * len(all[0].packets))
	perSecond := float64(cost.Microseconds()) / took.Seconds() / float64(len(all))
	b.ReportMetric(perSecond, "µs/call-s")
	b.ReportMetric(perSecond/50, "µs/pair")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/packets, "allocs/packet")
	b.ReportMetric(0, "ns/op")
	return perSecond
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
