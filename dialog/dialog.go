// Package dialog talks to Voiceflow, which decides what the caller hears next.
//
// A [Client] is one agent, a [Session] one caller's conversation with it. Every
// API generation is one file behind these two; actions and traces are shared by
// all of them. The package knows nothing of telephony.
package dialog

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ivrbridge/ivrbridge/internal/registry"
)

// Clients holds the API generations by the name that `api` has in the
// configuration.
var Clients registry.Registry[Client]

// A Client opens conversations with one agent. It is safe for concurrent use.
type Client interface {
	// Open prepares a session. It sends nothing to the agent's flow.
	Open(ctx context.Context, c Caller) (Session, error)
}

// A Caller is whom a session belongs to.
type Caller struct {
	// ID names the session at Voiceflow: opaque, unique for the call unless the
	// agent remembers callers. At most 128 characters.
	ID string
	// Call groups a call's turns in Voiceflow's transcripts (the sessionID
	// header). Empty: the ID.
	Call string
}

// A Session is one conversation. Its owner serialises the turns: the service
// has no lock, and a slow turn that finishes last rolls the others back.
type Session interface {
	// Interact sends one action and passes the traces to each in their order. It
	// returns when the turn is complete, ctx ends or each returns an error. A
	// failed turn gives a *TurnError.
	Interact(ctx context.Context, t Turn, each func(Trace) error) (TurnInfo, error)
	// State reads the conversation's state.
	State(ctx context.Context) (State, error)
	// SetVariables merges v into the flow's variables.
	SetVariables(ctx context.Context, v map[string]any) error
	// Close says that the caller has gone, where the API has a way to say so.
	Close(ctx context.Context, reason string) error
}

// A Turn is one action and what travels with it.
type Turn struct {
	Action    Action
	Variables map[string]any // merged into the flow's before it runs
	StopTypes []string       // custom actions whose outcome chooses a path
	TTS       bool           // ask for Voiceflow's own voice in the traces
	Debug     bool           // ask for debug traces, which alone say why an answer is empty
}

// An Action is what the caller did, in Voiceflow's words.
type Action struct {
	Type    string `json:"type"`
	Payload any    `json:"payload,omitempty"` // string, json.RawMessage or a struct
	// Verbatim, when set, is sent as it stands in place of the two above.
	Verbatim json.RawMessage `json:"-"`
}

// MarshalJSON implements json.Marshaler.
func (a Action) MarshalJSON() ([]byte, error) {
	if a.Verbatim != nil {
		return a.Verbatim, nil
	}
	type plain Action
	return encode(plain(a))
}

// The types of actions that the bridge makes itself.
const (
	ActionLaunch  = "launch"
	ActionText    = "text"
	ActionIntent  = "intent"
	ActionNoReply = "no-reply"
	ActionDTMF    = "dtmf"
	ActionEvent   = "event"
	ActionEnd     = "end" // also the type of the trace that ends a conversation
)

// Launch starts the flow; payload may be nil.
func Launch(payload map[string]any) Action {
	if payload == nil {
		return Action{Type: ActionLaunch}
	}
	return Action{Type: ActionLaunch, Payload: payload}
}

// Text passes words to the agent's own understanding.
func Text(words string) Action { return Action{Type: ActionText, Payload: words} }

// Press passes a button's request back as it came, the only way that every kind
// of button understands.
func Press(b Button) Action {
	var head struct {
		Type string `json:"type"`
	}
	_ = json.Unmarshal(b.Request, &head) // Interpret built or checked it
	return Action{Type: head.Type, Verbatim: b.Request}
}

// Outcome answers a custom action that waits: event is the Event.Type of one of
// its paths. Payload, which may be nil, reaches the flow as last_event only.
func Outcome(event string, payload any) Action { return Action{Type: event, Payload: payload} }

// Keys passes an entry from the keypad as such, for agents on the newest engine.
func Keys(digits string) Action { return Action{Type: ActionDTMF, Payload: digits} }

// Event starts the workflow that waits for the event called name.
func Event(name string) Action {
	var p struct {
		Event struct {
			Name string `json:"name"`
		} `json:"event"`
	}
	p.Event.Name = name
	return Action{Type: ActionEvent, Payload: p}
}

// NoReply says that the caller kept silent for the agent's time-out.
func NoReply() Action { return Action{Type: ActionNoReply} }

// Intent passes what was understood, so that Voiceflow's own NLU is skipped.
func Intent(name, query string, entities []Entity, confidence float64) Action {
	p := IntentPayload{Query: query, Entities: entities, Confidence: confidence}
	if p.Entities == nil {
		p.Entities = []Entity{}
	}
	p.Intent.Name = name
	return Action{Type: ActionIntent, Payload: p}
}

// IntentPayload is the payload of an intent action.
type IntentPayload struct {
	Query  string `json:"query,omitempty"`
	Intent struct {
		Name string `json:"name"`
	} `json:"intent"`
	Entities   []Entity `json:"entities"`
	Confidence float64  `json:"confidence,omitempty"`
}

// An Entity is one value found in what the caller said.
type Entity struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Query string `json:"query,omitempty"`
}

// A Trace is one piece of the agent's answer, as it came.
type Trace struct {
	Type        string          `json:"type"`
	Payload     json.RawMessage `json:"payload,omitempty"` // object, string, null or absent
	Time        int64           `json:"time,omitempty"`    // epoch in milliseconds
	Paths       []Path          `json:"paths,omitempty"`
	DefaultPath *int            `json:"defaultPath,omitempty"` // index into Paths; nil when the trace names none
}

// A Path is one way out of a custom action.
type Path struct {
	Label string `json:"label,omitempty"`
	Event struct {
		Type string `json:"type"`
	} `json:"event"`
}

// TurnInfo describes a completed turn.
type TurnInfo struct {
	Status      int           // HTTP status
	First       time.Duration // request sent to first trace
	Took        time.Duration // request sent to last trace
	Remaining   int           // requests the key has left in its window; -1 when not told
	Environment string        // alias that answered
	Attempts    int           // requests sent for the turn
}

// State is what Voiceflow keeps of a conversation. Stack is empty when the
// conversation has ended or never begun.
type State struct {
	Stack     []json.RawMessage          `json:"stack"`
	Storage   json.RawMessage            `json:"storage"`
	Variables map[string]json.RawMessage `json:"variables"`
}

// A TurnError is a turn that brought no complete answer.
type TurnError struct {
	Status     int           // HTTP status; 0 when no answer came
	Message    string        // the service's own words
	Received   int           // traces passed on before it failed
	Executed   Executed      // whether the flow may have advanced
	RetryAfter time.Duration // 0 when not told
	Err        error         // the cause below HTTP, if any
}

// Executed says whether a failed turn may have advanced the flow. Turns are not
// idempotent: only those that surely did not run are repeated.
type Executed uint8

// What is known of a failed turn.
const (
	ExecutedNo    Executed = iota // refused or never sent
	ExecutedMaybe                 // sent, and the answer was lost, late or unreadable
)

// Error implements error.
func (e *TurnError) Error() string {
	switch {
	case e.Status != 0 && e.Message != "":
		return fmt.Sprintf("voiceflow answered %d: %s", e.Status, e.Message)
	case e.Status != 0:
		return fmt.Sprintf("voiceflow answered %d", e.Status)
	case e.Err != nil:
		return "voiceflow: " + e.Err.Error()
	}
	return "voiceflow: " + e.Message
}

// Unwrap returns the cause below HTTP.
func (e *TurnError) Unwrap() error { return e.Err }
