package asr_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/asr"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// line plays numbered frames of 20 ms into a feeder in real (virtual) time.
type line struct {
	f   *asr.Feeder
	at  int64
	seq int
}

// level is what frame n consists of: a value that survives G.711.
func level(n int) int16 {
	b := [1]byte{byte(n%100 + 1)}
	var s [1]int16
	pcm.Mu.Decode(s[:], b[:])
	return s[0]
}

func (l *line) play(d time.Duration) {
	var rx [160]int16
	for range d / (20 * time.Millisecond) {
		time.Sleep(20 * time.Millisecond)
		for i := range rx {
			rx[i] = level(l.seq)
		}
		l.f.Frame(l.at, rx[:], nil)
		l.seq++
		l.at += 160
	}
	synctest.Wait()
}

// frames lists the frames that pcm holds, and fails where one is not whole.
func frames(t *testing.T, samples []int16) []int {
	t.Helper()
	require.Zero(t, len(samples)%160)
	var out []int
	for i := 0; i < len(samples); i += 160 {
		n := -1
		for k := range 100 {
			if level(k) == samples[i] {
				n = k
			}
		}
		for _, s := range samples[i : i+160] {
			require.Equal(t, samples[i], s)
		}
		out = append(out, n)
	}
	return out
}

func count(from, to int) []int {
	var out []int
	for n := from; n < to; n++ {
		out = append(out, n%100)
	}
	return out
}

func open(t *testing.T, r asr.Recognizer) (*asr.Feeder, *line) {
	t.Helper()
	s, err := r.Open(t.Context(), asr.Params{CallID: "c"})
	require.NoError(t, err)
	f := asr.NewFeeder(s, zap.NewNop())
	return f, &line{f: f}
}

func TestFeederWritesWhatLiesBetweenBeginAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{name: "a"}
		f, l := open(t, e)
		l.play(200 * time.Millisecond)
		f.Begin(asr.Utterance{ID: 1, Hints: []string{"yes"}})
		l.play(510 * time.Millisecond)
		f.End(1)
		l.play(100 * time.Millisecond)
		require.Equal(t, asr.Event{Utterance: 1, Kind: asr.Final, Text: "a"}, <-f.Events())
		require.Equal(t, count(10, 35), frames(t, e.last().heard(1)))
		require.Equal(t, []asr.Utterance{{ID: 1, Hints: []string{"yes"}}}, e.last().begun)
		for _, n := range e.last().chunks {
			require.LessOrEqual(t, n, 800)
		}
		require.LessOrEqual(t, len(e.last().chunks), 7)

		f.Begin(asr.Utterance{ID: 2})
		f.End(2)
		require.Equal(t, uint64(2), (<-f.Events()).Utterance)
		require.Empty(t, e.last().heard(2))
		require.Zero(t, f.Dropped())
		require.NoError(t, f.Close())
		require.NoError(t, f.Close())
		_, ok := <-f.Events()
		require.False(t, ok)
		l.play(100 * time.Millisecond)
		f.Begin(asr.Utterance{ID: 3})
	})
}

func TestUtteranceBeginsWithSpeechThatRanAlready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{name: "a"}
		f, l := open(t, e)
		defer f.Close()
		f.Begin(asr.Utterance{ID: 1})
		l.play(time.Second)
		f.End(1) // before frame 50
		l.play(200 * time.Millisecond)
		f.Speech(true) // at frame 60: speech from 35, but 50 is where the first ended
		l.play(200 * time.Millisecond)
		f.Begin(asr.Utterance{ID: 2}) // at frame 70
		l.play(200 * time.Millisecond)
		f.End(2)
		synctest.Wait()
		require.Equal(t, count(50, 80), frames(t, e.last().heard(2)))
	})
}

func TestSegmentedStreamGetsSpeechAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{name: "a", segmented: true}
		f, l := open(t, e)
		defer f.Close()
		f.Begin(asr.Utterance{ID: 1})
		l.play(2 * time.Second)
		f.Speech(true) // at 100: from 75
		l.play(time.Second)
		f.Speech(false) // at 150
		l.play(400 * time.Millisecond)
		f.Speech(true) // at 170: no sample twice
		l.play(400 * time.Millisecond)
		f.Speech(false) // at 190
		l.play(400 * time.Millisecond)
		f.End(1)
		synctest.Wait()
		require.Equal(t, append(count(75, 150), count(150, 190)...), frames(t, e.last().heard(1)))
	})
}

func TestSlowStreamLosesTheOldestSound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{name: "a"}
		f, l := open(t, e)
		s := e.last()
		s.block = make(chan struct{})
		f.Begin(asr.Utterance{ID: 1})
		l.play(7 * time.Second)
		close(s.block)
		f.End(1)
		synctest.Wait()
		got := s.heard(1)
		require.Equal(t, 7*8000, len(got)+int(f.Dropped()*8000/time.Second), "each sample is written or counted")
		require.InDelta(t, 1900, f.Dropped().Milliseconds(), 150)
		require.Equal(t, count(345, 350), frames(t, got[len(got)-800:]), "the newest arrives")
		require.NoError(t, f.Close())
	})
}

func TestFrameDoesNotAllocate(t *testing.T) {
	e := &engine{name: "a"}
	f, _ := open(t, e)
	defer f.Close()
	rx := make([]int16, 160)
	require.Zero(t, testing.AllocsPerRun(100, func() { f.Frame(0, rx, nil) }))
}
