package pcm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// Format tags of WAVE files.
const (
	tagLinear     = 1
	tagFloat      = 3
	tagALaw       = 6
	tagMuLaw      = 7
	tagExtensible = 0xFFFE
)

const (
	maxChannels  = 8
	unknownSize  = math.MaxUint32
	maxSkip      = 16 << 20 // bytes of one chunk before the sound
	maxFormat    = 1 << 10  // bytes of a format chunk
	wavReadBytes = 4096
)

func isWAV(head []byte) bool {
	if len(head) < 12 || string(head[8:12]) != "WAVE" {
		return false
	}
	riff := string(head[:4])
	return riff == "RIFF" || riff == "RF64"
}

type wavFormat struct {
	tag      uint16
	channels int
	rate     int
	width    int // bytes of one sample of one channel
}

func openWAV(in *bufio.Reader) (decoder, error) {
	if _, err := in.Discard(12); err != nil {
		return nil, damaged("riff header", err)
	}
	var format *wavFormat
	for {
		var head [8]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return nil, damaged("no data chunk", err)
		}
		size := int64(binary.LittleEndian.Uint32(head[4:]))
		switch id := string(head[:4]); id {
		case "fmt ":
			f, err := readFormat(in, size)
			if err != nil {
				return nil, err
			}
			format = f
		case "data":
			if format == nil {
				return nil, fmt.Errorf("%w: data before format", ErrFormat)
			}
			return &wavDecoder{
				in: in, format: *format, left: size,
				buf: make([]byte, wavReadBytes-wavReadBytes%(format.width*format.channels)),
			}, nil
		default:
			size += size & 1 // chunks begin at even offsets
			if size > maxSkip {
				return nil, fmt.Errorf("%w: chunk %q of %d bytes", ErrFormat, id, size)
			}
			if _, err := in.Discard(int(size)); err != nil {
				return nil, damaged("chunk "+id, err)
			}
		}
	}
}

func readFormat(in *bufio.Reader, size int64) (*wavFormat, error) {
	if size < 16 || size > maxFormat {
		return nil, fmt.Errorf("%w: format chunk of %d bytes", ErrFormat, size)
	}
	body := make([]byte, size+size&1)
	if _, err := io.ReadFull(in, body); err != nil {
		return nil, damaged("format chunk", err)
	}
	f := &wavFormat{
		tag:      binary.LittleEndian.Uint16(body),
		channels: int(binary.LittleEndian.Uint16(body[2:])),
		rate:     int(binary.LittleEndian.Uint32(body[4:])),
	}
	if f.tag == tagExtensible && size >= 26 {
		f.tag = binary.LittleEndian.Uint16(body[24:])
	}
	bits := int(binary.LittleEndian.Uint16(body[14:]))
	f.width = (bits + 7) / 8
	if f.channels < 1 || f.channels > maxChannels {
		return nil, fmt.Errorf("%w: %d channels", ErrFormat, f.channels)
	}
	if f.rate < lowestRate || f.rate > highestRate {
		return nil, fmt.Errorf("%w: %d Hz", ErrFormat, f.rate)
	}
	switch {
	case f.tag == tagLinear && f.width >= 1 && f.width <= 4,
		f.tag == tagFloat && (bits == 32 || bits == 64):
	case f.tag == tagALaw || f.tag == tagMuLaw:
		f.width = 1
	default:
		return nil, fmt.Errorf("%w: tag %#x with %d bits", ErrFormat, f.tag, bits)
	}
	return f, nil
}

type wavDecoder struct {
	in     *bufio.Reader
	format wavFormat
	left   int64 // bytes of the data chunk, as the header has it
	begun  bool
	err    error  // met while a sample was completed
	buf    []byte // holds whole frames
}

func (d *wavDecoder) SampleRate() int { return d.format.rate }

// Read fills p as far as the data go. A header that was written before the
// sound gives no size, or a wrong one: the sound ends at the end of the input,
// or after the given size where a chunk of another kind follows there.
func (d *wavDecoder) Read(p []int16) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	frame := d.format.width * d.format.channels
	if d.left == 0 {
		if d.atEnd() {
			return 0, io.EOF
		}
		d.left = unknownSize
	}
	d.begun = true
	want := min(int64(len(p)*frame), int64(len(d.buf)), max(d.left-d.left%int64(frame), int64(frame)))
	n, err := io.ReadAtLeast(d.in, d.buf[:want], frame)
	if over := n % frame; over > 0 && n > frame { // complete the last sample
		m, failed := io.ReadFull(d.in, d.buf[n:n-over+frame])
		n, d.err = n+m, endOf(failed)
	}
	if n < frame {
		return 0, endOf(err)
	}
	if d.left != unknownSize {
		d.left = max(0, d.left-int64(n))
	}
	return d.format.decode(p, d.buf[:n]), nil
}

