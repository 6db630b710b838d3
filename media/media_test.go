package media

import (
	"encoding/binary"
	"math"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	ourIP  = netip.MustParseAddr("192.0.2.1")
	farIP  = netip.MustParseAddr("198.51.100.7")
	evilIP = netip.MustParseAddr("203.0.113.66")
	sipIP  = netip.MustParseAddr("198.51.100.1")
)

// A journal keeps events.
type journal struct {
	mu  sync.Mutex
	all []Event
}

func (l *journal) Post(e Event) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, e)
	return true
}

func (l *journal) of(kinds ...Kind) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Event
	for _, e := range l.all {
		for _, k := range kinds {
			if e.Kind == k {
				out = append(out, e)
			}
		}
	}
	return out
}

// An rtpPacket is what a peer got.
type rtpPacket struct {
	header
	pt   uint8
	at   time.Time
	from netip.AddrPort
}

// A peer is a far end on the memory network.
type peer struct {
	t    *testing.T
	port Port
	rtcp Port
	at   netip.AddrPort
	to   netip.AddrPort
	seq  uint16
	ts   uint32
	ssrc uint32
	pt   uint8
}

func newPeer(t *testing.T, n *MemoryNetwork, at netip.AddrPort) *peer {
	t.Helper()
	rtp, err := n.Listen(at)
	require.NoError(t, err)
	rtcp, err := n.Listen(netip.AddrPortFrom(at.Addr(), at.Port()+1))
	require.NoError(t, err)
	return &peer{t: t, port: rtp, rtcp: rtcp, at: at, ssrc: 0x1234, seq: 65530, ts: math.MaxUint32 - 500}
}

// got returns what has come since the last call.
func (p *peer) got() []rtpPacket {
	p.t.Helper()
	var out []rtpPacket
	for {
		buf := make([]byte, 1500)
		n, from, err := p.port.Recv(buf)
		if err != nil {
			return out
		}
		h, ok := parse(buf[:n])
		require.True(p.t, ok)
		at, _ := p.port.(stamper).Stamp()
		out = append(out, rtpPacket{header: h, pt: h.kind, at: at, from: from})
	}
}

// send sends one packet of sound.
func (p *peer) send(payload []byte) {
	p.raw(p.pt, false, p.ts, payload)
	p.ts += uint32(len(payload))
}

func (p *peer) raw(pt uint8, marker bool, ts uint32, payload []byte) {
	b := make([]byte, 12, 12+len(payload))
	b[0], b[1] = 0x80, pt
	if marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], p.seq)
	binary.BigEndian.PutUint32(b[4:], ts)
	binary.BigEndian.PutUint32(b[8:], p.ssrc)
	p.seq++
	require.NoError(p.t, p.port.Send(append(b, payload...), p.to))
}

// talk sends n packets of 20 ms, one each 20 ms.
func (p *peer) talk(n int, sound []byte) {
	for range n {
		p.send(sound)
		time.Sleep(20 * time.Millisecond)
	}
}

// A stage is a leg with a far end in a bubble.
type stage struct {
	net    *MemoryNetwork
	ports  *PortRange
	engine *Engine
	leg    *Leg
	peer   *peer
	events *journal
	start  time.Time
}

func set(t *testing.T, change func(*LegConfig)) *stage {
	t.Helper()
	s := &stage{net: NewMemoryNetwork(), events: &journal{}}
	s.ports = MemoryPorts(s.net, ourIP, 20000, 20099, time.Second)
	s.engine = NewEngine(EngineConfig{Shards: 2, Ports: s.ports})
	t.Cleanup(func() {
		s.engine.Close()
		require.NoError(t, s.ports.Close())
	})
	c := LegConfig{Events: s.events}
	if change != nil {
		change(&c)
	}
	var err error
	s.leg, err = s.engine.NewLeg(c)
	require.NoError(t, err)
	s.peer = newPeer(t, s.net, netip.AddrPortFrom(farIP, 4000))
	s.peer.to = netip.AddrPortFrom(ourIP, s.leg.LocalPort())
	time.Sleep(time.Millisecond) // between the slots, so that nothing happens at once with them
	s.start = time.Now()
	return s
}

func (s *stage) params() Params {
	return Params{
		Remote: s.peer.at, RTCP: netip.AddrPortFrom(s.peer.at.Addr(), s.peer.at.Port()+1), Signalling: sipIP,
		Accept: [2]int16{0, 8}, Event: 101, HasEvent: true, Send: true, Recv: true,
	}
}

// ramp is a clip without two equal neighbours, so that order shows.
func ramp(d time.Duration) *pcm.Clip {
	c := pcm.NewClip(pcm.Mu)
	sound := make([]int16, samples(d))
	for i := range sound {
		sound[i] = int16(8000 * math.Sin(float64(i)/7))
	}
	_ = c.Append(sound)
	c.Close(nil)
	return c
}

func bytesOf(c *pcm.Clip, law pcm.Law) []byte {
	b := make([]byte, c.Len())
	c.Read(0, b, law)
	return b
}

func TestFirstPlay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		clip := ramp(time.Second)
		s.leg.Play(Cue{Seq: 7, Clip: clip})
		time.Sleep(2 * time.Second)
		got := s.peer.got()
		require.InDelta(t, 100, len(got), 1)
		var sound []byte
		for i, p := range got {
			if i > 0 {
				require.Equal(t, 20*time.Millisecond, p.at.Sub(got[i-1].at))
				require.Equal(t, got[i-1].seq+1, p.seq)
				require.Equal(t, got[i-1].ts+160, p.ts)
				require.Equal(t, got[0].ssrc, p.ssrc)
			}
			require.Equal(t, i == 0, p.marker)
			sound = append(sound, p.payload...)
		}
		require.Equal(t, bytesOf(clip, pcm.Mu), sound[:8000])
		ends := s.events.of(PlayStart, PlayEnd)
		require.Len(t, ends, 2)
		require.Equal(t, got[0].at, ends[0].At)
		require.Equal(t, Event{Kind: PlayEnd, Seq: 7, Why: Done, Heard: time.Second, At: got[49].at}, ends[1])
	})
}

func addPort(a netip.AddrPort, n uint16) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr(), a.Port()+n)
}

func nopLog() *zap.Logger { return zap.NewNop() }
