// Package story tells what happens in a call to somebody who looks on: a page
// that shows it, or an operator.
//
// A [Teller] follows the steps of one conversation and turns them into a few
// kinds of events in the words of the caller's side. It is pure: times are since
// the call began, and nothing is sent from here.
package story

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
)

// A Step is one event of a conversation, what was decided, and what is waited
// for from then on.
type Step struct {
	At      time.Duration
	Event   machine.Event
	Effects []machine.Effect
	Waits   machine.Waits
	// Rendered is when the sound of a cue that has just begun was there, for
	// machine.PlayStarted; 0: not known.
	Rendered time.Duration
}

// Kinds of what is told.
const (
	KindState      = "state"
	KindCaller     = "caller"
	KindAgent      = "agent"
	KindAgentEnd   = "agent_end"
	KindTrace      = "trace"
	KindAction     = "action"
	KindActionDone = "action_done"
	KindListen     = "listen"
	KindListenEnd  = "listen_end"
	KindTurn       = "turn"
	KindTransfer   = "transfer"
	KindNote       = "note"
)

// Told is one event of the story. Data marshals to a JSON object with the time
// in seconds as t.
type Told struct {
	Kind string
	Data any
}

// Seconds are a time since the call began.
type Seconds float64

func seconds(d time.Duration) Seconds {
	return Seconds(float64(d.Round(time.Millisecond).Milliseconds()) / 1000)
}

// State is how the call stands: up, held, transferring or bridged; connecting
// and ended are told by whoever knows the line.
type State struct {
	T     Seconds `json:"t"`
	State string  `json:"state"`
	Why   string  `json:"why,omitempty"`
	Class string  `json:"class,omitempty"`
}

// Caller is what the caller said or keyed.
type Caller struct {
	T          Seconds `json:"t"`
	Text       string  `json:"text"`
	Final      bool    `json:"final"`
	Keyed      bool    `json:"keyed"`
	Confidence float64 `json:"confidence,omitempty"`
}

// Agent is something of ours that begins to be heard: speech, audio, prompt (a
// sentence of the bridge itself) or music.
type Agent struct {
	T    Seconds `json:"t"`
	Seq  uint64  `json:"seq"`
	Text string  `json:"text"`
	Kind string  `json:"kind"`
}

// AgentEnd is the end of what was heard.
type AgentEnd struct {
	T     Seconds `json:"t"`
	Seq   uint64  `json:"seq"`
	Heard Seconds `json:"heard"`
	Why   string  `json:"why"` // done, stopped or starved
}

