package machine

import (
	"strings"
	"time"

	"github.com/ivrbridge/ivrbridge/dialog"
)

// ear is what is known of the caller's speech.
type ear struct {
	utterance uint64 // the one that is open, or the last
	open      bool
	awaiting  bool // its end was reported, its final is due
	hints     []string
	partial   string
	speaking  bool
	confirmed bool          // long enough to interrupt
	endedAt   time.Duration // of the last talkspurt
}

// reset forgets words, not whether the caller speaks.
func (e *ear) reset() { e.awaiting, e.partial = false, "" }

// listen begins the caller's time to answer: everything was heard.
func (m *Machine) listen() {
	m.turn.open = true
	timeout := m.policy.NoReply
	if m.turn.asks {
		timeout = m.turn.timeout
	}
	m.deadlines.clear(dlThinking)
	m.queue.suspect = false
	m.deadlines.clear(dlResume)
	m.arm(dlNoReply, playoutAllowance+timeout)
	if m.ear.speaking || m.ear.awaiting {
		m.stopNoReply()
	}
	kept := m.keys.kept
	m.keys.kept = nil
	for _, d := range kept {
		m.key(d)
	}
}

// stopNoReply keeps what is left of the caller's time for resumeNoReply.
func (m *Machine) stopNoReply() {
	if m.deadlines.has(dlNoReply) {
		m.turn.timeoutLeft = m.deadlines.at[dlNoReply] - m.now
		m.deadlines.clear(dlNoReply)
	}
	m.frozen.clear(dlNoReply)
}

// resumeNoReply goes on with what was left after a noise or a lone delimiter.
func (m *Machine) resumeNoReply() {
	if m.turn.open && m.listens() && !m.deadlines.has(dlNoReply) {
		m.arm(dlNoReply, max(m.turn.timeoutLeft, leastNoReply))
	}
}

// noReply is the caller's silence: the flow's ladder, or ours where the flow
// asked for none.
func (m *Machine) noReply() {
	if !m.listens() {
		return
	}
	m.count(CountNoReply)
	m.emit(Note{Kind: NoteNoReply})
	if m.turn.asks || m.policy.SendUnasked {
		m.asked++
		if m.asked > m.policy.NoReplyGuard {
			m.finish("the caller kept silent", PromptGoodbye)
			return
		}
		m.send(dialog.NoReply(), false)
		return
	}
	m.repeats++
	if m.repeats > m.policy.MaxNoReplies {
		m.finish("the caller kept silent", PromptGoodbye)
		return
	}
	m.say(m.lastPrompt...)
	m.openUtterance(m.turn.buttons)
	m.advance()
}

// replied notes that the caller did something.
func (m *Machine) replied() { m.asked, m.repeats = 0, 0 }

func (m *Machine) openUtterance(buttons []dialog.Button) {
	hints := make([]string, 0, len(buttons)+len(m.policy.Intents))
	for _, b := range buttons {
		hints = append(hints, b.Name)
	}
	for _, in := range m.policy.Intents {
		if !strings.Contains(in.Phrase, "{") {
			hints = append(hints, in.Phrase)
		}
	}
	hints = append(hints, m.keywords...)
	m.ear.utterance++
	m.ear.open, m.ear.hints = true, hints
	m.ear.reset()
	m.deadlines.clear(dlRecognise)
	m.emit(OpenUtterance{ID: m.ear.utterance, Hints: hints})
}

func (m *Machine) closeUtterance() {
	if m.ear.open {
		m.emit(CloseUtterance{ID: m.ear.utterance})
	}
	m.ear.open = false
	m.ear.reset()
	m.deadlines.clear(dlRecognise)
}

// again opens the next utterance of the same turn.
func (m *Machine) again() {
	hints := m.ear.hints
	m.ear.utterance++
	m.ear.reset()
	m.deadlines.clear(dlRecognise)
	m.emit(OpenUtterance{ID: m.ear.utterance, Hints: hints})
}

