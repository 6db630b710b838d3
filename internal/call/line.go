package call

import (
	"context"

	"github.com/ivrbridge/ivrbridge/media"
)

// A Line is the caller's end of a call: a SIP dialog with its RTP leg, or a
// browser's peer connection. Only the goroutine of [Call.Run] and, where a
// method says so, goroutines that it started call it.
type Line interface {
	Signaling
	Audio
}

// Signaling sets a line up and takes it down.
type Signaling interface {
	// Context is done when the line is over; context.Cause says why.
	Context() context.Context
	// Answer accepts the call. Media runs when it returns.
	Answer(ctx context.Context) error
	// Hangup ends the line. It returns at once.
	Hangup(h Hangup)
	// Refer asks the far end to call somebody else instead (RFC 3515) and returns
	// when the outcome is known, the line is over or ctx ends. It blocks: a
	// goroutine of its own calls it. Progress is told each status that comes.
	Refer(ctx context.Context, r Referral, progress func(status int)) (Referred, error)
	// Alive asks the far end whether it still knows the call. It blocks.
	Alive(ctx context.Context) error
}

// Audio carries sound. None of the methods blocks.
type Audio interface {
	Play(c media.Cue)
	Queue(c media.Cue)
	Stop()
	// SendDigits plays keys to the far end. None ("") gives up those that are not
	// on the wire yet.
	SendDigits(seq uint64, digits string)
	Attach(t media.Tap) (detach func())
	Stats() media.Stats
}

// Info is what is known of a call when it comes.
type Info struct {
	ID        string // ours, unique
	SIPCallID string // for the log
	Trunk     string
	Direction string // inbound or outbound
	Caller    string // E.164, or as it came; "" when withheld
	Name      string // display name
	Anonymous bool
	Called    string
	Diverted  string
	UUI       string
	Headers   map[string]string // those that the agent asked for, lower-case names
	Source    string            // address of the signalling peer
	Language  string
}

// Hangup says how a line is ended.
type Hangup struct {
	Why     string            // one sentence, for the Reason header
	Cause   int               // Q.850; 0 is normal call clearing
	Headers map[string]string // for the BYE
	// HandedOver says that the caller has been handed over. A line that carries
	// him on stays with whom he talks to.
	HandedOver bool
}

// Referral is one hand-over by REFER.
type Referral struct {
	URI     string
	Display string
	UUI     string
	Headers map[string]string
}

// Referred is how a REFER ended.
type Referred struct {
	Status   int  // the last status: of a NOTIFY's sipfrag, or of the REFER itself where it was refused
	Accepted bool // the far end took the REFER
	Final    bool // Status is the end of the far end's attempt
	Gone     bool // the far end hung up
	Called   bool // the line called the target itself instead of asking the far end to
}
