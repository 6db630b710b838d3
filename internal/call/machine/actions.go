package machine

import (
	"slices"
	"strings"
	"time"

	"github.com/ivrbridge/ivrbridge/dialog"
)

// handover is a hand-over that runs.
type handover struct {
	seq      uint64
	item     Item
	fallback bool
}

// perform carries out an item that is not heard.
func (m *Machine) perform(it Item) {
	switch it.Kind {
	case End:
		why := it.Text
		if why == "" {
			why = "the agent ended the conversation"
		}
		m.hangup(why)
	case Action:
		m.act(it)
	case Relaunch:
		m.launch(true)
	case Notify:
		m.send(dialog.Event(it.Name), true)
	case Speech, Sound, Choice, NoReply, Keypad:
	}
}

func (m *Machine) act(it Item) {
	switch {
	case it.Name == TraceHandoff:
		m.askHuman(it)
	case it.Forward, it.Name == ActionForwardCall, slices.Contains(m.policy.DialNames, it.Name):
		m.startHandover(it)
	case slices.Contains(passingActions, it.Name):
		m.emit(Note{Kind: NoteAction, Text: it.Name})
		if m.inPassing(it) && it.Waits {
			m.answer(it)
		}
	case !it.Waits:
		m.unhandled(it)
	case it.Name == actionCollect, it.Name == actionDTMF:
		m.waits = &it
		m.startCollect(it)
	default:
		m.unhandled(it)
		m.answer(it)
	}
}

func (m *Machine) unhandled(it Item) {
	m.emit(Note{Kind: NoteUnhandled, Text: it.Name})
}

// inPassing performs one of the bridge's own actions. It reports whether that
// is complete; send-dtmf is when its keys are on the wire.
func (m *Machine) inPassing(it Item) bool {
	text := func(key string) string { s, _ := it.Body[key].(string); return s }
	switch it.Name {
	case actionInterruption:
		if allow, ok := it.Body["allowInterrupts"].(bool); ok {
			m.interrupts = allow
		}
	case actionHangup:
		m.hangup("the agent hung up")
		if c := int(number(it.Body, "cause", 0)); c > 0 && c < 128 {
			if h, ok := m.out[len(m.out)-1].(Hangup); ok {
				h.Cause = c
				m.out[len(m.out)-1] = h
			}
		}
		return false
	case actionHeader:
		m.emit(SetHeader{Name: text("name"), Value: text("value")})
	case actionASR:
		m.listenFor(it.Body)
	case actionLanguage:
		m.emit(SetVoice{Language: text("language"), Voice: text("voice")})
	case actionPlay:
		if url := text("url"); url != "" {
			loop, _ := it.Body["loop"].(bool)
			m.insert(Item{Kind: Sound, Src: url, Loop: loop && !it.Waits})
		}
	case actionSendDTMF:
		if digits := text("digits"); digits != "" {
			m.waits = &it
			m.sending = m.next()
			m.emit(SendDigits{Seq: m.sending, Digits: digits})
			return false
		}
	}
	return true
}

// listenFor takes the keywords that the agent expects from now on.
func (m *Machine) listenFor(body map[string]any) {
	settings, ok := body["settings"].(map[string]any)
	if !ok {
		settings = body
	}
	list, ok := settings["keywords"].([]any)
	if !ok {
		return
	}
	m.keywords = nil
	for _, k := range list {
		if s, ok := k.(string); ok && s != "" && len(m.keywords) < maxKeywords {
			m.keywords = append(m.keywords, s)
		}
	}
	if m.ear.open && !m.ear.speaking {
		m.openUtterance(m.turn.buttons)
	}
}

func (m *Machine) digitsSent(ev DigitsSent) {
	if m.waits == nil || m.waits.Name != actionSendDTMF || ev.Seq != m.sending || m.closing {
		return
	}
	it := *m.waits
	m.waits = nil
	if it.Waits {
		m.answer(it)
		return
	}
	m.advance()
}

// answer sends the first of the names that the action has a path for, else its
// default path, else its first one: an answer that it does not know would end
// the conversation at Voiceflow.
func (m *Machine) answer(it Item, names ...string) {
	typ, ok := path(it, names...)
	if !ok {
		typ = it.Paths[0] // what waits has paths
	}
	m.send(dialog.Outcome(typ, nil), true)
}

// path returns the event type by meaning, else that of the default path.
func path(it Item, names ...string) (string, bool) {
	for _, n := range names {
		for _, p := range it.Paths {
			if plain(p) == plain(n) {
				return p, true
			}
		}
	}
	if it.Default >= 0 && it.Default < len(it.Paths) {
		return it.Paths[it.Default], true
	}
	return "", false
}

func plain(s string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", "_", "", "-", "").Replace(s))
}

// askHuman follows an agent that asks for a human in the terms of a chat, which
// the call is not: the caller is handed to the agent's fallback. The flow gets no
// outcome, it goes on listening where nobody takes the call.
func (m *Machine) askHuman(it Item) {
	if m.policy.Fallback != "" {
		it.Body = map[string]any{"target": m.policy.Fallback}
		m.startHandover(it)
		return
	}
	m.emit(Note{Kind: NoteNoHuman, Text: it.Name})
	m.insert(Item{Kind: Speech, Prompt: PromptApology})
	m.turn.spoke = true
}

