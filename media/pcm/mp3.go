package pcm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hajimehoshi/go-mp3"
)

// The decoder panics on some damaged input and believes the size of a tag, so
// that tags are skipped here, the first two frames are checked before it sees
// anything, and each call of it is made behind recover.

const mp3FrameBytes = 4 // of its output: 16 bits, always two channels

func openMP3(in *bufio.Reader) (decoder, error) {
	if err := skipTag(in); err != nil {
		return nil, err
	}
	// Peek reports the end of a short file; what is there decides.
	head, err := in.Peek(sniffBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read mp3: %w", err)
	}
	if !isMP3(head) {
		return nil, fmt.Errorf("%w: begins with %q", ErrFormat, head[:min(len(head), 16)])
	}
	d := &mp3Decoder{buf: make([]byte, 1152*mp3FrameBytes)}
	err = guard(func() (err error) {
		// Hidden behind a plain reader: it would read a seekable one to the end.
		d.mp3, err = mp3.NewDecoder(struct{ io.Reader }{in})
		return err
	})
	if err != nil {
		return nil, err
	}
	if rate := d.mp3.SampleRate(); rate < lowestRate || rate > highestRate {
		return nil, fmt.Errorf("%w: mp3 at %d Hz", ErrFormat, rate)
	}
	return d, nil
}

// skipTag discards an ID3v2 tag and the zeros that some writers leave behind it.
func skipTag(in *bufio.Reader) error {
	head, _ := in.Peek(10) // what is too short for a tag is left to the caller
	if len(head) < 10 || string(head[:3]) != "ID3" {
		return nil
	}
	size := 10
	for i, b := range head[6:10] { // ID3v2.4 section 6.2: seven bits a byte
		size += int(b&0x7F) << (7 * (3 - i))
	}
	if _, err := in.Discard(size); err != nil {
		return damaged("id3 tag", err)
	}
	for range sniffBytes {
		if b, _ := in.Peek(1); len(b) == 0 || b[0] != 0 {
			break
		}
		_, _ = in.Discard(1)
	}
	return nil
}

// isMP3 reports whether head begins with a frame of layer 3, and with a second
// one right after it where head is long enough.
func isMP3(head []byte) bool {
	size := mp3FrameSize(head)
	if size == 0 {
		return false
	}
	return len(head) < size+4 || mp3FrameSize(head[size:]) > 0
}

// mp3FrameSize is the length in bytes of the frame whose header is at the
// beginning of b, and 0 where there is none of a kind that can be decoded
// (ISO 11172-3 section 2.4.1.3, ISO 13818-3 section 2.4.2.3).
func mp3FrameSize(b []byte) int {
	if len(b) < 4 {
		return 0
	}
	h := binary.BigEndian.Uint32(b)
	version, layer := h>>19&3, h>>17&3
	bitrate, rate, padding := h>>12&15, h>>10&3, int(h>>9&1)
	if h>>21 != 0x7FF || layer != 1 || version < 2 || bitrate == 0 || bitrate == 15 || rate == 3 {
		return 0
	}
	kbits := [2][15]int{
		{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
		{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
	}[version-2][bitrate]
	hertz := [2][3]int{{22050, 24000, 16000}, {44100, 48000, 32000}}[version-2][rate]
	slots := [2]int{72, 144}[version-2]
	return slots*kbits*1000/hertz + padding
}

type mp3Decoder struct {
	mp3  *mp3.Decoder
	buf  []byte
	have int // bytes at the beginning of buf that are not yet a whole sample
}

func (d *mp3Decoder) SampleRate() int { return d.mp3.SampleRate() }

func (d *mp3Decoder) Read(p []int16) (int, error) {
	want := min(len(d.buf), len(p)*mp3FrameBytes)
	var n int
	err := guard(func() (err error) {
		n, err = d.mp3.Read(d.buf[d.have:want])
		return err
	})
	n += d.have
	count := n / mp3FrameBytes
	for i := range count {
		b := d.buf[i*mp3FrameBytes:]
		left, right := int16(binary.LittleEndian.Uint16(b)), int16(binary.LittleEndian.Uint16(b[2:]))
		p[i] = int16((int(left) + int(right)) / 2)
	}
	d.have = copy(d.buf, d.buf[count*mp3FrameBytes:n])
	if count > 0 && err == nil {
		return count, nil
	}
	return count, err
}

// guard turns panics of the decoder, and the errors that it makes itself, into
// [ErrFormat]; those of the input stay what they are.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: mp3 decoder: %v", ErrFormat, r)
		}
	}()
	err = f()
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return err
	}
	return fmt.Errorf("read mp3: %w", err)
}
