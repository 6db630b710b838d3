package media

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// heard is the sound of packets, one after the other.
func heard(packets []rtpPacket) []byte {
	var b []byte
	for _, p := range packets {
		b = append(b, p.payload...)
	}
	return b
}

// quiet reports whether b is silence.
func quiet(b []byte, law pcm.Law) bool {
	for _, c := range b {
		if c != law.Silence() {
			return false
		}
	}
	return true
}

func TestQueueIsGaplessToTheSample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		first, second, third := ramp(333*time.Millisecond), ramp(1*time.Millisecond), ramp(250125*time.Microsecond)
		s.leg.Queue(Cue{Seq: 1, Clip: first})
		s.leg.Queue(Cue{Seq: 2, Clip: second})
		s.leg.Queue(Cue{Seq: 3, Clip: third})
		time.Sleep(time.Second)
		var want []byte
		for _, c := range []*pcm.Clip{first, second, third} {
			want = append(want, bytesOf(c, pcm.Mu)...)
		}
		got := s.peer.got()
		sound := heard(got)
		require.Equal(t, want, sound[:len(want)])
		require.True(t, quiet(sound[len(want):], pcm.Mu))
		ends := s.events.of(PlayEnd)
		require.Len(t, ends, 3)
		at := 0
		for i, c := range []*pcm.Clip{first, second, third} {
			at += c.Len()
			require.Equal(t, uint64(i+1), ends[i].Seq)
			require.Equal(t, Done, ends[i].Why)
			require.Equal(t, c.Duration(), ends[i].Heard)
			require.Equal(t, got[(at-1)/160].at, ends[i].At)
		}
	})
}

func TestStopIsSilentWithin60ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		s.leg.Play(Cue{Seq: 1, Clip: ramp(5 * time.Second)})
		s.leg.Queue(Cue{Seq: 2, Clip: ramp(time.Second)})
		time.Sleep(503 * time.Millisecond)
		s.peer.got()
		called := time.Now()
		s.leg.Stop()
		time.Sleep(300 * time.Millisecond)
		got := s.peer.got()
		for _, p := range got {
			if p.at.Sub(called) > 40*time.Millisecond {
				require.True(t, quiet(p.payload, pcm.Mu))
			}
		}
		// The packet after the call fades out in 10 ms, without a click.
		require.False(t, quiet(got[0].payload[:80], pcm.Mu))
		require.True(t, quiet(got[0].payload[80:], pcm.Mu))
		var faded [160]int16
		pcm.Mu.Decode(faded[:], got[0].payload)
		require.Less(t, math.Abs(float64(faded[79])), 100.0)
		ends := s.events.of(PlayEnd)
		require.Len(t, ends, 2)
		require.Equal(t, Event{Kind: PlayEnd, Seq: 1, Why: Stopped, Heard: ends[0].Heard, At: got[0].at}, ends[0])
		require.Equal(t, 10*time.Millisecond, ends[0].Heard%(20*time.Millisecond))
		require.Equal(t, Event{Kind: PlayEnd, Seq: 2, Why: Stopped, At: got[0].at}, ends[1])
	})
}

func TestPlayReplacesWithoutClick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		constant := func(level int16) *pcm.Clip {
			c := pcm.NewClip(pcm.Mu)
			sound := make([]int16, 8000)
			for i := range sound {
				sound[i] = level
			}
			require.NoError(t, c.Append(sound))
			c.Close(nil)
			return c
		}
		s.leg.Play(Cue{Seq: 1, Clip: constant(8000)})
		time.Sleep(110 * time.Millisecond)
		s.leg.Play(Cue{Seq: 2, Clip: constant(-8000)})
		time.Sleep(100 * time.Millisecond)
		var sound []int16
		for _, p := range s.peer.got() {
			pcm16 := make([]int16, len(p.payload))
			pcm.Mu.Decode(pcm16, p.payload)
			sound = append(sound, pcm16...)
		}
		steepest := 0.0
		for i := 1; i < len(sound); i++ {
			steepest = max(steepest, math.Abs(float64(sound[i])-float64(sound[i-1])))
		}
		require.Less(t, steepest, 1200.0, "a hard cut would be a step of 16000")
		require.Equal(t, []Event{}, append([]Event{}, s.events.of(DigitsSent, Crashed)...))
		order := s.events.of(PlayStart, PlayEnd)
		require.Len(t, order, 3)
		require.Equal(t, []uint64{1, 1, 2}, []uint64{order[0].Seq, order[1].Seq, order[2].Seq})
		require.Equal(t, Stopped, order[1].Why)
	})
}