// insert lets an item be the next one.
func (m *Machine) insert(it Item) {
	m.queue.items = slices.Insert(m.queue.items, m.queue.pos, it)
	if m.turn.lastAction >= m.queue.pos {
		m.turn.lastAction++
	}
}

// startHandover hands the caller over, after the speech before it was heard.
func (m *Machine) startHandover(it Item) {
	if !it.Waits && len(it.Paths) > 0 && !m.warned[it.Name] {
		m.warned[it.Name] = true
		m.emit(Note{Kind: NoteStopOnAction, Text: it.Name})
	}
	m.closeUtterance()
	m.stopNoReply()
	m.handover = &handover{seq: m.next(), item: it, fallback: it.Name == "fallback" || it.Name == TraceHandoff}
	m.deadlines.set(dlHandover, m.now+m.policy.DialTimeout+handoverGrace)
	m.emit(Transfer{Seq: m.handover.seq, Name: it.Name, Payload: it.Payload, Body: it.Body, Fallback: m.handover.fallback})
	m.playHold()
}

// playHold lets the caller hear that something happens: the flow's own music,
// where it plays some.
func (m *Machine) playHold() {
	if m.held {
		return
	}
	if m.music.item != nil {
		m.startMusic()
		return
	}
	m.queue.filler = m.next()
	m.emit(Play{Cue: m.queue.filler, Item: Item{Kind: Sound, Prompt: PromptHold, Loop: true}})
}

func (m *Machine) transferProgress(ev TransferProgress) {
	if m.handover != nil && ev.Seq == m.handover.seq && ev.Limit > 0 {
		m.deadlines.set(dlHandover, m.now+ev.Limit+handoverGrace)
	}
}

// handoverTimedOut gives up a hand-over whose end nobody reports.
func (m *Machine) handoverTimedOut() {
	m.emit(CancelTransfer{Seq: m.handover.seq})
	m.transferDone(TransferDone{Seq: m.handover.seq, Outcome: Unconfirmed, Cause: "no word of the hand-over's end"})
}

// transferDone follows the outcome: the flow learns it by path, and the caller
// goes on where there is one to go on with.
func (m *Machine) transferDone(ev TransferDone) {
	if m.handover == nil || ev.Seq != m.handover.seq {
		return
	}
	h := m.handover
	m.handover = nil
	m.deadlines.clear(dlHandover)
	m.stopPlaying()
	m.music = music{}
	m.vars["transfer_outcome"], m.vars["transfer_cause"] = string(ev.Outcome), ev.Cause
	m.vars["transfer_target"], m.vars["transfer_seconds"] = ev.Target, int(ev.Took/time.Second)
	if ev.Outcome.Success() {
		m.handedOver(h)
		return
	}
	if m.closing {
		m.closed()
		return
	}
	if typ, ok := path(h.item, outcomePaths(ev.Outcome)...); ok && h.item.Waits {
		m.send(dialog.Outcome(typ, nil), true)
		return
	}
	m.handoverFailed(h)
}

// handedOver ends our part of the call. The path is sent all the same, so that
// the flow's logic runs; its speech is not waited for.
func (m *Machine) handedOver(h *handover) {
	if typ, ok := path(h.item, "call success", "success", "connected"); ok && h.item.Waits {
		m.turn.listening = false
		m.send(dialog.Outcome(typ, nil), true)
	}
	m.why = "the caller was handed over"
	if m.lineGone {
		m.closing = true
		if !m.deadlines.has(dlClosing) {
			m.deadlines.set(dlClosing, m.now+closingLimit)
		}
		m.closed()
		return
	}
	m.closing = true
	m.deadlines.clear(dlThinking, dlLength, dlHold)
	m.deadlines.set(dlClosing, m.now+closingLimit)
	m.emit(Hangup{Why: m.why, Transferred: true})
}

// outcomePaths lists the paths that an outcome may take, the closest first.
func outcomePaths(o Outcome) []string {
	failed := []string{"failed", "call failed", "failure", "error"}
	switch o {
	case Busy:
		return append([]string{"busy"}, failed...)
	case NoAnswer:
		return append([]string{"no answer", "noanswer", "timeout"}, failed...)
	case Declined:
		return append([]string{"declined", "rejected"}, failed...)
	case Connected, Human, Unreachable, Refused, Unconfirmed:
	}
	return failed
}

// handoverFailed keeps the caller in the conversation where no path reports the
// failure: the agent's fallback is tried, then the flow is told by event, or it
// starts again.
func (m *Machine) handoverFailed(h *handover) {
	rest := m.queue.items[m.queue.pos:]
	listening := m.turn.listening && !h.item.stops()
	sorry := Item{Kind: Speech, Prompt: PromptTransferFailed}
	switch {
	case m.policy.Fallback != "" && !h.fallback && !m.fellBack:
		m.fellBack = true
		m.say(sorry, fallback(m.policy.Fallback))
		m.turn.listening = false
	case h.fallback && m.failures > 0:
		m.finish("neither the agent nor its fallback could take the call", PromptTransferFailed, PromptLimit)
		return
	case listening:
		items := []Item{sorry}
		for _, it := range rest {
			if it.Kind != End {
				items = append(items, it)
			}
		}
		m.say(items...)
		m.openUtterance(m.turn.buttons)
	case m.policy.FailedEvent != "":
		m.say(sorry, Item{Kind: Notify, Name: m.policy.FailedEvent})
	default:
		m.say(sorry, Item{Kind: Relaunch})
	}
	m.advance()
}
