package pcm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// MaxClip is the longest sound that a [Clip] takes.
const MaxClip = time.Hour

// The errors of [Clip.Append].
var (
	ErrClosed = errors.New("pcm: clip is closed")
	ErrFull   = errors.New("pcm: clip is full")
)

const (
	chunkSize  = 4096 // samples: half a second
	maxSamples = int(MaxClip / time.Second * Rate)
)

// A Clip is sound in G.711, complete or still growing.
//
// One goroutine appends. Any number of legs read at offsets of their own while
// it grows, without a lock, a wait or an allocation: bytes are written once,
// and become visible when the length that covers them is published.
type Clip struct {
	law Law

	// Read by everyone.
	length atomic.Int64
	began  atomic.Int64             // when the first samples came, in ns since 1970; 0: not yet
	chunks atomic.Pointer[[][]byte] // all but the last are chunkSize long
	ended  atomic.Pointer[ending]   // nil until closed

	// Writers, and those that wait in Ready.
	mu   sync.Mutex
	wake chan struct{} // closed by the next append; nil when nobody waits
}

type ending struct{ err error }

// NewClip makes an empty clip that is stored in the given law.
func NewClip(law Law) *Clip {
	c := &Clip{law: law & 1}
	c.chunks.Store(&[][]byte{})
	return c
}

// Append encodes pcm (mono, 8 kHz) and makes it audible at once. It fails with
// [ErrClosed] after Close, and with [ErrFull] where the clip would become
// longer than [MaxClip]; what fits has been appended then.
func (c *Clip) Append(pcm []int16) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended.Load() != nil {
		return ErrClosed
	}
	length, chunks := int(c.length.Load()), *c.chunks.Load()
	room := maxSamples - length
	full := len(pcm) > room
	if full {
		pcm = pcm[:room]
	}
	if length == 0 && len(pcm) > 0 {
		c.began.Store(time.Now().UnixNano())
	}
	for len(pcm) > 0 {
		at := length % chunkSize
		if at == 0 {
			// Readers keep the slice that they loaded: append writes only behind
			// its length, which they never look at.
			chunks = append(chunks, make([]byte, chunkSize))
			grown := chunks
			c.chunks.Store(&grown)
		}
		n := c.law.Encode(chunks[len(chunks)-1][at:], pcm)
		pcm = pcm[n:]
		length += n
	}
	c.length.Store(int64(length))
	c.wakeAll()
	if full {
		return ErrFull
	}
	return nil
}

// Began returns when the first samples came, the zero time when none has. It may
// be called from any goroutine.
func (c *Clip) Began() time.Time {
	if ns := c.began.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// Close ends the clip: err is nil when it is whole, otherwise why it is not.
// What was appended stays audible. Only the first call counts; any goroutine
// may make it.
func (c *Clip) Close(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended.Load() != nil {
		return
	}
	// Give back what the last chunk does not use: clips live long in caches.
	if chunks := *c.chunks.Load(); len(chunks) > 0 {
		if used := int(c.length.Load()) - (len(chunks)-1)*chunkSize; used < chunkSize {
			trimmed := make([][]byte, len(chunks))
			copy(trimmed, chunks)
			last := make([]byte, used)
			copy(last, chunks[len(chunks)-1])
			trimmed[len(trimmed)-1] = last
			c.chunks.Store(&trimmed)
		}
	}
	c.ended.Store(&ending{err})
	c.wakeAll()
}

// Read copies samples from off on to dst, in the given law, and returns how
// many there were. end tells that the clip is closed and nothing follows off+n;
// without it, n < len(dst) means that the rest has not been appended yet. Any
// goroutine may call it, the wheel included: it never waits nor allocates.
func (c *Clip) Read(off int, dst []byte, law Law) (n int, end bool) {
	// In this order: when the clip was closed before, the length is the last.
	closed := c.ended.Load() != nil
	length := int(c.length.Load())
	chunks := *c.chunks.Load()
	off = max(off, 0)
	if off < length {
		dst = dst[:min(len(dst), length-off)]
		for n < len(dst) {
			at := off + n
			n += Transcode(dst[n:], chunks[at/chunkSize][at%chunkSize:], c.law, law)
		}
	}
	return n, closed && off+n >= length
}

// Len is the number of samples that can be read.
func (c *Clip) Len() int { return int(c.length.Load()) }

// Duration is how long the samples take that can be read.
func (c *Clip) Duration() time.Duration {
	return time.Duration(c.Len()) * time.Second / Rate
}

// Closed reports whether the clip will not grow any more.
func (c *Clip) Closed() bool { return c.ended.Load() != nil }

// Err is what Close was given; nil while the clip grows.
func (c *Clip) Err() error {
	if e := c.ended.Load(); e != nil {
		return e.err
	}
	return nil
}

// Law is the law that the clip is stored in.
func (c *Clip) Law() Law { return c.law }

// Size is the number of bytes held for samples.
func (c *Clip) Size() int {
	size := 0
	for _, chunk := range *c.chunks.Load() {
		size += len(chunk)
	}
	return size
}

// Ready waits until at least samples can be read or the clip is closed. The
// error is that of Close, where it left fewer samples, or the cause of ctx. It
// blocks: never call it on the wheel.
func (c *Clip) Ready(ctx context.Context, samples int) error {
	for {
		c.mu.Lock()
		if c.Len() >= samples || c.Closed() {
			c.mu.Unlock()
			if c.Len() >= samples {
				return nil
			}
			return c.Err()
		}
		if c.wake == nil {
			c.wake = make(chan struct{})
		}
		wake := c.wake
		c.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return fmt.Errorf("wait for audio: %w", context.Cause(ctx))
		}
	}
}

// wakeAll is called with mu held.
func (c *Clip) wakeAll() {
	if c.wake != nil {
		close(c.wake)
		c.wake = nil
	}
}
