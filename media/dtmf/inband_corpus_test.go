package dtmf_test

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/ivrbridge/ivrbridge/media/dtmf"
)

// What a row of the corpus wants of a detector.
type verdict string

const (
	accept verdict = "detect"
	reject verdict = "reject"
	talk   verdict = "talk-off"
	info   verdict = "beyond"
)

// A row is material of one kind. make is called once for each seed.
type row struct {
	verdict verdict
	name    string
	make    func(seed uint64) *tape
}

// ways makes sounds of one that is changed.
func ways[T any](base sound, values []T, change func(*sound, T)) []sound {
	var out []sound
	for _, v := range values {
		s := base
		change(&s, v)
		out = append(out, s)
	}
	return out
}

func pressed(rounds int, sounds ...sound) func(uint64) *tape {
	return func(seed uint64) *tape { return newTape(seed).each(rounds, sounds...) }
}

// with is material with something behind it.
func with(rounds int, noise func(t *tape) func() float64, sounds ...sound) func(uint64) *tape {
	return func(seed uint64) *tape {
		t := newTape(seed).each(rounds, sounds...)
		return t.behind(noise(t))
	}
}

// several is one tape of several.
func several(makers ...func(uint64) *tape) func(uint64) *tape {
	return func(seed uint64) *tape {
		all := &tape{}
		for i, m := range makers {
			t := m(seed*31 + uint64(i))
			for _, p := range t.presses {
				all.presses = append(all.presses, press{p.digit, p.at + len(all.pcm)})
			}
			if t.lost != nil {
				t.pcm = t.pcm[:len(t.pcm)/160*160]
				all.lost = append(all.lost, t.lost[:len(t.pcm)/160]...)
			}
			all.pcm = append(all.pcm, t.pcm...)
		}
		return all
	}
}

// offs are all ways in which two tones can be off by a share.
func offs(shares ...float64) (out [][2]float64) {
	for _, s := range shares {
		out = append(out, [2]float64{s, s}, [2]float64{s, -s}, [2]float64{-s, s}, [2]float64{-s, -s})
	}
	return out
}

var twists = []float64{4, 2, -4, -6, -8}

