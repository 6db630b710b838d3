package dtmf

import "math"

// The detector looks at the last 20 ms every 5 ms, while there is a key that they
// might hold. Whether there is one the gate decides, every 10 ms.
const (
	hop    = clockRate / 200 // samples of a block
	blocks = 4               // of a window
	window = blocks * hop

	gateBlocks = 2
	gateSize   = gateBlocks * hop / 2 // every second sample

	kept   = 16 // blocks
	replay = 8  // windows that are looked at when the gate opens

	presses  = 5  // windows in a row that make a press
	releases = 6  // windows without the key that end it
	hints    = 2  // windows that make it likely
	blind    = 12 // windows that tell nothing and are passed over, in a row
	doubts   = 6  // windows in a row among those of a press that a break may have spoilt
	longGap  = clockRate / 5
)

// Limits of what is a key (ITU-T Q.24, with a margin for what lines and codecs
// do to a tone within them). Levels and shares are of power.
const (
	offset      = 0.022 // of the tone's frequency
	offsetFixed = 2.0   // hertz
	highOver    = 4.5   // high tone to low: +6.5 dB
	lowOver     = 11.2  // low tone to high: 10.5 dB
	share       = 0.74  // of the two tones in all that sounds
	bestShare   = 0.84  // the same, in one window of a press at least
	heldShare   = 0.55  // the same, while the key is held
	steady      = 2.51  // from window to window: 4 dB
	fallen      = 0.1   // of the level of the key that is held: -10 dB
	struck      = 4.0   // times the sound of the key that is held: a click covers it

	gateShare = 0.5
	gateTwist = 25.0
)

// weakest is the power of a tone of -39.5 dBm0, the least that is taken.
var weakest = float32(amplitude(-39.5) * amplitude(-39.5) / 2)

// A Key is what an [Inband] detector noticed. A press ends the key before it, if
// that is still down.
type Key struct {
	Digit byte // one of 0123456789*#ABCD; 0: nothing happened
	Down  bool // it was pressed; else it is up again
}

// An Inband detector finds keys in sound, by their tones (ITU-T Q.23), within the
// limits of Q.24. It tells a press once, about 40 ms after its beginning, and its
// end about 30 ms after that. Interruptions of up to 20 ms do not end a key. The
// zero value is ready. One goroutine uses it; it does not allocate.
type Inband struct {
	ring  [kept][hop]int16
	lost  [kept]bool
	count int // blocks that are complete
	fill  int // samples of the next one
	torn  bool

	hint   pair // of the gate
	hinted int  // how often in a row

	cand    candidate
	held    holding
	pending [4]Key // found in Lost
	waiting int    // how many
}

// A pair is two tones: low*4 + high + 1; 0 is none.
type pair uint8

func (p pair) low() int    { return int(p-1) / 4 }
func (p pair) high() int   { return int(p-1) % 4 }
func (p pair) digit() byte { return keypad[p-1] }

// A candidate is the key that might be there.
type candidate struct {
	pair   pair
	past   [2][2]phasor // of the last two windows, by tone
	seen   int          // windows
	valid  int          // in a row
	clear  bool         // the two tones were almost alone in one of these
	idle   int          // windows in a row in which it was not
	blind  int          // windows in a row that told nothing
	doubts int          // windows in a row that may belong to the press
	last   levels       // of the last valid window
}

// A holding is the key that is down.
type holding struct {
	pair   pair
	levels levels
	gone   int // windows in a row without it
	blind  int // and such that told nothing
}

// Levels are mean squares: of each tone, and of all that sounds.
type levels struct{ low, high, all float32 }

type phasor struct{ re, im float32 }

func (p phasor) power() float32 { return p.re*p.re + p.im*p.im }

// turn is the angle from q to p.
func (p phasor) turn(q phasor) float64 {
	return math.Atan2(float64(p.im*q.re-p.re*q.im), float64(p.re*q.re+p.im*q.im))
}

// Frame takes the next samples, 16 bits at 8 kHz, up to the first at which
// something happens, and returns how many these are. Call it again with the rest
// until there is none.
func (d *Inband) Frame(pcm []int16) (n int, key Key) {
	if d.waiting > 0 {
		key = d.pending[0]
		d.waiting = copy(d.pending[:], d.pending[1:d.waiting])
		return 0, key
	}
	for n < len(pcm) {
		m := copy(d.ring[d.count%kept][d.fill:], pcm[n:])
		n += m
		d.fill += m
		if d.fill == hop {
			if key = d.block(); key.Digit != 0 {
				return n, key
			}
		}
	}
	return n, Key{}
}

// Lost says that n samples are missing here, and goes before a Frame, of no samples
// if need be, which tells what happened. A key that is held stays so for a while;
// more than 200 ms end it.
func (d *Inband) Lost(n int) {
	if n > longGap {
		held := d.held.pair
		*d = Inband{pending: d.pending, waiting: d.waiting}
		if held != 0 {
			d.tell(Key{Digit: held.digit()})
		}
		return
	}
	for n > 0 {
		part := d.ring[d.count%kept][d.fill:]
		part = part[:min(n, len(part))]
		clear(part)
		n -= len(part)
		d.fill += len(part)
		d.torn = true
		if d.fill == hop {
			d.tell(d.block())
		}
	}
}

// tell keeps what happened for Frame. There is always room: a key needs sound to
// be pressed.
func (d *Inband) tell(key Key) {
	if key.Digit != 0 && d.waiting < len(d.pending) {
		d.pending[d.waiting] = key
		d.waiting++
	}
}

