package media

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media/dtmf"
)

// press sends one key as RFC 4733 wants it.
func (p *peer) press(event byte) {
	start := p.ts
	for i := range 8 {
		d := uint16(min(i+1, 6) * 160)
		payload := []byte{event, 10, byte(d >> 8), byte(d)}
		if i >= 5 {
			payload[1] |= 0x80
		}
		p.raw(101, i == 0, start, payload)
		p.ts += 160
		time.Sleep(20 * time.Millisecond)
	}
}

func digits(events []Event) string {
	var b []byte
	for _, e := range events {
		b = append(b, e.Digit)
	}
	return string(b)
}

func TestKeysComeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		s.peer.talk(10, sound20)
		pressed := time.Now()
		s.peer.press(5)
		s.peer.talk(5, sound20)
		got := s.events.of(Digit)
		require.Equal(t, "5", digits(got))
		require.Equal(t, FromRTP, got[0].Source)
		require.LessOrEqual(t, got[0].At.Sub(pressed), 20*time.Millisecond)
		s.peer.press(11)
		s.leg.Press('#', 0) // the same, by INFO
		s.peer.talk(30, sound20)
		s.leg.Press('#', 0) // again, later
		s.leg.Press('x', 0)
		time.Sleep(20 * time.Millisecond)
		got = s.events.of(Digit)
		require.Equal(t, "5##", digits(got))
		require.Equal(t, FromINFO, got[2].Source)
		s.peer.press(11)
		require.Equal(t, "5##", digits(s.events.of(Digit)))
		require.Equal(t, uint64(2), s.stats().DoubledKeys)
	})
}

func TestNoKeysOnHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		p := s.params()
		p.Held, p.Send = true, false
		s.leg.Apply(p)
		s.peer.talk(10, sound20)
		s.peer.press(5)
		s.leg.Press('1', 0)
		time.Sleep(time.Second)
		require.Empty(t, s.events.of(Digit))
	})
}

func TestSendDigitsAsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		clip := ramp(time.Second)
		s.leg.Play(Cue{Seq: 1, Clip: clip})
		time.Sleep(100 * time.Millisecond)
		s.leg.SendDigits(9, "1w#", DigitsAuto)
		time.Sleep(3 * time.Second)
		var rx dtmf.Receiver
		var keys []byte
		var audio []byte
		got := s.peer.got()
		for i, p := range got {
			if i > 0 {
				require.Equal(t, got[i-1].seq+1, p.seq)
				require.LessOrEqual(t, p.at.Sub(got[i-1].at), 20*time.Millisecond)
			}
			if p.pt == 101 {
				if d, ok := rx.Packet(p.seq, p.ts, p.marker, p.payload, p.at.Sub(s.start)); ok {
					keys = append(keys, d)
				}
				continue
			}
			require.Equal(t, got[0].ts+uint32(p.at.Sub(got[0].at)/(125*time.Microsecond)), p.ts)
			audio = append(audio, p.payload...)
		}
		require.Equal(t, "1#", string(keys))
		sent := s.events.of(DigitsSent)
		require.Len(t, sent, 1)
		require.Equal(t, uint64(9), sent[0].Seq)
		require.NoError(t, sent[0].Err)
		ends := s.events.of(PlayEnd)
		require.Len(t, ends, 1)
		require.Equal(t, time.Second, ends[0].Heard, "the prompt waited and went on")
		_ = audio
	})
}

func TestSendDigitsAsTones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		p := s.params()
		p.HasEvent = false
		s.leg.Apply(p)
		time.Sleep(100 * time.Millisecond)
		s.peer.got()
		s.leg.SendDigits(1, "5", DigitsEvents)
		s.leg.SendDigits(2, "5", DigitsAuto)
		s.leg.SendDigits(3, "5?", DigitsAuto)
		time.Sleep(time.Second)
		sent := s.events.of(DigitsSent)
		require.Len(t, sent, 3)
		require.ErrorIs(t, sent[0].Err, ErrNoEvents)
		require.NoError(t, sent[1].Err)
		require.ErrorIs(t, sent[2].Err, dtmf.ErrDigit)
		loud := 0
		for _, g := range s.peer.got() {
			require.Equal(t, uint8(0), g.pt)
			if !quiet(g.payload, 0) {
				loud++
			}
		}
		require.InDelta(t, 5, loud, 1)
		s.leg.Close()
		time.Sleep(20 * time.Millisecond)
		s.leg.SendDigits(4, "5", DigitsAuto)
		require.ErrorIs(t, s.events.of(DigitsSent)[3].Err, ErrClosed)
	})
}

