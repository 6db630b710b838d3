package media

import (
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPortsRunOutAndComeBackAfterQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewMemoryNetwork()
		ports := MemoryPorts(n, ourIP, 20001, 20021, 30*time.Second)
		require.Equal(t, 10, ports.Free())
		e := NewEngine(EngineConfig{Shards: 1, Ports: ports})
		defer e.Close()
		var legs []*Leg
		seen := map[uint16]bool{}
		for range 10 {
			l, err := e.NewLeg(LegConfig{})
			require.NoError(t, err)
			require.Zero(t, l.LocalPort()%2)
			require.False(t, seen[l.LocalPort()])
			seen[l.LocalPort()] = true
			legs = append(legs, l)
		}
		_, err := e.NewLeg(LegConfig{})
		require.ErrorIs(t, err, ErrNoPorts)
		require.Zero(t, ports.Free())

		legs[3].Close()
		time.Sleep(29 * time.Second)
		_, err = e.NewLeg(LegConfig{})
		require.ErrorIs(t, err, ErrNoPorts, "in quarantine")
		_, err = n.Listen(netip.AddrPortFrom(ourIP, legs[3].LocalPort()))
		require.ErrorIs(t, err, syscall.EADDRINUSE, "still bound")
		time.Sleep(3 * time.Second)
		l, err := e.NewLeg(LegConfig{})
		require.NoError(t, err)
		require.Equal(t, legs[3].LocalPort(), l.LocalPort())
	})
}

func TestQuarantineLastsWhilePacketsCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewMemoryNetwork()
		ports := MemoryPorts(n, ourIP, 20000, 20001, 10*time.Second)
		defer ports.Close()
		rtp, rtcp, err := ports.Open()
		require.NoError(t, err)
		at := netip.AddrPortFrom(ourIP, rtp.LocalPort())
		far, err := n.Listen(netip.AddrPortFrom(farIP, 4000))
		require.NoError(t, err)
		require.NoError(t, rtp.Close())
		require.Zero(t, ports.Free(), "RTCP is still open")
		require.NoError(t, rtcp.Close())
		require.NoError(t, rtcp.Close())
		for range 60 {
			require.NoError(t, far.Send([]byte("late"), at))
			time.Sleep(time.Second)
		}
		require.Zero(t, ports.Free())
		time.Sleep(11 * time.Second)
		require.Equal(t, 1, ports.Free())

		rtp, rtcp, err = ports.Open()
		require.NoError(t, err)
		_, _, err = rtp.Recv(make([]byte, 100))
		require.ErrorIs(t, err, ErrWouldBlock, "nothing of the old stream")
		rtp.Close()
		rtcp.Close()
		for range 205 {
			require.NoError(t, far.Send([]byte("late"), at))
			time.Sleep(time.Second)
		}
		require.Equal(t, 1, ports.Free(), "at most 20 times as long")
	})
}

func TestUDPPorts(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "::1", "0.0.0.0", "::"} {
		t.Run(ip, func(t *testing.T) {
			ports := UDPPorts(netip.MustParseAddr(ip), 31000, 31199, 0)
			a, ar, err := ports.Open()
			if err != nil && ip[0] == ':' {
				t.Skip("no IPv6 here")
			}
			require.NoError(t, err)
			b, br, err := ports.Open()
			require.NoError(t, err)
			require.Equal(t, a.LocalPort()+1, ar.LocalPort())
			home := netip.MustParseAddr("127.0.0.1")
			if ip == "::1" {
				home = netip.MustParseAddr("::1")
			}
			to := func(p Port) netip.AddrPort { return netip.AddrPortFrom(home, p.LocalPort()) }
			buf := make([]byte, 100)

			_, _, err = b.Recv(buf)
			require.ErrorIs(t, err, ErrWouldBlock)
			require.NoError(t, a.Send([]byte("one"), to(b)))
			n, from, err := b.Recv(buf)
			require.NoError(t, err)
			require.Equal(t, "one", string(buf[:n]))
			require.Equal(t, to(a), from)
			stamp, ok := b.(stamper).Stamp()
			require.True(t, ok)
			require.WithinDuration(t, time.Now(), stamp, 10*time.Second)

			// Connected, b hears only a, and needs no address.
			require.NoError(t, b.Connect(to(a)))
			require.NoError(t, b.Send([]byte("two"), netip.AddrPort{}))
			n, from, err = a.Recv(buf)
			require.NoError(t, err)
			require.Equal(t, "two", string(buf[:n]))
			require.Equal(t, to(b), from)
			require.NoError(t, ar.Send([]byte("stray"), to(b)))
			_, _, err = b.Recv(buf)
			require.ErrorIs(t, err, ErrWouldBlock)

			require.NoError(t, b.Connect(netip.AddrPort{}))
			require.NoError(t, ar.Send([]byte("again"), to(b)))
			n, from, err = b.Recv(buf)
			require.NoError(t, err, "the port is kept over disconnecting")
			require.Equal(t, "again", string(buf[:n]))
			require.Equal(t, to(ar), from)
			for _, p := range []Port{a, ar, b, br} {
				require.NoError(t, p.Close())
			}
			require.Equal(t, 100, ports.Free())
		})
	}
}

func TestUDPPortsSkipsThoseOfOthers(t *testing.T) {
	home := netip.MustParseAddr("127.0.0.1")
	other := UDPPorts(home, 31300, 31301, 0)
	rtp, rtcp, err := other.Open()
	require.NoError(t, err)
	ports := UDPPorts(home, 31300, 31303, 0)
	mine, mineRTCP, err := ports.Open()
	require.NoError(t, err)
	require.Equal(t, uint16(31302), mine.LocalPort())
	_, _, err = ports.Open()
	require.ErrorIs(t, err, ErrNoPorts)
	for _, p := range []Port{rtp, rtcp, mine, mineRTCP} {
		require.NoError(t, p.Close())
	}
	_, _, err = UDPPorts(netip.MustParseAddr("192.0.2.1"), 31300, 31303, 0).Open()
	require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
	require.NotErrorIs(t, err, ErrNoPorts)
}

func TestConnectedUDPPortReportsICMPAndGoesOn(t *testing.T) {
	home := netip.MustParseAddr("127.0.0.1")
	ports := UDPPorts(home, 31400, 31403, 0)
	a, ar, err := ports.Open()
	require.NoError(t, err)
	require.NoError(t, a.Connect(netip.AddrPortFrom(home, 31499)))
	require.NoError(t, a.Send([]byte("x"), netip.AddrPort{}))
	_, _, err = a.Recv(make([]byte, 10))
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	_, _, err = a.Recv(make([]byte, 10))
	require.ErrorIs(t, err, ErrWouldBlock)
	require.NoError(t, a.Close())
	require.NoError(t, ar.Close())
}
