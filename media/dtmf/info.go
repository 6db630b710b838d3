package dtmf

import (
	"errors"
	"fmt"
	"mime"
	"strconv"
	"strings"
	"time"
)

// ErrType is wrapped where an INFO request carries something else than a key:
// it is to be answered 415.
var ErrType = errors.New("dtmf: not a content type of keys")

const (
	typeRelay  = "application/dtmf-relay"
	typePlain  = "application/dtmf"
	typeNortel = "application/vnd.nortelnetworks.digits"

	mostInfo         = 1 << 10 // bytes of a body
	longestInfoPress = 10 * time.Second
)

// ParseINFO reads the key of a SIP INFO request. d is how long it was pressed,
// at most 10 s, and 0 where the request does not say. It knows
// application/dtmf-relay (Signal=5, Duration=160, where 10 to 15 stand for
// *, #, A–D), application/dtmf (the key alone) and Nortel's digits. Other types
// are [ErrType]; a body without a key, such as a hook flash, is [ErrDigit].
func ParseINFO(contentType string, body []byte) (digit byte, d time.Duration, err error) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		// Parameters that do not parse do not hide the type.
		kind = strings.ToLower(strings.TrimSpace(strings.SplitN(contentType, ";", 2)[0]))
	}
	if kind != typeRelay && kind != typePlain && kind != typeNortel {
		return 0, 0, fmt.Errorf("%w: %q", ErrType, contentType)
	}
	if len(body) > mostInfo {
		return 0, 0, fmt.Errorf("%w: body of %d bytes", ErrDigit, len(body))
	}
	signal := ""
	for line := range strings.FieldsFuncSeq(string(body), func(r rune) bool { return r == '\r' || r == '\n' }) {
		name, value, named := strings.Cut(line, "=")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case !named && kind == typePlain && signal == "":
			signal = strings.TrimSpace(line)
		case named && (name == "signal" || (name == "d" && kind == typeNortel)) && signal == "":
			signal = value
		case named && name == "duration":
			if ms, err := strconv.ParseUint(value, 10, 31); err == nil {
				d = min(time.Duration(ms)*time.Millisecond, longestInfoPress)
			}
		}
	}
	digit, ok := signalKey(signal)
	if !ok {
		return 0, 0, fmt.Errorf("%w: %q", ErrDigit, signal)
	}
	return digit, d, nil
}

// signalKey takes a key, or its event code where that has two digits.
func signalKey(signal string) (digit byte, ok bool) {
	switch len(signal) {
	case 1:
		event, ok := eventOf(signal[0])
		return keys[event], ok
	case 2:
		code, err := strconv.ParseUint(signal, 10, 8)
		if err != nil || code < 10 || int(code) >= len(keys) {
			return 0, false
		}
		return keys[code], true
	}
	return 0, false
}

// FormatINFO is the body of a SIP INFO request for one key of
// 0123456789*#ABCD, pressed for d, as application/dtmf-relay.
func FormatINFO(digit byte, d time.Duration) (contentType string, body []byte) {
	return typeRelay, fmt.Appendf(nil, "Signal=%c\r\nDuration=%d\r\n", digit, d.Milliseconds())
}
