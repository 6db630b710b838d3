package admin

import (
	"context"
	"net/netip"
	"time"
)

// A Phone puts browsers through. Its methods are called from many goroutines at
// once.
type Phone interface {
	// Call begins a call and returns when its answer is known. A *[PhoneError] is
	// shown to the caller, any other error is logged and shown as 500.
	Call(ctx context.Context, o Offer) (Answer, error)
	// Session returns the call of a key that an Answer had.
	Session(key string) (PhoneSession, bool)
	// Setup returns what a page has to know before it calls; nil: of all agents.
	// Names of agents that there are not are left out.
	Setup(agents []string) PhoneSetup
}

// An Offer is a browser's wish to call.
type Offer struct {
	SDP       string
	Agent     string         // empty: the Phone chooses, or refuses when there are several
	Language  string         // empty: the agent's own
	Variables map[string]any // string, float64 and bool; nil: none
	Source    netip.Addr     // the browser, or the last hop before the trusted proxies
	Origin    string         // as the browser sent it; empty: no browser
}

// An Answer is what a browser needs of a call that has begun.
type Answer struct {
	ID       string // of the call, in logs and records
	Session  string // opaque key of at least 128 random bits in letters of base64url or hex; a secret
	SDP      string
	Agent    string
	Language string
}

// A PhoneSession is a browser's call, as far as the browser steers it. Its
// methods are called from many goroutines at once. Errors are as those of
// [Phone]'s Call.
type PhoneSession interface {
	// Origin returns that of the Offer.
	Origin() string
	// Reoffer answers a later offer: an ICE restart, or a renegotiation.
	Reoffer(ctx context.Context, sdp string) (string, error)
	// Candidates takes further addresses of the browser.
	Candidates(ctx context.Context, c []Candidate) error
	// Keys takes pressed keys, of 0 to 9, *, #, A to D.
	Keys(keys string) error
	// Type takes typed text, or the label of a choice, as the caller's words.
	Type(text string) error
	// Hangup ends the call and does not wait for it.
	Hangup(why string)
	// Feed returns what happens in the call. It is the same one each time.
	Feed() *Feed
}

// A Candidate is an ICE candidate as browsers write it, RFC 8829 section
// 4.1.20. An empty Candidate ends the list.
type Candidate struct {
	Candidate     string  `json:"candidate"`
	SDPMid        *string `json:"sdpMid"`
	SDPMLineIndex *uint16 `json:"sdpMLineIndex"`
}

// A PhoneSetup is what a page has to know before it calls.
type PhoneSetup struct {
	Agents     []PhoneAgent
	ICEServers []PhoneICE
}

// A PhoneAgent is an agent that browsers may call.
type PhoneAgent struct {
	Name      string   `json:"name"`
	Language  string   `json:"language"`
	Languages []string `json:"languages"`
}

// A PhoneICE is a STUN or TURN server for the browser. The credential is sent to
// it in clear.
type PhoneICE struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// The codes of refusals.
const (
	CodeBadOffer    = "bad_offer"   // the SDP, or the request around it, cannot be used
	CodeBadRequest  = "bad_request" // another request cannot be used
	CodeNoAgent     = "no_agent"
	CodeToken       = "token"  // no one-time token, or none that counts
	CodeOrigin      = "origin" // a page of another site
	CodeLimit       = "limit"
	CodeFull        = "full"
	CodeDraining    = "draining"
	CodeUnreachable = "unreachable"
	CodeGone        = "gone"
	CodeSignin      = "signin"
)

// A PhoneError is a refusal that the caller is told.
type PhoneError struct {
	Status int           // of HTTP
	Code   string        // one of the codes above
	Reason string        // one sentence without a full stop that says what to do
	Retry  time.Duration // when trying again makes sense; 0: it does not
	https  string        // where the page is served by https; empty: it does not matter
}

// Error returns the reason.
func (e *PhoneError) Error() string { return e.Reason }
