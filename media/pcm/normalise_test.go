package pcm_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// speechLike is noise in syllables: 200 ms on, 80 ms nearly off.
func speechLike(level float64, samples int) []int16 {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([]int16, samples)
	rms := 32768 / math.Sqrt2 * math.Pow(10, (level-3.14)/20)
	for i := range out {
		amp := rms
		if i%2240 >= 1600 {
			amp /= 60
		}
		out[i] = int16(max(-32768, min(32767, rng.NormFloat64()*amp)))
	}
	return out
}

func concat(parts ...[]int16) []int16 {
	var out []int16
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func TestNormaliseBringsSpeechToTheTarget(t *testing.T) {
	for _, level := range []float64{-7, -10, -16, -18, -25, -30} {
		out := readAll(t, pcm.Normalise(&sound{samples: speechLike(level, 40000), piece: 999}, pcm.SpeechLevel))
		require.Len(t, out, 40000)
		var active []int16
		for at := 0; at+1600 <= len(out); at += 2240 {
			active = append(active, out[at:at+1600]...)
		}
		require.InDelta(t, pcm.SpeechLevel, pcm.Level(active), 1, "from %v dBm0", level)
	}
}

func TestNormaliseTrimsTheEndsOnly(t *testing.T) {
	word := tone(440, -16, 8000, 8000)
	pause := make([]int16, 12000)
	in := concat(make([]int16, 9000), word, pause, word, make([]int16, 7000))
	out := readAll(t, pcm.Normalise(&sound{samples: in, piece: 1234}, -16))
	// Frames of 80 samples: 9000 is not a multiple.
	require.InDelta(t, 160+8000+12000+8000+800, len(out), 160)
	require.InDelta(t, pcm.Quietest, pcm.Level(out[:120]), 0)
	require.Greater(t, pcm.Level(out[200:280]), -20.0)
	require.InDelta(t, pcm.Quietest, pcm.Level(out[8300:20100]), 0)
	require.InDelta(t, pcm.Quietest, pcm.Level(out[len(out)-700:]), 0)
}

func TestNormaliseLeavesSilenceAlone(t *testing.T) {
	for _, n := range []int{0, 1, 79, 80, 4001, 40000} {
		out := readAll(t, pcm.Normalise(&sound{samples: make([]int16, n), piece: 300}, -16))
		require.Len(t, out, n)
		require.InDelta(t, pcm.Quietest, pcm.Level(out), 0)
	}
}

func noise(samples int, rms float64) []int16 {
	rng := rand.New(rand.NewPCG(3, 4))
	out := make([]int16, samples)
	for i := range out {
		out[i] = int16(rng.NormFloat64() * rms)
	}
	return out
}

func TestNormaliseNeverAmplifiesNoiseBeyondTheClamp(t *testing.T) {
	quiet := noise(16000, 160) // about -40 dBm0
	out := readAll(t, pcm.Normalise(&sound{samples: quiet}, -16))
	require.InDelta(t, pcm.Level(quiet)+15, pcm.Level(out), 0.3)

	faint := noise(16000, 50) // about -50 dBm0
	require.Equal(t, faint, readAll(t, pcm.Normalise(&sound{samples: faint}, -16)))
}

// Noise in front neither sets the gain nor stays.
func TestNormaliseLooksBehindTheNoiseInFront(t *testing.T) {
	word := tone(440, -26, 8000, 8000)
	for _, front := range []int{1000, 4000, 20000} {
		out := readAll(t, pcm.Normalise(&sound{samples: concat(noise(front, 18), word, noise(front, 18)), piece: 160}, -16))
		at := 0
		for pcm.Level(out[at:at+80]) < -35 {
			at += 80
		}
		require.InDelta(t, -16, pcm.Level(out[at+80:at+880]), 0.5, "%d samples of noise", front)
		if front < 8000 {
			require.LessOrEqual(t, at, 240)
		}
	}
	loud := tone(440, -8, 8000, 8000)
	out := readAll(t, pcm.Normalise(&sound{samples: concat(noise(4000, 40), loud, noise(4000, 40)), piece: 160}, -16))
	require.InDelta(t, 160+8000+800, len(out), 160, "noise 42 dB under the sound is silence")
}

func TestNormaliseNeverClips(t *testing.T) {
	ceiling := 32768 * math.Pow(10, (-3-3.14)/20)
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		amp := rapid.Float64Range(0, 60000).Draw(t, "amplitude")
		in := make([]int16, rapid.IntRange(0, 9000).Draw(t, "samples"))
		for i := range in {
			in[i] = int16(max(-32768, min(32767, rng.NormFloat64()*amp)))
		}
		out := readAll(t, pcm.Normalise(&sound{samples: in, piece: rapid.IntRange(1, 3000).Draw(t, "piece")}, rapid.Float64Range(-30, 0).Draw(t, "target")))
		require.LessOrEqual(t, len(out), len(in))
		for _, s := range out {
			require.LessOrEqual(t, math.Abs(float64(s)), ceiling+1)
		}
	})
}

// What comes later moves the gain slowly: no pumping.
func TestNormaliseFollowsSlowly(t *testing.T) {
	in := concat(tone(500, -30, 8000, 8000), tone(500, -10, 8000, 24000))
	out := readAll(t, pcm.Normalise(&sound{samples: in, piece: 160}, -20))
	first := pcm.Level(out[0:800])
	require.InDelta(t, -20, first, 0.2)
	for at := 8800; at+1600 < len(out); at += 800 {
		before, after := pcm.Level(out[at:at+800]), pcm.Level(out[at+800:at+1600])
		require.InDelta(t, before, after, 0.45, "3 dB a second at most")
	}
}

// The first sample leaves as soon as 300 ms of sound have come in.
func TestNormaliseDoesNotWaitForTheEnd(t *testing.T) {
	fed := 0
	src := pcm.Normalise(sourceFunc(func(p []int16) (int, error) {
		n := copy(p[:min(len(p), 160)], tone(300, -20, 8000, 160))
		fed += n
		return n, nil
	}), -16)
	n, err := src.Read(make([]int16, 100))
	require.NoError(t, err)
	require.Positive(t, n)
	require.Equal(t, 2400, fed)
}
