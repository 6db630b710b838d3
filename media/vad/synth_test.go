package vad_test

import (
	"math"
	"math/rand/v2"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// A voice makes speech-like sound from a seed: pulses of a gliding pitch
// through three resonators in syllables, hisses between them, and pauses
// between phrases.
type voice struct {
	rng   *rand.Rand
	pitch float64
}

func newVoice(seed uint64) *voice {
	rng := rand.New(rand.NewPCG(seed, 77))
	return &voice{rng: rng, pitch: 90 + 130*rng.Float64()}
}

type resonator struct{ a, b, y1, y2 float64 }

func (r *resonator) tune(hertz, width float64) {
	radius := math.Exp(-math.Pi * width / 8000)
	r.a, r.b = 2*radius*math.Cos(2*math.Pi*hertz/8000), -radius*radius
}

func (r *resonator) step(x float64) float64 {
	y := x + r.a*r.y1 + r.b*r.y2
	r.y2, r.y1 = r.y1, y
	return y
}

// say speaks for the given seconds: phrases of up to 2 s with pauses of up to
// 0.35 s, at the given active level in dBm0.
func (v *voice) say(seconds, level float64) []int16 {
	total := int(seconds * 8000)
	out := make([]float64, 0, total+4000)
	for len(out) < total {
		for range 3 + v.rng.IntN(7) {
			if v.rng.IntN(3) == 0 {
				out = v.hiss(out, 40+v.rng.IntN(80))
			}
			out = v.syllable(out, 90+v.rng.IntN(140))
			out = append(out, make([]float64, v.rng.IntN(400))...)
		}
		out = append(out, make([]float64, v.rng.IntN(2800))...)
	}
	return scale(out[:total], level)
}

func (v *voice) syllable(out []float64, ms int) []float64 {
	var formants [3]resonator
	formants[0].tune(280+500*v.rng.Float64(), 80)
	formants[1].tune(900+1200*v.rng.Float64(), 100)
	formants[2].tune(2300+600*v.rng.Float64(), 140)
	pitch, glide := v.pitch*(0.85+0.3*v.rng.Float64()), (v.rng.Float64()-0.5)*0.4
	n, phase, last := ms*8, 0.0, 0.0
	for i := range n {
		at := float64(i) / float64(n)
		phase += pitch * (1 + glide*at) * (1 + 0.02*v.rng.NormFloat64()) / 8000
		pulse := 0.02 * v.rng.NormFloat64() // breath
		if phase >= 1 {
			phase--
			pulse += 1
		}
		source := 0.9*last + pulse // the glottis falls by 12 dB an octave
		last = source
		y := 0.0
		for f := range formants {
			y += formants[f].step(source) / float64(f*f+1)
		}
		out = append(out, y*math.Sin(math.Pi*at))
	}
	return out
}

func (v *voice) hiss(out []float64, ms int) []float64 {
	last := 0.0
	for range ms * 8 {
		x := v.rng.NormFloat64()
		out = append(out, 1.2*(x-last))
		last = x
	}
	return out
}

// scale brings x to an active level: of the hops within 26 dB of the loudest.
func scale(x []float64, level float64) []int16 {
	peak := 0.0
	var powers []float64
	for at := 0; at+160 <= len(x); at += 160 {
		sum := 0.0
		for _, s := range x[at : at+160] {
			sum += s * s
		}
		powers = append(powers, sum/160)
		peak = max(peak, sum/160)
	}
	sum, n := 0.0, 0.0
	for _, p := range powers {
		if p > peak/400 {
			sum += p
			n++
		}
	}
	gain := rms(level)
	if sum > 0 {
		gain /= math.Sqrt(sum / n)
	}
	out := make([]int16, len(x))
	for i, s := range x {
		out[i] = clip(s * gain)
	}
	return out
}

func rms(level float64) float64 { return 32768 / math.Sqrt2 * math.Pow(10, (level-3.14)/20) }

func clip(x float64) int16 { return int16(max(-32768, min(32767, math.Round(x)))) }

func white(seed uint64, samples int, level float64) []int16 {
	rng, out := rand.New(rand.NewPCG(seed, 5)), make([]int16, samples)
	for i := range out {
		out[i] = clip(rng.NormFloat64() * rms(level))
	}
	return out
}

// pink is noise of three one-pole filters (-10 dB a decade within 1 dB).
func pink(seed uint64, samples int, level float64) []int16 {
	rng, out := rand.New(rand.NewPCG(seed, 6)), make([]float64, samples)
	var b0, b1, b2 float64
	for i := range out {
		w := rng.NormFloat64()
		b0 = 0.99765*b0 + w*0.0990460
		b1 = 0.96300*b1 + w*0.2965164
		b2 = 0.57000*b2 + w*1.0526913
		out[i] = b0 + b1 + b2 + w*0.1848
	}
	return scale(out, level)
}

func mix(parts ...[]int16) []int16 {
	longest := 0
	for _, p := range parts {
		longest = max(longest, len(p))
	}
	out := make([]int16, longest)
	for i := range out {
		sum := 0
		for _, p := range parts {
			if i < len(p) {
				sum += int(p[i])
			}
		}
		out[i] = int16(max(-32768, min(32767, sum)))
	}
	return out
}

// after puts samples of silence before x, and hush at the end.
func after(samples int, x []int16, behind int) []int16 {
	return append(append(make([]int16, samples), x...), make([]int16, behind)...)
}

// echoOf is what comes back of a prompt: late, weaker, coloured, twice.
func echoOf(prompt []int16, loss float64) []int16 {
	const delay, second = 1200, 1500 // 150 ms and 187 ms
	x := make([]float64, len(prompt)+second)
	for i := range x {
		if i >= delay && i-delay < len(prompt) {
			x[i] += float64(prompt[i-delay])
		}
		if i >= second && i-second < len(prompt) {
			x[i] -= 0.4 * float64(prompt[i-second])
		}
	}
	var colour resonator
	colour.tune(1100, 1500)
	for i := range x {
		x[i] = colour.step(x[i])
	}
	before, now := 0.0, 0.0
	for _, s := range prompt {
		before += float64(s) * float64(s)
	}
	for _, s := range x {
		now += s * s
	}
	gain := math.Sqrt(before/now) * math.Pow(10, -loss/20)
	out := make([]int16, len(prompt))
	for i := range out {
		out[i] = clip(x[i] * gain)
	}
	return out
}

// line is what the mu-law makes of x.
func line(x []int16) []int16 {
	code, out := make([]byte, len(x)), make([]int16, len(x))
	pcm.Mu.Encode(code, x)
	pcm.Mu.Decode(out, code)
	return out
}
