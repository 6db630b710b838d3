package media

import (
	"time"

	"github.com/ivrbridge/ivrbridge/media/dtmf"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// toneLapse is how long a key lives of whose tone no more comes.
const toneLapse = 200 * time.Millisecond

// An inband finds keys in the sound, where the far end agreed to no
// telephone-events.
type inband struct {
	detector *dtmf.Inband // nil: there is nothing to find
	last     time.Duration
}

// apply turns the detector on or off.
func (t *inband) apply(p *Params) {
	switch {
	case p.HasEvent || p.Held:
		t.detector = nil
	case t.detector == nil:
		t.detector = new(dtmf.Inband)
	}
}

// holds reports whether the tone of a key sounds.
func (t *inband) holds(digit byte, now time.Duration) bool {
	return t.detector != nil && now-t.last < toneLapse && t.detector.Holds(digit)
}

// tones looks for keys in what was received, in order, and reports whether it is
// the sound of one.
func (l *Leg) tones(sound []int16) bool {
	t := &l.in.tones
	if t.detector == nil {
		return false
	}
	t.last = l.now
	for again := true; again; {
		n, key := t.detector.Frame(sound)
		sound = sound[n:]
		if key.Down && l.now >= l.keys.echo {
			l.key(key.Digit, FromTone)
		}
		again = key.Digit != 0 || len(sound) > 0
	}
	return t.detector.Tone()
}

// toneGap takes samples that did not come: lost of them were on their way, the
// others were not sent.
func (l *Leg) toneGap(gap, lost int) {
	d := l.in.tones.detector
	switch {
	case d == nil:
	case gap > pcm.Rate/5:
		d.Lost(gap)
	default:
		var nothing [pcm.Rate / 5]int16
		d.Lost(lost)
		l.tones(nothing[:gap-lost])
	}
}