// Trace is one trace as the agent sent it.
type Trace struct {
	T       Seconds         `json:"t"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// Action is a custom action that begins, ActionDone one that waited and was
// answered.
type Action struct {
	T     Seconds        `json:"t"`
	Name  string         `json:"name"`
	Waits bool           `json:"waits"`
	Body  map[string]any `json:"body,omitempty"`
}

// ActionDone ends Action.
type ActionDone struct {
	T    Seconds `json:"t"`
	Name string  `json:"name"`
	Path string  `json:"path"`
}

// Listen says what is waited for, ListenEnd that nothing is any longer.
type Listen struct {
	T       Seconds  `json:"t"`
	NoReply Seconds  `json:"no_reply"` // from now; 0: the timer does not run
	Open    bool     `json:"open"`     // everything was heard
	Choices []Choice `json:"choices"`
	Keys    *Keys    `json:"keys,omitempty"`
}

// Choice is a button of the agent's question and the key that selects it.
type Choice struct {
	Label string `json:"label"`
	Key   int    `json:"key"`
}

// Keys are how an entry ends.
type Keys struct {
	Max       int    `json:"max"`
	Delimiter string `json:"delimiter"`
}

// ListenEnd ends Listen.
type ListenEnd struct {
	T Seconds `json:"t"`
}

// Turn gives the times of one exchange with the agent, since the call began; nil
// where there is none.
type Turn struct {
	T           Seconds  `json:"t"`
	N           int      `json:"n"`
	Action      string   `json:"action"`
	SpeechEnd   *Seconds `json:"speech_end"`
	Transcript  *Seconds `json:"transcript"`
	Sent        *Seconds `json:"sent"`
	FirstTrace  *Seconds `json:"first_trace"`
	FirstAudio  *Seconds `json:"first_audio"`
	FirstPacket *Seconds `json:"first_packet"`
}

// Transfer is a hand-over that begins, goes on or is over.
type Transfer struct {
	T       Seconds `json:"t"`
	Target  string  `json:"target,omitempty"`
	Status  int     `json:"status,omitempty"` // provisional, of the target
	Outcome string  `json:"outcome,omitempty"`
	Cause   string  `json:"cause,omitempty"`
}

// Note is a line worth reading.
type Note struct {
	T     Seconds `json:"t"`
	Level string  `json:"level"` // info or warn
	Text  string  `json:"text"`
}

// A Teller follows one call. One goroutine calls it.
type Teller struct {
	cues   map[uint64]machine.Item
	waits  machine.Waits
	turn   Turn
	turns  int
	seq    uint64 // of the running turn
	open   bool   // the turn's first sound is still awaited
	spoke  *Seconds
	words  *Seconds
	out    []Told
	at     Seconds
	action string
}

// NewTeller returns a teller for a call that begins.
func NewTeller() *Teller { return &Teller{cues: map[uint64]machine.Item{}} }

// Tell returns what a step means to somebody who looks on, in order.
func (t *Teller) Tell(s Step) []Told {
	t.out, t.at = nil, seconds(s.At)
	t.event(s)
	for _, e := range s.Effects {
		t.effect(e)
	}
	t.state(s)
	return t.out
}

func (t *Teller) say(kind string, data any) { t.out = append(t.out, Told{kind, data}) }

func (t *Teller) note(level, text string) {
	t.say(KindNote, Note{T: t.at, Level: level, Text: text})
}

func (t *Teller) now() *Seconds { at := t.at; return &at }

func (t *Teller) event(s Step) {
	switch ev := s.Event.(type) {
	case machine.Answered:
		t.say(KindState, State{T: t.at, State: "up"})
	case machine.SpeechStarted:
		t.spoke, t.words = nil, nil
	case machine.SpeechEnded:
		t.spoke = t.now()
	case machine.Words:
		if ev.Text != "" {
			t.say(KindCaller, Caller{T: t.at, Text: ev.Text, Confidence: 0})
		}
	case machine.Heard:
		if strings.TrimSpace(ev.Text) != "" {
			t.words = t.now()
			t.say(KindCaller, Caller{T: t.at, Text: ev.Text, Final: true, Confidence: ev.Confidence})
		}
	case machine.Typed:
		t.say(KindCaller, Caller{T: t.at, Text: strings.TrimSpace(ev.Text), Final: true, Confidence: 1})
	case machine.Key:
		t.say(KindCaller, Caller{T: t.at, Text: string(rune(ev.Digit)), Keyed: true})
	case machine.TraceArrived:
		t.trace(ev)
	case machine.TurnDone:
		t.turnDone(ev.Turn)
	case machine.TurnFailed:
		t.turnDone(ev.Turn)
	case machine.PlayStarted:
		t.playStarted(ev.Cue, s.Rendered)
	case machine.PlayEnded:
		t.playEnded(ev)
	case machine.TransferProgress:
		t.say(KindTransfer, Transfer{T: t.at, Target: ev.Target, Status: ev.Status})
	case machine.TransferDone:
		t.say(KindTransfer, Transfer{T: t.at, Target: ev.Target, Outcome: string(ev.Outcome), Cause: ev.Cause})
		if ev.Outcome.Success() {
			t.say(KindState, State{T: t.at, State: "bridged"})
		}
	}
}

func (t *Teller) trace(ev machine.TraceArrived) {
	if ev.Turn == t.seq && t.turn.FirstTrace == nil {
		t.turn.FirstTrace = t.now()
	}
	if ev.Trace.Type != "" {
		t.say(KindTrace, Trace{T: t.at, Type: ev.Trace.Type, Payload: shortened(ev.Trace)})
	}
}

// longestPayload bounds what is shown of a trace.
const longestPayload = 8 << 10

// shortened leaves out what nobody can read: rendered audio, and what is very
// long.
func shortened(tr dialog.Trace) json.RawMessage {
	if len(tr.Payload) <= longestPayload {
		return tr.Payload
	}
	text, err := json.Marshal("(" + tr.Type + " of " + sized(len(tr.Payload)) + ", not shown)")
	if err != nil {
		return nil
	}
	return text
}

// turnDone ends a turn that brought no sound.
func (t *Teller) turnDone(seq uint64) {
	if seq == t.seq && t.open && len(t.cues) == 0 {
		t.tellTurn()
	}
}

func (t *Teller) tellTurn() {
	t.open = false
	t.turn.T = t.at
	t.say(KindTurn, t.turn)
}

func (t *Teller) playStarted(cue uint64, rendered time.Duration) {
	it, ok := t.cues[cue]
	if !ok {
		return
	}
	t.say(KindAgent, Agent{T: t.at, Seq: cue, Text: it.Text, Kind: kindOf(it)})
	if !t.open || it.Prompt != "" && t.turn.FirstTrace == nil {
		return // a cover of a slow answer is not the answer
	}
	audio := max(seconds(rendered), orNow(t.turn.Sent, t.at))
	audio = min(max(audio, orNow(t.turn.FirstTrace, audio)), t.at)
	t.turn.FirstAudio, t.turn.FirstPacket = &audio, t.now()
	t.tellTurn()
}

func orNow(at *Seconds, now Seconds) Seconds {
	if at == nil {
		return now
	}
	return *at
}

func kindOf(it machine.Item) string {
	switch {
	case it.Loop:
		return "music"
	case it.Prompt != "":
		return "prompt"
	case it.Text == "":
		return "audio"
	}
	return "speech"
}

func (t *Teller) playEnded(ev machine.PlayEnded) {
	if _, ok := t.cues[ev.Cue]; !ok {
		return
	}
	delete(t.cues, ev.Cue)
	why := "done"
	switch {
	case ev.Bad:
		why = "starved"
	case ev.Stopped:
		why = "stopped"
	}
	t.say(KindAgentEnd, AgentEnd{T: t.at, Seq: ev.Cue, Heard: seconds(ev.Heard), Why: why})
}
