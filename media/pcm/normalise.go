package pcm

import (
	"errors"
	"io"
	"math"
)

// SpeechLevel is the active speech level in dBm0 that every prompt is brought
// to. The echo gate of media/vad relies on it.
const SpeechLevel = -16.0

const (
	frameSamples = Rate / 100                 // 10 ms
	leadSamples  = 2 * frameSamples           // of silence kept in front: 20 ms
	trailFrames  = 10                         // and at the end: 100 ms
	pauseMost    = 30 * Rate                  // samples of a pause that are held back
	learnFrames  = 30                         // active frames before the first sample leaves
	learnAtMost  = 100                        // frames of any kind before it leaves
	noiseBelow   = -45.0                      // dBm0: what never exceeds this is left as it is
	maxGain      = 15.0                       // dB, either way
	slewPerFrame = 3.0 * frameSamples / Rate  // dB: 3 dB a second
	activeRange  = 26                         // dB under the loudest frame that count as speech
	silenceBelow = -55.0                      // dBm0: what is trimmed at the ends,
	silenceRange = 42                         // and what is so many dB under the loudest frame
	limitLevel   = -3.0                       // dBm0: nothing leaves above the peak of such a sine
	kneeAt       = 0.7                        // of the limit: what is below passes unchanged
	levelBins    = -int(Quietest) + 1 + 6 + 1 // of 1 dB, up to a square wave at full scale
)

// Normalise brings src (8 kHz) to the given active speech level in dBm0: the
// level of the frames within 26 dB of the loudest. The gain comes from the
// first 300 ms of sound, follows what comes after by 3 dB a second, stays
// within 15 dB either way, and a soft limiter keeps peaks under those of a sine
// of -3 dBm0. Silence, and noise far under the sound, is cut to 20 ms in front
// and to 100 ms at the end; pauses inside keep their length. A source of nothing
// but silence comes out as silence of the same length, and one of nothing but
// faint noise as it is.
func Normalise(src Source, target float64) Source {
	return &normaliser{src: src, target: target, in: make([]int16, 10*frameSamples), limiter: newLimiter()}
}

type normaliser struct {
	src     Source
	target  float64
	limiter limiter

	in   []int16
	part []int16 // the beginning of an unfinished frame
	err  error   // of src; what is left is handed out first

	// What was heard so far.
	loudness loudness
	begun    bool // sound was heard
	frames   int  // since then
	silent   int  // frames since the last one with sound
	skipped  int  // samples before the first sound

	// Samples on their way, at the level of src.
	lead  []int16 // the last of the silence in front
	pause []int16 // silence that is inside only if sound follows
	out   []int16 // what may leave once the gain is known

	since  int  // frames when the first one above noise came
	learnt bool // the gain is known
	left   bool // samples have left
	gain   float64
}

// Read implements [Source].
func (n *normaliser) Read(p []int16) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if len(n.out) > 0 && n.ready() {
			return n.emit(p), nil
		}
		if n.err != nil {
			return 0, n.err
		}
		got, err := n.src.Read(n.in)
		n.analyse(n.in[:got])
		if err != nil {
			n.finish(err)
		} else if got == 0 {
			return 0, nil
		}
	}
}

// ready reports whether samples may leave: when the gain is known, or when
// there was nothing but noise for a while.
func (n *normaliser) ready() bool {
	if n.learnt {
		return true
	}
	patient := n.err == nil && n.frames < learnAtMost
	if !n.loudness.heard() {
		return !patient
	}
	if n.since == 0 {
		n.since = n.frames
	}
	if patient || n.err == nil && n.frames < n.since+learnFrames {
		if n.loudness.frames() < learnFrames {
			return false
		}
	}
	n.learnt = true
	n.gain = n.wanted()
	if !n.left {
		n.trimFront()
	}
	return true
}

// trimFront cuts the noise in front, now that the level of the sound is known.
func (n *normaliser) trimFront() {
	start := 0
	for start+frameSamples <= len(n.out) && Level(n.out[start:start+frameSamples]) < n.silence() {
		start += frameSamples
	}
	n.out = n.out[max(0, start-leadSamples):]
}

// silence is the level in dBm0 below which a frame is silent.
func (n *normaliser) silence() float64 {
	return max(silenceBelow, n.loudness.loudest()-silenceRange)
}