func rows() []row {
	setOff := func(s *sound, v [2]float64) { s.off = v }
	setTwist := func(s *sound, v float64) { s.twist = v }
	setLevel := func(s *sound, v float64) { s.level = v }
	setTime := func(s *sound, v [2]float64) { s.on, s.rest = v[0], v[1] }
	var corners []sound
	for _, on := range []float64{40, 50} {
		for _, twist := range []float64{4, -8} {
			corners = append(corners, ways(sound{level: -12, on: on, rest: on, twist: twist}, offs(.015), setOff)...)
		}
	}
	loud := ways(plain(), []float64{0, -5, -10, -15, -20, -25}, setLevel)
	long := sound{level: -14, on: 70, rest: 70}
	quick := sound{level: -12, on: 50, rest: 50}
	noisy := func(noise func(*tape, float64) func() float64, levels ...float64) func(uint64) *tape {
		var all []func(uint64) *tape
		for _, level := range levels {
			all = append(all, with(2, func(t *tape) func() float64 { return noise(t, level) }, quick, long))
		}
		return several(all...)
	}
	return append([]row{
		{accept, "clean, 0 to -25 dBm0", pressed(3, loud...)},
		{accept, "clean, -28 and -30 dBm0", pressed(3, ways(plain(), []float64{-28, -30}, setLevel)...)},
		{accept, "clipped, +3 dBm0", pressed(3, ways(plain(), []float64{1.5, 3}, setLevel)...)},
		{accept, "timing 40/40 to 1000/100 ms", pressed(2, ways(plain(), [][2]float64{{40, 40}, {40, 60}, {50, 50}, {60, 40}, {70, 70}, {100, 100}, {150, 400}, {1000, 100}}, setTime)...)},
		{accept, "one key again and again, 40/40 to 100/50 ms", again},
		{accept, "dialled fast and slowly", dialled},
		{accept, "interrupted for 5 or 10 ms", pressed(3, ways(sound{level: -12, on: 80, rest: 60}, []float64{5, 10}, func(s *sound, v float64) { s.gap = v })...)},
		{accept, "frequency ±1.0 and ±1.5 %", pressed(3, ways(plain(), offs(.01, .015), setOff)...)},
		{accept, "twist +4 to -8 dB", pressed(4, ways(plain(), twists, setTwist)...)},
		{accept, "corners: twist, ±1.5 %, 40 and 50 ms", pressed(2, corners...)},
		{accept, "corners at -25 dBm0", pressed(2, ways(sound{level: -25, on: 50, rest: 50, twist: -8}, offs(.015), setOff)...)},
		{accept, "corners in white noise, 15 dB", with(2, func(t *tape) func() float64 { return t.white(-27) }, corners...)},
		{accept, "harmonics of 5 and 10 %", pressed(2, ways(plain(), []float64{.05, .1}, func(s *sound, v float64) { s.harm = v })...)},
		{accept, "white noise, 24 to 12 dB", noisy((*tape).white, -36, -30, -27, -24)},
		{accept, "pink noise, 24 to 15 dB", noisy((*tape).pink, -36, -30, -27)},
		{accept, "clicks", noisy(func(t *tape, level float64) func() float64 { return t.clicks(level, 4) }, -20, -10, -5)},
		{accept, "mains hum", noisy(func(_ *tape, level float64) func() float64 { return hum(level, 50) }, -30, -24)},
		{accept, "dial tone", noisy(func(_ *tape, level float64) func() float64 { return chord(level, 350, 440) }, -36, -28)},
		{accept, "talk behind it, 25 to 15 dB", babble(-38, -33, -28)},
		{accept, "echo of a prompt, -35 to -25 dBm0", babble(-35, -30, -25)},
		{accept, "1 to 5 % lost, silence", losing(false, false, .01, .03, .05)},
		{accept, "1 to 5 % lost, packet repeated", losing(true, false, .01, .03, .05)},
		{accept, "1 to 5 % lost, and known", losing(false, true, .01, .03, .05)},
		{info, "pink noise, 12 and 10 dB", noisy((*tape).pink, -24, -22)},
		{info, "10 and 20 % lost, and known", losing(false, true, .1, .2)},
		{info, "white noise, 10 to 0 dB", noisy((*tape).white, -24, -20, -16, -12)},
	}, rejects()...)
}

// again presses each key several times.
func again(seed uint64) *tape {
	t := newTape(seed)
	for _, times := range [][2]float64{{40, 40}, {50, 50}, {60, 40}, {100, 50}} {
		for i := range allKeys {
			for range 6 {
				t.key(allKeys[i], sound{level: -12, on: times[0], rest: times[1]})
			}
		}
	}
	t.pause(300)
	return t
}

// dialled is what phones with a memory and people dial.
func dialled(seed uint64) *tape {
	t := newTape(seed)
	for n := range 40 {
		level := -22 + 14*t.rng.Float64()
		twist := -5 + 7*t.rng.Float64()
		for range 11 {
			s := sound{level: level, twist: twist, on: 70, rest: 70}
			if n%2 == 0 {
				s.on, s.rest = 60+400*t.rng.Float64(), 80+600*t.rng.Float64()
			}
			t.key(allKeys[t.rng.IntN(12)], s)
		}
		t.pause(500)
	}
	return t
}

func babble(levels ...float64) func(uint64) *tape {
	return func(seed uint64) *tape {
		var all []func(uint64) *tape
		for i, level := range levels {
			all = append(all, func(seed uint64) *tape {
				t := newTape(seed).each(3, sound{level: -12, on: 50, rest: 50}, sound{level: -12, on: 80, rest: 80})
				return t.under(speech(seed+uint64(i), 20), math.Pow(10, (level+12)/20))
			})
		}
		return several(all...)(seed)
	}
}

