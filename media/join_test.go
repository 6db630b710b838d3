package media

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media/dtmf"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// pair adds another leg with its own far end to a stage.
func (s *stage) pair(t *testing.T, change func(*Params)) (*Leg, *peer, *journal) {
	t.Helper()
	events := &journal{}
	l, err := s.engine.NewLeg(LegConfig{Events: events})
	require.NoError(t, err)
	p := newPeer(t, s.net, netip.MustParseAddrPort("198.51.100.20:6000"))
	p.to = netip.AddrPortFrom(ourIP, l.LocalPort())
	p.ssrc = 0x9999
	params := s.params()
	params.Remote, params.RTCP = p.at, addPort(p.at, 1)
	if change != nil {
		change(&params)
	}
	l.Apply(params)
	return l, p, events
}

func TestJoinCarriesSoundBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		other, far, _ := s.pair(t, func(p *Params) {
			p.Law, p.PayloadType = pcm.A, 8
		})
		far.pt = 8
		time.Sleep(100 * time.Millisecond)
		stop := Join(s.leg, other)
		time.Sleep(50 * time.Millisecond)
		mu, a := bytesOf(ramp(2*time.Second), pcm.Mu), bytesOf(ramp(2*time.Second), pcm.A)
		for i := range 100 {
			s.peer.send(mu[i*160 : i*160+160])
			far.send(a[i*160 : i*160+160])
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond)
		for _, c := range []struct {
			name string
			got  []rtpPacket
			want []byte
			law  pcm.Law
		}{{"to a-law", far.got(), a, pcm.A}, {"to mu-law", s.peer.got(), mu, pcm.Mu}} {
			var sound []byte
			for i, g := range c.got {
				if i > 0 {
					require.Equal(t, c.got[i-1].seq+1, g.seq, c.name)
					require.Equal(t, c.got[i-1].ts+160, g.ts, c.name)
					require.Equal(t, c.got[0].ssrc, g.ssrc, c.name)
					require.NotEqual(t, uint32(0x1234), g.ssrc)
					require.NotEqual(t, uint32(0x9999), g.ssrc)
				}
				if !quiet(g.payload, c.law) || len(sound) > 0 {
					sound = append(sound, g.payload...)
				}
			}
			want := make([]byte, len(c.want))
			pcm.Transcode(want, map[pcm.Law][]byte{pcm.A: mu, pcm.Mu: a}[c.law], c.law^1, c.law)
			require.Equal(t, want, sound[:len(want)], c.name)
		}
		stop()
		stop()
		time.Sleep(50 * time.Millisecond)
		far.got()
		s.peer.talk(20, mu[:160])
		require.True(t, quiet(heard(far.got()), pcm.A))
	})
}

func TestJoinPassesKeysOn(t *testing.T) {
	for name, hasEvent := range map[string]bool{"as events": true, "as tones": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := set(t, nil)
				s.leg.Apply(s.params())
				other, far, _ := s.pair(t, func(p *Params) { p.Event, p.HasEvent = 96, hasEvent })
				defer Join(s.leg, other)()
				time.Sleep(50 * time.Millisecond)
				s.peer.talk(20, pcmuSilence)
				far.got()
				s.peer.press(7)
				s.peer.talk(10, pcmuSilence)
				s.peer.press(7)
				s.peer.talk(10, pcmuSilence)
				s.leg.Press('8', 0)
				s.peer.talk(30, pcmuSilence)
				require.Equal(t, "778", digits(s.events.of(Digit)))
				var rx dtmf.Receiver
				var keys []byte
				loud := 0
				for _, g := range far.got() {
					if g.pt == 96 {
						if d, ok := rx.Packet(g.seq, g.ts, g.marker, g.payload, g.at.Sub(s.start)); ok {
							keys = append(keys, d)
						}
					} else if !quiet(g.payload, pcm.Mu) {
						loud++
					}
				}
				if hasEvent {
					require.Equal(t, "778", string(keys))
					require.Zero(t, loud)
				} else {
					require.Empty(t, keys)
					require.InDelta(t, 15, loud, 3)
				}
			})
		})
	}
}

func TestJoinEndsWithEitherLeg(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		other, far, _ := s.pair(t, nil)
		stop := Join(s.leg, other)
		time.Sleep(50 * time.Millisecond)
		other.Close()
		time.Sleep(50 * time.Millisecond)
		s.peer.talk(20, sound20)
		s.leg.Play(Cue{Seq: 1, Clip: ramp(100 * time.Millisecond)})
		time.Sleep(200 * time.Millisecond)
		require.Len(t, s.events.of(PlayEnd), 1)
		stop()
		far.got()
		// Joining what is gone does nothing.
		Join(s.leg, other)()
		Join(other, s.leg)()
		Join(s.leg, s.leg)()
		time.Sleep(50 * time.Millisecond)
		s.leg.Play(Cue{Seq: 2, Clip: ramp(100 * time.Millisecond)})
		time.Sleep(200 * time.Millisecond)
		require.Len(t, s.events.of(PlayEnd), 2)
	})
}

func TestPromptGoesBeforeThePartner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		other, far, events := s.pair(t, nil)
		defer Join(s.leg, other)()
		s.peer.talk(20, sound20)
		far.got()
		clip := ramp(100 * time.Millisecond)
		other.Play(Cue{Seq: 1, Clip: clip})
		s.peer.talk(20, sound20)
		require.Len(t, events.of(PlayEnd), 1)
		require.Contains(t, string(heard(far.got())), string(bytesOf(clip, pcm.Mu)))
	})
}

// TestJoinsAtRandom joins, separates and closes legs of several shards, from
// several goroutines. Whatever happens, what lives sends 50 packets a second.
func TestJoinsAtRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewMemoryNetwork()
		e := NewEngine(EngineConfig{Shards: 4, Ports: MemoryPorts(n, ourIP, 20000, 20099, 0)})
		defer e.Close()
		var legs []*Leg
		var peers []*peer
		for i := range 8 {
			l, err := e.NewLeg(LegConfig{})
			require.NoError(t, err)
			p := newPeer(t, n, netip.AddrPortFrom(farIP, uint16(4000+2*i)))
			p.to = netip.AddrPortFrom(ourIP, l.LocalPort())
			l.Apply(Params{Remote: p.at, Accept: [2]int16{0, 8}, Event: 101, HasEvent: true, Send: true, Recv: true})
			legs, peers = append(legs, l), append(peers, p)
		}
		var work sync.WaitGroup
		for range 4 {
			work.Go(func() {
				for range 200 {
					stop := Join(legs[rand.IntN(8)], legs[rand.IntN(8)])
					legs[rand.IntN(8)].Press('5', 0)
					time.Sleep(rand.N(30 * time.Millisecond))
					if rand.IntN(2) == 0 {
						stop()
					}
				}
			})
		}
		for range 100 {
			for _, p := range peers {
				p.send(sound20)
			}
			time.Sleep(20 * time.Millisecond)
		}
		work.Wait()
		time.Sleep(time.Second)
		for _, p := range peers {
			p.got()
		}
		legs[3].Close()
		time.Sleep(time.Second + time.Millisecond)
		for i, p := range peers {
			if i != 3 {
				require.InDelta(t, 50, len(p.got()), 8, "keys take the place of audio")
			}
		}
		for i, l := range legs {
			require.Equal(t, i == 3, l.Stats().Closed)
		}
		total := int32(0)
		for _, s := range e.shards {
			for i := range s.load {
				total += s.load[i].Load()
			}
		}
		require.Equal(t, int32(7), total)
	})
}
