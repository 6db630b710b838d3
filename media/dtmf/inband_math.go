package dtmf

import "math"

// Shapes are what the detector's sums need, the same for all detectors.
type shapes struct {
	waves    [8][window]phasor // of each tone, in a raised cosine (Hann)
	power    [window]float32   // squares of that
	quarters [blocks]float32   // how much of it lies in each block
	tone     float32           // makes mean squares of a tone's sums
	all      float32           // and of what everything sums up to
	gate     [8]float32        // coefficients of the recursions, at half the rate
}

var shape = newShapes()

func newShapes() *shapes {
	s := &shapes{}
	tones := [8]float64{}
	copy(tones[:4], lowGroup[:])
	copy(tones[4:], highGroup[:])
	sum, squares := 0.0, 0.0
	for i := range window {
		w := 0.5 - 0.5*math.Cos(2*math.Pi*(float64(i)+0.5)/window)
		sum += w
		squares += w * w
		s.power[i] = float32(w * w)
		s.quarters[i/hop] += float32(w)
		for t, f := range tones {
			sin, cos := math.Sincos(2 * math.Pi * f * float64(i) / clockRate)
			s.waves[t][i] = phasor{float32(w * cos), float32(-w * sin)}
		}
	}
	for i := range s.quarters {
		s.quarters[i] /= float32(sum)
	}
	s.tone, s.all = float32(2/(sum*sum)), float32(1/squares)
	for t, f := range tones {
		s.gate[t] = float32(2 * math.Cos(4*math.Pi*f/clockRate))
	}
	return s
}

// hannDroop is the power that is measured of a tone that is off by so many hertz,
// as a share of what it has.
func hannDroop(off float64) float32 {
	x := off * window / clockRate
	if x < 1e-3 {
		return 1
	}
	a := math.Sin(math.Pi*x) / (math.Pi * x * (1 - x*x))
	return float32(a * a)
}

// measure sums up the window that ends with block at. part is how much of its
// weight was received.
func (d *Inband) measure(p pair, at int) (now levels, tones [2]phasor, part float32) {
	low, high := &shape.waves[p.low()], &shape.waves[4+p.high()]
	for b := range blocks {
		i := at - blocks + b
		if i < 0 || d.lost[i%kept] {
			continue
		}
		part += shape.quarters[b]
		x := &d.ring[i%kept]
		l, h := (*[hop]phasor)(low[b*hop:]), (*[hop]phasor)(high[b*hop:])
		w := (*[hop]float32)(shape.power[b*hop:])
		var lr, li, hr, hi, all float32
		for n := range x {
			v := float32(x[n])
			lr += l[n].re * v
			li += l[n].im * v
			hr += h[n].re * v
			hi += h[n].im * v
			all += w[n] * v * v
		}
		tones[0].re += lr
		tones[0].im += li
		tones[1].re += hr
		tones[1].im += hi
		now.all += all
	}
	if part > 0 {
		known := shape.tone / (part * part)
		now.low, now.high = tones[0].power()*known, tones[1].power()*known
		now.all *= shape.all / part
	}
	return now, tones, part
}

// strongest is the gate: the pair of tones that makes up most of the last two
// blocks, or none. It looks at every second sample, which is enough to say no.
func (d *Inband) strongest() pair {
	var x [gateSize]float32
	var all float32
	for b := range gateBlocks {
		block := &d.ring[(d.count-gateBlocks+b)%kept]
		half := (*[hop / 2]float32)(x[b*hop/2:])
		for i := range half {
			half[i] = float32(block[2*i])
			all += half[i] * half[i]
		}
	}
	if all < weakest*gateSize {
		return 0
	}
	low, lowPower := loudest(&x, (*[4]float32)(shape.gate[:4]))
	if lowPower*gateTwist*2 < all { // nothing of the high group could make up for it
		return 0
	}
	high, highPower := loudest(&x, (*[4]float32)(shape.gate[4:]))
	const one = 2.0 / gateSize // makes energies of a tone's sums
	lowPower, highPower = lowPower*one, highPower*one
	if lowPower+highPower < gateShare*all || lowPower > gateTwist*highPower || highPower > gateTwist*lowPower {
		return 0
	}
	return pair(low*4+high) + 1
}

// loudest finds the loudest of four tones (Goertzel, side by side).
func loudest(x *[gateSize]float32, c *[4]float32) (best int, power float32) {
	c0, c1, c2, c3 := c[0], c[1], c[2], c[3]
	var p0, p1, p2, p3, q0, q1, q2, q3 float32
	for i := 0; i < gateSize; i += 2 {
		v, w := x[i], x[i+1]
		q0 = v - q0 + c0*p0
		q1 = v - q1 + c1*p1
		q2 = v - q2 + c2*p2
		q3 = v - q3 + c3*p3
		p0 = w - p0 + c0*q0
		p1 = w - p1 + c1*q1
		p2 = w - p2 + c2*q2
		p3 = w - p3 + c3*q3
	}
	powers := [4]float32{
		p0*p0 + q0*q0 - c0*p0*q0, p1*p1 + q1*q1 - c1*p1*q1,
		p2*p2 + q2*q2 - c2*p2*q2, p3*p3 + q3*q3 - c3*p3*q3,
	}
	for i, p := range powers {
		if p > power {
			best, power = i, p
		}
	}
	return best, power
}