func losing(repeat, told bool, rates ...float64) func(uint64) *tape {
	return func(seed uint64) *tape {
		var all []func(uint64) *tape
		for _, rate := range rates {
			all = append(all, func(seed uint64) *tape {
				t := newTape(seed).each(4, sound{level: -12, on: 80, rest: 80}, sound{level: -12, on: 100, rest: 100})
				return t.lose(rate, repeat, told)
			})
		}
		return several(all...)(seed)
	}
}

func rejects() []row {
	setOff := func(s *sound, v [2]float64) { s.off = v }
	var off [][2]float64
	for _, v := range []float64{.035, .05} {
		off = append(off, [2]float64{v, 0}, [2]float64{-v, 0}, [2]float64{0, v}, [2]float64{0, -v})
	}
	off = append(off, offs(.035, .05)...)
	none := func(from func(uint64) *tape) func(uint64) *tape {
		return func(seed uint64) *tape {
			t := from(seed)
			t.presses = nil
			return t
		}
	}
	return []row{
		{reject, "tones of 10 to 23 ms", none(pressed(3, ways(plain(), []float64{10, 15, 20, 23}, func(s *sound, v float64) { s.on = v })...))},
		{reject, "frequency ±3.5 and ±5 %", none(pressed(1, append(ways(sound{level: -12, on: 100, rest: 60}, off, setOff), ways(sound{level: -12, on: 50, rest: 60}, off, setOff)...)...))},
		{reject, "twist +10 and -14 dB", none(pressed(3, ways(sound{level: -12, on: 100, rest: 60}, []float64{10, -14}, func(s *sound, v float64) { s.twist = v })...))},
		{reject, "-45 dBm0", none(pressed(3, sound{level: -45, on: 100, rest: 60}))},
		{reject, "one tone alone", none(pressed(3, sound{level: -12, on: 200, rest: 60, twist: 60}, sound{level: -12, on: 200, rest: 60, twist: -60}))},
		{reject, "dial, busy, ring, SIT, R1, R2, fax and other tones", signals},
	}
}

// signals are tones of networks and devices.
func signals(seed uint64) *tape {
	t := newTape(seed)
	pairs := [][2]float64{
		{350, 440}, {400, 450}, {425, 425}, {440, 480}, {480, 620}, {440, 440}, {400, 400}, {350, 450}, {425, 475}, {450, 500}, // networks
		{950, 950}, {914, 914}, {985, 985}, {1371, 1371}, {1429, 1429}, {1777, 1777}, {1800, 1800}, // SIT
		{1100, 1100}, {2100, 2100}, {2130, 2750}, {2225, 2225}, {1300, 1300}, {1000, 1000}, {1004, 1004}, {800, 800}, // devices
		{1650, 1850}, {980, 1180}, {1070, 1270}, {1400, 2060}, {400, 1400}, {853, 960},
	}
	r1 := []float64{700, 900, 1100, 1300, 1500, 1700}
	r2 := []float64{1380, 1500, 1620, 1740, 1860, 1980}
	back := []float64{540, 660, 780, 900, 1020, 1140}
	for _, set := range [][]float64{r1, r2, back} {
		for i := range set {
			for j := range i {
				if set[j] == 700 && set[i] == 1500 {
					continue // 1.6 % off the 3: between the limits
				}
				pairs = append(pairs, [2]float64{set[j], set[i]})
			}
		}
	}
	for _, level := range []float64{-5, -12, -20} {
		for _, p := range pairs {
			t.tones(p[0], p[1], sound{level: level, on: 300, rest: 100})
			t.tones(p[0], p[1], sound{level: level, on: 100, rest: 60})
		}
	}
	return t
}

// music is chords of harmonic notes, sirens, sweeps and ringing, for the given
// seconds.
func music(seed uint64, seconds float64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 5))
	out := make([]float64, 0, int(seconds*8000)+16000)
	for len(out) < int(seconds*8000) {
		switch rng.IntN(6) {
		case 0:
			out = sweep(rng, out)
		case 1:
			out = rings(rng, out)
		default:
			out = notes(rng, out)
		}
	}
	return atLevel(out[:int(seconds*8000)], -12)
}

