// Package target decides whom a caller may be handed over to.
//
// [Parse] reads what a flow put into a hand-over action, [Policy.Resolve] makes
// targets of it that are safe to put on the wire, or refuses with the reason.
// Everything that comes from a flow is data: it may name what the configuration
// allows and nothing else. The package knows nothing of SIP messages and places
// no call.
package target

import (
	"encoding/json"
	"fmt"
	"time"
)

// A Target is one far end, fit to be called or named in Refer-To (RFC 3515).
type Target struct {
	URI       string            // sip:, sips: or tel: without anything that a flow could add
	Number    string            // E.164, or as dialled where it is too short for that; empty for other URIs
	Display   string            // directory name; empty when the target was not named by one
	Extension string            // keys sent after the answer: digits, *, #, A to D, w for 0.5 s, W for 1 s
	Headers   map[string]string // X- headers for the far end
	UUI       string            // User-to-User (RFC 7433)
	CallerID  string            // number to show, E.164 or as dialled; empty for the trunk's own
	Timeout   time.Duration     // longest wait for an outcome
	Mode      Mode              // strategy asked for; empty for the trunk's order
	Why       string            // the entry of the configuration that allowed it
}

// Mode is a strategy of handing over.
type Mode string

// The strategies that a flow may ask for.
const (
	ModeAny      Mode = ""
	ModeRefer    Mode = "refer"    // blind: REFER to the trunk
	ModeBridge   Mode = "bridge"   // a second leg, joined by the bridge
	ModeWhisper  Mode = "whisper"  // a second leg that first hears what the call is about
	ModeAttended Mode = "attended" // a second leg, then REFER with Replaces
)

// Reason classifies a refusal. It is fit for a metric's label.
type Reason string

// The reasons for refusing a target.
const (
	ReasonMalformed Reason = "malformed"  // nothing that could be called
	ReasonControl   Reason = "control"    // control characters: an attempt to inject headers
	ReasonUnlisted  Reason = "not_listed" // neither in the directory nor allowed
	ReasonCountry   Reason = "country"    // a country that is not listed
	ReasonPremium   Reason = "premium"    // premium or shared cost
	ReasonEmergency Reason = "emergency"  // an emergency service
	ReasonOwn       Reason = "own"        // our own number or address
)

// A RefusedError is a target that the policy does not let through. Its text
// explains what to change and contains no number.
type RefusedError struct {
	Reason Reason
	Text   string // the target as the flow gave it, cut to 256 bytes; mask it before logging
	Why    string // what to change
}

// Error implements error.
func (e *RefusedError) Error() string { return "hand-over refused: " + e.Why }

func refuse(reason Reason, text, format string, args ...any) *RefusedError {
	if len(text) > maxText {
		text = text[:maxText]
	}
	return &RefusedError{Reason: reason, Text: text, Why: fmt.Sprintf(format, args...)}
}

// A Policy says what a flow may call. It is read only once in use; several calls
// may use it at the same time.
type Policy struct {
	Directory map[string][]string // names for targets, tried in order
	Allow     []string            // exact targets and patterns
	Countries []string            // ISO 3166-1 codes that patterns may reach; empty: Region alone
	Region    string              // country of numbers without +; empty: they stay as dialled
	Numbers   []string            // our own numbers
	Addresses []string            // host:port that we listen on or advertise; no port means 5060
	Host      string              // host[:port] that numbers are called at; empty gives tel: URIs
	Timeout   time.Duration       // for requests that name none, and the longest that they may name is MaxTimeout
}

// MaxTimeout is the longest wait for an outcome that a flow may ask for.
const MaxTimeout = 5 * time.Minute

// Resolve reads a payload and returns its targets in the order in which they are
// to be tried: one, or all of a directory name. Errors are of type
// *[RefusedError]. Several goroutines may call it.
func Resolve(p Policy, payload json.RawMessage) ([]Target, error) {
	r, err := Parse(payload)
	if err != nil {
		return nil, err
	}
	return p.Resolve(r)
}

// Resolve returns the targets of a request in the order in which they are to be
// tried. Errors are of type *[RefusedError].
func (p Policy) Resolve(r Request) ([]Target, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	targets, err := p.find(r.To)
	if err != nil {
		return nil, err
	}
	callerID, err := p.callerID(r.CallerID)
	if err != nil {
		return nil, err
	}
	for i := range targets {
		t := &targets[i]
		t.Extension, t.Headers, t.UUI = r.Extension, r.Headers, r.UUI
		t.CallerID, t.Timeout, t.Mode = callerID, r.Timeout, r.Mode
		if t.Timeout <= 0 {
			t.Timeout = p.Timeout
		}
	}
	return targets, nil
}

// Entry resolves a directory name or a target that the configuration itself
// names, such as an agent's fallback. It needs no entry of Allow. Errors are of
// type *[RefusedError].
func (p Policy) Entry(text string) ([]Target, error) {
	if _, _, listed := p.named(text); !listed {
		if err := CheckTarget(text); err != nil {
			return nil, refuse(ReasonMalformed, text, "%v", err)
		}
		p.Directory = map[string][]string{text: {text}}
	}
	targets, err := p.find(text)
	for i := range targets {
		targets[i].Timeout = p.Timeout
	}
	return targets, err
}

// find resolves the text that names the target.
func (p Policy) find(text string) ([]Target, error) {
	if name, entries, ok := p.named(text); ok {
		var out []Target
		for _, entry := range entries {
			a, err := parseEntry(entry)
			if err != nil {
				return nil, refuse(ReasonMalformed, text, "the directory entry %q has a target that cannot be called: %v", name, err)
			}
			t := p.target(a)
			t.Display, t.Why = name, "directory "+name
			out = append(out, t)
		}
		if len(out) == 0 {
			return nil, refuse(ReasonUnlisted, text, "the directory entry %q is empty", name)
		}
		return out, nil
	}
	a, err := parseText(text)
	if err != nil {
		return nil, err
	}
	why, err := p.allowed(a)
	if err != nil {
		return nil, err
	}
	t := p.target(a)
	t.Why = why
	return []Target{t}, nil
}

// target makes the URI of an address that may be called.
func (p Policy) target(a address) Target {
	if a.host != "" {
		t := Target{URI: a.String()}
		if n, ok := p.number(a.user); ok {
			t.Number = n.dial()
		}
		return t
	}
	n, ok := p.number(a.user)
	if !ok {
		n = number{dialled: a.user}
	}
	if p.Host == "" {
		return Target{URI: "tel:" + n.dial(), Number: n.dial()}
	}
	return Target{URI: "sip:" + n.dial() + "@" + p.Host, Number: n.dial()}
}

// callerID normalises the number to show.
func (p Policy) callerID(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	n, ok := p.number(text)
	if !ok {
		return "", refuse(ReasonMalformed, text, "callerId is no telephone number, write one such as +14155550100")
	}
	return n.dial(), nil
}