func TestGrowingClip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		whole := ramp(400 * time.Millisecond)
		sound := make([]int16, whole.Len())
		pcm.Mu.Decode(sound, bytesOf(whole, pcm.Mu))
		clip := pcm.NewClip(pcm.Mu)
		s.leg.Play(Cue{Seq: 1, Clip: clip})
		time.Sleep(200 * time.Millisecond)
		require.True(t, quiet(heard(s.peer.got()), pcm.Mu))
		require.Empty(t, s.events.of(PlayStart, PlayEnd))

		require.NoError(t, clip.Append(sound[:1600]))
		time.Sleep(500 * time.Millisecond)
		require.Len(t, s.events.of(PlayStart), 1)
		require.Empty(t, s.events.of(PlayEnd), "a clip that may grow is not over")

		require.NoError(t, clip.Append(sound[1600:]))
		time.Sleep(300 * time.Millisecond)
		require.Empty(t, s.events.of(PlayEnd))
		got := s.peer.got()
		last := time.Time{}
		for _, p := range got {
			if !quiet(p.payload, pcm.Mu) {
				last = p.at
			}
		}
		clip.Close(nil)
		time.Sleep(40 * time.Millisecond)
		ends := s.events.of(PlayEnd)
		require.Len(t, ends, 1)
		require.Equal(t, Event{Kind: PlayEnd, Seq: 1, Why: Done, Heard: 400 * time.Millisecond, At: last}, ends[0])
	})
}

func TestStarvedClipEndsAfterTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		clip := pcm.NewClip(pcm.Mu)
		s.leg.Play(Cue{Seq: 1, Clip: clip})
		s.leg.Queue(Cue{Seq: 2, Clip: ramp(20 * time.Millisecond)})
		time.Sleep(9900 * time.Millisecond)
		require.Empty(t, s.events.of(PlayEnd))
		time.Sleep(200 * time.Millisecond)
		ends := s.events.of(PlayEnd)
		require.Len(t, ends, 2)
		require.Equal(t, Starved, ends[0].Why)
		require.Equal(t, Done, ends[1].Why)
	})
}

func TestFailedClipPlaysWhatItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		broken := errors.New("broken off")
		clip := pcm.NewClip(pcm.Mu)
		require.NoError(t, clip.Append(make([]int16, 240)))
		clip.Close(broken)
		s.leg.Play(Cue{Seq: 1, Clip: clip})
		s.leg.Queue(Cue{Seq: 2})
		time.Sleep(100 * time.Millisecond)
		ends := s.events.of(PlayEnd)
		require.Len(t, ends, 2)
		require.Equal(t, Failed, ends[0].Why)
		require.ErrorIs(t, ends[0].Err, broken)
		require.Equal(t, 30*time.Millisecond, ends[0].Heard)
		require.Equal(t, Failed, ends[1].Why, "a cue without a clip")
	})
}

func TestLoopAndFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		s.leg.Apply(s.params())
		clip := ramp(50 * time.Millisecond)
		s.leg.Play(Cue{Seq: 1, Clip: clip, Loop: true})
		time.Sleep(time.Second)
		sound := heard(s.peer.got())
		want := bytesOf(clip, pcm.Mu)
		for i, b := range sound[:4000] {
			require.Equal(t, want[i%len(want)], b)
		}
		s.leg.Stop()
		time.Sleep(50 * time.Millisecond)
		s.peer.got()

		s.leg.Play(Cue{Seq: 2, Clip: clip, From: 30 * time.Millisecond})
		time.Sleep(100 * time.Millisecond)
		sound = heard(s.peer.got())
		at := 0
		for quiet(sound[at:at+160], pcm.Mu) {
			at += 160
		}
		require.Equal(t, want[240+fadeIn:], sound[at+fadeIn:at+160], "after 5 ms of fade")

		for seq, odd := range []Cue{{Clip: clip, From: time.Hour}, {Clip: ramp(0), Loop: true}, {Clip: ramp(0)}, {Clip: clip, From: -time.Second}} {
			odd.Seq = uint64(10 + seq)
			s.leg.Queue(odd)
		}
		time.Sleep(time.Second)
		ends := s.events.of(PlayEnd)
		require.Len(t, ends, 6)
		require.Equal(t, 20*time.Millisecond, ends[1].Heard)
		for i, want := range []time.Duration{0, 0, 0, 50 * time.Millisecond} {
			require.Equal(t, want, ends[2+i].Heard)
			require.Equal(t, Done, ends[2+i].Why)
		}
	})
}

func TestHoldPausesAndResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		p := s.params()
		s.leg.Apply(p)
		clip := ramp(time.Second)
		s.leg.Play(Cue{Seq: 1, Clip: clip})
		time.Sleep(410 * time.Millisecond)
		before := s.peer.got()

		hold := p
		hold.Send, hold.Held = false, true
		s.leg.Apply(hold)
		time.Sleep(3 * time.Second)
		require.Empty(t, s.peer.got(), "nothing is sent on hold")
		require.Empty(t, s.events.of(PlayEnd))

		s.leg.Apply(p)
		time.Sleep(2 * time.Second)
		after := s.peer.got()
		last, first := before[len(before)-1], after[0]
		require.Equal(t, last.ssrc, first.ssrc)
		require.Equal(t, last.seq+1, first.seq)
		require.Equal(t, uint32(first.at.Sub(last.at)/(125*time.Microsecond)), first.ts-last.ts, "the clock went on")
		require.True(t, first.marker)
		n := len(heard(before))
		require.Equal(t, bytesOf(clip, pcm.Mu)[n+fadeIn:], heard(after)[fadeIn:8000-n])
		ends := s.events.of(PlayEnd)
		require.Len(t, ends, 1)
		require.Equal(t, time.Second, ends[0].Heard)
	})
}

func TestContinuityOverApplyAndCodecChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, nil)
		p := s.params()
		s.leg.Apply(p)
		clip := ramp(2 * time.Second)
		s.leg.Play(Cue{Seq: 1, Clip: clip})
		time.Sleep(300 * time.Millisecond)
		p.Law, p.PayloadType = pcm.A, 8
		s.leg.Apply(p)
		time.Sleep(300 * time.Millisecond)
		p.Ptime = 30 * time.Millisecond
		s.leg.Apply(p)
		time.Sleep(300 * time.Millisecond)
		s.leg.Play(Cue{Seq: 2, Clip: clip})
		time.Sleep(300 * time.Millisecond)
		got := s.peer.got()
		laws := map[uint8]int{}
		at := 0
		for i, g := range got {
			laws[g.pt]++
			if i > 0 {
				require.Equal(t, got[i-1].seq+1, g.seq)
				require.Equal(t, got[i-1].ts+uint32(len(got[i-1].payload)), g.ts)
				require.Equal(t, got[0].ssrc, g.ssrc)
			}
			law := pcm.Mu
			if g.pt == 8 {
				law = pcm.A
			}
			if at += len(g.payload); at < 7000 {
				want := make([]byte, len(g.payload))
				clip.Read(at-len(g.payload), want, law)
				require.Equal(t, want, g.payload)
			}
		}
		require.Greater(t, laws[0], 10)
		require.Greater(t, laws[8], 10)
	})
}

func TestPacketTimes(t *testing.T) {
	for ms := range 6 {
		ptime := time.Duration(ms+1) * 10 * time.Millisecond
		synctest.Test(t, func(t *testing.T) {
			s := set(t, nil)
			p := s.params()
			p.Ptime = ptime
			s.leg.Apply(p)
			clip := ramp(1200 * time.Millisecond)
			s.leg.Play(Cue{Seq: 1, Clip: clip})
			time.Sleep(1300 * time.Millisecond)
			got := s.peer.got()
			for i, g := range got {
				require.Len(t, g.payload, samples(ptime))
				if i > 0 {
					require.Equal(t, p.Ptime, g.at.Sub(got[i-1].at))
				}
			}
			require.Equal(t, bytesOf(clip, pcm.Mu), heard(got)[:9600])
			require.Len(t, s.events.of(PlayEnd), 1)
		})
	}
}

// TestEachCueEndsOnce gives commands at random and closes the leg.
func TestEachCueEndsOnce(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			s := set(t, nil)
			p := s.params()
			if rapid.Bool().Draw(r, "applied") {
				s.leg.Apply(p)
			}
			seq := uint64(0)
			for range rapid.IntRange(1, 20).Draw(r, "commands") {
				switch rapid.IntRange(0, 6).Draw(r, "command") {
				case 0, 1:
					seq++
					s.leg.Play(Cue{Seq: seq, Clip: ramp(time.Duration(rapid.IntRange(0, 100).Draw(r, "ms")) * time.Millisecond)})
				case 2, 3:
					seq++
					s.leg.Queue(Cue{Seq: seq, Clip: ramp(time.Duration(rapid.IntRange(0, 100).Draw(r, "ms")) * time.Millisecond)})
				case 4:
					s.leg.Stop()
				case 5:
					p.Send = !p.Send
					p.Held = !p.Send
					s.leg.Apply(p)
				case 6:
					s.leg.SendDigits(1, "5", DigitsAuto)
				}
				time.Sleep(time.Duration(rapid.IntRange(0, 60).Draw(r, "wait")) * time.Millisecond)
			}
			s.leg.Close()
			time.Sleep(20 * time.Millisecond)
			seq++
			s.leg.Play(Cue{Seq: seq, Clip: ramp(0)})
			ends := s.events.of(PlayEnd)
			require.Len(t, ends, int(seq))
			for i, e := range ends {
				require.Equal(t, uint64(i+1), e.Seq)
				require.False(t, e.At.Before(s.start))
				if i > 0 {
					require.False(t, e.At.Before(ends[i-1].At))
				}
			}
			require.ErrorIs(t, ends[seq-1].Err, ErrClosed)
		})
	})
}
