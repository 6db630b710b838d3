package pcm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"
)

// The errors of [Open] and of the Audio that it returns.
var (
	// ErrFormat is wrapped where the data are no sound that this package knows,
	// or are damaged beyond reading.
	ErrFormat = errors.New("pcm: unknown or damaged audio format")
	// ErrLimit is wrapped where the data exceed one of the [Limits].
	ErrLimit = errors.New("pcm: audio exceeds the limit")
)

// Limits bound what [Open] takes from a file that somebody else wrote.
type Limits struct {
	MaxInput  int64         // bytes read; 0 for 64 MiB
	MaxOutput time.Duration // length of the sound; 0 for 30 minutes
}

const (
	defaultMaxInput  = 64 << 20
	defaultMaxOutput = 30 * time.Minute
	sniffBytes       = 4096 // holds two MP3 frames of any kind
)

// Open recognises a sound file by its first bytes and decodes it while it is
// read. WAV may hold linear samples of 8, 16, 24 or 32 bits, floats of 32 or 64
// bits, A-law or mu-law; sizes of a header that was written before the sound
// are not believed. MPEG-1 and MPEG-2 layer 3 follow. Several channels are
// mixed to one.
//
// What is neither is [ErrFormat], and so is damage found later, by Read; going
// beyond lim is [ErrLimit]. Errors of r come wrapped. There is no time limit
// but that of r. Close closes r where r is an [io.Closer].
func Open(r io.Reader, lim Limits) (Audio, error) {
	if lim.MaxInput <= 0 {
		lim.MaxInput = defaultMaxInput
	}
	if lim.MaxOutput <= 0 {
		lim.MaxOutput = defaultMaxOutput
	}
	in := bufio.NewReaderSize(&limitedReader{r: r, left: lim.MaxInput}, sniffBytes)
	f := &file{closer: r, most: lim.MaxOutput}
	head, err := in.Peek(12)
	switch {
	case isWAV(head):
		f.decoder, err = openWAV(in)
	case err != nil && !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("open audio: %w", err)
	default:
		f.decoder, err = openMP3(in)
	}
	if err != nil {
		return nil, fmt.Errorf("open audio: %w", err)
	}
	f.left = int64(lim.MaxOutput.Seconds() * float64(f.SampleRate()))
	return f, nil
}

// A decoder is [Audio] without the care for limits and closing.
type decoder interface {
	SampleRate() int
	Read(p []int16) (int, error)
}

type file struct {
	decoder
	closer io.Reader
	most   time.Duration
	left   int64 // samples that may still come
}

func (f *file) Read(p []int16) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if f.left <= 0 {
		// Ending exactly at the limit is no fault.
		var one [1]int16
		if n, err := f.decoder.Read(one[:]); n == 0 {
			return 0, err
		}
		return 0, fmt.Errorf("%w of %v", ErrLimit, f.most)
	}
	n, err := f.decoder.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	return n, err
}

func (f *file) Close() error {
	c, ok := f.closer.(io.Closer)
	f.closer = nil
	if !ok {
		return nil
	}
	return c.Close()
}

// limitedReader fails where [io.LimitedReader] would feign the end.
type limitedReader struct {
	r    io.Reader
	left int64
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		var one [1]byte
		n, err := l.r.Read(one[:])
		if n == 0 {
			return 0, err
		}
		return 0, fmt.Errorf("%w of input", ErrLimit)
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}
