package machine

import (
	"strings"

	"github.com/ivrbridge/ivrbridge/dialog"
)

// A queue is what is still to be performed. Speech and sound are handed to the
// line one ahead, so that sentences follow each other without a gap; everything
// else waits until what precedes it was heard.
type queue struct {
	items   []Item
	pos     int   // the next item to perform
	out     []cue // on the line: playing, and the one behind it
	filler  uint64
	suspect bool // paused: speech was heard over it, and words are awaited
	resumes int  // how often a sentence started again
}

type cue struct {
	seq     uint64
	item    int
	started bool
}

func (q *queue) reset() { *q = queue{filler: 0} }

func (q *queue) add(it Item) { q.items = append(q.items, it) }

func (q *queue) len() int { return len(q.items) }

// speech returns the items that a repeated prompt consists of.
func (q *queue) speech() []Item {
	var s []Item
	for _, it := range q.items {
		if it.audible() {
			s = append(s, it)
		}
	}
	return s
}

func (q *queue) speechLeft() bool {
	for _, it := range q.items[q.pos:] {
		if it.audible() {
			return true
		}
	}
	return len(q.out) > 0
}

// dropSpeech gives up what the caller would hear next.
func (m *Machine) dropSpeech() {
	m.queue.dropSpeech()
	m.music.interrupted()
}

// dropSpeech removes what is audible and was not heard yet.
func (q *queue) dropSpeech() {
	kept := q.items[:q.pos:q.pos]
	for _, it := range q.items[q.pos:] {
		if !it.audible() {
			kept = append(kept, it)
		}
	}
	q.items = kept
}

func (it Item) audible() bool { return it.Kind == Speech || it.Kind == Sound }

func (q *queue) playing() bool { return len(q.out) > 0 }

// advance performs what can be performed now.
func (m *Machine) advance() {
	q := &m.queue
	defer m.background()
	for !m.held && !m.closing && !q.suspect && m.handover == nil && m.waits == nil && !m.ended {
		if q.pos == len(q.items) {
			if !q.playing() {
				m.drained()
			}
			return
		}
		it := q.items[q.pos]
		if it.Loop && it.audible() {
			q.pos++
			m.setMusic(it)
			continue
		}
		if it.audible() {
			if len(q.out) == 2 || m.turn.running && len(m.keys.kept) > 0 && m.keys.conf.Typeahead == Barge {
				return
			}
			m.play(it)
			continue
		}
		if q.playing() || m.turn.running && q.pos == m.turn.lastAction {
			return // it waits for what precedes it, or for the turn to say whether it waits
		}
		q.pos++
		m.perform(it)
	}
}

func (m *Machine) play(it Item) {
	q := &m.queue
	c := cue{seq: m.next(), item: q.pos}
	q.pos++
	q.out = append(q.out, c)
	if len(q.out) > 1 {
		m.emit(Queue{Cue: c.seq, Item: it})
		return
	}
	q.filler = 0
	m.music.cover()
	m.deadlines.clear(dlThinking)
	m.arm(dlStall, stallLimit)
	m.arm(dlThinking, m.policy.ThinkingAfter)
	m.emit(Play{Cue: c.seq, Item: it})
}

// drained is reached when everything so far was heard.
func (m *Machine) drained() {
	switch {
	case m.turn.running:
		if !m.deadlines.has(dlThinking) {
			m.arm(dlThinking, m.policy.ThinkingAfter)
		}
	case m.turn.listening && !m.turn.open:
		m.listen()
	}
}

func (m *Machine) playStarted(ev PlayStarted) {
	q := &m.queue
	if ev.Cue == m.music.cue {
		m.music.started = true
		m.deadlines.clear(dlThinking)
		return
	}
	for i := range q.out {
		if q.out[i].seq != ev.Cue {
			continue
		}
		q.out[i].started = true
		m.deadlines.clear(dlStall, dlThinking)
		if !m.turn.heard {
			m.turn.heard, m.turn.heardAt = true, m.now
			if m.ear.confirmed && m.ear.speaking && m.turn.listening {
				m.arm(dlProtect, m.policy.BargeIn.Protect)
			}
		}
		return
	}
}

