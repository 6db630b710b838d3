package dtmf_test

import (
	"math"
	"math/rand/v2"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

const allKeys = "0123456789*#ABCD"

var (
	lowTones  = map[byte]float64{}
	highTones = map[byte]float64{}
)

func init() {
	for i, d := range []byte("123A456B789C*0#D") {
		lowTones[d] = []float64{697, 770, 852, 941}[i/4]
		highTones[d] = []float64{1209, 1336, 1477, 1633}[i%4]
	}
}

// A tape is material for detectors: sound, and the keys that are in it.
type tape struct {
	pcm     []float64
	presses []press
	lost    []bool // by blocks of 20 ms; nil: none, or not told
	rng     *rand.Rand
}

type press struct {
	digit byte
	at    int // of its first sample
}

func newTape(seed uint64) *tape {
	t := &tape{rng: rand.New(rand.NewPCG(seed, 2024))}
	t.pause(300)
	return t
}

// A sound is how a key is pressed.
type sound struct {
	level    float64    // dBm0 of both tones
	twist    float64    // dB by which the high tone is louder
	off      [2]float64 // share by which each tone is off
	on, rest float64    // ms
	gap      float64    // ms of an interruption in the middle
	harm     float64    // amplitude of harmonics, to that of the tone
	hard     bool       // without a ramp of up to 2 ms
}

func plain() sound { return sound{level: -12, on: 60, rest: 60} }

// amp is the amplitude of a sine of a level in dBm0.
func amp(level float64) float64 { return 32768 * math.Pow(10, (level-3.14)/20) }

func (t *tape) pause(ms float64) { t.pcm = append(t.pcm, make([]float64, int(ms*8))...) }

// key presses one key.
func (t *tape) key(digit byte, s sound) {
	// The silence before lets keys begin at any place in a frame.
	t.presses = append(t.presses, press{digit, len(t.pcm)})
	t.tones(lowTones[digit]*(1+s.off[0]), highTones[digit]*(1+s.off[1]), s)
}

// tones adds two tones and the pause behind them.
func (t *tape) tones(low, high float64, s sound) {
	// Of both tones together s.level.
	ratio := math.Pow(10, s.twist/10)
	al := amp(s.level) * math.Sqrt(1/(1+ratio))
	ah := al * math.Pow(10, s.twist/20)
	n := int(s.on * 8)
	ramp := 1.0
	if !s.hard {
		ramp = 1 + 15*t.rng.Float64()
	}
	pl, ph := 2*math.Pi*t.rng.Float64(), 2*math.Pi*t.rng.Float64()
	t.pcm = append(t.pcm, make([]float64, n)...)
	out := t.pcm[len(t.pcm)-n:]
	for i := range out {
		if s.gap > 0 && math.Abs(float64(i)-float64(n)/2) < s.gap*4 {
			continue
		}
		edge := min(1, (float64(i)+.5)/ramp, (float64(n-i)-.5)/ramp)
		x := 2 * math.Pi * float64(i) / 8000
		l, h := low*x+pl, high*x+ph
		v := al*math.Sin(l) + ah*math.Sin(h)
		if s.harm > 0 {
			v += s.harm * (al*math.Sin(2*l) + ah*math.Sin(2*h))
		}
		out[i] = v * edge
	}
	t.pause(s.rest + t.rng.Float64()*1.5)
}

// each presses all keys rounds times in each way.
func (t *tape) each(rounds int, ways ...sound) *tape {
	for range rounds {
		for _, s := range ways {
			for i := range allKeys {
				t.key(allKeys[i], s)
			}
		}
	}
	t.pause(300)
	return t
}

// behind adds sound to all of the tape.
func (t *tape) behind(noise func() float64) *tape {
	for i := range t.pcm {
		t.pcm[i] += noise()
	}
	return t
}

// under adds other sound, again and again.
func (t *tape) under(sound []float64, gain float64) *tape {
	for i := range t.pcm {
		t.pcm[i] += gain * sound[i%len(sound)]
	}
	return t
}

// white is noise of a level in dBm0.
func (t *tape) white(level float64) func() float64 {
	a := amp(level) / math.Sqrt2
	return func() float64 { return a * t.rng.NormFloat64() }
}

// pink is noise that falls by 3 dB an octave.
func (t *tape) pink(level float64) func() float64 {
	var b [3]float64
	a := amp(level) / math.Sqrt2 / 2.6
	return func() float64 {
		w := t.rng.NormFloat64()
		b[0] = .99765*b[0] + w*.0990460
		b[1] = .96300*b[1] + w*.2965164
		b[2] = .57000*b[2] + w*1.0526913
		return a * (b[0] + b[1] + b[2] + w*.1848)
	}
}

// chord is sines of one level each.
func chord(level float64, hertz ...float64) func() float64 {
	i, a := 0.0, amp(level)
	return func() float64 {
		i++
		v := 0.0
		for _, f := range hertz {
			v += a * math.Sin(2*math.Pi*f*i/8000)
		}
		return v
	}
}

// hum is that of a mains with its harmonics.
func hum(level, hertz float64) func() float64 {
	base, third, fifth := chord(level, hertz), chord(level-8, 3*hertz), chord(level-14, 5*hertz)
	return func() float64 { return base() + third() + fifth() }
}

// clicks are bursts of up to 2 ms, perSecond of them.
func (t *tape) clicks(level, perSecond float64) func() float64 {
	left := 0
	a := amp(level)
	return func() float64 {
		if left == 0 && t.rng.Float64() < perSecond/8000 {
			left = 1 + t.rng.IntN(16)
		}
		if left == 0 {
			return 0
		}
		left--
		return a * (2*t.rng.Float64() - 1)
	}
}

// lose drops packets of 20 ms: what stands in their place is silence, or the
// packet before. told says that the detector hears of it.
func (t *tape) lose(rate float64, repeat, told bool) *tape {
	if told && t.lost == nil {
		t.lost = make([]bool, len(t.pcm)/160+1)
	}
	for at := 160; at+160 <= len(t.pcm); at += 160 {
		if t.rng.Float64() >= rate {
			continue
		}
		if told {
			t.lost[at/160] = true
		}
		if repeat {
			copy(t.pcm[at:at+160], t.pcm[at-160:at])
		} else {
			clear(t.pcm[at : at+160])
		}
	}
	return t
}

// samples brings the tape through a law of G.711, or through none.
func (t *tape) samples(laws ...pcm.Law) []int16 {
	out := make([]int16, len(t.pcm))
	for i, v := range t.pcm {
		out[i] = int16(math.Round(min(max(v, -32768), 32767)))
	}
	for _, law := range laws {
		coded := make([]byte, len(out))
		law.Encode(coded, out)
		law.Decode(out, coded)
	}
	return out
}

// A voice makes speech-like sound from a seed: pulses of a gliding pitch through
// four resonators, in syllables that glide from vowel to vowel, with hisses.
type voice struct {
	rng   *rand.Rand
	pitch float64
}

type resonator struct{ a, b, y1, y2 float64 }

func (r *resonator) tune(hertz, width float64) {
	radius := math.Exp(-math.Pi * width / 8000)
	r.a, r.b = 2*radius*math.Cos(2*math.Pi*hertz/8000), -radius*radius
}

func (r *resonator) step(x float64) float64 {
	y := x*(1-r.a-r.b) + r.a*r.y1 + r.b*r.y2
	r.y2, r.y1 = r.y1, y
	return y
}

// speech is the given seconds of it at an active level of about -12 dBm0.
func speech(seed uint64, seconds float64) []float64 {
	v := voice{rng: rand.New(rand.NewPCG(seed, 77))}
	v.pitch = 80 + 180*v.rng.Float64()
	total := int(seconds * 8000)
	out := make([]float64, 0, total+4000)
	for len(out) < total {
		for range 3 + v.rng.IntN(7) {
			if v.rng.IntN(3) == 0 {
				out = v.hiss(out, 40+v.rng.IntN(80))
			}
			out = v.syllable(out, 80+v.rng.IntN(250))
			out = append(out, make([]float64, v.rng.IntN(300))...)
		}
		out = append(out, make([]float64, v.rng.IntN(2400))...)
	}
	return atLevel(out[:total], -12)
}

func (v *voice) syllable(out []float64, ms int) []float64 {
	var formants [4]resonator
	var from, to [4]float64
	for i, r := range [4][2]float64{{250, 600}, {750, 1600}, {2000, 900}, {3000, 600}} {
		from[i] = r[0] + r[1]*v.rng.Float64()
		to[i] = from[i]
		if v.rng.IntN(2) == 0 {
			to[i] = r[0] + r[1]*v.rng.Float64()
		}
	}
	width := 30 + 60*v.rng.Float64() // some vowels ring
	pitch, glide := v.pitch*(0.8+0.5*v.rng.Float64()), (v.rng.Float64()-0.5)*0.4
	n, phase, last := ms*8, 0.0, 0.0
	for i := range n {
		at := float64(i) / float64(n)
		if i%40 == 0 {
			for f := range formants {
				formants[f].tune(from[f]+(to[f]-from[f])*at, width*(1+0.4*float64(f)))
			}
		}
		phase += pitch * (1 + glide*at) * (1 + 0.01*v.rng.NormFloat64()) / 8000
		pulse := 0.02 * v.rng.NormFloat64()
		if phase >= 1 {
			phase--
			pulse++
		}
		source := 0.9*last + pulse
		last = source
		y := 0.0
		for f := range formants {
			y += formants[f].step(source) / float64(f+1)
		}
		out = append(out, 4*y*math.Sin(math.Pi*at))
	}
	return out
}

func (v *voice) hiss(out []float64, ms int) []float64 {
	last := 0.0
	for range ms * 8 {
		x := v.rng.NormFloat64()
		out = append(out, 0.15*(x-last))
		last = x
	}
	return out
}

// atLevel brings sound to an active level: that of the frames within 26 dB of the
// loudest.
func atLevel(x []float64, level float64) []float64 {
	var powers []float64
	peak := 0.0
	for at := 0; at+160 <= len(x); at += 160 {
		p := 0.0
		for _, v := range x[at : at+160] {
			p += v * v / 160
		}
		powers, peak = append(powers, p), max(peak, p)
	}
	sum, n := 0.0, 0.0
	for _, p := range powers {
		if p > peak/400 {
			sum, n = sum+p, n+1
		}
	}
	gain := amp(level) / math.Sqrt2 / math.Sqrt(max(sum, 1e-9)/max(n, 1))
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = gain * v
	}
	return out
}

// stretched plays sound faster, by linear interpolation.
func stretched(x []float64, speed float64) []float64 {
	out := make([]float64, int(float64(len(x)-1)/speed))
	for i := range out {
		at := float64(i) * speed
		j := int(at)
		out[i] = x[j] + (at-float64(j))*(x[j+1]-x[j])
	}
	return out
}
