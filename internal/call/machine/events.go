package machine

import (
	"time"

	"github.com/ivrbridge/ivrbridge/dialog"
)

// An Event is something that happened to the call.
type Event interface{ event() }

type (
	// Tick says that the deadline has come.
	Tick struct{}
	// Answered says that the line is up.
	Answered struct {
		Launch    map[string]any // payload of the launch action
		Variables map[string]any // given to the flow with it
	}
	// TraceArrived brings items of a running turn.
	TraceArrived struct {
		Turn  uint64
		Items []Item
		Trace dialog.Trace // as it came, for those who look on
	}
	// TurnDone says that a turn is complete.
	TurnDone struct{ Turn uint64 }
	// TurnFailed says that a turn brought no complete answer.
	TurnFailed struct {
		Turn     uint64
		Maybe    bool // the flow may have advanced all the same
		Broken   bool // the connection broke: the agent's state may tell what ran
		TimedOut bool
		Refused  bool // for good: a key, an environment, a long wait
		Reason   string
	}
	// StateRead answers ReadState.
	StateRead struct {
		Turn        uint64
		NotExecuted bool // the agent's state shows that the turn did not run
	}
	// PlayStarted says that the first sample of a cue was sent.
	PlayStarted struct{ Cue uint64 }
	// PlayEnded says that a cue is over; the event's time is that of its last
	// sample.
	PlayEnded struct {
		Cue     uint64
		Heard   time.Duration
		Bad     bool // it failed or starved
		Stopped bool // it was cut off
	}
	// Key is a key that the caller pressed. It is up again at once, or, where it is
	// down, with the KeyUp that follows.
	Key struct {
		Digit byte
		Down  bool
	}
	// KeyUp says that the key is up again. It may be told more than once.
	KeyUp struct{ Digit byte }
	// SpeechStarted says that the caller began to speak.
	SpeechStarted struct{}
	// SpeechConfirmed says that it is long enough to interrupt.
	SpeechConfirmed struct{}
	// SpeechEnded says that the caller's talkspurt is over.
	SpeechEnded struct{}
	// Words are those recognised so far.
	Words struct {
		Utterance uint64
		Text      string
	}
	// Heard is an utterance's final text, empty when nothing was understood.
	Heard struct {
		Utterance  uint64
		Text       string
		Confidence float64 // 0 when the engine does not say
	}
	// Typed are words that the caller wrote, or a choice that was clicked, where
	// the line has a screen.
	Typed struct{ Text string }
	// Held says that the caller put us on hold, Resumed that it is over.
	Held struct{}
	// Resumed ends Held.
	Resumed struct{}
	// TransferProgress says how a hand-over stands, and may give it more time.
	TransferProgress struct {
		Seq    uint64
		Limit  time.Duration // from now; 0: as it is
		Target string
		Status int // the provisional status that the target's side sent; 0: none
	}
	// TransferDone is the end of a hand-over.
	TransferDone struct {
		Seq     uint64
		Outcome Outcome
		Cause   string
		Target  string
		Took    time.Duration
	}
	// DigitsSent answers SendDigits.
	DigitsSent struct{ Seq uint64 }
	// LineGone says that the line is over, whoever ended it.
	LineGone struct{ Why string }
	// Close ends the call politely.
	Close struct {
		Prompt Prompt
		Why    string
	}
)

func (Tick) event()             {}
func (Answered) event()         {}
func (TraceArrived) event()     {}
func (TurnDone) event()         {}
func (TurnFailed) event()       {}
func (StateRead) event()        {}
func (PlayStarted) event()      {}
func (PlayEnded) event()        {}
func (Key) event()              {}
func (KeyUp) event()            {}
func (SpeechStarted) event()    {}
func (SpeechConfirmed) event()  {}
func (SpeechEnded) event()      {}
func (Words) event()            {}
func (Heard) event()            {}
func (Typed) event()            {}
func (Held) event()             {}
func (Resumed) event()          {}
func (TransferProgress) event() {}
func (TransferDone) event()     {}
func (DigitsSent) event()       {}
func (LineGone) event()         {}
func (Close) event()            {}

// An Outcome is how a hand-over ended; the words mean one thing everywhere.
type Outcome string

// The outcomes of a hand-over.
const (
	Connected   Outcome = "connected"
	Human       Outcome = "human"
	Busy        Outcome = "busy"
	NoAnswer    Outcome = "no_answer"
	Declined    Outcome = "declined"
	Unreachable Outcome = "unreachable"
	Refused     Outcome = "refused"
	// Unconfirmed was accepted, and no word of its end came: a success when the
	// far end hung up, which is reported as Connected.
	Unconfirmed Outcome = "unconfirmed"
)

