// Package machine decides what happens in a conversation.
//
// A [Machine] is a pure function with memory: an event and the time it happened
// go in, effects come out. It has no clock, context, channel or lock, and it
// knows neither SIP nor RTP nor HTTP: internal/call acts for it. Times are since
// the call began. The rules that it follows are numbered in docs/conversation.md.
package machine

import (
	"maps"
	"time"

	"github.com/ivrbridge/ivrbridge/dialog"
)

// A Machine is one conversation. One goroutine calls its methods.
type Machine struct {
	policy Policy
	now    time.Duration
	out    []Effect

	started   bool // the line was answered
	closing   bool // we hang up or the line is gone; nothing new begins
	lineGone  bool
	ended     bool
	held      bool
	why       string // the first reason for the end
	seq       uint64 // cues, turns and hand-overs share one counter
	turns     int
	deadlines deadlines
	frozen    deadlines // conversation timers stopped by a hold

	turn     turn
	question turn // the last one that ended listening
	queue    queue
	music    music
	ear      ear
	keys     keys

	waits      *Item  // the waiting action under way; nil for none
	sending    uint64 // the keys that send-dtmf sends
	handover   *handover
	vars       map[string]any // to travel with the next turn
	first      Answered       // what the launch is given
	asked      int            // no-reply actions in a row
	repeats    int            // prompts repeated by ourselves in a row
	failures   int            // failed turns in a row
	fellBack   bool           // the agent's fallback was tried
	lastPrompt []Item         // what the last speaking turn said
	warned     map[string]bool
	interrupts bool     // what the custom action interruption allows
	keywords   []string // what the custom action asr says to listen for
}

// A turn is what is known of the exchange with the agent that is under way or
// was the last.
type turn struct {
	seq         uint64
	running     bool
	reading     bool // it failed, and the agent's state will tell whether it ran
	outcome     bool // it carries the outcome of an action or a hand-over
	action      dialog.Action
	vars        map[string]any // that travelled with it
	listening   bool           // complete, and its last trace of effect waits for the caller
	lastAction  int            // index in the queue of the last trace of effect if that is an action, else -1
	sawEnd      bool
	spoke       bool // it has speech or sound
	heard       bool // its first sample went out
	heardAt     time.Duration
	timeout     time.Duration // of its no-reply trace
	timeoutLeft time.Duration // what a noise or a key left of it
	asks        bool          // it brought a no-reply trace
	open        bool          // the caller's time to answer has begun
	buttons     []dialog.Button
}

// New returns the machine of a call that is still to be answered.
func New(p Policy) *Machine {
	m := &Machine{policy: p, vars: map[string]any{}, warned: map[string]bool{}, interrupts: true}
	m.keys.conf = p.Keys
	m.turn.lastAction = -1
	return m
}

// Step takes the event that happened at the given time and returns what is to
// be done, in order. Deadlines that lay before it are obeyed first.
func (m *Machine) Step(at time.Duration, ev Event) []Effect {
	m.out = nil
	if m.ended {
		return nil
	}
	for {
		kind, due, ok := m.deadlines.earliest()
		if !ok || due > at {
			break
		}
		if _, tick := ev.(Tick); due == at && !tick {
			break // what the caller did at the last moment counts
		}
		m.now = max(m.now, due)
		m.deadlines.clear(kind)
		m.expire(kind)
		if m.ended {
			return m.out
		}
	}
	m.now = max(m.now, at)
	m.handle(ev)
	return m.out
}

// Deadline returns the earliest time at which Step wants a Tick.
func (m *Machine) Deadline() (time.Duration, bool) {
	_, at, ok := m.deadlines.earliest()
	return at, ok && !m.ended
}

// Ended reports whether the conversation is over and nothing is waited for.
func (m *Machine) Ended() bool { return m.ended }

// Why returns the reason for the end, one plain sentence, once there is one.
func (m *Machine) Why() string { return m.why }

func (m *Machine) handle(ev Event) {
	switch ev := ev.(type) {
	case Tick:
	case Answered:
		m.answered(ev)
	case TraceArrived:
		m.traceArrived(ev)
	case TurnDone:
		m.turnDone(ev)
	case TurnFailed:
		m.turnFailed(ev)
	case StateRead:
		m.stateRead(ev)
	case PlayStarted:
		m.playStarted(ev)
	case PlayEnded:
		m.playEnded(ev)
	case Key:
		m.pressed(ev)
	case KeyUp:
		m.keyUp(ev)
	case SpeechStarted:
		m.speechStarted()
	case SpeechConfirmed:
		m.speechConfirmed()
	case SpeechEnded:
		m.speechEnded()
	case Words:
		m.words(ev)
	case Heard:
		m.final(ev)
	case Typed:
		m.typed(ev.Text)
	case Held:
		m.hold()
	case Resumed:
		m.resume()
	case TransferProgress:
		m.transferProgress(ev)
	case TransferDone:
		m.transferDone(ev)
	case DigitsSent:
		m.digitsSent(ev)
	case LineGone:
		m.gone(ev)
	case Close:
		m.finish(ev.Why, ev.Prompt)
	}
}

