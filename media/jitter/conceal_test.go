package jitter_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media/jitter"
)

// vowels is voiced speech: pulses of a gliding pitch through two resonators.
func vowels(seed uint64, samples int) []int16 {
	rng := rand.New(rand.NewPCG(seed, 9))
	x, peak := make([]float64, samples), 0.0
	pitch := 90 + 120*rng.Float64()
	var y1, y2, z1, z2, phase, source float64
	f1, f2 := 300+400*rng.Float64(), 900+1100*rng.Float64()
	for i := range x {
		if i%2400 == 0 { // another vowel every 300 ms
			f1, f2 = 300+400*rng.Float64(), 900+1100*rng.Float64()
		}
		phase += pitch * (1 + 0.1*math.Sin(float64(i)/6000)) / 8000
		pulse := 0.01 * rng.NormFloat64()
		if phase >= 1 {
			phase--
			pulse++
		}
		source = 0.9*source + pulse
		y := source + 2*0.97*math.Cos(2*math.Pi*f1/8000)*y1 - 0.97*0.97*y2
		z := source + 2*0.96*math.Cos(2*math.Pi*f2/8000)*z1 - 0.96*0.96*z2
		y2, y1, z2, z1 = y1, y, z1, z
		x[i] = y + 0.5*z
		peak = max(peak, math.Abs(x[i]))
	}
	out := make([]int16, samples)
	for i := range out {
		out[i] = int16(x[i] / peak * 12000)
	}
	return out
}

const frame = 160

// cosines of the spectrum, which is that of a Hann window.
var cosines = func() (out [frame]float64) {
	for i := range out {
		out[i] = math.Cos(2 * math.Pi * float64(i) / frame)
	}
	return out
}()

// spectrum is the log power in bands of a third of a kilohertz.
func spectrum(x []int16) [12]float64 {
	var out [12]float64
	for k := 1; k < frame/2; k++ {
		var re, im float64
		for i, s := range x {
			w := (0.5 - 0.5*cosines[i]) * float64(s)
			re += w * cosines[k*i%frame]
			im += w * cosines[(k*i+frame/4)%frame]
		}
		out[k*12/(frame/2)] += re*re + im*im
	}
	for i := range out {
		out[i] = 10 * math.Log10(out[i]/frame+100)
	}
	return out
}

// distance is the mean log spectral distance in dB over windows of 20 ms that
// touch a hole.
func distance(a, b []int16, lost []bool) float64 {
	sum, count := 0.0, 0
	for at := 0; at+frame <= len(a); at += frame {
		if !lost[at/frame] && !lost[max(0, at/frame-1)] {
			continue
		}
		x, y := spectrum(a[at:at+160]), spectrum(b[at:at+160])
		d := 0.0
		for i := range x {
			d += (x[i] - y[i]) * (x[i] - y[i])
		}
		sum += math.Sqrt(d / 12)
		count++
	}
	return sum / float64(count)
}

func snr(a, b []int16, lost []bool) float64 {
	var signal, noise float64
	for i := range a {
		if lost[i/160] {
			d := float64(a[i]) - float64(b[i])
			signal += float64(a[i]) * float64(a[i])
			noise += d * d
		}
	}
	return 10 * math.Log10(signal/noise)
}

// conceal sends speech through a line that loses frames.
func conceal(speech []int16, lost []bool) []int16 {
	var c jitter.Concealer
	out := append([]int16{}, speech...)
	for i := range lost {
		frame := out[i*160 : (i+1)*160]
		if lost[i] {
			c.Conceal(frame)
		} else {
			c.Received(frame)
		}
	}
	return out
}

// At 10 and 20 % of loss the spectrum stays much nearer to the truth than with
// silence in the holes, and so does the waveform.
func TestConcealmentBeatsSilence(t *testing.T) {
	for _, percent := range []int{5, 10, 20} {
		var ours, silence, oursSNR float64
		const voices = 4
		for seed := range uint64(voices) {
			speech := vowels(seed, 16000)
			rng := rand.New(rand.NewPCG(seed, uint64(percent)))
			lost := make([]bool, len(speech)/160)
			zeroed := append([]int16{}, speech...)
			for i := 5; i < len(lost); i++ {
				if lost[i] = rng.IntN(100) < percent; lost[i] {
					clear(zeroed[i*160 : (i+1)*160])
				}
			}
			concealed := conceal(speech, lost)
			ours += distance(speech, concealed, lost) / voices
			silence += distance(speech, zeroed, lost) / voices
			oursSNR += snr(speech, concealed, lost) / voices
		}
		t.Logf("%d %%: distance %.1f dB, with silence %.1f dB; SNR %.1f dB, with silence 0", percent, ours, silence, oursSNR)
		require.Less(t, ours, silence/2)
		require.Greater(t, oursSNR, 3.0)
	}
}

func energy(x []int16) float64 {
	sum := 0.0
	for _, s := range x {
		sum += float64(s) * float64(s)
	}
	return sum
}

func TestConcealmentFadesToSilence(t *testing.T) {
	var c jitter.Concealer
	speech := vowels(1, 1600)
	c.Received(speech)
	out := make([]int16, 800)
	c.Conceal(out[:160])
	c.Conceal(out[160:])
	last := math.Inf(1)
	for at := 80; at < 480; at += 160 {
		now := energy(out[at : at+160])
		require.Less(t, now, last)
		last = now
	}
	require.Zero(t, energy(out[480:]), "silent after 60 ms")
	require.Greater(t, energy(out[:80]), 0.3*energy(speech[1520:]))
}

func TestConcealmentHasNoSteps(t *testing.T) {
	var c jitter.Concealer
	sine := make([]int16, 1600)
	for i := range sine {
		sine[i] = int16(8000 * math.Sin(2*math.Pi*173*float64(i)/8000))
	}
	out := append([]int16{}, sine...)
	c.Received(out[:800])
	c.Conceal(out[800:960])
	c.Received(out[960:])
	for i := 1; i < len(out); i++ {
		// The steepest slope of the sine is 1087.
		require.Less(t, math.Abs(float64(out[i])-float64(out[i-1])), 2000.0, "at %d", i)
	}
	require.Equal(t, sine[1100:], out[1100:], "what follows is left alone")
}

func TestConcealmentOfNothing(t *testing.T) {
	var c jitter.Concealer
	out := make([]int16, 400)
	c.Conceal(out)
	require.Zero(t, energy(out))
	c.Conceal(nil)
	c.Received(nil)
	frame := []int16{100, 200, 300}
	c.Received(frame)
	require.Len(t, frame, 3)
	c.Reset()
	c.Conceal(out)
	require.Zero(t, energy(out))
}

func TestConcealmentSurvivesAnything(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var c jitter.Concealer
	for range 3000 {
		frame := make([]int16, rng.IntN(500))
		for i := range frame {
			frame[i] = int16(rng.Uint32())
		}
		if rng.IntN(2) == 0 {
			c.Received(frame)
		} else {
			c.Conceal(frame)
		}
	}
}

func TestConcealerDoesNotAllocate(t *testing.T) {
	var c jitter.Concealer
	speech, frame := vowels(2, 160), make([]int16, 160)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		c.Received(speech)
		c.Conceal(frame)
	}))
}

func BenchmarkConceal(b *testing.B) {
	var c jitter.Concealer
	speech, frame := vowels(2, 160), make([]int16, 160)
	for b.Loop() {
		c.Received(speech)
		c.Conceal(frame)
	}
}
