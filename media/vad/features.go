package vad

import "math"

const (
	numBands = 5

	// Below this level, in dBm0, nothing is analysed: no caller is that quiet,
	// and most of a call is.
	nothing = -60.0

	pitchRate   = 4000 // hertz: periodicity is looked for at half the rate
	pitchWindow = window * hop / 2
	shortestLag = pitchRate * 25 / 10000 // 2.5 ms: 400 Hz
	longestLag  = pitchRate * 14 / 1000  // 14 ms: 71 Hz
	periodicity = 0.5
	hum         = 0.87 // pole of the filter against mains hum and offset
)

// Edges of the bands in hertz.
var edges = [numBands + 1]float64{250, 450, 800, 1350, 2200, 3500}

// features of the last 30 ms.
type features struct {
	power float64           // mean square of 16-bit samples
	bands [numBands]float64 // dB
}

// lowBands are filtered at half the rate.
const lowBands = 3

// frontEnd turns samples into features. Filters run on; windows are the last
// three hops.
type frontEnd struct {
	coefs  [numBands]coef
	states [numBands]state
	nought float64 // power of what is nothing
	still  float64 // what a band shows of it, in dB

	resting  int     // hops since the filters ran
	hp, last float32 // high-pass state
	powers   [window]float64
	energies [window][numBands]float64
	at       int
	pitch    [pitchWindow]float32 // at half the rate, the oldest first
	halved   [2]float32           // the last samples before the decimator
}

// coef is a band-pass of second order: b1 is 0 and b2 is -b0.
type coef struct{ b0, a1, a2 float32 }

type state struct{ z1, z2 float32 }

func (f *frontEnd) init() {
	for i := range f.coefs {
		rate := 8000.0
		if i < lowBands {
			rate = pitchRate
		}
		low, high := edges[i], edges[i+1]
		w := 2 * math.Pi * math.Sqrt(low*high) / rate
		q := math.Sqrt(low*high) / (high - low)
		alpha := math.Sin(w) / 2 / q
		f.coefs[i] = coef{
			b0: float32(alpha / (1 + alpha)),
			a1: float32(-2 * math.Cos(w) / (1 + alpha)),
			a2: float32((1 - alpha) / (1 + alpha)),
		}
	}
	f.nought = power(nothing)
	f.still = decibels(f.nought / numBands)
}

func (f *frontEnd) clear() {
	*f = frontEnd{coefs: f.coefs, nought: f.nought, still: f.still}
}

// hop analyses 10 ms and returns the features of the last 30.
func (f *frontEnd) hop(rx *[hop]int16) features {
	p := meanSquare(rx)
	f.powers[f.at] = p
	energies := &f.energies[f.at]
	if p < f.nought {
		f.rest(energies)
	} else {
		f.filter(rx, energies)
	}
	f.at = (f.at + 1) % window

	var out features
	for i := range window {
		out.power += f.powers[i] / window
	}
	for b := range numBands {
		out.bands[b] = f.still
		if f.resting < window {
			out.bands[b] = decibels((f.energies[0][b] + f.energies[1][b] + f.energies[2][b]) / window)
		}
	}
	return out
}

// rest stands for the filters where there is nothing to hear.
func (f *frontEnd) rest(energies *[numBands]float64) {
	if f.resting == 0 {
		f.states = [numBands]state{}
		f.hp, f.last = 0, 0
		f.halved = [2]float32{}
	}
	f.resting = min(f.resting+1, window)
	for b := range energies {
		energies[b] = f.nought / numBands
	}
	copy(f.pitch[:], f.pitch[hop/2:])
	clear(f.pitch[pitchWindow-hop/2:])
}

func (f *frontEnd) filter(rx *[hop]int16, energies *[numBands]float64) {
	f.resting = 0
	copy(f.pitch[:], f.pitch[hop/2:])
	half := (*[hop / 2]float32)(f.pitch[pitchWindow-hop/2:])
	var full [hop]float32
	for i, x := range rx {
		full[i] = float32(x)
	}
	// Every second sample, behind a filter of 1 3 3 1 and one against hum.
	h, hp, last := &f.halved, f.hp, f.last
	x := (h[0] + 3*h[1] + 3*full[0] + full[1]) / 8
	for i := range half {
		if i > 0 {
			x = (full[2*i-2] + 3*(full[2*i-1]+full[2*i]) + full[2*i+1]) / 8
		}
		hp = x - last + hum*hp
		last = x
		half[i] = hp
	}
	f.hp, f.last = hp, last
	copy(h[:], full[hop-2:])

	var sums [numBands]float32
	f.low(half, &sums)
	f.high(&full, &sums)
	for b, sum := range sums {
		n := hop
		if b < lowBands {
			n = hop / 2
		}
		energies[b] = max(f.nought/numBands, float64(sum)/float64(n))
	}
}

// low and high run several filters side by side: one alone would wait for its
// own last result most of the time.
func (f *frontEnd) low(in *[hop / 2]float32, sums *[numBands]float32) {
	c, d, e := f.coefs[0], f.coefs[1], f.coefs[2]
	p, q, r := f.states[0], f.states[1], f.states[2]
	var sp, sq, sr float32
	for _, x := range in {
		u, v, w := c.b0*x, d.b0*x, e.b0*x
		y, z, t := u+p.z1, v+q.z1, w+r.z1
		p.z1, q.z1, r.z1 = p.z2-c.a1*y, q.z2-d.a1*z, r.z2-e.a1*t
		p.z2, q.z2, r.z2 = -u-c.a2*y, -v-d.a2*z, -w-e.a2*t
		sp += y * y
		sq += z * z
		sr += t * t
	}
	f.states[0], f.states[1], f.states[2] = p, q, r
	sums[0], sums[1], sums[2] = sp, sq, sr
}

func (f *frontEnd) high(in *[hop]float32, sums *[numBands]float32) {
	c, d := f.coefs[3], f.coefs[4]
	p, q := f.states[3], f.states[4]
	var sp, sq float32
	for _, x := range in {
		u, v := c.b0*x, d.b0*x
		y, z := u+p.z1, v+q.z1
		p.z1, q.z1 = p.z2-c.a1*y, q.z2-d.a1*z
		p.z2, q.z2 = -u-c.a2*y, -v-d.a2*z
		sp += y * y
		sq += z * z
	}
	f.states[3], f.states[4] = p, q
	sums[3], sums[4] = sp, sq
}

// periodic reports whether the last 30 ms repeat after 2.5 to 14 ms: voiced
// speech does, and noise does not.
func (f *frontEnd) periodic() bool {
	x := &f.pitch
	var head, tail float32 // energies of the two stretches that are compared
	for _, v := range x {
		head += v * v
	}
	tail = head
	for lag := range longestLag + 1 {
		if lag > 0 {
			head -= x[pitchWindow-lag] * x[pitchWindow-lag]
			tail -= x[lag-1] * x[lag-1]
		}
		if lag < shortestLag {
			continue
		}
		var s0, s1 float32
		a, b := x[:pitchWindow-lag], x[lag:]
		for i := 0; i+1 < len(a) && i+1 < len(b); i += 2 {
			s0 += a[i] * b[i]
			s1 += a[i+1] * b[i+1]
		}
		if c := s0 + s1; c > 0 && c*c > periodicity*periodicity*head*tail {
			return true
		}
	}
	return false
}