func TestStallWithinAKeyDoesNotDoubleIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		time.Sleep(100 * time.Millisecond)
		s.peer.got()
		begun := time.Now()
		s.leg.SendDigits(1, "27", DigitsEvents)
		time.Sleep(50 * time.Millisecond)
		stall := true
		s.leg.Attach(tapFunc(func(int64, []int16, []int16) {
			if stall {
				stall = false
				time.Sleep(2 * time.Second)
			}
		}))
		time.Sleep(3 * time.Second)
		var r dtmf.Receiver
		var heard []byte
		for _, p := range s.peer.got() {
			if p.pt != 101 {
				continue
			}
			if d, ok := r.Packet(p.seq, p.ts, p.marker, p.payload, p.at.Sub(begun)); ok {
				heard = append(heard, d)
			}
		}
		require.Equal(t, "27", string(heard))
	})
}

// holds sends the packets of a key, one each 20 ms, the last of n with an end bit
// if it is to have an end.
func (p *peer) holds(event byte, n int, end bool) {
	start := p.ts
	for i := range n {
		d := uint16((i + 1) * 160)
		payload := []byte{event, 10, byte(d >> 8), byte(d)}
		if end && i == n-1 {
			payload[1] |= 0x80
		}
		p.raw(101, i == 0, start, payload)
		p.ts += 160
		time.Sleep(20 * time.Millisecond)
	}
}

func TestKeysAreReleased(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(s *stage)
		want string          // d and u with their keys
		ends []time.Duration // since the beginning
	}{
		{"end bit", func(s *stage) { s.peer.holds(5, 150, true) }, "d5 u5", []time.Duration{2980 * time.Millisecond}},
		{"packets cease", func(s *stage) { s.peer.holds(5, 150, false) }, "d5 u5", []time.Duration{3100 * time.Millisecond}},
		{"beginning and end at once", func(s *stage) { s.peer.holds(5, 1, true) }, "d5 u5", []time.Duration{0}},
		{"another key", func(s *stage) { s.peer.holds(5, 5, false); s.peer.holds(6, 5, true) }, "d5 u5 d6 u6", []time.Duration{100 * time.Millisecond, 180 * time.Millisecond}},
		{"pause within the key", func(s *stage) {
			start := s.peer.ts
			for i := range 100 {
				if i < 20 || i >= 40 {
					d := uint16((i + 1) * 160)
					s.peer.raw(101, i == 0, start, []byte{5, 10, byte(d >> 8), byte(d)})
				}
				time.Sleep(20 * time.Millisecond)
			}
		}, "d5 u5 u5", []time.Duration{500 * time.Millisecond, 2100 * time.Millisecond}},
		{"hold", func(s *stage) {
			s.peer.holds(5, 10, false)
			p := s.params()
			p.Held, p.Send = true, false
			s.leg.Apply(p)
			s.peer.holds(5, 10, true)
		}, "d5 u5", []time.Duration{200 * time.Millisecond}},
		{"INFO", func(s *stage) { s.leg.Press('5', 250*time.Millisecond) }, "d5 u5", []time.Duration{250 * time.Millisecond}},
		{"INFO without a time", func(s *stage) { s.leg.Press('5', 0) }, "d5 u5", []time.Duration{0}},
		{"INFO and another", func(s *stage) {
			s.leg.Press('5', 8*time.Second)
			time.Sleep(time.Second)
			s.leg.Press('5', -time.Second)
		}, "d5 u5 d5 u5", []time.Duration{time.Second, time.Second}},
		{"INFO at the release of an RTP key", func(s *stage) { s.peer.holds(5, 150, true); s.leg.Press('5', 3*time.Second) }, "d5 u5", []time.Duration{2980 * time.Millisecond}},
		{"INFO within an RTP key", func(s *stage) {
			time.AfterFunc(time.Second, func() { s.leg.Press('5', 3*time.Second) })
			s.peer.holds(5, 100, true)
		}, "d5 u5", []time.Duration{1980 * time.Millisecond}},
		{"INFO before an RTP key", func(s *stage) { s.leg.Press('5', 0); time.Sleep(20 * time.Millisecond); s.peer.holds(5, 50, true) }, "d5 u5 u5", []time.Duration{0, time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := set(t, nil)
				s.leg.Apply(s.params())
				s.peer.talk(10, sound20)
				begun := time.Now()
				c.do(s)
				time.Sleep(time.Second)
				var got []string
				var ends []time.Duration
				for _, e := range s.events.of(Digit, DigitEnd) {
					require.NotZero(t, e.Source)
					if e.Kind == Digit {
						got = append(got, "d"+string(e.Digit))
						continue
					}
					got = append(got, "u"+string(e.Digit))
					ends = append(ends, e.At.Sub(begun))
				}
				require.Equal(t, c.want, strings.Join(got, " "))
				require.Len(t, ends, len(c.ends))
				for i, at := range ends {
					require.InDelta(t, c.ends[i].Seconds(), at.Seconds(), .025)
				}
			})
		})
	}
}

