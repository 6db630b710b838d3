// Package asr turns callers' speech into text.
//
// A [Recognizer] is one configured engine, a [Stream] one caller's use of it, a
// [Feeder] what stands between the media wheel and a stream. The package knows
// nothing of telephony and nothing of conversations: samples go in, numbered
// events come out.
package asr

import (
	"context"
	"time"

	"github.com/ivrbridge/ivrbridge/internal/registry"
)

// A Recognizer opens streams. It is safe for concurrent use.
type Recognizer interface {
	// Open connects one caller. It may block until ctx ends; the stream outlives
	// ctx and ends with Close.
	Open(ctx context.Context, p Params) (Stream, error)
}

// Params describes one stream.
type Params struct {
	CallID   string // for the log
	Language string // BCP 47, such as en-US
}

// An Utterance is one span of listening. Its number comes back in every event
// about it, so that a late result is known to be late.
type Utterance struct {
	ID       uint64   // rises from one to the next
	Hints    []string // phrases the caller may say now: choices, intents
	Language string   // empty for that of the stream
}

// A Stream recognises one caller's speech.
//
// One goroutine, the feeder's, calls Begin, Write and End; another drains
// Events; any may call Close, which makes the others return. None of them blocks
// for longer than a socket write with a deadline, or in Begin the set-up of a
// connection. An error that one of them returns is also reported by a Failed
// event.
type Stream interface {
	// Begin opens utterance u; what is written from now on belongs to it. An
	// utterance that was open is given up without a final; one that was ended
	// still gets its own.
	Begin(u Utterance) error
	// Write takes mono 16-bit samples at 8 kHz in chunks of about 100 ms and
	// keeps none of them.
	Write(pcm []int16) error
	// End asks for the final of utterance id: exactly one Final follows, with an
	// empty text when nothing was understood, or Failed. The stream stays open.
	// Nothing follows for an utterance that is not open: it was given up, ended
	// before, or an [Endpointer] has reported its Final already.
	End(id uint64) error
	// Events is closed when the stream has ended.
	Events() <-chan Event
	// Close ends the stream and releases what it holds. It is idempotent.
	Close() error
}

// A Segmented stream wants speech alone: the feeder gives it only what lies
// between the start of a talkspurt (with 500 ms before it) and its end. Others
// receive everything while an utterance is open. The answer may change from one
// utterance to the next.
type Segmented interface{ Segmented() bool }

// An Endpointer is a stream that may decide by itself when the caller's turn is
// over: it then reports TurnEnd and Final without being asked, and the bridge's
// own detector serves barge-in and the no-reply timer alone. End is obeyed all
// the same. The answer may change from one utterance to the next.
type Endpointer interface{ OwnsEndpoint() bool }

// A Keyed recogniser names the service behind it: provider, endpoint, model and
// account, without secrets. Breakers are kept by it.
type Keyed interface{ Key() string }

// A PermanentError tells whether trying again is of no use: a key that is
// refused, a quota that is used up. (Temporary, which errors of package net
// have, says something else.)
type PermanentError interface {
	error
	Permanent() bool
}

// An Event is something the engine noticed.
type Event struct {
	Utterance  uint64
	Kind       Kind
	Text       string        // Partial, Final
	Confidence float64       // Final: 0 to 1; 0 when the engine does not say
	Latency    time.Duration // Final: since End was called, 0 if it was not
	Err        error         // Failed; Final: the fault that left the text empty or short
}

// Kind classifies an Event.
type Kind uint8

// The kinds of events.
const (
	Partial Kind = iota + 1 // words so far; may change
	Final                   // the utterance's text; nothing follows for it
	TurnEnd                 // an Endpointer holds the turn to be over; its Final follows
	Failed                  // the engine failed; the stream is useless until reopened
)

// String returns the kind's name for the log.
func (k Kind) String() string {
	switch k {
	case Partial:
		return "partial"
	case Final:
		return "final"
	case TurnEnd:
		return "turn_end"
	case Failed:
		return "failed"
	}
	return "unknown"
}

// Providers holds the recognisers compiled into the program.
var Providers registry.Registry[Recognizer]