func (m *Machine) playEnded(ev PlayEnded) {
	q := &m.queue
	if ev.Cue == q.filler && q.filler != 0 {
		q.filler = 0
		if m.deadlines.has(dlThinking) {
			m.arm(dlThinking, fillerPause)
		}
		m.background()
		return
	}
	if ev.Cue == m.music.cue && m.music.item != nil {
		m.musicEnded(ev)
		return
	}
	if len(q.out) == 0 || q.out[0].seq != ev.Cue {
		return
	}
	it := q.items[q.out[0].item]
	q.out = append(q.out[:0], q.out[1:]...)
	m.deadlines.clear(dlStall)
	if ev.Bad {
		m.badPrompt(it)
	}
	if len(q.out) == 1 && !q.out[0].started {
		m.arm(dlStall, stallLimit)
	}
	m.advance()
}

// badPrompt covers a prompt that could not be rendered: the caller hears that
// something went wrong, once a turn, and the conversation goes on.
func (m *Machine) badPrompt(it Item) {
	m.count(CountBadPrompt)
	m.emit(Note{Kind: NotePromptBad, Text: it.Text + it.Src})
	q := &m.queue
	if it.Prompt != "" || q.playing() || q.pos < len(q.items) && q.items[q.pos].audible() || it.Kind == Sound && m.turn.heard {
		return
	}
	m.insert(Item{Kind: Speech, Prompt: PromptApology})
}

// promptStalled gives up a prompt whose first sample does not come.
func (m *Machine) promptStalled() {
	q := &m.queue
	if !q.playing() {
		return
	}
	it := q.items[q.out[0].item]
	q.pos = q.out[0].item + 1
	m.stopPlaying()
	m.badPrompt(it)
	m.advance()
}

// think covers our silence with a filler: the answer, or the first sample of a
// prompt, is late.
func (m *Machine) think() {
	q := &m.queue
	if q.playing() && q.out[0].started || m.music.started {
		return
	}
	if m.music.item != nil && m.music.cue == 0 && !q.playing() {
		m.startMusic()
		return
	}
	m.count(CountFiller)
	q.filler = m.next()
	m.emit(Play{Cue: q.filler, Item: Item{Kind: Speech, Prompt: PromptFiller}})
	for i := range q.out {
		q.out[i].seq = m.next()
		m.emit(Queue{Cue: q.out[i].seq, Item: q.items[q.out[i].item]})
	}
	if m.music.cue != 0 {
		m.music.cue = m.next()
		m.emit(Queue{Cue: m.music.cue, Item: *m.music.item})
	}
	m.arm(dlThinking, thinkAgain)
}

// stopPlaying silences the line and forgets what was on it.
func (m *Machine) stopPlaying() {
	if m.queue.playing() || m.queue.filler != 0 || m.music.cue != 0 {
		m.emit(StopPlay{})
	}
	m.queue.out, m.queue.filler = nil, 0
	m.music.cue, m.music.started = 0, false
	m.deadlines.clear(dlStall, dlThinking, dlProtect)
}

// rewind silences the line and goes back to the sentence under way.
func (m *Machine) rewind() {
	if m.queue.playing() {
		m.queue.pos = m.queue.out[0].item
	}
	m.stopPlaying()
}

// offer reads the names of buttons out.
func offer(buttons []dialog.Button) string {
	names := make([]string, len(buttons))
	for i, b := range buttons {
		names[i] = b.Name
	}
	if len(names) > 1 {
		last := len(names) - 1
		names = append(names[:last-1], names[last-1]+", or "+names[last])
	}
	return "You can say: " + strings.Join(names, ", ") + "."
}