func (m *Machine) expire(k deadline) {
	switch k {
	case dlTurn:
		m.turnTimedOut()
	case dlThinking:
		m.think()
	case dlNoReply:
		m.noReply()
	case dlDigits:
		m.entryComplete()
	case dlRecognise:
		m.recogniserLate()
	case dlResume:
		m.resumePrompt()
	case dlProtect:
		m.protectionOver()
	case dlStall:
		m.promptStalled()
	case dlCollect:
		m.collectTimedOut()
	case dlHandover:
		m.handoverTimedOut()
	case dlHold:
		m.hangup("the caller kept us on hold for too long")
	case dlLength:
		m.finish("the call reached its longest duration", PromptLimit)
	case dlClosing:
		m.end()
	case numDeadlines:
	}
}

func (m *Machine) emit(e Effect) { m.out = append(m.out, e) }

func (m *Machine) next() uint64 { m.seq++; return m.seq }

func (m *Machine) count(what Counter) { m.emit(Count{What: what}) }

func (m *Machine) answered(ev Answered) {
	m.started = true
	m.deadlines.set(dlLength, m.now+m.policy.MaxDuration)
	m.first = ev
	m.launch(false)
}

// launch starts the flow, or starts it again.
func (m *Machine) launch(outcome bool) {
	vars := maps.Clone(m.first.Variables)
	if vars == nil {
		vars = map[string]any{}
	}
	maps.Copy(vars, m.vars)
	m.vars = vars
	m.send(dialog.Launch(m.first.Launch), outcome)
}

// sendAgain sends a turn that surely did not run once more, with all that travelled
// with it.
func (m *Machine) sendAgain() {
	vars := maps.Clone(m.turn.vars)
	maps.Copy(vars, m.vars)
	m.vars = vars
	m.send(m.turn.action, m.turn.outcome)
}

// listens reports whether the agent waits for the caller: the one predicate
// that guards what is sent on the caller's behalf.
func (m *Machine) listens() bool {
	return m.started && !m.closing && !m.held && !m.turn.running && m.turn.listening && m.waits == nil && m.handover == nil
}

// send begins a turn. Only the outcome of an action or a hand-over may be sent
// on hold or after the line has gone.
func (m *Machine) send(a dialog.Action, outcome bool) {
	if m.ended || m.turn.running || m.handover != nil || (!outcome && (m.held || m.closing)) {
		m.count(CountRefusedTurn)
		return
	}
	if m.turns >= m.policy.MaxTurns && m.policy.MaxTurns > 0 && !outcome {
		m.finish("the call reached its largest number of turns", PromptLimit)
		return
	}
	m.turns++
	cover := m.now + m.policy.ThinkingAfter
	if m.deadlines.has(dlThinking) {
		cover = min(cover, m.deadlines.at[dlThinking]) // the caller has waited for the recogniser already
	}
	m.stopPrompt()
	m.music.pass()
	m.queue.reset()
	m.keys.entry = m.keys.entry[:0]
	m.ear.reset()
	m.deadlines.clear(dlNoReply, dlDigits, dlRecognise, dlResume, dlProtect, dlCollect)
	m.frozen = deadlines{}
	m.waits = nil
	m.turn = turn{seq: m.next(), running: true, outcome: outcome, action: a, vars: m.vars, lastAction: -1}
	m.vars = map[string]any{}
	m.emit(SendTurn{Seq: m.turn.seq, Action: a, Variables: m.turn.vars})
	m.deadlines.set(dlTurn, m.now+m.policy.TurnTimeout)
	if !m.closing {
		m.arm(dlThinking, cover-m.now)
	}
	if m.policy.SpeechAhead == SendAhead {
		m.openUtterance(nil)
	} else {
		m.closeUtterance()
	}
}

func (m *Machine) traceArrived(ev TraceArrived) {
	if !m.turn.running || m.turn.reading || ev.Turn != m.turn.seq {
		m.count(CountLateTrace)
		return
	}
	for _, it := range ev.Items {
		m.take(it)
	}
	if len(ev.Items) > 0 && !m.closing {
		m.deadlines.set(dlTurn, m.now+m.policy.TurnTimeout) // a streamed answer may be long, its silence not
	}
	if !m.closing {
		m.advance()
	}
}

// take adds one item of the running turn: to the queue what is performed in
// order, to the turn what says how the caller may answer.
func (m *Machine) take(it Item) {
	m.turn.lastAction = -1
	switch it.Kind {
	case Choice:
		m.turn.buttons = it.Buttons
	case NoReply:
		m.turn.asks, m.turn.timeout = true, it.Timeout
	case Keypad:
		m.keys.configure(it.Keypad, m.policy.Keys)
	case End:
		m.turn.sawEnd = true
		m.queue.add(it)
	case Action:
		m.queue.add(it)
		m.turn.lastAction = m.queue.len() - 1
	case Speech, Sound:
		m.turn.spoke = m.turn.spoke || !it.Loop
		m.queue.add(it)
		m.emit(Prepare{Item: it})
	case Relaunch, Notify:
		m.queue.add(it)
	}
}

