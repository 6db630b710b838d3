package story

import (
	"fmt"
	"strconv"
	"time"

	"github.com/ivrbridge/ivrbridge/internal/call/machine"
)

func (t *Teller) effect(e machine.Effect) {
	switch e := e.(type) {
	case machine.SendTurn:
		t.sent(e)
	case machine.Play:
		t.cues[e.Cue] = e.Item
	case machine.Queue:
		t.cues[e.Cue] = e.Item
	case machine.Transfer:
		t.action = e.Name
		t.say(KindAction, Action{T: t.at, Name: e.Name, Waits: true, Body: e.Body})
		t.say(KindTransfer, Transfer{T: t.at})
	case machine.Note:
		t.noted(e)
	}
}

// sent begins a turn: what was known of the caller's answer belongs to it.
func (t *Teller) sent(e machine.SendTurn) {
	if t.action != "" && t.waits.Action == t.action {
		t.say(KindActionDone, ActionDone{T: t.at, Name: t.action, Path: e.Action.Type})
		t.action = ""
	}
	t.turns++
	t.seq, t.open = e.Seq, true
	t.turn = Turn{N: t.turns, Action: e.Action.Type, SpeechEnd: t.spoke, Transcript: t.words, Sent: t.now()}
	t.spoke, t.words = nil, nil
}

func (t *Teller) noted(n machine.Note) {
	switch n.Kind {
	case machine.NoteKeys:
		t.spoke, t.words = nil, nil
		t.say(KindCaller, Caller{T: t.at, Text: n.Text, Final: true, Keyed: true})
	case machine.NoteTurnFailed:
		t.note("warn", "the agent did not answer: "+n.Text)
	case machine.NoteStopOnAction:
		t.note("warn", "Turn on 'Stop on action' for the Custom Action "+n.Text+" in Voiceflow, or its paths can never be taken.")
	case machine.NoteBargeIn:
		t.note("info", "the caller interrupted")
	case machine.NoteNoReply:
		t.note("info", "the caller kept silent")
	case machine.NoteAction:
		t.say(KindAction, Action{T: t.at, Name: n.Text})
	case machine.NoteUnhandled:
		t.note("info", "nobody answers the custom action "+n.Text+": its default path is taken")
	case machine.NoteNoHuman:
		t.note("warn", "the agent asks for a human, and has no fallback")
	case machine.NotePromptBad:
		t.note("warn", "something could not be played")
	case machine.NoteCaller, machine.NoteHold, machine.NoteResume:
	}
}

// state tells what changed in what the call waits for.
func (t *Teller) state(s Step) {
	now, before := s.Waits, t.waits
	t.waits = now
	if now.Same(before) {
		return
	}
	switch {
	case now.Held && !before.Held:
		t.say(KindState, State{T: t.at, State: "held"})
	case now.Transferring && !before.Transferring:
		t.say(KindState, State{T: t.at, State: "transferring"})
	case !now.Over && (before.Held && !now.Held || before.Transferring && !now.Transferring):
		t.say(KindState, State{T: t.at, State: "up"})
	}
	if now.Action != "" && now.Action != t.action {
		t.action = now.Action
		t.say(KindAction, Action{T: t.at, Name: now.Action, Waits: true})
	}
	switch {
	case now.Listening || now.Action != "" && now.MaxKeys > 0:
		t.say(KindListen, listen(t.at, s.At, now))
	case before.Listening || before.Action != "" && before.MaxKeys > 0:
		t.say(KindListenEnd, ListenEnd{T: t.at})
	}
}

func listen(at Seconds, now time.Duration, w machine.Waits) Listen {
	l := Listen{T: at, Open: w.Open, Choices: []Choice{}}
	if w.NoReply > now {
		l.NoReply = seconds(w.NoReply - now)
	}
	for i, b := range w.Buttons {
		l.Choices = append(l.Choices, Choice{Label: b.Name, Key: i + 1})
	}
	if w.MaxKeys > 0 {
		l.Keys = &Keys{Max: w.MaxKeys, Delimiter: w.Delimiters}
	}
	return l
}

// sized says how much something is.
func sized(n int) string {
	if n < 1<<10 {
		return strconv.Itoa(n) + " bytes"
	}
	return fmt.Sprintf("%d kB", n>>10)
}
