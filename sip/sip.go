// Package sip is the telephone exchange's side of the bridge: a user agent
// that accepts INVITEs and hands each one to a [Handler], the way net/http
// hands requests to handlers, and that places calls of its own.
//
// Messages, headers, and URIs come from sipgo, and so do the sockets' read and
// write paths and the transaction state machines. What lies around them is
// written here: admission, framing, the check of what arrives and of what
// leaves, the order of requests within a dialog, the dialogs themselves, offer
// and answer turns, transfers and their subscriptions, and credentials.
//
// The package carries session descriptions as bytes and does not look into
// them. It knows nothing of media, agents, or conversations.
package sip

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Handler takes calls. ServeCall runs in its own goroutine and owns the call
// until it returns; a call that it leaves up is hung up, one that it leaves
// ringing is refused with 480. A panic in it ends that call only.
type Handler interface {
	ServeCall(ctx context.Context, c *Call)
}

// HandlerFunc adapts a function to a Handler.
type HandlerFunc func(ctx context.Context, c *Call)

// ServeCall calls f.
func (f HandlerFunc) ServeCall(ctx context.Context, c *Call) { f(ctx, c) }

// A Negotiator answers for the media of one dialog. Its methods are never
// called concurrently for one call. An error that has a SIPStatus method, such
// as *StatusError, chooses the status of the refusal; any other error is a 500.
// A refused re-INVITE or UPDATE leaves the session as it was.
type Negotiator interface {
	// Offer returns our session description for an INVITE without one and for
	// INVITEs of our own.
	Offer(ctx context.Context) ([]byte, error)
	// Answer takes the far end's offer of an INVITE, re-INVITE, or UPDATE and
	// returns our answer. It does not keep offer.
	Answer(ctx context.Context, offer []byte) ([]byte, error)
	// Accept takes the far end's answer to our offer. It does not keep answer.
	Accept(ctx context.Context, answer []byte) error
}

// The reasons found by context.Cause in the context of a Call.
var (
	// ErrCancelled says that the caller gave up before the answer.
	ErrCancelled = errors.New("sip: caller gave up before the answer")
	// ErrRemoteBye says that the far end hung up.
	ErrRemoteBye = errors.New("sip: far end hung up")
	// ErrLocalBye says that we hung up.
	ErrLocalBye = errors.New("sip: we hung up")
	// ErrNoAck says that the answer was not acknowledged within 64*T1.
	ErrNoAck = errors.New("sip: answer was not acknowledged")
	// ErrBadAnswer says that the acknowledgement of an answer that carried our
	// offer had no usable session description.
	ErrBadAnswer = errors.New("sip: far end's answer is missing or unusable")
	// ErrExpired says that the session timer ran out.
	ErrExpired = errors.New("sip: session timer expired")
	// ErrDialogGone says that the far end no longer knows the call, does not
	// answer requests in it (RFC 3261 12.2.1.2), or has lost its WebSocket and
	// did not come back by another one within 64*T1.
	ErrDialogGone = errors.New("sip: far end lost the call")
	// ErrRejected says that we refused the call.
	ErrRejected = errors.New("sip: call refused by us")
	// ErrServerDown says that the server was shut down.
	ErrServerDown = errors.New("sip: server shut down")
	// ErrPanic says that the code which served the call panicked.
	ErrPanic = errors.New("sip: handler panicked")
)

// Errors of methods that do not end a call.
var (
	// ErrState says that the call is not in a state that allows the method.
	ErrState = errors.New("sip: call is in another state")
	// ErrNoResponse says that a request found no answer within 64*T1 or could
	// not be sent.
	ErrNoResponse = errors.New("sip: no response")
	// ErrTransport says that no listener of this server speaks the transport
	// that is asked for.
	ErrTransport = errors.New("sip: transport is not supported")
	// ErrInvalid says that a value may not stand in a SIP message.
	ErrInvalid = errors.New("sip: value is not allowed in a message")
)

// A StatusError is a failure response, either from the far end or, returned by
// a Negotiator, for it.
type StatusError struct {
	Code       int           // 300 to 699
	Reason     string        // the phrase of the status line; empty: the usual one
	Warning    string        // the text of a Warning header, without code and agent
	RetryAfter time.Duration // whole seconds; zero: none
}

