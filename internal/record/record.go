// Package record holds what is kept of a call after its end.
//
// Whoever ends the call, one [Record] is written. The package knows its form and
// how it reaches a file; it knows nothing of how calls are made.
package record

import (
	"math"
	"time"
)

// Class says how a call ended, for metrics and reports.
type Class string

// The classes of endings.
const (
	Completed     Class = "completed"      // the agent said good-bye, or a limit did
	CallerHangup  Class = "caller_hangup"  // the caller hung up
	Transferred   Class = "transferred"    // a human has the caller
	Rejected      Class = "rejected"       // refused by policy or for lack of room
	ClientError   Class = "client_error"   // the far side broke the protocol
	ServerError   Class = "server_error"   // a fault of the bridge
	UpstreamError Class = "upstream_error" // Voiceflow, recogniser or voice failed
	MediaTimeout  Class = "media_timeout"  // no audio arrived any more
	NodeLost      Class = "node_lost"      // the process died during the call
)

// A Record is what is kept of one call. Times are of the wall clock in UTC,
// spans in seconds by the monotonic clock.
type Record struct {
	ID        string `json:"id"`          // our own, see NewID
	SIPCallID string `json:"sip_call_id"` // theirs: data, never a name of a file
	Session   string `json:"session"`     // id of the conversation at Voiceflow
	Trunk     string `json:"trunk"`
	Agent     string `json:"agent"`
	Direction string `json:"direction"` // inbound, outbound
	Peer      string `json:"peer,omitempty"`
	UserAgent string `json:"user_agent,omitempty"`

	From         string `json:"from"` // E.164, or as it came
	FromName     string `json:"from_name,omitempty"`
	Anonymous    bool   `json:"anonymous,omitempty"`
	To           string `json:"to"`
	DivertedFrom string `json:"diverted_from,omitempty"`

	Began           time.Time `json:"began"`
	Answered        time.Time `json:"answered,omitzero"` // zero for a call that was not
	Ended           time.Time `json:"ended"`
	DurationSeconds float64   `json:"duration_seconds"` // from answer to end
	SetupSeconds    float64   `json:"setup_seconds"`    // from INVITE to answer

	Class   Class  `json:"class"`
	Reason  string `json:"reason"`   // one word of a bounded list, such as no_media
	EndedBy string `json:"ended_by"` // caller, agent, bridge, operator, trunk
	Why     string `json:"why"`      // one plain sentence
	Status  int    `json:"status,omitempty"`

	Turns     []Turn     `json:"turns"`
	Transfers []Transfer `json:"transfers,omitempty"` // in their order
	Media     Media      `json:"media"`
	Latency   Latency    `json:"latency"`
	Usage     Usage      `json:"usage"`
	Recording string     `json:"recording_url,omitempty"`
	Truncated bool       `json:"truncated,omitempty"` // the journal was full
}

// A Turn is one exchange with the agent.
type Turn struct {
	AtSeconds       float64 `json:"at_seconds"`      // since the call began
	Input           string  `json:"input"`           // launch, speech, keys, no_reply, event, action
	Said            string  `json:"said,omitempty"`  // the caller's words or keys; *** in secure input
	Heard           string  `json:"heard,omitempty"` // the agent's words, as far as they were heard
	Confidence      float64 `json:"confidence,omitempty"`
	Outcome         string  `json:"outcome"` // answered, no_input, no_match, error, barge_in
	Error           string  `json:"error,omitempty"`
	FirstSeconds    float64 `json:"first_seconds"`    // request to first trace
	ResponseSeconds float64 `json:"response_seconds"` // end of the caller's input to first audio
}

// A Transfer is one attempt to hand the caller over.
type Transfer struct {
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"` // to its outcome
	Target  string    `json:"target"`
	Mode    string    `json:"mode,omitempty"` // refer, bridge, whisper, attended; empty: refused before
	Outcome string    `json:"outcome"`        // connected, human, busy, no_answer, declined, unreachable, refused, unconfirmed
	Cause   string    `json:"cause,omitempty"`
	Status  int       `json:"status,omitempty"` // the last of SIP; 0: none came
}

// Media is the quality of the audio.
type Media struct {
	Codec         string  `json:"codec,omitempty"`
	Received      uint64  `json:"received"` // packets
	Sent          uint64  `json:"sent"`
	Lost          uint64  `json:"lost"`
	Late          uint64  `json:"late"`
	Duplicates    uint64  `json:"duplicates"`
	Rejected      uint64  `json:"rejected"` // from sources that are not the peer
	JitterSeconds float64 `json:"jitter_seconds"`
	MOS           float64 `json:"mos,omitempty"`        // estimate of what we hear, 1 to 5
	RemoteMOS     float64 `json:"remote_mos,omitempty"` // of what they hear, by their reports
}

// Latency sums up the turns.
type Latency struct {
	ResponseP50Seconds float64 `json:"response_p50_seconds"`
	ResponseP95Seconds float64 `json:"response_p95_seconds"`
	ResponseMaxSeconds float64 `json:"response_max_seconds"`
	FirstAudioSeconds  float64 `json:"first_audio_seconds"` // answer to first sample
}

// Usage is what the call consumed.
type Usage struct {
	Turns            int `json:"turns"`
	SpokenCharacters int `json:"spoken_characters"`
	Digits           int `json:"digits"`
	BargeIns         int `json:"barge_ins"`
	NoReplies        int `json:"no_replies"`
}

// Seconds returns a span as records hold it: rounded to milliseconds.
func Seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1e3) / 1e3 }