// Success reports whether the caller has left us for somebody else.
func (o Outcome) Success() bool { return o == Connected || o == Human }

// An Effect is something to be done.
type Effect interface{ effect() }

type (
	// SendTurn sends one action to the agent.
	SendTurn struct {
		Seq       uint64
		Action    dialog.Action
		Variables map[string]any
	}
	// CancelTurn gives a turn up.
	CancelTurn struct{ Seq uint64 }
	// ReadState asks what became of a failed turn.
	ReadState struct{ Turn uint64 }
	// Prepare renders an item that will be played.
	Prepare struct{ Item Item }
	// Play plays an item at once, in place of what plays.
	Play struct {
		Cue  uint64
		Item Item
	}
	// Queue plays an item behind what plays, without a gap.
	Queue struct {
		Cue  uint64
		Item Item
	}
	// StopPlay silences the line.
	StopPlay struct{}
	// OpenUtterance begins to recognise, CloseUtterance gives it up.
	OpenUtterance struct {
		ID    uint64
		Hints []string
	}
	// CloseUtterance gives the utterance up.
	CloseUtterance struct{ ID uint64 }
	// EndUtterance asks for its final.
	EndUtterance struct{ ID uint64 }
	// SendDigits plays keys to the far end.
	SendDigits struct {
		Seq    uint64
		Digits string
	}
	// StopDigits gives up the keys that are not on the wire yet.
	StopDigits struct{}
	// SetHeader adds a header to our BYE or REFER.
	SetHeader struct{ Name, Value string }
	// SetVoice changes language and voice of what is spoken from now on.
	SetVoice struct{ Language, Voice string }
	// Transfer hands the caller over.
	Transfer struct {
		Seq      uint64
		Name     string
		Payload  []byte
		Body     map[string]any
		Fallback bool // the target is the agent's own fallback
	}
	// CancelTransfer gives a hand-over up.
	CancelTransfer struct{ Seq uint64 }
	// Hangup ends the line.
	Hangup struct {
		Why         string
		Transferred bool
		Cause       int // Q.850; 0 for normal clearing
	}
	// Note is for the record and the log.
	Note struct {
		Kind NoteKind
		Text string
	}
	// Count is for the metrics.
	Count struct{ What Counter }
)

func (SendTurn) effect()       {}
func (CancelTurn) effect()     {}
func (ReadState) effect()      {}
func (Prepare) effect()        {}
func (Play) effect()           {}
func (Queue) effect()          {}
func (StopPlay) effect()       {}
func (OpenUtterance) effect()  {}
func (CloseUtterance) effect() {}
func (EndUtterance) effect()   {}
func (SendDigits) effect()     {}
func (StopDigits) effect()     {}
func (SetHeader) effect()      {}
func (SetVoice) effect()       {}
func (Transfer) effect()       {}
func (CancelTransfer) effect() {}
func (Hangup) effect()         {}
func (Note) effect()           {}
func (Count) effect()          {}

// NoteKind classifies a Note.
type NoteKind uint8

// The kinds of notes.
const (
	NoteCaller       NoteKind = iota + 1 // the caller said Text
	NoteKeys                             // the caller keyed an entry of Text
	NoteTurnFailed                       // a turn failed: Text
	NoteStopOnAction                     // the dial Text does not stop although it has paths
	NoteBargeIn                          // the caller interrupted
	NoteHold
	NoteResume
	NoteAction    // the custom action Text was performed in passing
	NoteUnhandled // nobody answers the custom action Text
	NoteNoHuman   // the agent asks for a human and has no fallback
	NoteNoReply   // the caller kept silent
	NotePromptBad // a prompt could not be played
)

// A Counter names something that is counted over all calls.
type Counter string

// What is counted.
const (
	CountRefusedTurn   Counter = "refused_turn"
	CountLateTrace     Counter = "late_trace"
	CountFailedTurn    Counter = "failed_turn"
	CountDroppedKey    Counter = "dropped_key"
	CountDroppedSpeech Counter = "dropped_speech"
	CountFalseBargeIn  Counter = "false_barge_in"
	CountBargeIn       Counter = "barge_in"
	CountNoReply       Counter = "no_reply"
	CountNoMatch       Counter = "no_match"
	CountLowConfidence Counter = "low_confidence"
	CountFiller        Counter = "filler"
	CountBadPrompt     Counter = "bad_prompt"
)
