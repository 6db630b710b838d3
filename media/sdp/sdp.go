// Package sdp negotiates one audio stream by the offer/answer model (RFC 3264)
// in session descriptions (RFC 8866).
//
// A [Session] holds the state of one dialog. Descriptions are parsed line by
// line, taking the few lines that matter for G.711 and telephone events and
// passing over all others: what telephones send has bare line feeds, no last
// newline, no s= or t= line, lines in the wrong order and attributes that
// nobody knows, and a strict parser would refuse callers for it. Descriptions
// that we write are strict.
//
// The package knows nothing of SIP besides the status that fits an error, and
// nothing of sockets. Which addresses a peer may name is decided elsewhere;
// only multicast is refused here. Data are plain, without goroutines; nothing
// is safe for concurrent use.
package sdp

import (
	"fmt"
	"net/netip"
	"time"
)

// A Codec is one that we can speak.
type Codec uint8

// The codecs, by their encoding names.
const (
	PCMU Codec = iota
	PCMA
	numCodecs
)

// String is the encoding name of RFC 3551 section 6.
func (c Codec) String() string {
	switch c {
	case PCMU:
		return "PCMU"
	case PCMA:
		return "PCMA"
	default:
		return fmt.Sprintf("codec %d", uint8(c))
	}
}

// static is the codec's payload type in RFC 3551 section 6.
func (c Codec) static() uint8 {
	if c == PCMA {
		return 8
	}
	return 0
}

// A Direction says who sends, seen from the side that it belongs to (RFC 8866
// section 6.7).
type Direction uint8

// The directions.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

// String is the attribute's name.
func (d Direction) String() string {
	switch d {
	case SendRecv:
		return "sendrecv"
	case SendOnly:
		return "sendonly"
	case RecvOnly:
		return "recvonly"
	default:
		return "inactive"
	}
}

// Send reports whether the side may send.
func (d Direction) Send() bool { return d == SendRecv || d == SendOnly }

// Recv reports whether the side is willing to receive.
func (d Direction) Recv() bool { return d == SendRecv || d == RecvOnly }

// Reverse is the direction as the other side sees it.
func (d Direction) Reverse() Direction { return direction(d.Recv(), d.Send()) }

// And is what both d and other allow.
func (d Direction) And(other Direction) Direction {
	return direction(d.Send() && other.Send(), d.Recv() && other.Recv())
}

func direction(send, recv bool) Direction {
	switch {
	case send && recv:
		return SendRecv
	case send:
		return SendOnly
	case recv:
		return RecvOnly
	default:
		return Inactive
	}
}

// A Local is our side of the audio stream.
type Local struct {
	Addr      netip.Addr // where we receive, as the peer is to see it
	Port      uint16     // RTP; RTCP is received at Port+1
	Codecs    []Codec    // in our order, which counts in offers only; none for all
	Direction Direction  // what we want to do; SendOnly puts the peer on hold
	Ptime     time.Duration
	Name      string // the session's name (s=); may be empty
	RTCPMux   bool   // we can receive RTCP at Port (RFC 5761)
	NoEvents  bool   // telephone-event is neither offered nor taken (RFC 4733)
}

// Media is what was agreed.
type Media struct {
	Codec       Codec // that we send
	PayloadType uint8 // to send it with
	Event       uint8 // payload type of telephone-event/8000, both ways
	HasEvent    bool
	// Payloads are the payload types that we accept, by codec; -1 for none.
	Payloads [numCodecs]int16
	// Ptime is the length of the packets that we send: what they asked for,
	// from 10 to 60 ms in steps of 10, within their maxptime; 20 ms by default.
	Ptime   time.Duration
	Remote  netip.AddrPort // where they receive; the address is unspecified in a hold by c=0.0.0.0
	RTCP    netip.AddrPort // where they receive RTCP (RFC 3605), port 0 where there is none
	RTCPMux bool           // both receive it where they receive RTP
	// Direction is what we may do.
	Direction Direction
	// Held tells that the far end holds us: it offered sendonly or inactive, or
	// c=0.0.0.0. What it sends, if anything, is music.
	Held bool
}

// Codes of the Warning header (RFC 3261 section 20.43).
const (
	warnAddress   = 301 // incompatible network address formats
	warnTransport = 302 // incompatible transport protocol
	warnMedia     = 304 // media type not available
	warnFormat    = 305 // incompatible media format
	warnNotKnown  = 307 // session description parameter not understood
	warnMulticast = 330 // multicast not available
)

// An Error says why a description was refused.
type Error struct {
	Status int    // SIP status to answer with: 400 for a malformed description, 488 for an unacceptable one
	Code   int    // of the Warning header
	Reason string // one sentence without its period, free of the peer's words
}

// Error implements error.
func (e *Error) Error() string { return "sdp: " + e.Reason }

// SIPStatus is the status code that refuses the request.
func (e *Error) SIPStatus() int { return e.Status }

// Warning is the value of a Warning header field (RFC 3261 section 20.43) by
// the given agent, a host name or pseudonym.
func (e *Error) Warning(agent string) string {
	return fmt.Sprintf("%d %s %q", e.Code, agent, e.Reason)
}

func malformed(format string, args ...any) *Error {
	return &Error{Status: 400, Code: warnNotKnown, Reason: fmt.Sprintf(format, args...)}
}

func unacceptable(code int, reason string) *Error {
	return &Error{Status: 488, Code: code, Reason: reason}
}
