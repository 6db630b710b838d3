package media

import (
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
		s.leg.Digit('#') // the same, by INFO
		s.peer.talk(30, sound20)
		s.leg.Digit('#') // again, later
		s.leg.Digit('x')
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
		s.leg.Digit('1')
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