func (m *Machine) turnDone(ev TurnDone) {
	if !m.turn.running || m.turn.reading || ev.Turn != m.turn.seq {
		return
	}
	t := &m.turn
	t.running = false
	m.failures = 0
	m.deadlines.clear(dlTurn)
	if m.closing {
		m.closed()
		return
	}
	if i := t.lastAction; i >= 0 && len(m.queue.items[i].Paths) > 0 {
		m.queue.items[i].Waits = true
	}
	t.listening = !t.sawEnd && (t.lastAction < 0 || !m.queue.items[t.lastAction].stops())
	if t.listening && (m.policy.SpeakChoices || !t.spoke) && len(t.buttons) > 0 {
		it := Item{Kind: Speech, Text: offer(t.buttons)}
		m.queue.add(it)
		t.spoke = true
		m.emit(Prepare{Item: it})
	}
	if speech := m.queue.speech(); len(speech) > 0 {
		m.lastPrompt = speech
	} else if t.listening && len(m.lastPrompt) == 0 {
		// Nothing was ever said: silence would be all that the caller hears.
		m.lastPrompt = []Item{{Kind: Speech, Prompt: PromptApology}}
		if t.lastAction < 0 || m.queue.items[t.lastAction].Name != TraceHandoff { // which is spoken to in any case
			m.queue.add(m.lastPrompt[0])
			t.spoke = true
		}
	}
	if t.listening {
		m.question = *t
		m.openUtterance(t.buttons)
	} else {
		m.closeUtterance()
	}
	if m.takeTypeahead() {
		return
	}
	m.advance()
}

// say replaces the queue by items of the bridge itself.
func (m *Machine) say(items ...Item) {
	m.stopPrompt()
	m.queue.reset()
	m.turn.open = false
	for _, it := range items {
		if it.audible() && !it.Loop {
			m.turn.spoke = true
		}
		m.queue.add(it)
	}
}

// finish says the last words and hangs up after they were heard.
func (m *Machine) finish(why string, words ...Prompt) {
	if m.closing {
		return
	}
	if m.turn.running {
		m.emit(CancelTurn{Seq: m.turn.seq})
		m.turn.running = false
	}
	if m.handover != nil {
		m.emit(CancelTransfer{Seq: m.handover.seq})
		m.handover = nil
	}
	if m.held || !m.started {
		m.hangup(why)
		return
	}
	if m.waits != nil && m.waits.Name == actionSendDTMF {
		m.emit(StopDigits{}) // they would keep the last words back
	}
	m.deadlines = deadlines{}
	m.closeUtterance()
	m.music.old = true
	m.turn.listening, m.turn.lastAction, m.waits = false, -1, nil
	m.ear.reset()
	var last []Item
	for _, p := range words {
		last = append(last, Item{Kind: Speech, Prompt: p})
	}
	m.say(append(last, Item{Kind: End, Text: why})...)
	m.deadlines.set(dlClosing, m.now+farewellLimit)
	m.advance()
}

// hangup ends the line. The machine ends when the line has, or after a while.
func (m *Machine) hangup(why string) {
	if m.why == "" {
		m.why = why
	}
	if m.lineGone {
		m.closed()
		return
	}
	m.closing = true
	m.deadlines = deadlines{}
	m.deadlines.set(dlClosing, m.now+closingLimit)
	if m.turn.running && m.turn.outcome {
		m.deadlines.set(dlTurn, m.now+closingLimit)
	}
	m.closeUtterance()
	m.emit(Hangup{Why: m.why})
}

// gone follows the end of the line.
func (m *Machine) gone(ev LineGone) {
	m.lineGone = true
	if m.why == "" {
		m.why = ev.Why
	}
	if !m.closing {
		m.closing = true
		m.deadlines = deadlines{}
		m.deadlines.set(dlClosing, m.now+closingLimit)
		m.closeUtterance()
		if m.turn.running && !m.turn.outcome {
			m.emit(CancelTurn{Seq: m.turn.seq})
			m.turn.running = false
		}
	}
	m.closed()
}

// closed ends the machine when nothing is left to wait for.
func (m *Machine) closed() {
	if m.lineGone && !m.turn.running && m.handover == nil {
		m.end()
	}
}

func (m *Machine) end() {
	if m.turn.running {
		m.emit(CancelTurn{Seq: m.turn.seq})
	}
	if m.handover != nil {
		m.emit(CancelTransfer{Seq: m.handover.seq})
	}
	if !m.lineGone && !m.closing {
		m.emit(Hangup{Why: m.why})
	}
	m.deadlines = deadlines{}
	m.ended = true
}
