package pcm

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
)

// ErrRate is wrapped where a sample rate is outside 4 kHz to 192 kHz.
var ErrRate = errors.New("pcm: unusable sample rate")

const (
	lowestRate  = 4000
	highestRate = 192000

	kaiserBeta   = 8.0
	cutOff       = 0.96 // of half the lower rate
	tapsAtOnce   = 64   // per sample of the lower rate: 192 for 24 kHz to 8 kHz
	maxPhases    = 512
	resampleRead = 1024
)

// Resample brings a to the given rate in hertz with a polyphase filter
// (Kaiser window, beta 8: stop band below -80 dB), without delay: the first
// sample out lies where the first sample in does. A source at the right rate
// passes through untouched. It reads a, but does not close it. A rate outside
// 4 kHz to 192 kHz makes Read fail with [ErrRate].
func Resample(a Audio, rate int) Source {
	from := a.SampleRate()
	if from < lowestRate || from > highestRate || rate < lowestRate || rate > highestRate {
		return failing{fmt.Errorf("%w: %d Hz to %d Hz", ErrRate, from, rate)}
	}
	if from == rate {
		return a
	}
	k := kernelFor(from, rate)
	r := &resampler{src: a, kernel: k, in: make([]int16, resampleRead)}
	// The window of the first sample begins before the sound.
	r.window = make([]float32, k.taps/2-1, k.taps+resampleRead)
	return r
}

type failing struct{ err error }

func (f failing) Read([]int16) (int, error) { return 0, f.err }

// A kernel is the filter for one pair of rates, cut into phases: row p holds
// the taps for an output sample that lies p/phases after an input sample. One
// row more than there are phases allows to interpolate between two of them
// where the ratio has more phases than the table.
type kernel struct {
	up, down int // output and input rate without common factors
	taps     int // even
	phases   int
	rows     [][]float32
}

var kernels sync.Map // [2]int → *kernel, of the usual rates only

func kernelFor(from, to int) *kernel {
	key := [2]int{from, to}
	if k, ok := kernels.Load(key); ok {
		return k.(*kernel)
	}
	k := newKernel(from, to)
	if usual(from) && usual(to) {
		kernels.Store(key, k)
	}
	return k
}

func usual(rate int) bool {
	switch rate {
	case 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000:
		return true
	}
	return false
}

func newKernel(from, to int) *kernel {
	g := gcd(from, to)
	k := &kernel{up: to / g, down: from / g}
	k.phases = min(k.up, maxPhases)
	// Widths are in input samples; below the lower rate the filter gets longer.
	scale := 1.0
	if from > to {
		scale = float64(to) / float64(from)
	}
	half := int(math.Ceil(tapsAtOnce / 2 / scale))
	k.taps = 2 * half
	k.rows = make([][]float32, k.phases+1)
	for p := range k.rows {
		row := make([]float32, k.taps)
		sum := 0.0
		weights := make([]float64, k.taps)
		for j := range weights {
			// Distance of tap j from the output sample: tap half-1 is the input
			// sample just before it.
			d := float64(j-half+1) - float64(p)/float64(k.phases)
			weights[j] = sinc(d*scale*cutOff) * kaiser(d/float64(half))
			sum += weights[j]
		}
		for j, w := range weights {
			row[j] = float32(w / sum) // unity at 0 Hz in every phase
		}
		k.rows[p] = row
	}
	return k
}

// at computes one output sample from the window that begins at its first tap;
// num/up is its distance behind the input sample before it.
func (k *kernel) at(window []float32, num int) float32 {
	scaled := num * k.phases
	p, rest := scaled/k.up, scaled%k.up
	y := dot(window, k.rows[p])
	if rest != 0 {
		t := float32(rest) / float32(k.up)
		y += t * (dot(window, k.rows[p+1]) - y)
	}
	return y
}

func dot(a, b []float32) float32 {
	a = a[:len(b)]
	var s0, s1 float32
	for i := 0; i+1 < len(b); i += 2 { // the number of taps is even
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
	}
	return s0 + s1
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

func kaiser(x float64) float64 {
	if x <= -1 || x >= 1 {
		return 0
	}
	return bessel(kaiserBeta*math.Sqrt(1-x*x)) / bessel(kaiserBeta)
}

// bessel is the modified Bessel function of the first kind and order zero.
func bessel(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > sum*1e-12; k++ {
		term *= (x / 2 / k) * (x / 2 / k)
		sum += term
	}
	return sum
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

type resampler struct {
	src    Source
	kernel *kernel
	in     []int16
	window []float32 // input from the first tap of the next output sample on
	num    int       // its distance behind the input sample before it, in 1/up
	err    error     // of src; the tail is flushed first
	tail   bool      // zeros stand in for what follows the end
}

// Read implements [Source].
func (r *resampler) Read(p []int16) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if n := r.produce(p); n > 0 {
			return n, nil
		}
		if r.err != nil {
			if errors.Is(r.err, io.EOF) && !r.tail {
				r.tail = true
				r.window = append(r.window, make([]float32, r.kernel.taps/2)...)
				continue
			}
			return 0, r.err
		}
		n, err := r.src.Read(r.in)
		for _, s := range r.in[:n] {
			r.window = append(r.window, float32(s))
		}
		r.err = err
		if n == 0 && err == nil {
			return 0, nil
		}
	}
}

func (r *resampler) produce(p []int16) int {
	k, n, used := r.kernel, 0, 0
	for n < len(p) && len(r.window)-used >= k.taps {
		p[n] = clip16(k.at(r.window[used:], r.num))
		n++
		r.num += k.down
		used += r.num / k.up
		r.num %= k.up
	}
	if used > 0 {
		r.window = r.window[:copy(r.window, r.window[used:])]
	}
	return n
}

func clip16(x float32) int16 {
	switch {
	case x >= math.MaxInt16:
		return math.MaxInt16
	case x <= math.MinInt16:
		return math.MinInt16
	case x >= 0:
		return int16(x + 0.5)
	}
	return int16(x - 0.5)
}

// UpsampleImage doubles the rate of src from 8 to 16 kHz and leaves the mirror
// image of 0–4 kHz in 4–8 kHz: recognisers trained on wide-band speech cope
// with the image better than with an empty upper band. It writes to the array
// of dst, or to a new one where that is too small, and returns the
// 2*len(src) samples. Samples beyond half of full scale are limited.
func UpsampleImage(dst, src []int16) []int16 {
	if cap(dst) < 2*len(src) {
		dst = make([]int16, 2*len(src))
	}
	dst = dst[:2*len(src)]
	for i, s := range src {
		// Twice the sample keeps the level of the lower band.
		dst[2*i] = int16(max(math.MinInt16, min(math.MaxInt16, 2*int(s))))
		dst[2*i+1] = 0
	}
	return dst
}