// Error returns the code and the phrase.
func (e *StatusError) Error() string {
	if e.Warning != "" {
		return fmt.Sprintf("sip: %d %s (%s)", e.Code, e.phrase(), e.Warning)
	}
	return fmt.Sprintf("sip: %d %s", e.Code, e.phrase())
}

// SIPStatus returns the code.
func (e *StatusError) SIPStatus() int { return e.Code }

func (e *StatusError) phrase() string {
	if e.Reason != "" {
		return e.Reason
	}
	return phrase(e.Code)
}

// A Transport names how SIP messages travel.
type Transport string

// The transports of RFC 3261 and RFC 7118. This server listens on all but TLS.
const (
	UDP Transport = "udp"
	TCP Transport = "tcp"
	TLS Transport = "tls"
	WS  Transport = "ws"
	WSS Transport = "wss"
)

// reliable reports whether the transport keeps order and repeats lost bytes.
func (t Transport) reliable() bool { return t != UDP }

// webSocket reports whether messages come in frames of a WebSocket.
func (t Transport) webSocket() bool { return t == WS || t == WSS }

// stream reports whether only Content-Length tells where a message ends. A
// WebSocket carries one in each of its own (RFC 7118 5).
func (t Transport) stream() bool { return t.reliable() && !t.webSocket() }

// param is the transport parameter of a URI. A secure WebSocket has no name of
// its own there (RFC 7118 5.2.3).
func (t Transport) param() string {
	if t == WSS {
		return string(WS)
	}
	return string(t)
}

// A Direction says who began a call.
type Direction uint8

// The directions of a call.
const (
	Inbound Direction = iota
	Outbound
)

// String returns the name of the direction.
func (d Direction) String() string {
	if d == Outbound {
		return "outbound"
	}
	return "inbound"
}

// statusOf finds the status that an error asks for.
func statusOf(err error) *StatusError {
	if se, ok := errors.AsType[*StatusError](err); ok {
		return se
	}
	var s interface{ SIPStatus() int }
	if errors.As(err, &s) && s.SIPStatus() >= 300 && s.SIPStatus() <= 699 {
		return &StatusError{Code: s.SIPStatus(), Warning: err.Error()}
	}
	return &StatusError{Code: 500}
}

// phrases are the reason phrases of RFC 3261 21 and its extensions.
var phrases = map[int]string{
	100: "Trying", 180: "Ringing", 181: "Call Is Being Forwarded", 182: "Queued", 183: "Session Progress",
	200: "OK", 202: "Accepted",
	300: "Multiple Choices", 301: "Moved Permanently", 302: "Moved Temporarily", 305: "Use Proxy",
	400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
	405: "Method Not Allowed", 406: "Not Acceptable", 407: "Proxy Authentication Required", 408: "Request Timeout",
	410: "Gone", 413: "Request Entity Too Large", 414: "Request-URI Too Long", 415: "Unsupported Media Type",
	416: "Unsupported URI Scheme", 420: "Bad Extension", 421: "Extension Required", 422: "Session Interval Too Small",
	423: "Interval Too Brief", 480: "Temporarily Unavailable", 481: "Call/Transaction Does Not Exist",
	482: "Loop Detected", 483: "Too Many Hops", 484: "Address Incomplete", 485: "Ambiguous", 486: "Busy Here",
	487: "Request Terminated", 488: "Not Acceptable Here", 489: "Bad Event", 491: "Request Pending", 493: "Undecipherable",
	500: "Server Internal Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
	504: "Server Time-out", 505: "Version Not Supported", 513: "Message Too Large",
	600: "Busy Everywhere", 603: "Decline", 604: "Does Not Exist Anywhere", 606: "Not Acceptable",
}

func phrase(code int) string {
	if p, ok := phrases[code]; ok {
		return p
	}
	switch {
	case code < 200:
		return "Progress"
	case code < 300:
		return "OK"
	case code < 400:
		return "Redirect"
	case code < 500:
		return "Client Error"
	case code < 600:
		return "Server Error"
	}
	return "Global Failure"
}
