package media

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var sound20 = make([]byte, 160)

// second makes another far end that knows the leg's port.
func (s *stage) second(t *testing.T, at netip.AddrPort) *peer {
	t.Helper()
	p := newPeer(t, s.net, at)
	p.to = s.peer.to
	return p
}

func (s *stage) stats() Stats {
	time.Sleep(45 * time.Millisecond)
	return s.leg.Stats()
}

func TestAttackersGetNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		evil := s.second(t, netip.AddrPortFrom(evilIP, 4000))
		heard := &recorder{}
		defer s.leg.Attach(heard)()
		loud := make([]byte, 160) // the loudest sample of mu-law
		for range 100 {
			for range 20 {
				evil.send(loud)
			}
			s.peer.send(pcmuSilence)
			time.Sleep(20 * time.Millisecond)
		}
		require.Empty(t, evil.got())
		require.GreaterOrEqual(t, len(s.peer.got()), 99)
		st := s.stats()
		require.Equal(t, uint64(2000), st.Rejected.Source)
		require.Equal(t, uint64(100), st.Received)
		require.Equal(t, s.peer.at, st.Remote)
		for _, v := range heard.kept().rx {
			require.Zero(t, v)
		}
	})
}

func TestLatchingNeedsFourInSequenceAnd60ms(t *testing.T) {
	for name, c := range map[string]struct {
		from  netip.Addr
		count int
		gap   time.Duration
		skip  int // a sequence number is left out after so many
		after time.Duration
		want  bool
	}{
		"signalling address":        {from: sipIP, count: 4, gap: 20 * time.Millisecond, want: true},
		"allowed network":           {from: netip.MustParseAddr("192.0.2.200"), count: 4, gap: 20 * time.Millisecond, want: true},
		"other port of its address": {from: farIP, count: 4, gap: 20 * time.Millisecond, want: true},
		"stranger":                  {from: evilIP, count: 100, gap: 20 * time.Millisecond},
		"three":                     {from: sipIP, count: 3, gap: 30 * time.Millisecond},
		"in a burst":                {from: sipIP, count: 50, gap: 0},
		"gap in the sequence":       {from: sipIP, count: 6, gap: 20 * time.Millisecond, skip: 3},
		"after the window":          {from: sipIP, count: 50, gap: 20 * time.Millisecond, after: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := set(t, nil)
				p := s.params()
				p.Allowed = []netip.Prefix{netip.MustParsePrefix("192.0.2.128/25")}
				s.leg.Apply(p)
				time.Sleep(c.after + 20*time.Millisecond)
				other := s.second(t, netip.AddrPortFrom(c.from, 4444))
				for i := range c.count {
					if c.skip > 0 && i == c.skip {
						other.seq++
					}
					other.send(sound20)
					time.Sleep(c.gap)
				}
				st := s.stats()
				require.Equal(t, c.want && c.from != farIP, st.Remote == other.at, "%+v", st)
				require.Equal(t, c.want, len(s.events.of(Latched)) == 1)
				require.Equal(t, c.want, len(other.got()) > 0)
			})
		})
	}
}

func TestLatchedSourceIsLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		s.peer.talk(10, sound20)
		require.Len(t, s.events.of(Latched), 1)
		other := s.second(t, netip.AddrPortFrom(sipIP, 4444))
		for range 20 {
			s.peer.send(sound20)
			other.send(sound20)
			time.Sleep(20 * time.Millisecond)
		}
		require.Empty(t, other.got())
		require.Equal(t, s.peer.at, s.stats().Remote)
		// A session refresh keeps what was latched; another address does not.
		s.leg.Apply(s.params())
		for range 20 {
			s.peer.send(sound20)
			other.send(sound20)
			time.Sleep(20 * time.Millisecond)
		}
		require.Empty(t, other.got())
	})
}

func TestRebindToAnotherPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		s.peer.talk(400, sound20) // 8 s: connected by now
		require.True(t, s.stats().Connected)
		moved := s.second(t, netip.AddrPortFrom(farIP, 4010))
		moved.ssrc, moved.seq, moved.ts = s.peer.ssrc, s.peer.seq, s.peer.ts
		gone := time.Now()
		var back time.Duration
		for range 100 {
			moved.send(sound20)
			time.Sleep(20 * time.Millisecond)
			if back == 0 && len(moved.got()) > 0 {
				back = time.Since(gone)
			}
		}
		require.GreaterOrEqual(t, back, 460*time.Millisecond) // the last packet of the old one was 20 ms before
		require.LessOrEqual(t, back, time.Second)
		require.Equal(t, moved.at, s.stats().Remote)
	})
}

func TestRebindNotToAnotherAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		s.peer.talk(300, sound20)
		other := s.second(t, netip.AddrPortFrom(sipIP, 4010))
		other.talk(100, sound20)
		require.Empty(t, other.got())
	})
}

func TestConnectsOnlyToAPeerThatSendsFromWhereItReceives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		s.peer.talk(200, sound20)
		require.False(t, s.stats().Connected, "after 4 s")
		s.peer.talk(75, sound20)
		require.True(t, s.stats().Connected)
		time.Sleep(500 * time.Millisecond)
		require.False(t, s.stats().Connected, "after silence")
		s.peer.talk(300, sound20)
		require.True(t, s.stats().Connected)
		p := s.params()
		next := s.second(t, netip.AddrPortFrom(farIP, 5000))
		p.Remote = next.at
		s.leg.Apply(p)
		require.False(t, s.stats().Connected, "after another answer")
		next.got()
		next.talk(10, sound20)
		require.NotEmpty(t, next.got())
	})
}

func TestPeerThatOnlyReceivesIsNotConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		time.Sleep(10 * time.Second)
		require.False(t, s.stats().Connected)
		require.Greater(t, len(s.peer.got()), 200)
	})
}

func TestNothingIsSentToAPrivateAddressBehindAPublicOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		p := s.params()
		hidden := s.second(t, netip.MustParseAddrPort("10.0.0.5:4000"))
		public := s.second(t, netip.AddrPortFrom(sipIP, 61000))
		p.Remote = hidden.at
		s.leg.Apply(p)
		clip := ramp(200 * time.Millisecond)
		s.leg.Play(Cue{Seq: 1, Clip: clip})
		time.Sleep(time.Second)
		require.Empty(t, hidden.got())
		require.Empty(t, s.events.of(PlayEnd), "the prompt waits for a way")
		public.talk(5, sound20)
		time.Sleep(time.Second)
		require.Empty(t, hidden.got())
		require.Equal(t, bytesOf(clip, 0), heard(public.got())[:1600])
		// A refresh with the same SDP keeps the way.
		s.leg.Apply(p)
		public.talk(10, sound20)
		require.NotEmpty(t, public.got())
		require.Empty(t, hidden.got())
	})
}

func TestNewAnswerMovesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		s.peer.talk(20, sound20)
		s.peer.got()
		next := s.second(t, netip.MustParseAddrPort("198.51.100.99:7000"))
		p := s.params()
		p.Remote = next.at
		s.leg.Apply(p)
		time.Sleep(50 * time.Millisecond)
		require.NotEmpty(t, next.got())
		require.LessOrEqual(t, len(s.peer.got()), 1)
		// The old address is a stranger now.
		before := s.stats().Rejected.Source
		s.peer.send(sound20)
		require.Equal(t, before+1, s.stats().Rejected.Source)
	})
}

func TestStrayDoesNotBeatTheAddressOfTheSDP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		time.Sleep(20 * time.Millisecond)
		stray := s.second(t, netip.AddrPortFrom(farIP, 4444))
		// Both at once: the one that was told wins.
		for range 10 {
			stray.send(sound20)
			s.peer.send(sound20)
			time.Sleep(20 * time.Millisecond)
		}
		require.Empty(t, stray.got())
		require.Equal(t, s.peer.at, s.stats().Remote)
	})
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		time.Sleep(20 * time.Millisecond)
		stray := s.second(t, netip.AddrPortFrom(farIP, 4444))
		stray.talk(20, sound20)
		require.NotEmpty(t, stray.got())
		// It comes late, and takes back what is its own.
		for range 20 {
			stray.send(sound20)
			s.peer.send(sound20)
			time.Sleep(20 * time.Millisecond)
		}
		require.Equal(t, s.peer.at, s.stats().Remote)
		stray.got()
		s.peer.talk(10, sound20)
		require.Empty(t, stray.got())
	})
}

func TestAsymmetricPeerIsHeardAndHears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		time.Sleep(20 * time.Millisecond)
		mouth := s.second(t, netip.AddrPortFrom(farIP, 4444))
		mouth.talk(200, sound20)
		st := s.stats()
		require.Equal(t, s.peer.at, st.Remote, "it receives where it said")
		require.False(t, st.Connected)
		require.Greater(t, st.Received, uint64(190))
		heard, behind := len(s.peer.got()), len(mouth.got())
		require.Greater(t, heard, 190)
		require.Greater(t, behind, 180, "and the port behind a NAT gets the same")
	})
}
