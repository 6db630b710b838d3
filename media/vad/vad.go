// Package vad hears when a caller begins and ends to speak, and does not take
// the echo of our own prompt for the caller.
//
// A [Detector] looks at spans of 10 ms with plain arithmetic: energy in five
// bands over a floor, periodicity, the caller's usual level, and a gate that
// has learnt how much of what we send comes back. It is a data structure
// without goroutines or clocks, made for the media wheel: nothing is allocated
// per frame. It knows nothing of RTP and calls; what follows from speech is
// decided elsewhere.
package vad

import (
	"math"
	"math/bits"
	"time"
)

// Config holds the operating points. Times are rounded to 10 ms; windows are
// at most 640 ms.
type Config struct {
	Start       time.Duration // so much speech
	StartWindow time.Duration // within so much time begins an utterance,
	Voiced      time.Duration // if so much of it is periodic
	// Confirm and ConfirmWindow are the same for certainty: a barge-in counts.
	Confirm       time.Duration
	ConfirmWindow time.Duration
	End           time.Duration // without speech ends it

	Quietest   float64 // dBm0: what is below is no speech
	LevelRange float64 // dB under the caller's usual level that still count; 0 for all
	Margin     float64 // dB over the expected echo
}

// Default returns the measured operating points.
func Default() Config {
	return Config{
		Start:         120 * time.Millisecond,
		StartWindow:   200 * time.Millisecond,
		Voiced:        60 * time.Millisecond,
		Confirm:       200 * time.Millisecond,
		ConfirmWindow: 300 * time.Millisecond,
		End:           500 * time.Millisecond,
		Quietest:      -45,
		LevelRange:    15,
		Margin:        6,
	}
}

// A Change is what a frame changed.
type Change uint8

// The changes. An utterance is Start, perhaps Confirm, End, in this order. A
// frame reports one change; a second one waits for the next frame.
const (
	None Change = iota
	Start
	Confirm
	End
)

// String is the change's name.
func (c Change) String() string {
	switch c {
	case Start:
		return "start"
	case Confirm:
		return "confirm"
	case End:
		return "end"
	default:
		return "none"
	}
}

const (
	hop       = 80 // samples: 10 ms
	hopTime   = 10 * time.Millisecond
	window    = 3  // hops that features are taken over
	mostHops  = 64 // that a window of decisions holds
	tailHops  = 5  // within which
	tailCount = 3  // hops of speech keep an utterance alive

	levelRise  = 0.1   // of the distance to a louder voiced hop
	levelFall  = 0.02  // and to a quieter one
	levelDecay = 0.005 // dB a hop without speech: 0.5 dB a second
)

// A Detector follows one caller. One goroutine uses it.
type Detector struct {
	cfg    Config
	quiet  float64 // power of cfg.Quietest
	rx, tx [hop]int16
	have   int // samples in rx and tx
	front  frontEnd
	echo   echoGate
	bands  [numBands]floorTracker

	level    float64 // dBm0: the caller's voiced speech
	hasLevel bool

	speech    uint64 // one bit a hop, the youngest lowest
	voiced    uint64
	idle      int // hops since the utterance was last alive
	speaking  bool
	confirmed bool
}

// New makes a detector; a zero Config is [Default].
func New(c Config) *Detector {
	if c == (Config{}) {
		c = Default()
	}
	d := &Detector{cfg: c}
	d.front.init()
	d.Reset()
	return d
}

// Reset forgets everything, for another caller on the same line.
func (d *Detector) Reset() {
	front := d.front
	*d = Detector{cfg: d.cfg, quiet: power(d.cfg.Quietest), front: front}
	d.front.clear()
	d.echo.reset(d.cfg.Margin)
	for i := range d.bands {
		d.bands[i].reset()
	}
}

// Prompt tells that a prompt begins to be sent: the echo gate learns anew.
func (d *Detector) Prompt() { d.echo.prompt() }

// Speaking reports whether an utterance has started and not ended.
func (d *Detector) Speaking() bool { return d.speaking }

