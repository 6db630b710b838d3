// Package wire is the language between the bridge and its worker process: what
// the bridge writes to the worker's standard input, and the lines it reads from
// its standard output.
//
// Input is a sequence of frames: a byte for the kind, four bytes for the
// stream, four for the length of what follows, all big endian. Output is one
// JSON object per line. The package knows nothing of engines.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxPayload is the longest content of a frame in bytes.
const MaxPayload = 1 << 20

const headerLen = 9

// ErrFrame is wrapped where the input is no sequence of frames.
var ErrFrame = errors.New("wire: malformed frame")

// Kind says what a frame holds.
type Kind uint8

// The kinds of frames.
const (
	Begin Kind = iota + 1 // JSON of an Utterance
	Sound                 // G.711 mu-law at 8 kHz for the utterance that is open
	End                   // JSON of an Utterance: its final is wanted
	Close                 // the stream is over
)

// A Frame is one message to the worker.
type Frame struct {
	Kind    Kind
	Stream  uint32
	Payload []byte
}

// An Utterance is one span of listening.
type Utterance struct {
	ID       uint64   `json:"id"`
	Hints    []string `json:"hints,omitempty"`    // what may be said
	Language string   `json:"language,omitempty"` // BCP 47
}

// A Reply is one line from the worker. The first line has Ready or Error;
// the others belong to a stream.
type Reply struct {
	Ready      string  `json:"ready,omitempty"` // the engine's name
	Error      string  `json:"error,omitempty"` // why there is no engine, or why the utterance failed
	Stream     uint32  `json:"stream,omitempty"`
	Utterance  uint64  `json:"utterance,omitempty"`
	Final      bool    `json:"final,omitempty"` // nothing follows for the utterance
	Text       string  `json:"text,omitempty"`
	Confidence float64 `json:"confidence,omitempty"`
	Rejected   string  `json:"rejected,omitempty"` // why the text is empty although something was heard
}

// Append appends the encoded frame to dst.
func Append(dst []byte, f Frame) ([]byte, error) {
	if len(f.Payload) > MaxPayload {
		return dst, fmt.Errorf("%w: %d bytes", ErrFrame, len(f.Payload))
	}
	dst = append(dst, byte(f.Kind))
	dst = binary.BigEndian.AppendUint32(dst, f.Stream)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(f.Payload)))
	return append(dst, f.Payload...), nil
}

// AppendJSON appends a frame whose content is the JSON of u.
func AppendJSON(dst []byte, kind Kind, stream uint32, u Utterance) ([]byte, error) {
	b, err := json.Marshal(u)
	if err != nil {
		return dst, fmt.Errorf("encode utterance: %w", err)
	}
	return Append(dst, Frame{Kind: kind, Stream: stream, Payload: b})
}

// Read reads one frame. It returns io.EOF at the end of the input, and an error
// that wraps ErrFrame for what is no frame; nothing after it can be read.
func Read(r io.Reader) (Frame, error) {
	var head [headerLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return Frame{}, fmt.Errorf("%w: cut short", ErrFrame)
		}
		return Frame{}, err
	}
	f := Frame{Kind: Kind(head[0]), Stream: binary.BigEndian.Uint32(head[1:])}
	n := binary.BigEndian.Uint32(head[5:])
	if f.Kind < Begin || f.Kind > Close || n > MaxPayload {
		return Frame{}, fmt.Errorf("%w: kind %d, %d bytes", ErrFrame, f.Kind, n)
	}
	f.Payload = make([]byte, n)
	if _, err := io.ReadFull(r, f.Payload); err != nil {
		return Frame{}, fmt.Errorf("%w: cut short", ErrFrame)
	}
	return f, nil
}

// Utterance decodes the content of a Begin or End frame.
func (f Frame) Utterance() (Utterance, error) {
	var u Utterance
	if err := json.Unmarshal(f.Payload, &u); err != nil {
		return u, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return u, nil
}
