package asr

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// wordSamples is how many G.711 bytes are published at a time.
const wordSamples = 8

// A ring keeps the last seconds of one caller in G.711. One goroutine writes
// and never waits: the oldest samples give way. Any may read by position, which
// is counted in samples since the ring was made, and learn what was lost.
//
// Bytes travel in atomic words, so that a reader that is overtaken sees that it
// was (reserved is raised before words are overwritten) instead of racing.
type ring struct {
	words    []atomic.Uint64
	reserved atomic.Int64 // samples written or about to be
	head     atomic.Int64 // samples that can be read

	// Owned by the writer.
	part  [wordSamples]byte
	parts int
	law   [160]byte
}

func newRing(samples int) *ring {
	return &ring{words: make([]atomic.Uint64, (samples+wordSamples-1)/wordSamples)}
}

func (r *ring) size() int64 { return int64(len(r.words) * wordSamples) }

// write appends pcm. Fewer than eight samples may wait for the next call.
func (r *ring) write(samples []int16) {
	for len(samples) > 0 {
		n := pcm.Mu.Encode(r.law[:], samples[:min(len(samples), len(r.law))])
		r.append(r.law[:n])
		samples = samples[n:]
	}
}

func (r *ring) append(b []byte) {
	head := r.head.Load()
	whole := int64((r.parts + len(b)) / wordSamples * wordSamples)
	r.reserved.Store(head + whole)
	at := head / wordSamples
	for len(b) > 0 {
		n := copy(r.part[r.parts:], b)
		b = b[n:]
		if r.parts += n; r.parts == wordSamples {
			r.words[at%int64(len(r.words))].Store(binary.LittleEndian.Uint64(r.part[:]))
			at++
			r.parts = 0
		}
	}
	r.head.Store(head + whole)
}

// oldest is the first position that can still be read.
func (r *ring) oldest() int64 { return max(0, r.reserved.Load()-r.size()) }

// read decodes samples from position from on, or from the oldest there is when
// that has been overwritten. It returns where it began and how many it read.
func (r *ring) read(from int64, dst []int16) (start int64, n int) {
	for {
		start = max(from, r.oldest())
		n = int(min(int64(len(dst)), r.head.Load()-start))
		if n <= 0 {
			return start, 0
		}
		r.copy(start, dst[:n])
		if r.oldest() <= start {
			return start, n
		}
	}
}

func (r *ring) copy(pos int64, dst []int16) {
	var word [wordSamples]byte
	for len(dst) > 0 {
		at := pos / wordSamples % int64(len(r.words))
		binary.LittleEndian.PutUint64(word[:], r.words[at].Load())
		n := pcm.Mu.Decode(dst[:min(len(dst), wordSamples-int(pos%wordSamples))], word[pos%wordSamples:])
		dst = dst[n:]
		pos += int64(n)
	}
}
