package target

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of what a flow may send (RFC 3261 sets none).
const (
	maxPayload = 16 << 10
	maxText    = 256
	maxHeaders = 16
)

// A Request is what a flow asked for, not yet judged.
type Request struct {
	To        string            // number, URI or directory name
	Extension string            // keys after the answer
	Headers   map[string]string // X- headers
	UUI       string            // User-to-User
	CallerID  string            // number to show
	Timeout   time.Duration     // 0 for the policy's
	Mode      Mode
}

// The keys that name the target, the first that has a value wins.
var targetKeys = []string{"number", "phone", "to", "target", "uri", "address", "name"}

// Parse reads a payload: an object, a string that holds one (single quotes
// too), a number, a SIP URI or a name. Errors are of type *[RefusedError].
func Parse(payload json.RawMessage) (Request, error) {
	if len(payload) > maxPayload {
		return Request{}, refuse(ReasonMalformed, "", "the payload is longer than %d bytes", maxPayload)
	}
	return parsePayload(payload, 0)
}

func parsePayload(payload []byte, depth int) (Request, error) {
	raw := bytes.TrimSpace(payload)
	if len(raw) == 0 || string(raw) == "null" {
		return Request{}, refuse(ReasonMalformed, "", "the payload names no target, write {\"number\": \"+14155550100\"}")
	}
	switch raw[0] {
	case '{':
		return parseObject(raw)
	case '"':
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return Request{}, refuse(ReasonMalformed, string(raw), "the payload is no JSON")
		}
		return parseString(text, depth)
	case '[', 't', 'f':
		return Request{}, refuse(ReasonMalformed, string(raw), "the payload is neither an object nor a string nor a number")
	default:
		text, err := scalar(raw)
		if err != nil {
			return Request{}, err
		}
		r := Request{To: text}
		return r, r.check()
	}
}

// parseString reads a text, which may hold an object again: flows build objects
// out of variables.
func parseString(text string, depth int) (Request, error) {
	trimmed := strings.Trim(text, " ")
	if strings.HasPrefix(strings.TrimSpace(text), "{") && depth == 0 {
		trimmed = strings.TrimSpace(text)
		if !json.Valid([]byte(trimmed)) {
			trimmed = doubleQuoted(trimmed)
		}
		return parsePayload([]byte(trimmed), depth+1)
	}
	if n := len(trimmed); depth == 0 && n > 2 && trimmed[0] == '"' && trimmed[n-1] == '"' {
		return parsePayload([]byte(trimmed), depth+1)
	}
	r := Request{To: trimmed}
	return r, r.check()
}

func parseObject(raw []byte) (Request, error) {
	var object map[string]json.RawMessage
	if err := decode(raw, &object); err != nil {
		return Request{}, refuse(ReasonMalformed, string(raw), "the payload is no JSON: quote its keys and its texts")
	}
	fields := make(map[string]json.RawMessage, len(object))
	for k, v := range object {
		key := strings.ToLower(k)
		if _, dup := fields[key]; dup {
			return Request{}, refuse(ReasonMalformed, string(raw), "the payload has the key %q in two spellings", key)
		}
		fields[key] = v
	}
	var r Request
	for _, key := range targetKeys {
		text, err := scalar(fields[key])
		if err != nil {
			return Request{}, err
		}
		if r.To = strings.Trim(text, " "); r.To != "" {
			break
		}
	}
	if r.To == "" {
		return Request{}, refuse(ReasonMalformed, string(raw), "the payload names no target, write one of the keys %s", strings.Join(targetKeys, ", "))
	}
	if err := r.options(fields); err != nil {
		return Request{}, err
	}
	return r, r.check()
}

// options reads the keys beside the target.
func (r *Request) options(fields map[string]json.RawMessage) error {
	var timeout, mode string
	for key, to := range map[string]*string{
		"extension": &r.Extension, "uui": &r.UUI, "callerid": &r.CallerID, "timeout": &timeout, "mode": &mode,
	} {
		text, err := scalar(fields[key])
		if err != nil {
			return err
		}
		*to = strings.Trim(text, " ")
	}
	var err error
	if r.Timeout, err = parseTimeout(timeout); err != nil {
		return err
	}
	if r.Mode, err = parseMode(mode); err != nil {
		return err
	}
	raw := bytes.TrimSpace(fields["headers"])
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var headers map[string]json.RawMessage
	if err := decode(raw, &headers); err != nil {
		return refuse(ReasonMalformed, string(raw), "headers is no object of names and texts")
	}
	r.Headers = make(map[string]string, len(headers))
	for name, value := range headers {
		text, err := scalar(value)
		if err != nil {
			return err
		}
		r.Headers[name] = text
	}
	return nil
}

