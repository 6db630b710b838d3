package machine

import "time"

// A deadline is one thing that the machine waits for.
type deadline uint8

const (
	dlTurn      deadline = iota // the agent's answer
	dlThinking                  // cover of a slow answer
	dlNoReply                   // the caller's answer
	dlDigits                    // the next key of an entry
	dlRecognise                 // the final of an utterance
	dlResume                    // words after a suspected barge-in
	dlProtect                   // end of a prompt's protection from speech
	dlStall                     // the first sample of a prompt
	dlCollect                   // the first key of a collect action
	dlHandover                  // the outcome of a hand-over
	dlHold                      // the end of a hold
	dlLength                    // the longest call
	dlClosing                   // the line's end after ours
	numDeadlines
)

const (
	// playoutAllowance is what the far end's jitter buffer still plays after the
	// last packet of a prompt was sent.
	playoutAllowance = 60 * time.Millisecond
	// leastNoReply is what a caller gets after a noise stopped the timer.
	leastNoReply  = time.Second
	closingLimit  = 5 * time.Second
	farewellLimit = 30 * time.Second
	stateLimit    = 7 * time.Second
	// stallLimit is how long a prompt may take to its first sample.
	stallLimit = 5 * time.Second
	// thinkAgain bounds the wait for the end of a cover of a slow answer.
	thinkAgain = 5 * time.Second
	// fillerPause is that from the end of one cover to the next.
	fillerPause = 1900 * time.Millisecond
	// recogniseSoft and recogniseHard bound the wait for a final: after the
	// first the last partial serves, after the second nothing was understood.
	recogniseSoft = 2 * time.Second
	recogniseHard = 4500 * time.Millisecond
	// handoverGrace is what the loop is given beyond the target's own time-out.
	handoverGrace = 10 * time.Second
	// defaultEntry bounds the wait for a key where only a delimiter or the largest
	// length is to end an entry.
	defaultEntry = 10 * time.Second
	// leastInterdigit is what the body of a collect action can ask for: more than
	// the pause between two keys of a telephone that dials by itself.
	leastInterdigit = 200 * time.Millisecond
	// longestPress is how long a key is taken for held whose release nobody tells.
	longestPress = 30 * time.Second
)

// conversational timers stand still while the caller holds us.
const conversational = 1<<dlThinking | 1<<dlNoReply | 1<<dlDigits | 1<<dlRecognise | 1<<dlResume | 1<<dlProtect | 1<<dlStall | 1<<dlCollect

// deadlines are points in time, each set or not.
type deadlines struct {
	on uint32
	at [numDeadlines]time.Duration
}

func (d *deadlines) set(k deadline, at time.Duration) { d.on |= 1 << k; d.at[k] = at }

func (d *deadlines) clear(ks ...deadline) {
	for _, k := range ks {
		d.on &^= 1 << k
	}
}

func (d *deadlines) has(k deadline) bool { return d.on&(1<<k) != 0 }

func (d *deadlines) earliest() (kind deadline, at time.Duration, ok bool) {
	for k := range numDeadlines {
		if d.has(k) && (!ok || d.at[k] < at) {
			kind, at, ok = k, d.at[k], true
		}
	}
	return kind, at, ok
}

// arm sets a conversation timer, which begins to run after a hold.
func (m *Machine) arm(k deadline, after time.Duration) {
	if m.held {
		m.frozen.set(k, after)
		return
	}
	m.deadlines.set(k, m.now+after)
}

// hold stops the conversation: what we receive is the caller's music. The
// prompt under way is given up and starts again with its sentence.
func (m *Machine) hold() {
	if m.held || m.closing || !m.started {
		return
	}
	m.held = true
	m.emit(Note{Kind: NoteHold})
	m.frozen = deadlines{}
	for k := range numDeadlines {
		if conversational&(1<<k) != 0 && m.deadlines.has(k) {
			m.frozen.set(k, max(0, m.deadlines.at[k]-m.now))
			m.deadlines.clear(k)
		}
	}
	m.rewind()
	m.ear.speaking = false
	if m.ear.open {
		m.closeUtterance()
	}
	m.deadlines.set(dlHold, m.now+m.policy.HoldMax)
}

// resume goes on where the hold began.
func (m *Machine) resume() {
	if !m.held {
		return
	}
	m.held = false
	m.deadlines.clear(dlHold)
	m.emit(Note{Kind: NoteResume})
	if m.closing {
		return
	}
	frozen := m.frozen
	m.frozen = deadlines{}
	for k := range numDeadlines {
		switch {
		case !frozen.has(k), k == dlRecognise, k == dlResume, k == dlStall, k == dlProtect:
		case k == dlNoReply:
			m.deadlines.set(k, m.now+max(frozen.at[k], leastNoReply))
		default:
			m.deadlines.set(k, m.now+frozen.at[k])
		}
	}
	m.queue.suspect = false
	if m.handover != nil {
		m.playHold()
		return
	}
	if m.turn.listening && !m.turn.running {
		m.openUtterance(m.turn.buttons)
		if m.turn.open && !m.deadlines.has(dlNoReply) && !m.deadlines.has(dlDigits) {
			m.resumeNoReply()
		}
	}
	m.advance()
}
