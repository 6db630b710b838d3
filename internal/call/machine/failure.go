package machine

import "github.com/ivrbridge/ivrbridge/dialog"

// turnTimedOut gives the running turn up: the runtime's own limits have passed.
func (m *Machine) turnTimedOut() {
	m.emit(CancelTurn{Seq: m.turn.seq})
	m.turnFailed(TurnFailed{Turn: m.turn.seq, Maybe: true, TimedOut: true, Reason: "no answer in time"})
}

func (m *Machine) turnFailed(ev TurnFailed) {
	if !m.turn.running || ev.Turn != m.turn.seq {
		return
	}
	m.turn.running, m.turn.reading = false, false
	m.deadlines.clear(dlTurn, dlThinking)
	m.failures++
	m.count(CountFailedTurn)
	m.emit(Note{Kind: NoteTurnFailed, Text: ev.Reason})
	switch {
	case m.closing:
		m.closed()
	case m.turn.spoke:
		// What came before the failure is spoken, and the caller answers that.
		m.turn.listening = !m.turn.sawEnd
		m.turn.lastAction = -1
		m.lastPrompt = m.queue.speech()
		m.openUtterance(m.turn.buttons)
		m.advance()
	case ev.Maybe && ev.Broken:
		m.emit(ReadState{Turn: m.turn.seq})
		m.turn.reading = true
		m.deadlines.set(dlTurn, m.now+stateLimit)
		m.turn.running = true // nothing is sent until it is known what ran
		m.arm(dlThinking, m.policy.ThinkingAfter)
	case m.turn.outcome && !ev.Maybe && m.failures < 2:
		m.sendAgain() // the action still waits, for this and nothing else
	default:
		m.recover(ev.TimedOut || ev.Refused, ev.Refused)
	}
}

// stateRead continues after a turn of unknown fate. It is repeated only when
// the agent's state shows that it did not run, and only once.
func (m *Machine) stateRead(ev StateRead) {
	if !m.turn.reading || ev.Turn != m.turn.seq {
		return
	}
	m.turn.running, m.turn.reading = false, false
	m.deadlines.clear(dlTurn, dlThinking)
	if m.closing {
		m.closed()
		return
	}
	if ev.NotExecuted && m.failures < 2 {
		m.sendAgain()
		return
	}
	m.recover(false, false)
}

// recover goes on after a turn that brought nothing: the caller is asked again
// once, then the agent's fallback takes over, or the call ends politely. At once
// where asking again is of no use.
func (m *Machine) recover(hopeless, certain bool) {
	giveUp := m.failures > 1 || hopeless && m.policy.Fallback != "" || certain || m.turn.outcome
	if !giveUp && m.turn.action.Type == dialog.ActionLaunch {
		m.say(Item{Kind: Speech, Prompt: PromptApology}, Item{Kind: Relaunch})
		m.advance()
		return
	}
	if !giveUp {
		m.say(append([]Item{{Kind: Speech, Prompt: PromptApology}}, m.lastPrompt...)...)
		m.turn.listening = true
		// Asked to say it again, the caller answers what the agent asked last.
		m.turn.buttons, m.turn.asks, m.turn.timeout = m.question.buttons, m.question.asks, m.question.timeout
		m.openUtterance(m.turn.buttons)
		m.advance()
		return
	}
	if m.policy.Fallback != "" && !m.fellBack {
		m.fellBack = true
		m.say(Item{Kind: Speech, Prompt: PromptApology}, fallback(m.policy.Fallback))
		m.advance()
		return
	}
	m.finish("the agent did not answer", PromptApology, PromptLimit)
}
