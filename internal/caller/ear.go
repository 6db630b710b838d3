package caller

import (
	"sync"
	"time"

	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

const (
	loud        = -48.0                  // dBm0: above it something plays
	quiet       = -52.0                  // below it nothing does
	beginsAfter = 60 * time.Millisecond  // of sound
	endsAfter   = 700 * time.Millisecond // of silence
)

// An ear listens to the line. Frame and Post are called by the media wheel; the
// script reads what they noticed from the channel.
type ear struct {
	events chan happening

	mu     sync.Mutex
	sound  time.Duration // in a row
	hush   time.Duration
	plays  bool
	keep   bool
	rx, tx []int16 // kept for the recording
}

// A happening is something that the script may wait for.
type happening struct {
	what kind
	at   time.Time
	seq  uint64
	text string
}

type kind uint8

const (
	promptBegan kind = iota + 1
	promptEnded
	played
	digitsSent
	wordsHeard
	referred
	moved
	ended
	heldUs
	speechBegan
	speechEnded
)

func newEar(record bool) *ear { return &ear{events: make(chan happening, 1024), keep: record} }

// Frame implements media.Tap.
func (e *ear) Frame(_ int64, rx, tx []int16) {
	e.mu.Lock()
	defer e.mu.Unlock()
	span := time.Duration(len(rx)) * time.Second / pcm.Rate
	switch level := pcm.Level(rx); {
	case level > loud:
		e.sound, e.hush = e.sound+span, 0
	case level < quiet:
		e.sound, e.hush = 0, e.hush+span
	}
	if !e.plays && e.sound >= beginsAfter {
		e.plays = true
		e.tell(happening{what: promptBegan})
	}
	if e.plays && e.hush >= endsAfter {
		e.plays = false
		e.tell(happening{what: promptEnded})
	}
	if e.keep {
		e.rx, e.tx = append(e.rx, rx...), append(e.tx, tx...)
	}
}

// hears reports whether something plays now.
func (e *ear) hears() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.plays
}

// recording returns what was heard and sent, as stereo: heard left.
func (e *ear) recording() []int16 {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]int16, 0, 2*len(e.rx))
	for i := range e.rx {
		var own int16
		if i < len(e.tx) {
			own = e.tx[i]
		}
		out = append(out, e.rx[i], own)
	}
	return out
}

func (e *ear) tell(h happening) {
	h.at = time.Now()
	select {
	case e.events <- h:
	default: // a script that looks nowhere needs no news
	}
}

// Post implements media.Events.
func (e *ear) Post(ev media.Event) bool {
	switch ev.Kind {
	case media.PlayEnd:
		e.tell(happening{what: played, seq: ev.Seq})
	case media.DigitsSent:
		e.tell(happening{what: digitsSent, seq: ev.Seq})
	case media.SpeechStart:
		e.tell(happening{what: speechBegan})
	case media.SpeechEnd:
		e.tell(happening{what: speechEnded})
	case media.Digit, media.DigitEnd, media.SpeechConfirm, media.PlayStart, media.Silent, media.Latched, media.Crashed:
	}
	return true
}

// Hold implements line.Sink.
func (e *ear) Hold(on bool) {
	if on {
		e.tell(happening{what: heldUs})
	}
}
