package media

import (
	"errors"
	"time"

	"github.com/ivrbridge/ivrbridge/media/dtmf"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// ErrNoEvents is told by DigitsSent where telephone-events were asked for and
// the far end takes none.
var ErrNoEvents = errors.New("media: telephone-event is not agreed")

// ErrStopped is told by DigitsSent for digits that were given up.
var ErrStopped = errors.New("media: digits were given up")

// A DigitMode says how digits are sent.
type DigitMode uint8

// The ways to send digits.
const (
	DigitsAuto   DigitMode = iota // as telephone-events where these are agreed, else as tones
	DigitsEvents                  // as telephone-events (RFC 4733)
	DigitsTones                   // as tones in the audio
)

// sameKey is how close the two reports of one key are that comes both ways.
const sameKey = 500 * time.Millisecond

// keyTime is how long a key sounds that is passed on to a joined leg, and how
// long it is silent after it.
const keyTime = 100 * time.Millisecond

// echoTime is how long after a tone of ours its echo may come.
const echoTime = 500 * time.Millisecond

// A keypad sends digits, and knows keys that come twice.
type keypad struct {
	jobs []digitJob                    // the first is under way
	seen [numSources][16]time.Duration // when a key was told last, by way: its press, and then its release
	down heldKey
	echo time.Duration // until then a tone that is heard may be the echo of ours
}

// A heldKey is the key that the far end pressed last.
type heldKey struct {
	digit  byte // 0: none yet
	source DigitSource
	up     bool          // DigitEnd was told
	until  time.Duration // it is not up before
}

// A digitJob is what one SendDigits asked for.
type digitJob struct {
	seq   uint64
	asked bool         // DigitsSent is told
	keys  *dtmf.Sender // telephone-events
	tones *pcm.Clip    // or tones
	off   int
	lag   uint32 // samples that were skipped while the event under way was sent
	err   error  // or what was wrong with it
}

// SendDigits sends digits (0–9, *, #, A–D; w waits half a second, W a second),
// 100 ms each. What plays pauses meanwhile. DigitsSent comes with seq when they
// are out, or with an error of package dtmf or [ErrNoEvents] when they cannot
// be sent. Auto is decided by the parameters of the last Apply.
//
// Stop does not end them: it is for prompts that somebody interrupts, and keys
// are not for him. No digits at all ("") do: the key under way is completed, the
// rest is given up with [ErrStopped], and then DigitsSent comes with seq.
func (l *Leg) SendDigits(seq uint64, digits string, how DigitMode) {
	p := l.agreed.Load()
	events := p != nil && p.HasEvent
	job := digitJob{seq: seq, asked: true}
	switch {
	case digits == "":
	case how == DigitsEvents && !events:
		job.err = ErrNoEvents
	case how != DigitsTones && events:
		job.keys, job.err = dtmf.NewSender(digits, keyTime, keyTime)
	default:
		job.tones, job.err = toneClip(digits)
	}
	if !l.mail.post(func(l *Leg) {
		if digits == "" {
			l.keys.giveUp()
		}
		l.keys.jobs = append(l.keys.jobs, job)
	}) {
		l.tell(Event{Kind: DigitsSent, At: time.Now(), Seq: seq, Err: ErrClosed})
	}
}

func toneClip(digits string) (*pcm.Clip, error) {
	sound, err := dtmf.Tones(digits, keyTime, keyTime)
	if err != nil {
		return nil, err //nolint:wrapcheck // says what was attempted
	}
	clip := pcm.NewClip(pcm.Mu)
	err = clip.Append(sound)
	clip.Close(err)
	return clip, err
}

// skip keeps the timestamp of an event under way (RFC 4733 section 2.1) when time
// passed that nobody used.
func (k *keypad) skip(n int) {
	if len(k.jobs) > 0 {
		k.jobs[0].lag += uint32(n)
	}
}

// giveUp ends what SendDigits asked for. Keys of the joined leg are sent all the
// same.
func (k *keypad) giveUp() {
	for i := range k.jobs {
		j := &k.jobs[i]
		if !j.asked || j.err != nil || j.keys == nil && j.tones == nil {
			continue
		}
		j.err, j.tones = ErrStopped, nil
		if j.keys != nil {
			j.keys.Stop()
		}
	}
}

func (k *keypad) busy() bool { return len(k.jobs) > 0 }

// fill sends the next part of the digits: an event packet of its own, and then
// quiet is true, or sound in body. Without done the digits have come to their
// end and the slot is free.
func (k *keypad) fill(l *Leg, body []byte) (spoken, quiet, done bool) {
	for len(k.jobs) > 0 {
		j := &k.jobs[0]
		switch {
		case j.keys != nil:
			payload, marker, offset, kind := j.keys.Next(uint32(len(body)))
			if kind == dtmf.Done {
				break
			}
			l.player.pause()
			if kind == dtmf.Event {
				if marker {
					j.lag = 0
				}
				copy(l.out.buf[headerLen:], payload[:])
				l.write(packet{payloadType: l.p.Event, marker: marker, ts: l.out.ts - offset - j.lag, size: len(payload)})
				l.shard.tally.n[sentEvents]++
			}
			silence(body, l.p.Law)
			return kind == dtmf.Event, kind == dtmf.Event, true
		case j.tones != nil:
			n, end := j.tones.Read(j.off, body, l.p.Law)
			if n == 0 && end {
				break
			}
			l.player.pause()
			k.echo = l.now + echoTime
			silence(body[n:], l.p.Law)
			j.off += n
			return true, false, true
		}
		k.end(l, j.err)
	}
	return false, false, false
}

// end drops the first job.
func (k *keypad) end(l *Leg, err error) {
	j := k.jobs[0]
	n := copy(k.jobs, k.jobs[1:])
	k.jobs[n] = digitJob{}
	k.jobs = k.jobs[:n]
	if j.asked {
		l.post(Event{Kind: DigitsSent, Seq: j.seq, Err: err})
	}
}

// finish ends all jobs with their leg.
func (k *keypad) finish(l *Leg) {
	for len(k.jobs) > 0 {
		err := k.jobs[0].err
		if err == nil {
			err = ErrClosed
		}
		k.end(l, err)
	}
}

// Press takes a key that came by SIP INFO and was held for as long as the request
// states, 0 where it does not say. It becomes a Digit and, after that time, a
// DigitEnd, unless the same key came by RTP or as a tone and is still down or went
// up less than half a second ago.
func (l *Leg) Press(d byte, held time.Duration) {
	l.mail.post(func(l *Leg) { l.press(d, FromINFO, held) })
}

// key takes a key from the far end of which no duration is known beforehand.
func (l *Leg) key(d byte, from DigitSource) { l.press(d, from, 0) }

// press takes a key that is held for the given time at least.
func (l *Leg) press(d byte, from DigitSource, held time.Duration) {
	if d >= 'a' && d <= 'd' {
		d -= 'a' - 'A'
	}
	code, ok := digitCode(d)
	if !ok || l.p.Held {
		return
	}
	k := &l.keys
	doubled := k.down.digit == d && k.down.source != from && !k.down.up
	for i, at := range k.seen {
		doubled = doubled || DigitSource(i)+FromRTP != from && at[code] != 0 && l.now-at[code] < sameKey
	}
	if doubled {
		l.stats.DoubledKeys++
		return
	}
	l.keyUp()
	k.seen[from-FromRTP][code] = l.now
	l.stats.Keys++
	l.post(Event{Kind: Digit, Digit: d, Source: from})
	k.down = heldKey{digit: d, source: from, until: l.now + max(held, 0)}
	if peer := l.bridge.peer; peer != nil && (from != FromRTP || !peer.p.HasEvent) {
		peer.passKey(d)
	}
}

// lift tells that the key is up when it is: by RTP at the end of its event and in
// the sound at that of its tone, whichever way told its press, by INFO after the time that was stated.
func (l *Leg) lift() {
	k := &l.keys.down
	if k.digit == 0 {
		return
	}
	if l.now < k.until || l.in.events.Holds(k.digit, l.now) || l.in.tones.holds(k.digit, l.now) {
		k.up = false // its packets had ceased and go on
		return
	}
	l.keyUp()
}

// keyUp tells that the key that is down is up.
func (l *Leg) keyUp() {
	k := &l.keys.down
	if k.digit == 0 || k.up {
		return
	}
	k.up, k.until = true, 0
	if code, ok := digitCode(k.digit); ok {
		l.keys.seen[k.source-FromRTP][code] = l.now
	}
	l.post(Event{Kind: DigitEnd, Digit: k.digit, Source: k.source})
}

// passKey sends a key of the joined leg in the way that this leg's far end takes.
func (l *Leg) passKey(d byte) {
	code, _ := digitCode(d)
	job := digitJob{tones: l.engine.tones[code]}
	if l.p.HasEvent {
		job = digitJob{}
		job.keys, job.err = dtmf.NewSender(string(d), keyTime, keyTime)
	}
	l.keys.jobs = append(l.keys.jobs, job)
}

// keyTones makes the sound of each key once.
func keyTones() (tones [16]*pcm.Clip) {
	for i, d := range "0123456789*#ABCD" {
		tones[i], _ = toneClip(string(d))
	}
	return tones
}

// digitCode is the event code of a key (RFC 4733 section 3.2); ok is false for
// what is none.
func digitCode(d byte) (code int, ok bool) {
	switch {
	case d >= '0' && d <= '9':
		return int(d - '0'), true
	case d == '*':
		return 10, true
	case d == '#':
		return 11, true
	case d >= 'A' && d <= 'D':
		return int(d-'A') + 10 + 2, true
	default:
		return 0, false
	}
}
