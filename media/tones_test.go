package media

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media/dtmf"
	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/media/vad"
)

// deaf are parameters of a far end that takes no telephone-events.
func (s *stage) deaf() Params {
	p := s.params()
	p.HasEvent = false
	return p
}

// sounds sends sound, a packet each 20 ms, without those that lost names.
func (p *peer) sounds(sound []int16, lost ...int) {
	coded := make([]byte, len(sound))
	pcm.Mu.Encode(coded, sound)
	for i := 0; i+160 <= len(coded); i += 160 {
		gone := false
		for _, n := range lost {
			gone = gone || n == i/160
		}
		if gone {
			p.seq++
			p.ts += 160
		} else {
			p.send(coded[i : i+160])
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// tone is the sound of keys.
func tone(digits string, on, gap time.Duration) []int16 {
	x, _ := dtmf.Tones(digits, on, gap)
	return append(x, make([]int16, 8000-len(x)%160)...)
}

// told writes presses and releases.
func told(t *testing.T, events []Event, from DigitSource) string {
	t.Helper()
	var out []string
	for _, e := range events {
		require.Equal(t, from, e.Source)
		out = append(out, map[Kind]string{Digit: "d", DigitEnd: "u"}[e.Kind]+string(e.Digit))
	}
	return strings.Join(out, " ")
}

func TestKeysInTheSound(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name string
		do   func(s *stage)
		want string
	}{
		{"fast", func(s *stage) { s.peer.sounds(tone("15*D", 40*ms, 40*ms)) }, "d1 u1 d5 u5 d* u* dD uD"},
		{"one key again", func(s *stage) { s.peer.sounds(tone("55", 50*ms, 50*ms)) }, "d5 u5 d5 u5"},
		{"held", func(s *stage) { s.peer.sounds(tone("5", 3*time.Second, 40*ms)) }, "d5 u5"},
		{"loss within a key", func(s *stage) { s.peer.sounds(tone("5", 300*ms, 40*ms), 4, 5, 6, 9) }, "d5 u5"},
		{"loss of the end", func(s *stage) { s.peer.sounds(tone("57", 100*ms, 60*ms), 4) }, "d5 u5 d7 u7"},
		{"nothing sent between keys", func(s *stage) {
			for range 3 {
				s.peer.sounds(tone("5", 100*ms, 40*ms)[:800])
				time.Sleep(time.Second)
				s.peer.ts += 8000
			}
		}, "d5 u5 d5 u5 d5 u5"},
		{"A-law", func(s *stage) {
			sound := tone("9", 100*ms, 40*ms)
			coded := make([]byte, len(sound))
			pcm.A.Encode(coded, sound)
			s.peer.pt = 8
			for i := 0; i+160 <= len(coded); i += 160 {
				s.peer.send(coded[i : i+160])
				time.Sleep(20 * ms)
			}
		}, "d9 u9"},
		{"packets of 60 ms", func(s *stage) {
			sound := tone("12", 60*ms, 60*ms)
			coded := make([]byte, len(sound))
			pcm.Mu.Encode(coded, sound)
			for i := 0; i+480 <= len(coded); i += 480 {
				s.peer.send(coded[i : i+480])
				time.Sleep(60 * ms)
			}
		}, "d1 u1 d2 u2"},
		{"another source within a key", func(s *stage) {
			x := dtmf.Tone('5', 200*ms)
			s.peer.sounds(x[:800])
			s.peer.ssrc, s.peer.seq, s.peer.ts = 77, 9, 1<<30
			s.peer.sounds(append(x[800:], make([]int16, 1600)...))
		}, "d5 u5"},
		{"on hold", func(s *stage) {
			p := s.deaf()
			p.Held, p.Send = true, false
			s.leg.Apply(p)
			s.peer.sounds(tone("123", 100*ms, 100*ms))
			s.leg.Apply(s.deaf())
			time.Sleep(20 * ms)
			s.peer.sounds(tone("4", 100*ms, 100*ms))
		}, "d4 u4"},
		{"telephone-event agreed", func(s *stage) {
			s.leg.Apply(s.params())
			s.peer.sounds(tone("123", 100*ms, 100*ms))
		}, ""},
		{"echo of ours", func(s *stage) {
			s.leg.SendDigits(1, "123", DigitsAuto)
			time.Sleep(50 * ms)
			s.peer.sounds(tone("123", 100*ms, 100*ms))
			s.peer.sounds(tone("4", 100*ms, 100*ms))
		}, "d4 u4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := set(t, nil)
				s.leg.Apply(s.deaf())
				s.peer.talk(10, bytesOf(ramp(20*ms), pcm.Mu))
				c.do(s)
				time.Sleep(time.Second)
				require.Equal(t, c.want, told(t, s.events.of(Digit, DigitEnd), FromTone))
			})
		})
	}
}

func TestKeyInTheSoundIsToldSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.deaf())
		s.peer.talk(10, sound20)
		begun := time.Now()
		s.peer.sounds(dtmf.Tone('5', time.Second))
		time.Sleep(time.Second) // nothing is sent any more
		got := s.events.of(Digit, DigitEnd)
		require.Equal(t, "d5 u5", told(t, got, FromTone))
		require.LessOrEqual(t, got[0].At.Sub(begun), 60*time.Millisecond)
		require.InDelta(t, 1.2, got[1].At.Sub(begun).Seconds(), .04)
	})
}

// A key that comes by two ways is one key, whichever is first.
func TestKeyInTheSoundAndByINFO(t *testing.T) {
	for _, c := range []struct {
		name   string
		first  time.Duration // of INFO, after the tone's beginning
		source DigitSource
	}{
		{"INFO first", 0, FromINFO},
		{"INFO within the tone", 150 * time.Millisecond, FromTone},
		{"INFO after the tone", 700 * time.Millisecond, FromTone},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := set(t, nil)
				s.leg.Apply(s.deaf())
				s.peer.talk(10, sound20)
				time.AfterFunc(c.first, func() { s.leg.Press('5', 100*time.Millisecond) })
				s.peer.sounds(append(dtmf.Tone('5', 400*time.Millisecond), make([]int16, 8000)...))
				got := s.events.of(Digit)
				require.Equal(t, "5", digits(got))
				require.Equal(t, c.source, got[0].Source)
				require.Equal(t, uint64(1), s.stats().DoubledKeys)
				s.peer.sounds(append(dtmf.Tone('5', 100*time.Millisecond), make([]int16, 8000)...))
				require.Equal(t, "55", digits(s.events.of(Digit)), "again is again")
			})
		})
	}
}

// A tone is neither speech nor to be recorded.
func TestToneIsNoSpeech(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, func(c *LegConfig) { c.VAD = vad.Default() })
		s.leg.Apply(s.deaf())
		var mu sync.Mutex
		var heard []int16
		s.leg.Attach(tapFunc(func(_ int64, rx, _ []int16) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, rx...)
		}))
		for _, d := range "0123456789*#ABCD" {
			s.peer.sounds(append(dtmf.Tone(byte(d), 600*time.Millisecond), make([]int16, 1600)...))
		}
		time.Sleep(time.Second)
		require.Len(t, s.events.of(Digit), 16)
		require.Empty(t, s.events.of(SpeechStart, SpeechConfirm, SpeechEnd))
		mu.Lock()
		defer mu.Unlock()
		loud := 0
		for i := 0; i+80 <= len(heard); i += 80 {
			if pcm.Level(heard[i:i+80]) > -40 {
				loud++
			}
		}
		require.LessOrEqual(t, loud, 16*2, "20 ms of each key at most")
	})
}

// A joined far end that takes telephone-events gets them for tones, and none of
// the tones; one that does not gets one tone.
func TestJoinPassesTonesOn(t *testing.T) {
	for name, hasEvent := range map[string]bool{"as events": true, "as tones": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := set(t, nil)
				s.leg.Apply(s.deaf())
				other, far, _ := s.pair(t, func(p *Params) { p.HasEvent = hasEvent })
				s.peer.talk(10, sound20)
				far.talk(10, sound20)
				Join(s.leg, other)
				time.Sleep(100 * time.Millisecond)
				far.got()
				begun := time.Now()
				s.peer.sounds(tone("5", 300*time.Millisecond, 200*time.Millisecond))
				s.peer.sounds(tone("5", 300*time.Millisecond, 200*time.Millisecond))
				require.Equal(t, "d5 u5 d5 u5", told(t, s.events.of(Digit, DigitEnd), FromTone))
				var rx dtmf.Receiver
				var ears dtmf.Inband
				var events, tones []byte
				for _, p := range far.got() {
					if p.pt == 101 {
						if d, ok := rx.Packet(p.seq, p.ts, p.marker, p.payload, p.at.Sub(begun)); ok {
							events = append(events, d)
						}
						continue
					}
					x := make([]int16, len(p.payload))
					for pcm.Mu.Decode(x, p.payload); len(x) > 0; {
						n, key := ears.Frame(x)
						x = x[n:]
						if key.Down {
							tones = append(tones, key.Digit)
						}
					}
				}
				if hasEvent {
					require.Equal(t, "55", string(events))
					require.Empty(t, tones)
				} else {
					require.Empty(t, events)
					require.Equal(t, "55", string(tones))
				}
			})
		})
	}
}
