package dialog

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// Object returns a custom action's payload as an object: one as it is, or the
// one in a string that holds JSON. Single quotes are accepted in place of double
// ones, because that is how the documents of Voiceflow write it. Numbers are
// json.Number, so that a telephone number stays one.
func Object(payload json.RawMessage) (map[string]any, bool) {
	payload = bytes.TrimSpace(payload)
	if len(payload) == 0 {
		return nil, false
	}
	if payload[0] == '{' {
		return decodeObject(payload)
	}
	text := strings.TrimSpace(stringOf(payload))
	if !strings.HasPrefix(text, "{") {
		return nil, false
	}
	clean := sanitised(text)
	if o, ok := decodeObject(clean); ok {
		return o, true
	}
	return decodeObject(doubleQuoted(clean))
}

// Scalar returns a payload that is a single value: a string without the space
// around it, or a number as it is written.
func Scalar(payload json.RawMessage) (string, bool) {
	payload = bytes.TrimSpace(payload)
	if len(payload) == 0 {
		return "", false
	}
	switch c := payload[0]; {
	case c == '"':
		s := strings.TrimSpace(stringOf(payload))
		return s, s != ""
	case c == '-' || c >= '0' && c <= '9':
		return string(payload), json.Valid(payload)
	}
	return "", false
}

func decodeObject(b []byte) (map[string]any, bool) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var o map[string]any
	if dec.Decode(&o) != nil || o == nil {
		return nil, false
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, false
	}
	return o, true
}

// sanitised replaces control characters by spaces, as in a whole answer.
func sanitised(text string) []byte {
	b := []byte(text)
	for i, c := range b {
		if c < 0x20 {
			b[i] = ' '
		}
	}
	return b
}

// doubleQuoted rewrites strings in single quotes. A single quote ends a string
// only before what may follow one, so that O'Brien stays whole.
func doubleQuoted(in []byte) []byte {
	out := make([]byte, 0, len(in)+16)
	var quote byte
	for i := 0; i < len(in); i++ {
		c := in[i]
		switch {
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
			out = append(out, '"')
		case quote == 0:
			out = append(out, c)
		case c == '\\' && i+1 < len(in):
			i++
			if in[i] != '\'' {
				out = append(out, '\\')
			}
			out = append(out, in[i])
		case c == quote && (quote == '"' || endsString(in[i+1:])):
			quote = 0
			out = append(out, '"')
		case c == '"':
			out = append(out, '\\', '"')
		default:
			out = append(out, c)
		}
	}
	return out
}

func endsString(rest []byte) bool {
	rest = bytes.TrimLeft(rest, " ")
	return len(rest) == 0 || bytes.IndexByte([]byte(",:}]"), rest[0]) >= 0
}
