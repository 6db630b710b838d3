// Package tts turns text into speech.
//
// A [Synthesizer] is one configured engine. The package knows nothing of
// telephony: text goes in, samples at the engine's own rate come out, and
// media/pcm brings them to the line's rate and level.
package tts

import (
	"context"

	"github.com/ivrbridge/ivrbridge/internal/registry"
)

// A Synthesizer renders text. It is safe for concurrent use.
type Synthesizer interface {
	// Synthesize starts rendering r and returns as soon as audio can be read.
	// Cancelling ctx ends the audio with the context's error, also one that the
	// engine never delivers.
	Synthesize(ctx context.Context, r Request) (Audio, error)
	// Key names engine, model and default voice: what, besides the request, the
	// sound depends on. Prompt caches use it.
	Key() string
	// SSML reports whether r.Text may be SSML; others are given plain text only.
	SSML() bool
}

// A Request is one piece of speech to render. It is comparable and serves as
// part of a cache key.
type Request struct {
	Text     string // plain text; SSML in one <speak> element when SSML is set
	SSML     bool
	Voice    string // empty for the configured one
	Language string // BCP 47; empty for the configured one
}

// Audio is mono 16-bit linear sound. One goroutine reads and closes it.
type Audio interface {
	// SampleRate is that of the samples, in hertz; it does not change.
	SampleRate() int
	// Read fills p and returns the number of samples, and io.EOF after the last.
	Read(p []int16) (int, error)
	// Close releases what the engine holds. It is idempotent.
	Close() error
}

// Providers holds the synthesisers compiled into the program.
var Providers registry.Registry[Synthesizer]
