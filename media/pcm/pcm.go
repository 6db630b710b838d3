// Package pcm holds sound at rest and in transit: G.711 and its two laws,
// clips that grow while they are played, resampling, loudness, and the files
// that prompts come in.
//
// Sound for analysis is mono []int16 at 8 kHz; sound to be sent is a [Clip].
// The package knows nothing of RTP, calls, engines or the network, starts no
// goroutine and keeps no state besides tables. All domain packages may import it.
package pcm

// Rate is the sample rate of the telephone line in hertz. One byte of G.711 is
// one sample.
const Rate = 8000

// A Source yields mono samples at 8 kHz unless its maker says otherwise.
//
// Read has the contract of [io.Reader]: it blocks until it has at least one
// sample, returns how many it wrote to p, and io.EOF after the last. One
// goroutine reads a Source; never the media wheel.
type Source interface {
	Read(p []int16) (int, error)
}

// Audio is mono 16-bit linear sound at its own rate. One goroutine reads and
// closes it.
type Audio interface {
	// SampleRate is that of the samples, in hertz; it does not change.
	SampleRate() int
	// Read fills p and returns the number of samples, and io.EOF after the last.
	Read(p []int16) (int, error)
	// Close releases what lies below. It is idempotent.
	Close() error
}