func (m *Machine) speechStarted() {
	if m.held || m.closing {
		return
	}
	m.ear.speaking, m.ear.confirmed = true, false
	if m.turn.open {
		m.stopNoReply()
	}
}

func (m *Machine) speechConfirmed() {
	if m.held || m.closing {
		return
	}
	m.ear.confirmed = true
	m.suspectBargeIn()
}

// interruptible reports whether speech may stop the prompt that plays.
func (m *Machine) interruptible() bool {
	return m.queue.playing() && m.listens() && m.interrupts && m.policy.BargeIn.Speech && m.ear.open
}

// suspectBargeIn pauses the prompt for speech that may be the caller's answer.
func (m *Machine) suspectBargeIn() {
	if m.skip(m.policy.BargeIn.Speech) || !m.interruptible() || m.policy.BargeIn.MinWords > 0 || m.queue.resumes > 1 {
		return
	}
	if !m.turn.heard {
		return // nothing to stop yet; it was spoken ahead
	}
	if safe := m.turn.heardAt + m.policy.BargeIn.Protect; m.now < safe {
		m.deadlines.set(dlProtect, safe)
		return
	}
	m.queue.suspect = true
	m.rewind()
}

// protectionOver lets speech through that began in a prompt's first moments and
// still goes on.
func (m *Machine) protectionOver() {
	if m.ear.speaking && m.ear.confirmed {
		m.suspectBargeIn()
	}
}

// skip lets the caller skip the speech of a turn that does not listen, where the
// agent allows it.
func (m *Machine) skip(allowed bool) bool {
	t := &m.turn
	if !m.policy.BargeIn.Skip || !allowed || !m.interrupts || t.running || t.listening || !m.queue.playing() || m.handover != nil || m.waits != nil {
		return false
	}
	m.stopPlaying()
	m.dropSpeech()
	m.advance()
	return true
}

func (m *Machine) speechEnded() {
	m.ear.speaking = false
	m.ear.endedAt = m.now
	m.deadlines.clear(dlProtect)
	if m.held || m.closing || !m.ear.open {
		if m.turn.running {
			m.count(CountDroppedSpeech)
		}
		return
	}
	if m.queue.suspect {
		m.deadlines.set(dlResume, m.now+m.policy.BargeIn.FalseBargeIn)
	}
	m.ear.awaiting = true
	m.deadlines.set(dlRecognise, m.now+recogniseSoft)
	if m.turn.open && !m.queue.playing() {
		m.arm(dlThinking, m.policy.ThinkingAfter) // a slow recogniser is covered, too
	}
	m.emit(EndUtterance{ID: m.ear.utterance})
}

func (m *Machine) words(ev Words) {
	if ev.Utterance != m.ear.utterance || !m.ear.open || strings.TrimSpace(ev.Text) == "" {
		return
	}
	m.ear.partial = ev.Text
	n := len(strings.Fields(ev.Text))
	switch {
	case m.queue.suspect && n >= m.policy.BargeIn.MinWords:
		m.bargeIn()
	case m.policy.BargeIn.MinWords > 0 && n >= m.policy.BargeIn.MinWords && m.interruptible() &&
		m.turn.heard && m.now >= m.turn.heardAt+m.policy.BargeIn.Protect:
		m.bargeIn()
	}
}

// bargeIn drops what is left of the prompt: the caller has answered it.
func (m *Machine) bargeIn() {
	if !m.queue.suspect && !m.queue.playing() {
		return
	}
	m.count(CountBargeIn)
	m.emit(Note{Kind: NoteBargeIn})
	m.heardUntil()
	m.rewind()
	m.queue.suspect = false
	m.deadlines.clear(dlResume)
	m.dropSpeech()
	m.advance()
}