// wanted is the gain in dB that would bring all sound so far to the target.
func (n *normaliser) wanted() float64 {
	if !n.loudness.heard() {
		return 0
	}
	return max(-maxGain, min(maxGain, n.target-n.loudness.active()))
}

func (n *normaliser) emit(p []int16) int {
	wanted, done := n.wanted(), 0
	n.left = true
	for done < len(p) && len(n.out) > 0 {
		span := min(frameSamples, len(p)-done, len(n.out))
		step := slewPerFrame * float64(span) / frameSamples
		n.gain += max(-step, min(step, wanted-n.gain))
		n.limiter.scale(p[done:done+span], n.out[:span], math.Pow(10, n.gain/20))
		n.out = n.out[span:]
		done += span
	}
	if len(n.out) == 0 {
		n.out = n.out[:0:0]
	}
	return done
}

func (n *normaliser) analyse(in []int16) {
	for len(in) > 0 {
		if len(n.part) == 0 && len(in) >= frameSamples {
			n.frame(in[:frameSamples])
			in = in[frameSamples:]
			continue
		}
		take := min(frameSamples-len(n.part), len(in))
		n.part = append(n.part, in[:take]...)
		in = in[take:]
		if len(n.part) == frameSamples {
			n.frame(n.part)
			n.part = n.part[:0]
		}
	}
}

func (n *normaliser) frame(f []int16) {
	level := Level(f)
	if !n.begun && level < silenceBelow {
		n.skipped += len(f)
		n.lead = append(n.lead, f...)
		n.lead = n.lead[max(0, len(n.lead)-leadSamples):]
		return
	}
	n.begun = true
	n.frames++
	n.out = append(n.out, n.lead...)
	n.lead = nil
	if level >= silenceBelow {
		n.loudness.add(level)
	}
	if level >= n.silence() {
		n.silent = 0
		n.out = append(append(n.out, n.pause...), f...)
		n.pause = n.pause[:0]
		return
	}
	n.silent++
	if n.silent <= trailFrames {
		n.out = append(n.out, f...)
		return
	}
	n.pause = append(n.pause, f...)
	if len(n.pause) >= pauseMost {
		n.out = append(n.out, n.pause...)
		n.pause = n.pause[:0]
	}
}

// finish takes the error of src. What waited for sound to follow is dropped.
func (n *normaliser) finish(err error) {
	if len(n.part) > 0 {
		n.frame(n.part)
		n.part = nil
	}
	n.err = err
	if !n.begun && errors.Is(err, io.EOF) {
		n.out = make([]int16, n.skipped)
	}
}

// loudness measures active speech level: a histogram of the levels of frames.
type loudness struct {
	peak   int // the highest bin in use
	counts [levelBins]int
	powers [levelBins]float64 // mean squares, relative to 0 dBm0
}

func (l *loudness) add(level float64) {
	bin := max(0, min(levelBins-1, int(level-Quietest)))
	l.peak = max(l.peak, bin)
	l.counts[bin]++
	l.powers[bin] += math.Pow(10, level/10)
}

// loudest is the level of the loudest frame, to a decibel.
func (l *loudness) loudest() float64 { return Quietest + float64(l.peak) }

// heard reports whether there was more than noise.
func (l *loudness) heard() bool { return l.loudest() >= noiseBelow }

// frames is the number of active ones.
func (l *loudness) frames() int {
	count := 0
	for bin := max(0, l.peak-activeRange); bin <= l.peak; bin++ {
		count += l.counts[bin]
	}
	return count
}

// active is the level of the active frames. There must be one.
func (l *loudness) active() float64 {
	power := 0.0
	for bin := max(0, l.peak-activeRange); bin <= l.peak; bin++ {
		power += l.powers[bin]
	}
	return 10 * math.Log10(power/float64(l.frames()))
}

// A limiter bends what exceeds the knee towards a ceiling that is never
// reached. Being a curve without memory, it neither pumps nor delays.
type limiter struct{ knee, room float64 }

func newLimiter() limiter {
	ceiling := peakOf(limitLevel)
	return limiter{knee: kneeAt * ceiling, room: (1 - kneeAt) * ceiling}
}

func (l limiter) scale(dst, src []int16, factor float64) {
	for i, s := range src {
		x := float64(s) * factor
		if over := math.Abs(x) - l.knee; over > 0 {
			x = math.Copysign(l.knee+l.room*math.Tanh(over/l.room), x)
		}
		dst[i] = int16(math.Round(x))
	}
}
