package media

import (
	"bytes"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/media/vad"
)

var pcmuSilence = bytes.Repeat([]byte{0xFF}, 160)

// A recorder is a tap that keeps what it hears.
type recorder struct {
	mu     sync.Mutex
	at     []int64
	rx, tx []int16
}

func (r *recorder) Frame(at int64, rx, tx []int16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = append(r.at, at)
	r.rx = append(r.rx, rx...)
	r.tx = append(r.tx, tx...)
}

// kept is a copy of what was heard so far.
func (r *recorder) kept() *recorder {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &recorder{at: slices.Clone(r.at), rx: slices.Clone(r.rx), tx: slices.Clone(r.tx)}
}

func TestSilentEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, func(c *LegConfig) { c.FirstSilence, c.Silence = 3*time.Second, time.Second })
		s.leg.Apply(s.params())
		time.Sleep(2950 * time.Millisecond)
		require.Empty(t, s.events.of(Silent))
		time.Sleep(100 * time.Millisecond)
		require.Len(t, s.events.of(Silent), 1)
		s.peer.talk(50, sound20)
		require.Len(t, s.events.of(Silent), 1)
		time.Sleep(1010 * time.Millisecond)
		require.Len(t, s.events.of(Silent), 2)
		p := s.params()
		p.Held, p.Send = true, false
		s.leg.Apply(p)
		time.Sleep(time.Minute)
		require.Len(t, s.events.of(Silent), 2, "on hold nothing is expected")
		s.leg.Apply(s.params())
		time.Sleep(3100 * time.Millisecond)
		require.Len(t, s.events.of(Silent), 3)
	})
}

// voice is a sound that the detector takes for speech: harmonics of 120 Hz in
// syllables.
func voice(d time.Duration) []byte {
	sound := make([]int16, samples(d))
	for i := range sound {
		x := 2 * math.Pi * float64(i) / 8000
		v := 0.0
		for h := 1.0; h <= 12; h++ {
			v += math.Sin(120*h*x) / h
		}
		sound[i] = int16(5000 * v * (0.6 + 0.4*math.Sin(4*x)))
	}
	coded := make([]byte, len(sound))
	pcm.Mu.Encode(coded, sound)
	return coded
}

func decoded(coded []byte) []int16 {
	out := make([]int16, len(coded))
	pcm.Mu.Decode(out, coded)
	return out
}

// find is where part begins in all, -1 where it is not.
func find(all, part []int16) int {
	for i := range len(all) - len(part) + 1 {
		if slices.Equal(all[i:i+len(part)], part) {
			return i
		}
	}
	return -1
}

func TestTapHearsBothDirectionsInLine(t *testing.T) {
	for _, size := range []int{80, 160, 240, 400, 480, 960} {
		synctest.Test(t, func(t *testing.T) {
			s := set(t, nil)
			rec := &recorder{}
			s.leg.Attach(rec)
			s.leg.Apply(s.params())
			time.Sleep(500 * time.Millisecond)
			clip := ramp(3 * time.Second)
			coded := bytesOf(clip, pcm.Mu)
			s.leg.Play(Cue{Clip: clip})
			began := time.Now()
			for i := 0; i+size <= len(coded); i += size {
				s.peer.send(coded[i : i+size])
				time.Sleep(span(size))
			}
			time.Sleep(time.Second)
			rec = rec.kept()
			for i, at := range rec.at {
				require.Equal(t, int64(i*160), at, "no frame is left out or told twice")
			}
			require.InDelta(t, samples(time.Since(s.start)), len(rec.tx), 1760)
			require.Len(t, rec.rx, len(rec.tx))
			// tx is what was sent, in its place.
			sent := heard(s.peer.got())
			require.True(t, slices.Equal(decoded(sent)[:len(rec.tx)], rec.tx))
			// rx is whole, and lies where it came.
			at := find(rec.rx, decoded(coded)[1:len(coded)/size*size])
			require.Positive(t, at, size)
			require.InDelta(t, samples(began.Sub(s.start)), at, float64(size+320), size)
		})
	}
}

func TestTapHearsLossesConcealedAndPausesAsSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		rec := &recorder{}
		s.leg.Attach(rec)
		s.leg.Apply(s.params())
		tone := voice(2 * time.Second)
		send := func(n, lose int) {
			for i := range n {
				if i%10 == lose {
					s.peer.seq++
					s.peer.ts += 160
				} else {
					s.peer.send(tone[i*160 : i*160+160])
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
		send(100, 5)
		time.Sleep(100 * time.Millisecond) // not sent: the timestamp goes on, the numbers do not
		s.peer.ts += 800
		send(100, -1)
		time.Sleep(3 * time.Second)
		s.peer.ts += 8000 * 3
		send(50, -1)
		time.Sleep(time.Second)
		rec = rec.kept()
		require.InDelta(t, samples(time.Since(s.start)), len(rec.rx), 400, "no time is added or lost")
		zero, longest := 0, 0
		for _, v := range rec.rx[400:16000] {
			if v == 0 {
				zero++
				longest = max(longest, zero)
			} else {
				zero = 0
			}
		}
		require.Less(t, longest, 40, "holes are concealed")
		st := s.stats()
		require.Equal(t, uint64(10), st.Lost)
		require.Zero(t, st.Late)
	})
}

func TestReorderedAndDuplicatedPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		rec := &recorder{}
		s.leg.Attach(rec)
		s.leg.Apply(s.params())
		coded := bytesOf(ramp(2*time.Second), pcm.Mu)
		seq, ts := s.peer.seq, s.peer.ts
		at := func(i int) {
			s.peer.seq, s.peer.ts = seq+uint16(i), ts+uint32(160*i)
			s.peer.send(coded[160*i : 160*i+160])
		}
		for i := 0; i < 100; i += 2 {
			if i%4 == 0 {
				at(i + 1)
				at(i)
			} else {
				at(i)
				at(i + 1)
				at(i)
			}
			time.Sleep(40 * time.Millisecond)
		}
		time.Sleep(300 * time.Millisecond)
		rec = rec.kept()
		require.Positive(t, find(rec.rx, decoded(coded)[320:16000]))
		st := s.stats()
		require.Equal(t, uint64(25), st.Duplicates)
		require.Zero(t, st.Lost)
	})
}

func TestSpeechEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, func(c *LegConfig) { c.VAD = vad.Default() })
		s.leg.Apply(s.params())
		speech := voice(time.Second)
		speak := func() (time.Time, time.Time) {
			s.peer.talk(50, pcmuSilence)
			from := time.Now()
			for i := range 50 {
				s.peer.send(speech[160*i : 160*i+160])
				time.Sleep(20 * time.Millisecond)
			}
			to := time.Now()
			s.peer.talk(50, pcmuSilence)
			return from, to
		}
		from, to := speak()
		got := s.events.of(SpeechStart, SpeechConfirm, SpeechEnd)
		require.Len(t, got, 3)
		require.Equal(t, []Kind{SpeechStart, SpeechConfirm, SpeechEnd}, []Kind{got[0].Kind, got[1].Kind, got[2].Kind})
		require.WithinDuration(t, from.Add(150*time.Millisecond), got[0].At, 80*time.Millisecond)
		require.WithinDuration(t, to.Add(500*time.Millisecond), got[2].At, 100*time.Millisecond)

		s.leg.Listen(false)
		speak()
		require.Len(t, s.events.of(SpeechStart), 1)
		s.leg.Listen(true)
		p := s.params()
		p.Held, p.Send = true, false
		s.leg.Apply(p)
		speak()
		require.Len(t, s.events.of(SpeechStart), 1, "their music")
		s.leg.Apply(s.params())
		for i := range 25 {
			s.peer.send(speech[160*i : 160*i+160])
			time.Sleep(20 * time.Millisecond)
		}
		require.Len(t, s.events.of(SpeechStart), 2)
		require.Len(t, s.events.of(SpeechEnd), 1)
		s.leg.Apply(p)
		time.Sleep(30 * time.Millisecond)
		require.Len(t, s.events.of(SpeechEnd), 2, "hold ends an utterance")
	})
}

func TestHeldMusicIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		rec := &recorder{}
		detach := s.leg.Attach(rec)
		p := s.params()
		p.Held, p.Send = true, false
		s.leg.Apply(p)
		s.peer.talk(50, voice(20*time.Millisecond))
		require.NotEmpty(t, rec.kept().rx)
		for _, v := range rec.kept().rx {
			require.Zero(t, v)
		}
		detach()
		detach()
		time.Sleep(20 * time.Millisecond)
		n := len(rec.kept().rx)
		time.Sleep(100 * time.Millisecond)
		require.Len(t, rec.kept().rx, n)
	})
}

func TestToneOfAKeyIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		rec := &recorder{}
		s.leg.Attach(rec)
		s.leg.Apply(s.params())
		loud := voice(20 * time.Millisecond)
		s.peer.talk(20, pcmuSilence)
		start := s.peer.ts
		for i := range 5 { // audio goes on beside the event
			d := uint16((i + 1) * 160)
			s.peer.raw(101, i == 0, start, []byte{5, 10, byte(d >> 8), byte(d)})
			s.peer.send(loud)
			time.Sleep(20 * time.Millisecond)
		}
		s.peer.raw(101, false, start, []byte{5, 0x8A, 3, 0x20})
		s.peer.talk(20, pcmuSilence)
		require.Equal(t, "5", digits(s.events.of(Digit)))
		for _, v := range rec.kept().rx {
			require.Zero(t, v)
		}
	})
}

func TestStreamChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		rec := &recorder{}
		s.leg.Attach(rec)
		s.leg.Apply(s.params())
		tone := voice(20 * time.Millisecond)
		s.peer.talk(100, tone)
		for range 4 {
			s.peer.ssrc, s.peer.seq, s.peer.ts = s.peer.ssrc+77, s.peer.seq+20000, s.peer.ts+1<<30
			s.peer.talk(100, tone)
		}
		s.peer.seq, s.peer.ts = s.peer.seq+9999, 0 // a jump within the SSRC
		s.peer.talk(100, tone)
		time.Sleep(100 * time.Millisecond)
		rec = rec.kept()
		require.InDelta(t, samples(time.Since(s.start)), len(rec.rx), 1760)
		zero, longest := 0, 0
		for _, v := range rec.rx[800 : len(rec.rx)-2000] {
			if v == 0 {
				zero++
				longest = max(longest, zero)
			} else {
				zero = 0
			}
		}
		require.LessOrEqual(t, longest, samples(60*time.Millisecond))
		require.LessOrEqual(t, s.stats().Lost, uint64(1))
		require.Equal(t, s.peer.ssrc, s.stats().RemoteSSRC)
	})
}
