package media

import "time"

// A Kind says what an [Event] tells.
type Kind uint8

// The kinds of events.
const (
	Digit         Kind = iota + 1 // a key was pressed: Digit, Source
	DigitEnd                      // the key is up again: Digit, Source; see [Event]
	SpeechStart                   // the far end seems to speak
	SpeechConfirm                 // it speaks long enough to interrupt a prompt
	SpeechEnd                     // it has fallen silent
	PlayStart                     // the first sample of a cue was sent: Seq
	PlayEnd                       // a cue is over: Seq, Heard, Why, Err
	Silent                        // nothing was received for the limit; told again after each further limit
	Latched                       // the far end's address is settled
	DigitsSent                    // digits are out, or could not be sent: Seq, Err
	Crashed                       // a fault ended the leg: Err
)

// Why says how a cue ended.
type Why uint8

// The ends of a cue.
const (
	Done    Why = iota + 1 // its clip is closed and its last sample was sent
	Stopped                // by Stop, Play or Close
	Starved                // its clip stayed open and did not grow for ten seconds
	Failed                 // its clip was closed with an error, which is in Err; what it held was sent
)

// String names the end for logs and labels.
func (w Why) String() string {
	switch w {
	case Done:
		return "done"
	case Stopped:
		return "stopped"
	case Starved:
		return "starved"
	case Failed:
		return "failed"
	default:
		return "unknown"
	}
}

// A DigitSource says by which way a key came.
type DigitSource uint8

// The ways of keys.
const (
	FromRTP  DigitSource = iota + 1 // telephone-event packets (RFC 4733)
	FromINFO                        // SIP INFO, handed in with [Leg.Press]
	FromTone                        // tones in the sound, where no telephone-event was agreed
)

const numSources = 3

// String names the way for logs and labels.
func (s DigitSource) String() string {
	switch s {
	case FromRTP:
		return "rtp"
	case FromINFO:
		return "info"
	case FromTone:
		return "tone"
	default:
		return "unknown"
	}
}

// An Event is something that a leg noticed.
//
// Each Digit is followed by a DigitEnd of the same key, before the next Digit: at
// the end bit of its telephone-event or when that has had no packets for 120 ms
// (RFC 4733 section 2.5), about 30 ms after its tone, after the time that an INFO request stated, when another
// key is pressed, and when the far end holds us. A key whose packets paused and go
// on is told to be up once more.
type Event struct {
	Kind   Kind
	At     time.Time     // of the slot in which it happened; for PlayEnd the slot that sent the last sample
	Digit  byte          // of Digit and DigitEnd: '0' to '9', '*', '#', 'A' to 'D'
	Source DigitSource   // of Digit and DigitEnd
	Seq    uint64        // of the cue or the digits
	Heard  time.Duration // how much of the cue was sent, Cue.From not included
	Why    Why
	Err    error
}

// Events takes the events of one leg, in their order. Post is called on the
// wheel and must neither block nor allocate much; only for commands given to a
// leg that is closed already it is called by the goroutine that gave them. false
// says that the event was not taken; it is counted.
type Events interface{ Post(e Event) bool }
