package media

import (
	"math"
	"time"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// A Cue is a clip to be played.
type Cue struct {
	Seq  uint64        // names the cue in events
	Clip *pcm.Clip     // complete or still growing
	From time.Duration // where to begin
	Loop bool          // begin again at the clip's start, until stopped
}

const (
	fadeOut    = pcm.Rate / 100 // 10 ms: the end of what is cut off
	fadeIn     = pcm.Rate / 200 // 5 ms: the start of what begins in the middle
	starveTime = 10 * time.Second
)

// The fades are raised cosines in units of 1/32768.
var fadeOutGain, fadeInGain = raisedCosine(fadeOut, false), raisedCosine(fadeIn, true)

func raisedCosine(n int, rising bool) []int32 {
	gain := make([]int32, n)
	for i := range gain {
		x := (float64(i) + 0.5) / float64(n)
		if rising {
			x = 1 - x
		}
		gain[i] = int32(math.Round(16384 * (1 + math.Cos(math.Pi*x))))
	}
	return gain
}

// A player makes the sound that a leg sends of its cues. The wheel owns it.
type player struct {
	queue  []track // the first is playing
	paused bool
	tail   [fadeOut]int16 // what a track that was cut off leaves in the next packet
	ntail  int
	notes  []note
	work   [maxSamples]int16
}

const maxSamples = int(maxPtime/time.Millisecond) * perMilli

// A track is a cue on its way.
type track struct {
	cue    Cue
	off    int           // the next sample of the clip
	heard  int           // samples sent
	rising int           // samples that are still to be faded in
	last   time.Duration // when the last sample was sent
	hungry time.Duration // for how long the clip has had nothing
}

// A note is an event that waits until the packet is out that it tells of.
type note struct {
	event Event
	at    time.Duration // negative: the time of that packet
}

// nextPacket is the time of a note that is not known yet.
const nextPacket = time.Duration(-1)

// add appends a cue.
func (p *player) add(c Cue) {
	t := track{cue: c, off: max(samples(c.From), 0), last: nextPacket}
	if c.From > 0 {
		t.rising = fadeIn
	}
	p.queue = append(p.queue, t)
}

// replace cuts off what plays and begins c.
func (p *player) replace(c Cue, law pcm.Law) {
	cut := p.audible()
	p.stop(law)
	p.add(c)
	if cut {
		p.queue[0].rising = fadeIn
	}
}

// audible tells that the far end is hearing a cue.
func (p *player) audible() bool { return len(p.queue) > 0 && p.queue[0].heard > 0 && !p.paused }

// idle tells that there is nothing to play.
func (p *player) idle() bool { return len(p.queue) == 0 && p.ntail == 0 }

// stop ends all cues. What plays fades out in the next packet.
func (p *player) stop(law pcm.Law) {
	if p.audible() {
		p.fade(&p.queue[0], law)
	}
	for i := range p.queue {
		p.end(&p.queue[i], Stopped, nil)
	}
	clear(p.queue)
	p.queue = p.queue[:0]
}

// fade puts the next samples of t into the tail, falling silent.
func (p *player) fade(t *track, law pcm.Law) {
	var coded [fadeOut]byte
	n, _ := t.cue.Clip.Read(t.off, coded[:], law)
	if n == 0 {
		return
	}
	law.Decode(p.tail[:], coded[:n])
	falling(p.tail[:n])
	p.ntail = n
	t.heard += n
	t.last = nextPacket
}

// falling fades out the end of pcm, faster where there is less of it.
func falling(pcm []int16) {
	n := min(len(pcm), fadeOut)
	end := pcm[len(pcm)-n:]
	for i := range end {
		end[i] = int16(int32(end[i]) * fadeOutGain[i*fadeOut/n] >> 15)
	}
}

// end notes the end of a track.
func (p *player) end(t *track, why Why, err error) {
	at := nextPacket
	if t.heard > 0 {
		at = t.last
	}
	p.notes = append(p.notes, note{
		event: Event{Kind: PlayEnd, Seq: t.cue.Seq, Heard: span(t.heard), Why: why, Err: err}, at: at,
	})
}

// next drops the first track, which has ended.
func (p *player) next() {
	n := copy(p.queue, p.queue[1:])
	p.queue[n] = track{}
	p.queue = p.queue[:n]
}

// pause keeps all cues where they are.
func (p *player) pause() {
	if p.paused {
		return
	}
	p.paused = true
	p.ntail = 0
	if len(p.queue) > 0 && p.queue[0].heard > 0 {
		p.queue[0].rising = fadeIn // when it goes on
	}
}

// fill makes the next packet of dst, sent at now, and reports whether there is
// anything but silence in it. A packet inside a clip is a copy of its bytes.
func (p *player) fill(dst []byte, law pcm.Law, now time.Duration) bool {
	p.paused = false
	n, ends := 0, len(p.queue)+1
	for n < len(dst) && len(p.queue) > 0 {
		t := &p.queue[0]
		got, end := t.cue.Clip.Read(t.off, dst[n:], law)
		failed := end && t.cue.Clip.Err() != nil
		starved := n+got < len(dst) && !end
		if got > 0 {
			if t.heard == 0 {
				p.notes = append(p.notes, note{event: Event{Kind: PlayStart, Seq: t.cue.Seq}, at: now})
			}
			p.shape(t, dst[n:n+got], law, failed || starved)
			t.off += got
			t.heard += got
			t.last, t.hungry = now, 0
			n += got
		}
		switch {
		case failed:
			p.end(t, Failed, t.cue.Clip.Err())
			p.next()
		case end && t.cue.Loop && t.cue.Clip.Len() > 0 && ends > 0:
			t.off = 0
			if got == 0 {
				ends-- // From lay behind the end, once
			}
		case end:
			p.end(t, Done, nil)
			p.next()
		case starved:
			t.rising = fadeIn
			t.hungry += span(len(dst) - n)
			if t.hungry >= starveTime {
				p.end(t, Starved, nil)
				p.next()
			}
			return p.finish(dst, n, law)
		}
	}
	return p.finish(dst, n, law)
}

// shape fades the samples of a track in, and out where it breaks off.
func (p *player) shape(t *track, coded []byte, law pcm.Law, breaks bool) {
	if t.rising == 0 && !breaks {
		return
	}
	work := p.work[:law.Decode(p.work[:], coded)]
	for i := range work[:min(t.rising, len(work))] {
		work[i] = int16(int32(work[i]) * fadeInGain[fadeIn-t.rising] >> 15)
		t.rising--
	}
	if breaks {
		falling(work)
	}
	law.Encode(coded, work)
}

// finish completes a packet of which n bytes are made.
func (p *player) finish(dst []byte, n int, law pcm.Law) bool {
	silence(dst[n:], law)
	if p.ntail == 0 {
		return n > 0
	}
	m := law.Decode(p.work[:], dst[:min(p.ntail, len(dst))])
	for i := range p.work[:m] {
		p.work[i] = clip16(int32(p.work[i]) + int32(p.tail[i]))
	}
	law.Encode(dst, p.work[:m])
	p.ntail = 0
	return true
}

// silence fills dst with silence.
func silence(dst []byte, law pcm.Law) {
	quiet := law.Silence()
	for i := range dst {
		dst[i] = quiet
	}
}

func clip16(v int32) int16 { return int16(min(max(v, math.MinInt16), math.MaxInt16)) }