// heardUntil tells the flow in which sentence the caller interrupted.
func (m *Machine) heardUntil() {
	i := m.queue.pos
	if m.queue.playing() {
		i = m.queue.out[0].item
	}
	if i < len(m.queue.items) {
		m.vars["heard_until"] = m.queue.items[i].Text
	}
}

// resumePrompt plays the interrupted sentence again: no words followed.
func (m *Machine) resumePrompt() {
	if !m.queue.suspect {
		return
	}
	if m.ear.speaking {
		return // the next end of speech decides
	}
	m.count(CountFalseBargeIn)
	m.queue.suspect = false
	m.queue.resumes++
	m.advance()
}

// recogniserLate does without a final that does not come.
func (m *Machine) recogniserLate() {
	if !m.ear.awaiting {
		return
	}
	if m.ear.partial == "" && m.now < m.ear.endedAt+recogniseHard {
		m.deadlines.set(dlRecognise, m.ear.endedAt+recogniseHard)
		return
	}
	m.final(Heard{Utterance: m.ear.utterance, Text: m.ear.partial})
}

// final takes an utterance's words.
func (m *Machine) final(ev Heard) {
	if ev.Utterance != m.ear.utterance || !m.ear.open || m.closing || m.held {
		return
	}
	ahead := m.turn.running || m.turn.spoke && !m.turn.heard && m.queue.speechLeft()
	text := strings.TrimSpace(ev.Text)
	switch {
	case text == "":
		if m.ear.awaiting {
			m.count(CountNoMatch)
		}
		if m.turn.open {
			m.deadlines.clear(dlThinking)
		}
		m.again()
		if !m.ear.speaking && len(m.keys.entry) == 0 {
			m.resumeNoReply()
		}
		return
	case m.turn.running && m.policy.SpeechAhead == SendAhead:
		m.keys.words = &ev
		m.again()
		return
	case ahead && m.policy.SpeechAhead == DropAhead:
		m.count(CountDroppedSpeech)
		m.again()
		return
	case m.queue.playing() && !m.interruptible(),
		m.queue.playing() && !m.queue.suspect && !m.ear.confirmed,
		len(m.keys.entry) > 0, !m.listens():
		m.count(CountDroppedSpeech)
		m.again()
		return
	}
	if m.queue.suspect || m.queue.playing() {
		if len(strings.Fields(text)) < m.policy.BargeIn.MinWords {
			m.count(CountDroppedSpeech)
			m.again()
			return
		}
		m.bargeIn()
		if !m.listens() {
			return // an action behind the prompt took over
		}
	}
	m.spoken(text, ev.Confidence)
}

// spoken sends what the caller said: a button's request, an intent or text.
func (m *Machine) spoken(text string, confidence float64) {
	m.replied()
	m.emit(Note{Kind: NoteCaller, Text: text})
	m.vars["input_type"], m.vars["confidence"] = "speech", confidence
	if confidence > 0 && confidence < m.policy.MinConfidence {
		m.count(CountLowConfidence)
		m.send(dialog.Text(text), false)
		return
	}
	if i, ok := dialog.Match(m.turn.buttons, text); ok {
		m.send(dialog.Press(m.turn.buttons[i]), false)
		return
	}
	if a, ok := understand(m.policy.Intents, text, confidence); ok {
		m.send(a, false)
		return
	}
	m.send(dialog.Text(text), false)
}

// typed takes words that were written: they are certain, and stop a prompt that
// keys may stop.
func (m *Machine) typed(text string) {
	text = strings.TrimSpace(text)
	if text == "" || m.closing || m.held {
		return
	}
	if m.queue.playing() && (!m.interrupts || !m.policy.BargeIn.Keys) || len(m.keys.entry) > 0 || !m.listens() {
		m.count(CountDroppedSpeech)
		return
	}
	if m.queue.suspect || m.queue.playing() {
		m.bargeIn()
		if !m.listens() {
			return // an action behind the prompt took over
		}
	}
	m.spoken(text, 1)
}