// notes are three to six notes at once with overtones that die away. Two pure
// notes can be a key: that of F5 and F#6 is the 3.
func notes(rng *rand.Rand, out []float64) []float64 {
	bright := .4 + .4*rng.Float64()
	for range 8 + rng.IntN(8) {
		n := 800 + rng.IntN(6000)
		chord := make([]float64, n)
		for _, note := range rng.Perm(48)[:3+rng.IntN(4)] {
			f := 110 * math.Pow(2, float64(note)/12)
			for k, a := 1.0, 1.0; k*f < 3600 && k < 9; k, a = k+1, a*bright {
				phase := 2 * math.Pi * rng.Float64()
				for i := range chord {
					chord[i] += a * math.Exp(-float64(i)/6000) * math.Sin(2*math.Pi*k*f*float64(i)/8000+phase)
				}
			}
		}
		out = append(out, chord...)
	}
	return out
}

// sweep is a tone with overtones that glides, as that of a siren does.
func sweep(rng *rand.Rand, out []float64) []float64 {
	n := 8000 + rng.IntN(24000)
	phase := 0.0
	middle, wide, speed := 500+1200*rng.Float64(), 100+500*rng.Float64(), .2+8*rng.Float64()
	second, third := .5*rng.Float64(), .5*rng.Float64()
	for i := range n {
		phase += 2 * math.Pi * (middle + wide*math.Sin(2*math.Pi*speed*float64(i)/8000)) / 8000
		out = append(out, math.Sin(phase)+second*math.Sin(2*phase)+third*math.Sin(3*phase))
	}
	return out
}

// rings is the sound of a telephone's bell: two tones in turn.
func rings(rng *rand.Rand, out []float64) []float64 {
	low, high := 600+500*rng.Float64(), 1100+700*rng.Float64()
	period := 160 + rng.IntN(800)
	for i := range 8000 + rng.IntN(8000) {
		f := low
		if i/period%2 == 1 {
			f = high
		}
		out = append(out, math.Sin(2*math.Pi*f*float64(i)/8000))
	}
	return out
}

// A finding is a key that a detector told, and at which sample.
type finding struct {
	at    int
	digit byte
}

// A score says what became of the keys of a row.
type score struct {
	keys, right, extra int
	seconds            float64
	delays             []time.Duration
}

// judge compares what was found with what was there: a finding belongs to the
// last key that had begun 10 ms before it.
func (s *score) judge(t *tape, found []finding) {
	s.keys += len(t.presses)
	s.seconds += float64(len(t.pcm)) / 8000
	told := make([]bool, len(t.presses))
	next := 0
	for _, f := range found {
		for next < len(t.presses) && t.presses[next].at+80 <= f.at {
			next++
		}
		if next == 0 || told[next-1] || t.presses[next-1].digit != f.digit {
			s.extra++
			continue
		}
		told[next-1] = true
		s.right++
		s.delays = append(s.delays, time.Duration(f.at-t.presses[next-1].at)*time.Second/8000)
	}
}

// detect lets ours hear a tape in frames of 20 ms.
func detect(x []int16, lost []bool) (found []finding, releases int) {
	var d dtmf.Inband
	for at := 0; at < len(x); at += 160 {
		frame := x[at:min(at+160, len(x))]
		if lost != nil && at/160 < len(lost) && lost[at/160] {
			d.Lost(len(frame))
			frame = nil
		}
		end := min(at+160, len(x))
		for again := true; again; {
			n, key := d.Frame(frame)
			frame = frame[n:]
			switch {
			case key.Down:
				found = append(found, finding{end, key.Digit})
			case key.Digit != 0:
				releases++
			}
			again = len(frame) > 0 || key.Digit != 0
		}
	}
	return found, releases
}