// check refuses what must not come near a SIP message, whoever built the
// request.
func (r *Request) check() error {
	if r.To == "" {
		return refuse(ReasonMalformed, "", "the payload names no target, write a number, a SIP URI or a directory name")
	}
	texts := []string{r.To, r.Extension, r.UUI, r.CallerID, string(r.Mode)}
	for name, value := range r.Headers {
		texts = append(texts, name, value)
	}
	for _, text := range texts {
		switch {
		case !utf8.ValidString(text):
			return refuse(ReasonControl, "", "the payload is no UTF-8")
		case strings.ContainsFunc(text, isControl):
			return refuse(ReasonControl, "", "the payload contains a control character")
		case len(text) > maxText:
			return refuse(ReasonMalformed, text, "a text of the payload is longer than %d bytes", maxText)
		}
	}
	if strings.Trim(r.Extension, "0123456789*#ABCDwWp,") != "" {
		return refuse(ReasonMalformed, r.Extension, "extension has other characters than digits, *, #, A to D, w, W and p")
	}
	if len(r.Headers) > maxHeaders {
		return refuse(ReasonMalformed, "", "more than %d headers", maxHeaders)
	}
	for name := range r.Headers {
		if !isExtensionHeader(name) {
			return refuse(ReasonMalformed, name, "headers may only have names that begin with X-, followed by letters, digits and hyphens")
		}
	}
	if _, err := parseMode(string(r.Mode)); err != nil {
		return err
	}
	if r.Timeout < 0 || r.Timeout > MaxTimeout {
		return refuse(ReasonMalformed, "", "timeout is not between 1 s and %s", MaxTimeout)
	}
	return nil
}

func isControl(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == utf8.RuneError
}

func isExtensionHeader(name string) bool {
	rest, ok := strings.CutPrefix(strings.ToUpper(name), "X-")
	return ok && rest != "" && strings.Trim(rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

// scalar returns the text of a JSON string or number; nothing for null and
// absent values.
func scalar(raw json.RawMessage) (string, error) {
	raw = bytes.TrimSpace(raw)
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return "", nil
	case raw[0] == '"':
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return "", refuse(ReasonMalformed, string(raw), "the payload is no JSON")
		}
		return text, nil
	case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
		var n json.Number
		if err := decode(raw, &n); err == nil {
			if text, ok := digits(n.String()); ok {
				return text, nil
			}
		}
		return "", refuse(ReasonMalformed, string(raw), "%.32s is no telephone number, write it in quotes with +", raw)
	}
	return "", refuse(ReasonMalformed, string(raw), "a value of the payload is neither a text nor a number")
}

// digits writes a JSON number as a person would dial it: 1.4155550100e10 is
// 14155550100, and 1.5 stays as it is.
func digits(s string) (string, bool) {
	if len(s) > 32 {
		return "", false
	}
	if strings.Trim(s, "0123456789") == "" {
		return s, true
	}
	_, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	if e, err := strconv.Atoi(exponent); exponent != "" && (err != nil || e < -20 || e > 20) {
		return "", false
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok || r.Sign() < 0 {
		return "", false
	}
	if r.IsInt() {
		return r.Num().String(), true
	}
	return s, true
}

func decode(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}

// parseTimeout reads seconds, or a duration with its unit.
func parseTimeout(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		if d, err = time.ParseDuration(text + "s"); err != nil {
			return 0, refuse(ReasonMalformed, text, "timeout is no number of seconds")
		}
	}
	if d < time.Second || d > MaxTimeout {
		return 0, refuse(ReasonMalformed, text, "timeout is not between 1 s and %s", MaxTimeout)
	}
	return d, nil
}

var modes = map[string]Mode{
	"": ModeAny, "refer": ModeRefer, "blind": ModeRefer, "cold": ModeRefer, "bridge": ModeBridge,
	"whisper": ModeWhisper, "attended": ModeAttended, "warm": ModeAttended,
}

func parseMode(text string) (Mode, error) {
	m, ok := modes[strings.ToLower(text)]
	if !ok {
		return ModeAny, refuse(ReasonMalformed, text, "mode is unknown, write refer, bridge, whisper or attended")
	}
	return m, nil
}

// doubleQuoted turns an object written with single quotes into JSON.
func doubleQuoted(text string) string {
	var out []byte
	var quote byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote == 0 && (c == '\'' || c == '"'):
			quote, out = c, append(out, '"')
		case quote == 0:
			out = append(out, c)
		case c == '\\' && i+1 < len(text):
			i++
			if text[i] == '\'' {
				out = append(out, '\'')
			} else {
				out = append(out, '\\', text[i])
			}
		case c == quote:
			quote, out = 0, append(out, '"')
		case c == '"':
			out = append(out, '\\', '"')
		default:
			out = append(out, c)
		}
	}
	return string(out)
}
