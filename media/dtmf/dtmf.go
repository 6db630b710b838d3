// Package dtmf receives and sends telephone keys: as RTP telephone events
// (RFC 4733), in SIP INFO, and as tones.
//
// Everything here is plain data without goroutines, clocks or sockets. The
// package knows nothing of RTP headers, SIP or calls.
package dtmf

import "errors"

// ErrDigit is wrapped where a key is none of 0–9, *, #, A–D.
var ErrDigit = errors.New("dtmf: no such key")

// Keys in the order of their event codes (RFC 4733 section 3.2).
const keys = "0123456789*#ABCD"

// eventOf is the event code of a key; lower case letters are taken as well.
func eventOf(digit byte) (event byte, ok bool) {
	switch {
	case digit >= '0' && digit <= '9':
		return digit - '0', true
	case digit == '*':
		return 10, true
	case digit == '#':
		return 11, true
	case digit >= 'A' && digit <= 'D':
		return digit - 'A' + 12, true
	case digit >= 'a' && digit <= 'd':
		return digit - 'a' + 12, true
	}
	return 0, false
}