// Frame takes what was received and what was sent in the same span, 16-bit
// samples at 8 kHz of any number; decisions fall every 80. A tx that is nil or
// shorter than rx stands for silence. It does not allocate.
func (d *Detector) Frame(rx, tx []int16) Change {
	change := None
	for len(rx) > 0 {
		n := copy(d.rx[d.have:], rx)
		sent := copy(d.tx[d.have:d.have+n], tx)
		clear(d.tx[d.have+sent : d.have+n])
		rx, tx = rx[n:], tx[sent:]
		d.have += n
		if d.have == hop {
			d.have = 0
			d.hop()
			if change == None {
				change = d.decide()
			}
		}
	}
	return change
}

// hop judges 10 ms.
func (d *Detector) hop() {
	f := d.front.hop(&d.rx)
	open := d.echo.hop(f.power, meanSquare(&d.tx))
	loud := d.overFloor(&f)
	speech := loud && open && f.power > d.quiet && !d.tooQuiet(f.power)
	voiced := speech && d.front.periodic()
	d.follow(f.power, voiced)
	d.speech = d.speech<<1 | bit(speech)
	d.voiced = d.voiced<<1 | bit(voiced)
	if count(d.speech, tailHops) >= tailCount {
		d.idle = 0
	} else {
		d.idle++
	}
}

// overFloor compares the bands with their floors, and lets these follow.
func (d *Detector) overFloor(f *features) bool {
	const (
		least = 6.0 // dB over the floor in two bands at least
		mean  = 4.5 // and this on average
	)
	over, sum := 0, 0.0
	for i := range d.bands {
		excess := f.bands[i] - d.bands[i].floor()
		if excess > least {
			over++
		}
		sum += max(0, min(30, excess))
		d.bands[i].add(f.bands[i])
	}
	return over >= 2 && sum > mean*numBands
}

// tooQuiet finds voices in the background: far below the caller's own.
func (d *Detector) tooQuiet(p float64) bool {
	return d.hasLevel && d.cfg.LevelRange > 0 && decibels(p) < d.level-d.cfg.LevelRange
}

// follow keeps the level of the caller's voice.
func (d *Detector) follow(p float64, voiced bool) {
	if !voiced {
		d.level -= levelDecay
		return
	}
	level := decibels(p)
	switch {
	case !d.hasLevel:
		d.level, d.hasLevel = level, true
	case level > d.level:
		d.level += levelRise * (level - d.level)
	default:
		d.level += levelFall * (level - d.level)
	}
}

// decide moves on by one change at most.
func (d *Detector) decide() Change {
	c := &d.cfg
	switch {
	case !d.speaking:
		if !enough(d.speech, c.Start, c.StartWindow) || !enough(d.voiced, c.Voiced, c.StartWindow) {
			return None
		}
		d.speaking, d.confirmed, d.idle = true, false, 0
		return Start
	case d.idle >= hops(c.End):
		d.speaking, d.speech, d.voiced = false, 0, 0
		return End
	case !d.confirmed && enough(d.speech, c.Confirm, c.ConfirmWindow):
		d.confirmed = true
		return Confirm
	}
	return None
}

func enough(history uint64, amount, within time.Duration) bool {
	return count(history, hops(within)) >= hops(amount)
}

// count is the number of ones among the youngest n hops.
func count(history uint64, n int) int {
	return bits.OnesCount64(history & (1<<min(n, mostHops) - 1))
}

func hops(d time.Duration) int { return int((d + hopTime/2) / hopTime) }

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// fullScale is the level of a sine at full scale (ITU-T G.711), and reference
// the power of 0 dBm0 in 16-bit samples squared.
const (
	fullScale = 3.14
	floorDB   = -100.0
)

var reference = 32768.0 * 32768.0 / 2 / math.Pow(10, fullScale/10)

func decibels(p float64) float64 {
	if p <= 0 {
		return floorDB
	}
	return max(floorDB, 10*math.Log10(p/reference))
}

func power(level float64) float64 { return reference * math.Pow(10, level/10) }

func meanSquare(pcm *[hop]int16) float64 {
	var sum int64
	for _, s := range pcm {
		sum += int64(s) * int64(s)
	}
	return float64(sum) / hop
}
