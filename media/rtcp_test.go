package media

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
	"github.com/stretchr/testify/require"
)

// reports returns the RTCP packets that the peer got.
func (p *peer) reports() (all [][]rtcp.Packet) {
	buf := make([]byte, 1500)
	for {
		n, _, err := p.rtcp.Recv(buf)
		if err != nil {
			return all
		}
		packets, err := rtcp.Unmarshal(buf[:n])
		require.NoError(p.t, err)
		all = append(all, packets)
	}
}

func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		for i := range 1500 {
			if i%10 != 0 { // a tenth is lost
				s.peer.send(sound20)
			} else {
				s.peer.seq++
				s.peer.ts += 160
			}
			time.Sleep(20 * time.Millisecond)
		}
		all := s.peer.reports()
		require.Greater(t, len(all), 3)
		require.Less(t, len(all), 14)
		packets := s.peer.got()
		for _, c := range all {
			require.NoError(t, rtcp.CompoundPacket(c).Validate())
		}
		sr, ok := all[len(all)-1][0].(*rtcp.SenderReport)
		require.True(t, ok)
		require.Equal(t, packets[0].ssrc, sr.SSRC)
		require.Len(t, sr.Reports, 1)
		r := sr.Reports[0]
		require.Equal(t, s.peer.ssrc, r.SSRC)
		require.InDelta(t, 25, int(r.FractionLost), 6)
		require.Zero(t, r.Jitter)
		require.Greater(t, r.LastSequenceNumber, uint32(1<<16), "wrapped")
		// The report's RTP time is that of its NTP time.
		sent := packets[0].at.Add(time.Duration(sr.RTPTime-packets[0].ts) * 125 * time.Microsecond)
		at := time.Unix(int64(sr.NTPTime>>32)-ntpEpoch, int64(sr.NTPTime&0xFFFFFFFF*1e9>>32))
		require.WithinDuration(t, sent, at, time.Millisecond)
		st := s.stats()
		require.InDelta(t, 150, int(st.Lost), 2)

		// Their view of us, and the round trip: they answer 100 ms after our report,
		// which is under way for no time at all.
		b, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: s.peer.ssrc, Reports: []rtcp.ReceptionReport{{
			SSRC: sr.SSRC, FractionLost: 64, TotalLost: 77, Jitter: 80,
			LastSenderReport: uint32(sr.NTPTime >> 16), Delay: uint32(time.Since(at) * 65536 / time.Second),
		}}}})
		require.NoError(t, err)
		require.NoError(t, s.peer.rtcp.Send(b, addPort(s.peer.to, 1)))
		time.Sleep(300 * time.Millisecond)
		st = s.stats()
		require.Equal(t, uint32(77), st.RemoteLost)
		require.InDelta(t, 0.25, st.RemoteLossRatio, 0.001)
		require.Equal(t, 10*time.Millisecond, st.RemoteJitter)
		require.Less(t, st.RTT, time.Millisecond)

		s.peer.reports()
		s.leg.Close()
		time.Sleep(20 * time.Millisecond)
		last := s.peer.reports()
		require.Len(t, last, 1)
		require.IsType(t, &rtcp.Goodbye{}, last[0][2])
	})
}

func TestBadRTCPHarmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		bye, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{}, &rtcp.Goodbye{Sources: []uint32{s.peer.ssrc}}})
		require.NoError(t, err)
		for _, b := range [][]byte{{}, {1}, make([]byte, 400), {0x80, 200, 0xFF, 0xFF, 0, 0, 0, 0}, {0x9F, 201, 0, 1, 1, 2, 3, 4}, bye} {
			require.NoError(t, s.peer.rtcp.Send(b, addPort(s.peer.to, 1)))
			time.Sleep(250 * time.Millisecond)
		}
		s.peer.talk(20, sound20)
		require.Greater(t, len(s.peer.got()), 50)
		require.Empty(t, s.events.of(Crashed))
		require.NotZero(t, s.stats().Rejected.Malformed)
	})
}

func TestMultiplexedRTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		p := s.params()
		p.RTCP = p.Remote
		s.leg.Apply(p)
		b, err := rtcp.Marshal([]rtcp.Packet{&rtcp.SenderReport{SSRC: s.peer.ssrc}})
		require.NoError(t, err)
		require.NoError(t, s.peer.port.Send(b, s.peer.to))
		time.Sleep(9 * time.Second)
		require.Zero(t, s.stats().Received)
		require.Empty(t, s.peer.reports())
		buf := make([]byte, 1500)
		reports := 0
		for {
			n, _, err := s.peer.port.Recv(buf)
			if err != nil {
				break
			}
			if buf[1] == 200 && n > 28 {
				reports++
			}
		}
		require.NotZero(t, reports)
	})
}
