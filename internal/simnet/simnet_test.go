package simnet

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func packet(seq int) []byte {
	p := make([]byte, headerLen+4)
	p[0] = 0x80
	binary.BigEndian.PutUint16(p[2:], uint16(seq))
	binary.BigEndian.PutUint32(p[4:], uint32(seq*160))
	binary.BigEndian.PutUint32(p[8:], 7)
	return p
}

func seqOf(p []byte) uint16  { return binary.BigEndian.Uint16(p[2:]) }
func ssrcOf(p []byte) uint32 { return binary.BigEndian.Uint32(p[8:]) }

// run passes n packets and returns what arrived, in the order of leaving.
func run(c Conditions, n int) ([]Arrival, Counts) {
	s := NewStream(c)
	var all []Arrival
	for i := range n {
		all = append(all, s.Pass(packet(i))...)
	}
	return append(all, s.Flush()...), s.Counts()
}

func TestGoodNetworkChangesNothing(t *testing.T) {
	got, counts := run(Conditions{Seed: 1}, 100)
	require.Len(t, got, 100)
	for i, a := range got {
		require.Equal(t, Arrival{Packet: packet(i)}, a)
	}
	require.Equal(t, Counts{Sent: 100}, counts)
}

func TestSameSeedSameNetwork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		share := rapid.Float64Range(0, 1)
		c := Conditions{
			Seed: rapid.Uint64().Draw(t, "seed"), Loss: share.Draw(t, "loss"), Bursts: Bursts{Begin: share.Draw(t, "begin"), End: share.Draw(t, "end")},
			Delay: 100 * time.Millisecond, Jitter: 100 * time.Millisecond, Duplicate: share.Draw(t, "duplicate"),
			Reorder: share.Draw(t, "reorder"), Corrupt: share.Draw(t, "corrupt"), NewSSRC: rapid.IntRange(0, 60).Draw(t, "ssrc"), NewPort: 30,
		}
		first, counts := run(c, 100)
		again, _ := run(c, 100)
		require.Equal(t, first, again)
		require.Equal(t, 100, counts.Sent)
		require.Len(t, first, 100-counts.Lost+counts.Doubled, "nothing else comes or goes")
		for _, a := range first {
			require.Len(t, a.Packet, headerLen+4)
			require.LessOrEqual(t, a.After, 200*time.Millisecond)
		}
	})
}

func TestLoss(t *testing.T) {
	for _, percent := range []int{1, 5, 10, 20} {
		_, counts := run(Conditions{Seed: 3, Loss: float64(percent) / 100}, 20000)
		require.InDelta(t, 200*percent, counts.Lost, 200)
	}
}

func TestBursts(t *testing.T) {
	got, counts := run(Conditions{Seed: 3, Bursts: Bursts{Begin: .02, End: .25}}, 20000)
	// .02 / (.02 + .25) of the time, four packets at a time.
	require.InDelta(t, 1480, counts.Lost, 200)
	gaps := 0
	for i := 1; i < len(got); i++ {
		if seqOf(got[i].Packet) != seqOf(got[i-1].Packet)+1 {
			gaps++
		}
	}
	require.InDelta(t, float64(counts.Lost)/4, gaps, 60)
}

func TestDisorder(t *testing.T) {
	got, counts := run(Conditions{Seed: 3, Reorder: .1, Duplicate: .05}, 2000)
	require.InDelta(t, 100, counts.Doubled, 40)
	require.Positive(t, counts.Swapped)
	require.False(t, slices.IsSortedFunc(got, func(a, b Arrival) int { return int(seqOf(a.Packet)) - int(seqOf(b.Packet)) }))
	require.Len(t, got, 2000+counts.Doubled)
}

func TestJitterStaysWithinItsBounds(t *testing.T) {
	got, _ := run(Conditions{Seed: 3, Delay: 100 * time.Millisecond, Jitter: 100 * time.Millisecond}, 2000)
	least, most := time.Hour, time.Duration(0)
	for _, a := range got {
		least, most = min(least, a.After), max(most, a.After)
	}
	require.Less(t, least, 5*time.Millisecond)
	require.Greater(t, most, 195*time.Millisecond)
	require.LessOrEqual(t, most, 200*time.Millisecond)
}

func TestCorruptionChangesOneByte(t *testing.T) {
	got, counts := run(Conditions{Seed: 3, Corrupt: 1}, 500)
	require.Equal(t, 500, counts.Damaged)
	for i, a := range got {
		wrong := 0
		for j, b := range packet(i) {
			if a.Packet[j] != b {
				wrong++
			}
		}
		require.Equal(t, 1, wrong)
	}
}

func TestSourceChanges(t *testing.T) {
	got, _ := run(Conditions{Seed: 3, NewSSRC: 10, NewPort: 20}, 30)
	for i, a := range got {
		require.Equal(t, i >= 10, ssrcOf(a.Packet) != 7)
		require.Equal(t, i >= 20, a.Moved)
	}
	require.NotEqual(t, seqOf(got[9].Packet)+1, seqOf(got[10].Packet))
	require.Equal(t, seqOf(got[10].Packet)+1, seqOf(got[11].Packet), "the new source counts on")
	require.NotPanics(t, func() { NewStream(Conditions{NewSSRC: 1, Corrupt: 1}).Pass(nil) })
}

func TestRelay(t *testing.T) {
	home := netip.MustParseAddr("127.0.0.1")
	r, err := NewRelay(home, Conditions{NewPort: 2}, Conditions{Delay: time.Millisecond})
	require.NoError(t, err)
	near, far := end(t), end(t)
	r.Connect(address(near), address(far))
	for _, c := range []struct {
		text string
		from netip.AddrPort
	}{{"one", r.Far()}, {"two", r.Far()}, {"three", address(r.moved)}} {
		write(t, near, c.text, r.Near())
		text, from := read(t, far)
		require.Equal(t, c.text, text)
		require.Equal(t, c.from, from)
	}
	for _, to := range []netip.AddrPort{r.Far(), address(r.moved)} {
		write(t, far, "back", to)
		text, from := read(t, near)
		require.Equal(t, "back", text)
		require.Equal(t, r.Near(), from)
	}
	out, back := r.Counts()
	require.Equal(t, Counts{Sent: 3}, out)
	require.Equal(t, Counts{Sent: 2}, back)
	write(t, far, "under way", r.Far())
	require.NoError(t, r.Close())
}

func end(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetReadDeadline(time.Now().Add(30*time.Second)))
	return c
}

func write(t *testing.T, c *net.UDPConn, text string, to netip.AddrPort) {
	t.Helper()
	_, err := c.WriteToUDPAddrPort([]byte(text), to)
	require.NoError(t, err)
}

func read(t *testing.T, c *net.UDPConn) (string, netip.AddrPort) {
	t.Helper()
	var buf [100]byte
	n, from, err := c.ReadFromUDPAddrPort(buf[:])
	require.NoError(t, err)
	return string(buf[:n]), from
}
