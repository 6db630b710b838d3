package machine

import (
	"slices"
	"time"

	"github.com/ivrbridge/ivrbridge/dialog"
)

// Policy is what an agent's configuration says about its conversations. A
// machine does not change it.
type Policy struct {
	NoReply      time.Duration // before we repeat the prompt of a flow that asks for no no-reply
	MaxNoReplies int           // such repeats before we say good-bye
	NoReplyGuard int           // no-reply actions in a row before we say good-bye
	SendUnasked  bool          // send no-reply also to flows that did not ask

	TurnTimeout   time.Duration
	ThinkingAfter time.Duration
	SpeechAhead   SpeechAhead
	SpeakChoices  bool

	MinConfidence float64
	Intents       []Intent

	BargeIn BargeIn
	Keys    KeyPolicy
	Keypad  map[string]string // entry to intent, for AsIntent

	DialNames   []string // custom actions that hand the caller over
	Answered    []string // further custom actions that somebody answers by path
	DialTimeout time.Duration
	Fallback    string // a target when the agent cannot go on; empty for none
	FailedEvent string // event sent after a hand-over that no path reports

	HoldMax     time.Duration
	MaxDuration time.Duration
	MaxTurns    int
}

// SpeechAhead says what becomes of words spoken before the answer was heard.
type SpeechAhead uint8

// What becomes of words spoken too early.
const (
	DropAhead SpeechAhead = iota // dropped and counted
	SendAhead                    // the next turn
)

// BargeIn says how a prompt may be interrupted.
type BargeIn struct {
	Speech, Keys bool
	MinWords     int           // 0: speech pauses the prompt, words confirm
	Protect      time.Duration // of a prompt's beginning from speech
	FalseBargeIn time.Duration // wait for words after suspected speech
	Skip         bool          // let the caller skip a turn that does not listen
}

// KeysAs is the form in which an entry is sent.
type KeysAs uint8

// The forms of an entry.
const (
	AsText KeysAs = iota
	AsDTMF
	AsEvent
	AsIntent
)

// Typeahead says what becomes of keys pressed during a prompt or a turn.
type Typeahead uint8

// What becomes of early keys.
const (
	Barge  Typeahead = iota // they stop the prompt
	Buffer                  // they wait for its end
	Drop
)

// KeyPolicy is the collection of keys into entries.
type KeyPolicy struct {
	Disabled   bool
	Max        int
	Delimiters string        // any of these ends an entry
	Interdigit time.Duration // 0: only a delimiter or Max ends an entry
	As         KeysAs
	Typeahead  Typeahead
	ChoiceKeys bool // key n selects button n
}

// KeypadConf is the collection that a dtmf trace asks for from then on.
type KeypadConf struct {
	Enabled    bool
	Timeout    time.Duration
	Delimiters string
	Max        int
}

// An Intent is a phrase of the configured map: Phrase may hold {entity} in
// place of words.
type Intent struct {
	Phrase string
	Name   string
}

// StopTypes returns the custom actions whose outcome chooses a path.
func (p Policy) StopTypes() []string {
	names := slices.Concat(p.DialNames, []string{ActionForwardCall}, waitingActions, p.Answered)
	slices.Sort(names)
	return slices.Compact(names)
}

// Prompt names a sentence of the bridge itself.
type Prompt string

// The bridge's own sentences, rendered at start.
const (
	PromptApology        Prompt = "apology"
	PromptGoodbye        Prompt = "goodbye"
	PromptFiller         Prompt = "filler"
	PromptHold           Prompt = "hold"
	PromptTransferFailed Prompt = "transfer_failed"
	PromptLimit          Prompt = "limit"
)

// The custom actions that the bridge knows.
const (
	ActionForwardCall  = "forward-call"
	actionCollect      = "collect"
	actionDTMF         = "DTMF"
	actionRecord       = "record"
	actionSecure       = "secure-input"
	actionCallback     = "callback"
	actionPlay         = "play"
	actionSendDTMF     = "send-dtmf"
	actionInterruption = "interruption"
	actionASR          = "asr"
	actionLanguage     = "set-language"
	actionRecordCall   = "record-call"
	actionHeader       = "sip-header"
	actionHangup       = "hangup"
)

// TraceHandoff is the trace by which an agent asks for a human in the terms of a
// chat. As an Action it chooses no path.
const TraceHandoff = "live-agent-handoff"

// maxKeywords bounds what an agent may tell the recogniser to listen for.
const maxKeywords = 200

var (
	waitingActions = []string{actionCollect, actionDTMF, actionRecord, actionSecure, actionCallback}
	passingActions = []string{actionPlay, actionSendDTMF, actionInterruption, actionASR, actionLanguage, actionRecordCall, actionHeader, actionHangup}
)

// ItemKind classifies an Item.
type ItemKind uint8

// The kinds of items.
const (
	Speech   ItemKind = iota + 1 // one sentence, or one SSML message
	Sound                        // audio to fetch and play
	Action                       // a custom action or Voiceflow's call forward
	End                          // hang up; Text says why
	Choice                       // buttons for the caller's answer
	NoReply                      // the time-out of the caller's answer
	Keypad                       // new rules for keys
	Relaunch                     // start the flow again
	Notify                       // send the event Name
)

// An Item is one piece of the agent's answer, or of what the bridge itself has
// to say. Items are performed in order.
type Item struct {
	Kind ItemKind

	Text   string // Speech: what to say; End: why
	SSML   bool   // Speech: Text is SSML
	Voice  string // Speech
	Src    string // Sound, or Speech that came rendered
	Prompt Prompt // Speech: a sentence of ours instead of Text
	Loop   bool   // Sound

	Name    string         // Action, Notify
	Forward bool           // Action: hands the caller over whatever its name
	Payload []byte         // Action: JSON
	Body    map[string]any // Action: Payload as an object, nil when it is none
	Paths   []string       // Action: the event types that it can be answered with
	Default int            // Action: index into Paths, -1 for none
	Waits   bool           // Action: the agent waits for the answer

	Buttons []dialog.Button
	Timeout time.Duration
	Keypad  KeypadConf
}

// stops reports whether nothing may be sent on the caller's behalf after it.
func (it Item) stops() bool { return it.Waits || it.Forward }

func fallback(target string) Item {
	return Item{Kind: Action, Name: "fallback", Forward: true, Default: -1, Body: map[string]any{"target": target}}
}