// Two sources of one far end, the packets of the one mixed with those of the
// other.
func TestKeyOfTwoMixedSources(t *testing.T) {
	for name, order := range map[string][]int{
		"in order":               {0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
		"mixed":                  {0, 2, 5, 1, 6, 3, 7, 4, 8, 9},
		"the later source first": {5, 6, 0, 7, 1, 2, 8, 3, 4, 9},
		"with losses":            {6, 0, 8, 4, 9},
		"doubled":                {5, 0, 0, 5, 1, 5, 6, 1, 6, 9, 4, 9},
		"only ends of the later": {8, 0, 9, 3, 8},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := set(t, nil)
				s.leg.Apply(s.params())
				s.peer.talk(10, sound20)
				first := s.peer.ssrc
				seq, ts := s.peer.seq, s.peer.ts
				for _, i := range order {
					start, ssrc, n := ts, first, seq
					if i >= 5 { // the sender began anew
						start, ssrc, n = ts+1<<30, first+1, seq+20000
					}
					d := uint16(min(i+1, 8) * 160)
					payload := []byte{5, 10, byte(d >> 8), byte(d)}
					if i >= 7 {
						payload[1] |= 0x80
					}
					s.peer.ssrc, s.peer.seq = ssrc, n+uint16(i)
					s.peer.raw(101, i == 0, start, payload)
					time.Sleep(20 * time.Millisecond)
				}
				s.peer.ssrc, s.peer.seq, s.peer.ts = first+1, seq+20000+10, ts+1<<30+10*160
				s.peer.talk(10, sound20)
				require.Equal(t, "5", digits(s.events.of(Digit)))
				s.peer.press(5)
				require.Equal(t, "55", digits(s.events.of(Digit)), "again is again")
				require.LessOrEqual(t, s.stats().Lost, uint64(6))
			})
		})
	}
}

// Timestamps of another source are its own, even if they are the same.
func TestKeyOfANewSourceAtTheSameTimestamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		s.peer.talk(10, sound20)
		want := "5"
		ts := s.peer.ts
		s.peer.press(5)
		for range 4 {
			s.peer.ssrc, s.peer.ts = s.peer.ssrc^1, ts // another, and back again
			s.peer.talk(10, sound20)
			s.peer.ts = ts
			s.peer.press(5)
			want += "5"
			require.Equal(t, want, digits(s.events.of(Digit)))
		}
	})
}

func TestDigitsAreGivenUp(t *testing.T) {
	for _, how := range []DigitMode{DigitsEvents, DigitsTones} {
		synctest.Test(t, func(t *testing.T) {
			s := set(t, nil)
			s.leg.Apply(s.params())
			time.Sleep(100 * time.Millisecond)
			s.leg.SendDigits(1, "12345678", how)
			s.leg.SendDigits(2, "9", how)
			time.Sleep(250 * time.Millisecond) // within the second key
			s.leg.Stop()
			time.Sleep(10 * time.Millisecond)
			require.Empty(t, s.events.of(DigitsSent), "Stop is for prompts")
			s.leg.SendDigits(3, "", how)
			s.leg.SendDigits(4, "0", how)
			begun := time.Now()
			time.Sleep(time.Second)
			sent := s.events.of(DigitsSent)
			require.Len(t, sent, 4)
			for i, want := range []error{ErrStopped, ErrStopped, nil, nil} {
				require.Equal(t, uint64(i+1), sent[i].Seq)
				require.ErrorIs(t, sent[i].Err, want)
			}
			require.LessOrEqual(t, sent[2].At.Sub(begun), 260*time.Millisecond)
			if how == DigitsTones {
				return
			}
			var rx dtmf.Receiver
			var keys []byte
			ends := 0
			for _, p := range s.peer.got() {
				if p.pt != 101 {
					continue
				}
				if p.payload[1]&0x80 != 0 {
					ends++
				}
				if d, ok := rx.Packet(p.seq, p.ts, p.marker, p.payload, p.at.Sub(s.start)); ok {
					keys = append(keys, d)
				}
			}
			require.Equal(t, "120", string(keys))
			require.Equal(t, 9, ends, "no key is left without its end")
		})
	}
}