// Reset forgets everything, a key that is down included.
func (d *Inband) Reset() { *d = Inband{} }

// Holds reports whether the key is down.
func (d *Inband) Holds(digit byte) bool { return d.held.pair != 0 && d.held.pair.digit() == digit }

// Tone reports whether what came last seems to be the sound of a key.
func (d *Inband) Tone() bool { return d.held.pair != 0 || d.cand.valid >= hints }

// block looks at the block that is complete.
func (d *Inband) block() Key {
	d.lost[d.count%kept] = d.torn
	d.count++
	d.fill, d.torn = 0, false
	if d.cand.pair != 0 {
		d.follow(d.count)
	}
	if d.count%gateBlocks == 0 {
		d.gate()
	}
	c, h := &d.cand, &d.held
	switch {
	case c.pair != 0 && c.pair != h.pair && c.valid >= presses && c.clear:
		*h = holding{pair: c.pair, levels: c.last}
		return Key{Digit: c.pair.digit(), Down: true}
	case h.pair != 0 && h.gone >= releases:
		key := Key{Digit: h.pair.digit()}
		*h = holding{}
		c.valid = 0
		return key
	}
	return Key{}
}

// gate opens for a pair of tones that makes up most of the sound twice in a row.
func (d *Inband) gate() {
	c := &d.cand
	p := d.strongest()
	if p == 0 && (d.lost[(d.count-1)%kept] || d.lost[(d.count-2)%kept]) {
		return // nothing can be said
	}
	if p != 0 && p == d.hint {
		d.hinted++
	} else {
		d.hint, d.hinted = p, 1
	}
	switch {
	case d.hint == 0:
		if c.pair != 0 && d.held.pair == 0 && c.idle >= replay {
			*c = candidate{}
		}
	case d.hinted >= 2 && d.hint != c.pair:
		*c = candidate{pair: d.hint}
		for at := d.count - min(replay, d.count) + 1; at <= d.count; at++ {
			d.look(at)
		}
	}
}

// follow looks at the window that is complete, and for the key that is held.
func (d *Inband) follow(at int) {
	h := &d.held
	now, heard, known := d.look(at)
	switch {
	case h.pair == 0:
	case h.pair == d.cand.pair && heard && now.low >= fallen*h.levels.low && now.high >= fallen*h.levels.high:
		h.levels.low += (now.low - h.levels.low) / 4
		h.levels.high += (now.high - h.levels.high) / 4
		h.levels.all += (now.all - h.levels.all) / 4
		h.gone, h.blind = 0, 0
	case h.blind < blind && (!known || now.all > struck*h.levels.all) && h.gone == 0:
		h.blind++
	default:
		h.gone++
	}
}

// look measures the candidate in the window that ends with block at. heard says
// that it may go on there, known that enough of the window was received.
func (d *Inband) look(at int) (now levels, heard, known bool) {
	c := &d.cand
	now, tones, part := d.measure(c.pair, at)
	past := c.past
	c.past = [2][2]phasor{tones, past[0]}
	c.seen++
	if part < 0.5 {
		if c.blind++; c.blind > blind {
			c.valid = 0
		}
		return now, false, false
	}
	fits := c.seen > 2
	for i, f := range [2]float64{lowGroup[c.pair.low()], highGroup[c.pair.high()]} {
		off := deviation(f, tones[i], past[0][i], past[1][i])
		fits = fits && math.Abs(off) <= offset*f+offsetFixed
		droop := hannDroop(min(math.Abs(off), 45))
		if i == 0 {
			now.low /= droop
		} else {
			now.high /= droop
		}
	}
	both := now.low + now.high
	heard = fits && both >= heldShare*now.all
	valid := fits && both >= share*now.all &&
		now.low >= weakest && now.high >= weakest && now.high <= highOver*now.low && now.low <= lowOver*now.high
	clean := both >= bestShare*now.all
	alike := near(now.low, c.last.low) && near(now.high, c.last.high)
	quieter := now.all < c.last.all/steady
	switch {
	case valid && (c.valid == 0 || alike):
		c.clear = clean || c.valid > 0 && c.clear
		c.valid++
		c.idle = 0
	case c.valid > 0 && c.doubts < doubts && (quieter || !valid && (heard || near(now.all, c.last.all))):
		c.doubts++ // it may go on after a short break
		return now, heard, true
	case valid: // it has become louder, and begins here
		c.valid, c.idle, c.clear = 1, 0, clean
	default:
		c.valid = 0
		c.idle++
	}
	c.doubts, c.blind, c.last = 0, 0, now
	return now, heard, true
}

func near(a, b float32) bool { return a <= steady*b && b <= steady*a }

// deviation is by how many hertz a tone differs from f, by its phase in the last
// three windows: that of the first says it finely, but not which turn it is.
func deviation(f float64, now, before, first phasor) float64 {
	const perTurn = float64(clockRate) / hop
	short := perTurn / (2 * math.Pi) * rest(now.turn(before)-2*math.Pi*f*hop/clockRate)
	long := perTurn / 2 / (2 * math.Pi) * rest(now.turn(first)-2*math.Pi*f*2*hop/clockRate)
	return long + perTurn/2*math.Round((short-long)/(perTurn/2))
}

// rest is an angle without full turns.
func rest(angle float64) float64 {
	return angle - 2*math.Pi*math.Round(angle/(2*math.Pi))
}