// endOf takes a sample that is cut short for the end of the sound.
func endOf(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return io.EOF
	}
	return fmt.Errorf("read wav: %w", err)
}

// atEnd looks at what follows the given size: nothing, less than a chunk, or a
// chunk of a kind that is found behind sound, perhaps after a padding byte.
func (d *wavDecoder) atEnd() bool {
	head, _ := d.in.Peek(9)
	if len(head) < 8 {
		return d.begun || len(head) < d.format.width*d.format.channels
	}
	return trailer(head) || (len(head) == 9 && head[0] == 0 && trailer(head[1:]))
}

func trailer(head []byte) bool {
	switch string(head[:4]) {
	case "LIST", "INFO", "fact", "cue ", "smpl", "inst", "bext", "iXML", "PEAK", "JUNK", "junk", "PAD ", "id3 ", "ID3 ",
		"ID3\x03", "ID3\x04", "DISP", "acid", "afsp", "plst", "ltxt", "note", "labl", "cart", "_PMX":
		return true
	}
	return string(head[:3]) == "TAG"
}

// decode mixes whole frames of src to mono.
func (f wavFormat) decode(dst []int16, src []byte) int {
	frame := f.width * f.channels
	n := len(src) / frame
	for i := range n {
		sum := 0
		for c := range f.channels {
			sum += f.sample(src[i*frame+c*f.width:])
		}
		dst[i] = int16(sum / f.channels)
	}
	return n
}

func (f wavFormat) sample(b []byte) int {
	switch {
	case f.tag == tagMuLaw:
		return int(decodeTable[Mu][b[0]])
	case f.tag == tagALaw:
		return int(decodeTable[A][b[0]])
	case f.tag == tagFloat && f.width == 4:
		return fromFloat(float64(math.Float32frombits(binary.LittleEndian.Uint32(b))))
	case f.tag == tagFloat:
		return fromFloat(math.Float64frombits(binary.LittleEndian.Uint64(b)))
	case f.width == 1:
		return (int(b[0]) - 128) << 8
	}
	// The two bytes of most weight; those before them are below 16 bits.
	return int(int16(binary.LittleEndian.Uint16(b[f.width-2:])))
}

func fromFloat(x float64) int {
	switch {
	case x >= 1:
		return math.MaxInt16
	case x <= -1:
		return math.MinInt16
	case math.IsNaN(x):
		return 0
	}
	return int(x * 32767)
}

// damaged says what was being read when the input ended; other errors of the
// input stay what they are.
func damaged(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %s is cut short", ErrFormat, what)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// WriteWAV writes a complete file of 16-bit linear samples; those of several
// channels are interleaved. rate is in hertz.
func WriteWAV(w io.Writer, rate, channels int, pcm []int16) error {
	const header = 44
	if rate <= 0 || channels <= 0 || channels > math.MaxUint16 || len(pcm)%channels != 0 {
		return fmt.Errorf("%w: %d samples in %d channels at %d Hz", ErrFormat, len(pcm), channels, rate)
	}
	if len(pcm) > (math.MaxUint32-header)/2 {
		return fmt.Errorf("%w of a wav file: %d samples", ErrLimit, len(pcm))
	}
	out := make([]byte, header, header+2*len(pcm))
	size := uint32(2 * len(pcm))
	copy(out, "RIFF")
	binary.LittleEndian.PutUint32(out[4:], header-8+size)
	copy(out[8:], "WAVEfmt ")
	binary.LittleEndian.PutUint32(out[16:], 16)
	binary.LittleEndian.PutUint16(out[20:], tagLinear)
	binary.LittleEndian.PutUint16(out[22:], uint16(channels))
	binary.LittleEndian.PutUint32(out[24:], uint32(rate))
	binary.LittleEndian.PutUint32(out[28:], uint32(rate*channels*2))
	binary.LittleEndian.PutUint16(out[32:], uint16(channels*2))
	binary.LittleEndian.PutUint16(out[34:], 16)
	copy(out[36:], "data")
	binary.LittleEndian.PutUint32(out[40:], size)
	for _, s := range pcm {
		out = binary.LittleEndian.AppendUint16(out, uint16(s))
	}
	if _, err := w.Write(out); err != nil {
		return fmt.Errorf("write wav: %w", err)
	}
	return nil
}
