package media

import (
	"slices"
	"time"

	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/media/vad"
)

// A Tap hears both directions of a leg: a recogniser's feeder, a recorder, a
// listener. Frame is called on the wheel with 20 ms of each, as time passes: at
// is the number of the first sample since the leg's stream began, and rises by
// 160 from call to call as long as the wheel keeps up. rx is what the far end
// said, as soon as it is there and in order, concealed where packets are missing
// and zero where there are none (and while it holds us); tx is what was sent
// meanwhile. Frame must neither keep the slices, nor change them, nor block.
type Tap interface {
	Frame(at int64, rx, tx []int16)
}

const (
	earRing = 4096 // samples: half a second of each direction
	// patience is how long frames wait for packets that are late: the recogniser
	// gets a burst then instead of a hole.
	patience = pcm.Rate / 5
	// backlog is how much may wait beyond the time that has passed.
	backlog = 2 * pcm.Rate / 5
)

// Ears line up what is received with what is sent, for taps and the detector
// of speech. Positions count samples since the stream began.
type ears struct {
	taps     []*attached
	detector *vad.Detector
	config   vad.Config
	on       bool // speech is to be detected
	held     bool
	open     bool // somebody listens
	speaking bool // SpeechStart was told

	origin time.Duration // when sample 0 was due
	at     int64         // of the next frame
	absent bool          // nothing comes: frames do not wait for it

	tx    [earRing]int16 // by position
	sentN int64          // position behind the last sample sent
	rx    [earRing]int16 // by count
	head  int64
	tail  int64
	frame struct{ rx, tx [frameSize]int16 }
}

type attached struct{ tap Tap }

func (e *ears) init(c vad.Config) {
	e.config, e.on, e.absent = c, c != (vad.Config{}), true
	e.listen(e.on)
}

// start sets the time of sample 0.
func (e *ears) start(now time.Duration) { e.origin = now }

// Attach lets t hear the leg until detach is called, which takes effect at the
// leg's next slot. Both may be called from any goroutine.
func (l *Leg) Attach(t Tap) (detach func()) {
	a := &attached{t}
	l.mail.post(func(l *Leg) {
		l.ears.taps = append(l.ears.taps, a)
		l.ears.adjust()
	})
	return func() {
		l.mail.post(func(l *Leg) {
			l.ears.taps = slices.DeleteFunc(l.ears.taps, func(b *attached) bool { return a == b })
			l.ears.adjust()
		})
	}
}

// listen turns the detection of speech on or off.
func (e *ears) listen(on bool) {
	e.on = on
	if on && e.detector == nil {
		e.detector = vad.New(e.config)
	}
	e.adjust()
}

// adjust begins to line up when the first one listens.
func (e *ears) adjust() {
	open := e.on || len(e.taps) > 0
	if open && !e.open {
		clear(e.tx[:])
		e.at, e.head, e.absent = e.sentN, e.tail, true
	}
	e.open = open
}

// prompt tells the detector that a prompt begins.
func (e *ears) prompt() {
	if e.detector != nil {
		e.detector.Prompt()
	}
}

// sent takes what goes out in a slot.
func (e *ears) sent(coded []byte, law pcm.Law) {
	if e.open {
		for rest := coded; len(rest) > 0; {
			i := int((e.sentN + int64(len(coded)-len(rest))) % earRing)
			rest = rest[law.Decode(e.tx[i:], rest):]
		}
	}
	e.sentN += int64(len(coded))
}

// skip takes time in which nothing was done.
func (e *ears) skip(n int) {
	e.sentN += int64(n)
	clear(e.tx[:])
	e.at, e.head = e.sentN, e.tail
}

// heard takes what was received, in order.
func (e *ears) heard(sound []int16) {
	e.concealed(sound)
	e.absent = false
}

// concealed takes samples that stand for packets that are missing.
func (e *ears) concealed(sound []int16) {
	if !e.open || e.held {
		return
	}
	for len(sound) > 0 {
		e.room()
		n := copy(e.rx[e.tail%earRing:], sound)
		sound = sound[n:]
		e.tail += int64(n)
	}
}

// lack is how many samples of the far end are missing for the time that has
// passed.
func (e *ears) lack(now time.Duration) int {
	return samples(now-e.origin) - int(e.at+e.tail-e.head)
}

// room drops the oldest samples when too many wait.
func (e *ears) room() {
	if e.tail-e.head > backlog {
		e.head = e.tail - backlog
	}
}

// hear passes on the frames that are complete.
func (l *Leg) hear() {
	e := &l.ears
	if !e.open || !l.clock {
		return
	}
	passed := int64(samples(l.now - e.origin))
	for e.sentN-e.at >= frameSize {
		waiting := e.tail - e.head
		behind := passed - e.at
		if waiting < frameSize && (!e.absent && behind < patience || behind < frameSize) {
			return
		}
		n := min(waiting, frameSize)
		clear(e.frame.rx[n:])
		unwind(e.frame.rx[:n], &e.rx, e.head)
		unwind(e.frame.tx[:], &e.tx, e.at)
		e.head += n
		if n < frameSize {
			e.absent = true
		}
		at := e.at
		e.at += frameSize
		for _, a := range e.taps {
			a.tap.Frame(at, e.frame.rx[:], e.frame.tx[:])
		}
		if e.on && !e.held {
			l.speech(e.detector.Frame(e.frame.rx[:], e.frame.tx[:]))
		}
	}
}

// unwind copies what lies in a ring from position at on.
func unwind(dst []int16, ring *[earRing]int16, at int64) {
	n := copy(dst, ring[at%earRing:])
	copy(dst[n:], ring[:])
}

// speech tells what the detector noticed.
func (l *Leg) speech(c vad.Change) {
	switch c {
	case vad.None:
	case vad.Start:
		l.ears.speaking = true
		l.post(Event{Kind: SpeechStart})
	case vad.Confirm:
		if !l.ears.speaking {
			l.ears.speaking = true
			l.post(Event{Kind: SpeechStart})
		}
		l.post(Event{Kind: SpeechConfirm})
	case vad.End:
		l.ears.speaking = false
		l.post(Event{Kind: SpeechEnd})
	}
}

// hush ends an utterance that cannot be followed any more.
func (l *Leg) hush() {
	e := &l.ears
	if e.detector == nil {
		return
	}
	clear(e.frame.rx[:])
	// The longest end of an utterance that is of use, and no endless loop.
	for i := 0; e.detector.Speaking() && i < int(10*time.Second/turn); i++ {
		l.speech(e.detector.Frame(e.frame.rx[:], nil))
	}
}

// hold stops hearing the far end, or goes on: while it holds us, what comes is
// its music.
func (l *Leg) hold(held bool) {
	e := &l.ears
	if held && !e.held {
		l.keyUp()
		l.keys.down = heldKey{}
		l.hush()
		e.head, e.absent = e.tail, true
	}
	e.held = held
}
