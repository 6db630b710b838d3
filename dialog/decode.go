package dialog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// What one turn may bring. Traces within the limits are passed on before the
// turn fails at the first one beyond them.
const (
	maxTurnBytes  = 4 << 20 // decompressed body of one turn
	maxTraceBytes = 1 << 20 // one trace; Voiceflow's own voice is some 300 kB
	maxTraces     = 200     // traces of one turn
)

// Reasons to give up reading an answer.
var (
	errTurnTooLong  = errors.New("the answer is longer than 4 MiB")
	errTraceTooLong = errors.New("a trace is longer than 1 MiB")
	errTooManyTrace = errors.New("the answer has more than 200 traces")
	errNoTraces     = errors.New("the answer holds no list of traces")
	errCut          = errors.New("the answer ended in the middle")
)

// readTraces decodes a turn's answer as it arrives: an array of traces, or an
// object with the array as its member trace or traces. Elements that are no
// objects are passed over. An error of each is returned as it is, wrapped in
// *eachError.
func readTraces(r io.Reader, each func(Trace) error) error {
	dec := json.NewDecoder(&printable{r: &capped{r: r, left: maxTurnBytes}})
	tok, err := dec.Token()
	if err != nil {
		return readError(err)
	}
	switch tok {
	case json.Delim('['):
		return readArray(dec, each)
	case json.Delim('{'):
	default:
		return errNoTraces
	}
	found := false
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return readError(err)
		}
		if (key == "trace" || key == "traces") && !found {
			if tok, err = dec.Token(); err != nil {
				return readError(err)
			}
			if tok != json.Delim('[') {
				return errNoTraces
			}
			if err := readArray(dec, each); err != nil {
				return err
			}
			found = true
			continue
		}
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			return readError(err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return readError(err)
	}
	if !found {
		return errNoTraces
	}
	return nil
}

func readArray(dec *json.Decoder, each func(Trace) error) error {
	for n := 0; dec.More(); n++ {
		if n == maxTraces {
			return errTooManyTrace
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return readError(err)
		}
		if len(raw) > maxTraceBytes {
			return errTraceTooLong
		}
		if raw[0] != '{' {
			continue
		}
		var t Trace
		if err := t.UnmarshalJSON(raw); err != nil {
			return readError(err)
		}
		if err := each(t); err != nil {
			return &eachError{err}
		}
	}
	if _, err := dec.Token(); err != nil {
		return readError(err)
	}
	return nil
}

// eachError marks an error of the receiver, not of the answer.
type eachError struct{ err error }

func (e *eachError) Error() string { return e.err.Error() }
func (e *eachError) Unwrap() error { return e.err }

func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errCut
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	return err
}

// UnmarshalJSON reads a trace and forgives what does not hinder using it: a
// member of the wrong type counts as absent.
func (t *Trace) UnmarshalJSON(b []byte) error {
	var raw struct {
		Type        json.RawMessage `json:"type"`
		Payload     json.RawMessage `json:"payload"`
		Time        json.RawMessage `json:"time"`
		Paths       json.RawMessage `json:"paths"`
		DefaultPath json.RawMessage `json:"defaultPath"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	*t = Trace{Payload: raw.Payload, Type: stringOf(raw.Type)}
	if f, ok := numberOf(raw.Time); ok && f >= 0 && f < 1<<62 {
		t.Time = int64(f)
	}
	t.Paths = pathsOf(raw.Paths)
	if f, ok := numberOf(raw.DefaultPath); ok && f >= 0 && f < float64(len(t.Paths)) {
		i := int(f)
		t.DefaultPath = &i
	}
	return nil
}

// pathsOf keeps the indices of a list of paths, which defaultPath refers to: an
// element that is no path becomes an empty one.
func pathsOf(raw json.RawMessage) []Path {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 {
		return nil
	}
	paths := make([]Path, len(list))
	for i, r := range list {
		var p struct {
			Label json.RawMessage `json:"label"`
			Event json.RawMessage `json:"event"`
		}
		if json.Unmarshal(r, &p) != nil {
			continue
		}
		var ev struct {
			Type json.RawMessage `json:"type"`
		}
		_ = json.Unmarshal(p.Event, &ev) // an event of another shape has no type
		paths[i].Label = stringOf(p.Label)
		paths[i].Event.Type = stringOf(ev.Type)
	}
	return paths
}

// stringOf returns the string that raw holds, or "".
func stringOf(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// numberOf returns the number that raw holds, also within a string.
func numberOf(raw json.RawMessage) (float64, bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return 0, false
	}
	text := string(raw)
	if raw[0] == '"' {
		text = stringOf(raw)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != f {
		return 0, false
	}
	return f, true
}

// printable replaces control characters by spaces. The runtime lets them through
// inside strings, where JSON forbids them; between tokens a space is as good.
type printable struct{ r io.Reader }

func (p *printable) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	for i, c := range b[:n] {
		if c < 0x20 {
			b[i] = ' '
		}
	}
	return n, err
}

// capped fails with errTurnTooLong once more than left bytes came.
type capped struct {
	r    io.Reader
	left int
}

func (c *capped) Read(b []byte) (int, error) {
	if c.left <= 0 {
		var one [1]byte
		n, err := c.r.Read(one[:])
		if n > 0 {
			return 0, errTurnTooLong
		}
		return 0, err
	}
	if len(b) > c.left {
		b = b[:c.left]
	}
	n, err := c.r.Read(b)
	c.left -= n
	return n, err
}
